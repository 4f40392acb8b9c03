#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A disk that somebody else makes larger or smaller while it is mounted, a block device (lvextend,
# losetup -c) or a file: the live file has the new size at once, each snapshot keeps its own and is
# right, also after a remount and a kill; and what a smaller disk has lost is broken.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need blockdev
in_memory
setup
mkdir mnt
live=mnt/.live/disk

# size_is BYTES: of the live disk, whoever asks.
size_is () {
	[ "$(stat -c %s "$live")" = "$1" ] || fail "the size is $(stat -c %s "$live"), not $1"
	[ "$(perl -e 'open F, "<", $ARGV[0]; print sysseek F, 0, 2' "$live")" = "$1" ] ||
		fail "the end is not at $1"
	grep -q "\"size_bytes\" *: *$1\\>" mnt/.fleecefs/status.json || fail "$(cat mnt/.fleecefs/status.json)"
}

# resize BYTES: by another program.
resize () {
	truncate -s "$1" file
	[ -z "$loop" ] || losetup -c "$loop" || fail 'losetup -c'
}

start () {
	mount_fleecefs -o store=store "disk=${loop:-$tmp/file}" mnt
}

kill_daemon () {
	kill -9 "$(daemon_pid mnt)"
	unmount mnt
}

for kind in device file; do
	rm -rf store file # a new image: nothing is left at it of the old one
	noise $((4 << 20)) >file
	loop=
	[ "$kind" = file ] || loop_device file
	start
	size_is $((4 << 20))
	cp "$live" first
	mkdir mnt/a

	# Larger: what is written beyond the old end is in the next snapshot.
	resize $((6 << 20))
	patch "$live" $((5 << 20)) 100000 dsync || fail 'a write beyond the old end'
	patch "$live" 0 100000
	size_is $((6 << 20))
	cp "$live" second
	[ "$(stat -c %s second)" = $((6 << 20)) ] || fail 'what is read of it ends early'
	mkdir mnt/b
	fallocate -z -o $((5 << 20)) -l $((1 << 20)) "$live" || fail 'zeroing what is new'
	patch "$live" $(((4 << 20) - 50000)) 100000
	both () {
		frozen mnt/a/disk first
		frozen mnt/b/disk second
	}
	both
	for end in 'unmount mnt' kill_daemon; do
		$end
		start
		both
		size_is $((6 << 20))
	done

	# Smaller: what the newest snapshot kept is there, and the rest is an error, not zeros.
	cp "$live" third
	mkdir mnt/c
	resize $((5 << 20))
	size_is $((5 << 20))
	both
	cmp mnt/c/disk third 2>errors && fail 'bytes that are gone'
	grep -q 'Input/output error' errors || fail "not an error: $(cat errors)"
	grep -q "  c *broken: .*became shorter" mnt/.fleecefs/status || fail "$(cat mnt/.fleecefs/status)"
	cp "$live" fourth
	[ "$(stat -c %s fourth)" = $((5 << 20)) ] || fail 'what is read of it does not end'
	mkdir mnt/d
	patch "$live" 0 $((1 << 20))
	frozen mnt/d/disk fourth
	for end in 'unmount mnt' kill_daemon; do
		$end
		start
		both
		frozen mnt/d/disk fourth
		cmp mnt/c/disk third 2>errors && fail 'c came back'
	done
	unmount mnt
	[ -z "$loop" ] || losetup -d "$loop"
done
