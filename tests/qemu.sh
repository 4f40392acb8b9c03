#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Without fleecefs the store is a chain of sound qcow2 images, and qemu-img reads in each what the
# file of the snapshot was: also after snapshots were dropped, for any granule and way to copy.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need qemu-img
in_memory
setup
mkdir mnt

# The writes between two snapshots: to a.img many, to b.img one in every second round.
write () {
	local round=$1 i size

	for ((i = 0; i < 12; i++)); do
		patch mnt/.live/a.img $((RANDOM * 90)) $((RANDOM * 4 + 1))
	done
	fallocate -p -o $((round * 300000)) -l 200000 mnt/.live/a.img || fail 'cannot punch'
	size=$((3000000 - round * 4000 + (round % 3) * 9001))
	truncate -s "$size" mnt/.live/a.img || fail 'cannot truncate'
	# Also behind where the disk ended before, in the same sector.
	patch mnt/.live/a.img $((size - 12000)) 12000
	if [ $((round % 2)) = 0 ]; then
		patch mnt/.live/b.img $((RANDOM * 25)) 70000
	fi
}

check_overlay () {
	local overlay=$1 disk regex

	disk=${overlay##*/}
	disk=${disk%.qcow2}
	qemu-img check "$overlay" >output 2>&1 || fail "qemu-img check $overlay: $(cat output)"
	qemu-img info --output=json "$overlay" >output 2>&1 || fail "info: $(cat output)"
	for regex in '"format": "qcow2"' '"compat": "1\.1"' '"extended-l2": true' '"corrupt": false' \
		'"dirty-flag": false' '"refcount-bits": 16' "\"backing-filename\": \".*/$disk(\.qcow2)?\"" \
		'"backing-filename-format": "(raw|qcow2)"'; do
		grep -Eq "^ *$regex,?\$" output || fail "$overlay: no '$regex' in: $(cat output)"
	done
}

# The overlay of a snapshot's disk reads as the file did, and zeros up to the end of the sector.
check_contents () {
	local snapshot=$1 disk=$2 overlay
	local truth=$snapshot-$disk

	overlay=store/snapshots/$(number_of store "$snapshot")/$disk.qcow2 || exit 1
	truncate -s %512 "$truth"
	qemu-img compare -f qcow2 -F raw "$overlay" "$truth" >output 2>&1 ||
		fail "$overlay is not what $snapshot/$disk was: $(cat output)"
}

try () {
	local round snapshot disk overlay

	noise 3000000 >a.img
	truncate -s 3500003 a.img
	noise 800111 >b.img
	mount_fleecefs -o "store=store,$1" a.img b.img mnt
	for round in 1 2 3 4 5 6 7 8; do
		mkdir "mnt/$round" || fail "mkdir of snapshot $round"
		write "$round"
	done
	rmdir mnt/1 mnt/4 mnt/8 || fail 'cannot drop the oldest, one in the middle, the newest'
	write 9
	for snapshot in 2 3 5 6 7; do
		for disk in a.img b.img; do
			cp "mnt/$snapshot/$disk" "$snapshot-$disk" || fail "cannot copy $snapshot/$disk"
		done
	done
	# Once with all merges done; the next times at whatever stage they are.
	[ -n "$tried" ] || await_layers store 5
	tried=yes
	unmount mnt
	for overlay in store/snapshots/*/*.qcow2; do
		check_overlay "$overlay"
	done
	for snapshot in 2 3 5 6 7; do
		check_contents "$snapshot" a.img
		check_contents "$snapshot" b.img
	done
	rm -r store
}

# With durability=power what is not in the tables on disk stands in a journal, which QEMU cannot read.
# So it must not read the rest either, until fleecefs has been there.
try_killed () {
	local overlay

	noise 3000000 >a.img
	mount_fleecefs -o store=store,durability=power a.img mnt
	mkdir mnt/1 || fail 'mkdir'
	cp mnt/1/a.img 1-a.img
	patch mnt/.live/a.img 200000 300000
	kill -9 "$(daemon_pid mnt)" || fail 'no daemon to kill'
	unmount mnt
	overlay=store/snapshots/$(number_of store 1)/a.img.qcow2 || exit 1
	qemu-img info "$overlay" >output 2>&1 && fail "QEMU reads an overlay with a journal: $(cat output)"
	grep -q "fleecefs's journal" output || fail "QEMU does not say why: $(cat output)"
	mount_fleecefs -o store=store a.img mnt
	unmount mnt
	check_overlay "$overlay"
	check_contents 1 a.img
	rm -r store
}

RANDOM=1
tried=
try granule=4k,copy=bounce
try granule=16k,copy=offload
try granule=64k,copy=offload
try granule=4k,durability=power
try_killed
echo 'qemu-img finds sound images with the contents of the snapshots'
