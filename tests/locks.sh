#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# While fleecefs has an image, neither a second fleecefs nor a QEMU opens it; while a QEMU writes
# it, or reads an overlay, fleecefs does not. Who is refused is told who holds it. After umount all is free: at once for
# a fleecefs, and when the daemon is gone for all others.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need qemu-io qemu-img
setup

mkdir m m2
head -c 1M /dev/urandom >a.img
cp a.img b.img
ln a.img hard.img
qemu-img create -q -f qcow2 -b a.img -F raw top.qcow2

# holder MOUNTPOINT: as messages name the daemon.
holder () {
	echo "${FLEECEFS##*/} \(pid $(daemon_pid "$1")\)"
}

# qemu_refused COMMAND...: a QEMU does not get its lock.
qemu_refused () {
	local output

	output=$(timeout "$PATIENCE" "$@" 2>&1 </dev/null) && fail "$*: opens it"
	[[ $output = *'Is another process using the image'* ]] || fail "$*: $output"
}

# qemu_io ARGUMENT...: one that has its image open until qemu_io_ends; $other is its pid. Until its
# answer to a command it may not have opened it yet.
qemu_io () {
	local line=

	coproc QEMU { exec qemu-io "$@"; }
	other=$QEMU_PID
	exec {to_qemu}>&"${QEMU[1]}" {from_qemu}<&"${QEMU[0]}"
	echo 'length' >&"$to_qemu"
	until [[ $line = *'1 MiB'* ]]; do
		read -t "$PATIENCE" -r line <&"$from_qemu" || fail 'qemu-io does not answer'
	done
}

qemu_io_ends () {
	echo 'quit' >&"$to_qemu"
	exec {to_qemu}>&- {from_qemu}<&-
	wait "$other" || fail "qemu-io: status $?"
}

mount_fleecefs a.img m
for name in a.img ./a.img hard.img; do
	refused 1 "'.*/${name#./}' is in use by $(holder m); stop that first" \
		"$FLEECEFS" -o store=s2 "x=$name" m2
done
refused 1 "'.*/a.img' is in use by $(holder m)" "$FLEECEFS" -o store=s2 b.img a.img m2
# The store is locked too, by itself.
refused 1 "store '.*/a.img.fleece' is in use by $(holder m)" \
	"$FLEECEFS" -o store=a.img.fleece b.img m2
snapshot_tree a.img >before
qemu_refused qemu-io -f raw -c 'write 0 4k' a.img
qemu_refused qemu-img resize -q -f raw a.img 2M
qemu_refused qemu-img commit -q top.qcow2
snapshot_tree a.img >after
same before after
# Another image and another store go with it, and snapshots and the live file are free to be read.
mount_fleecefs b.img m2
unmount m2
mkdir m/monday
qemu-io -f raw -c 'write -P 7 0 4k' m/.live/a.img >log 2>&1 || fail "the live file: $(cat log)"
qemu-io -f raw -r -c 'read 0 4k' m/monday/a.img >log 2>&1 || fail "a snapshot: $(cat log)"
rmdir m/monday
unmount m
qemu-io -f raw -c 'read -P 7 0 4k' -c 'write -P 8 0 4k' a.img >log 2>&1 ||
	fail "not free after the end: $(cat log)"
grep -q 'verification failed' log && fail 'what was written to the live file is not in the image'

# A QEMU has it open for writing.
qemu_io -f raw a.img
refused 1 "'.*/a.img' is in use by qemu-io \(pid $other\); stop that first" "$FLEECEFS" a.img m
refused 1 "'.*/a.img' is in use by qemu-io" "$FLEECEFS" -o store=new b.img a.img m
qemu_io_ends

# A new fleecefs waits for the one before, which umount left with its store to close. So there are
# two daemons for a moment, and nothing here waits for the first.
mount_fleecefs a.img m
for i in {1..20}; do
	mkdir "m/$i" || fail "no snapshot $i"
	umount_any m || fail 'cannot unmount'
	watched "$FLEECEFS" a.img m 2>errors || fail "umount and mount again, $i: $(cat errors)"
	[ -d "m/$i" ] || fail "snapshot $i did not come back"
done
same a.img m/20/a.img
umount_any m

# A QEMU reads one of the overlays, alone: its snapshot is right when that has ended.
cp a.img before
mount_fleecefs a.img m
printf 'new' | dd of=m/.live/a.img conv=notrunc status=none
unmount m
overlay=a.img.fleece/snapshots/000011/a.img.qcow2
qemu_io -r "json:{'driver':'qcow2','backing':null,'file':{'driver':'file','filename':'$overlay'}}"
refused 1 "overlays in '.*/a.img.fleece/snapshots/000011': 'a.img.qcow2' is in use by qemu-io \(pid $other\); stop that first" \
	"$FLEECEFS" a.img m
qemu_io_ends
mount_fleecefs a.img m
for i in {1..20}; do
	same before "m/$i/a.img"
done
unmount m
