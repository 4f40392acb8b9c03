#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A store that is full breaks the snapshots that needed the old block, and only those; what is
# broken stays broken, over merges, renames and a remount, also when the manifest could not be
# written for want of space; what is right stays right.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need getfattr
need_root
private_mounts "$@"
setup
mkdir mnt

state () {
	getfattr -n user.fleecefs.state --only-values "mnt/$1" 2>/dev/null
}

expect_broken () {
	[[ $(state "$1") = broken:* ]] || fail "$1 is '$(state "$1")'"
	if cat "mnt/$1/img" >output 2>/dev/null || [ -s output ]; then
		fail "$1 is broken and gives $(wc -c <output) bytes"
	fi
}

expect_ok () {
	[ "$(state "$1")" = ok ] || fail "$1 is '$(state "$1")'"
	frozen "mnt/$1/img" "$2"
}

# A new image of 8 MiB, mounted, with its store in a small file system of its own.
start () {
	noise $((8 << 20)) >img
	mkdir -p small
	mount -t tmpfs -o size=16m small small || fail 'no tmpfs'
	mount_fleecefs -o store=small/s img mnt
}

stop () {
	unmount mnt
	umount small || fail 'the store is busy'
}

fill () {
	dd if=/dev/zero of=small/full bs=4k status=none 2>/dev/null
	[ "$(stat -f -c %a small)" = 0 ] || fail 'the store is not full'
}

live () { # live OFFSET BYTES: a write that must succeed
	patch mnt/.live/img "$1" "$2" direct
}

# The level of a removed snapshot has more than the broken one before it. A merge would go up, if
# it were not for the break.
start
cp img first
mkdir mnt/a
live 0 4096
mkdir mnt/b
fill
live 0 4096
expect_broken b
expect_ok a first
rm small/full
mkdir mnt/d
live $((1 << 20)) $((3 << 20))
rmdir mnt/d
await_layers small/s 2
expect_broken b
expect_ok a first
mv mnt/b mnt/b2 || fail 'mv'
unmount mnt
mount_fleecefs -o store=small/s img mnt
expect_broken b2
expect_ok a first
stop

# The other way round: the broken one is removed, and had more.
start
cp img first
mkdir mnt/a
live 0 4096
mkdir mnt/d
live $((1 << 20)) $((3 << 20))
fill
live 0 4096
expect_broken d
rm small/full
rmdir mnt/d
await_layers small/s 1
expect_ok a first
stop

# The manifest cannot be written, neither then nor at the unmount.
for kept in full freed; do
	start
	mkdir mnt/b
	fill
	live 0 4096
	expect_broken b
	[ $kept = full ] || rm small/full
	unmount mnt
	rm -f small/full
	mount_fleecefs -o store=small/s img mnt
	expect_broken b
	mkdir mnt/new || fail 'no snapshot any more'
	stop
done

# An older snapshot that has the block is right, also when its tables were not in memory.
start
cp img first
mkdir mnt/a
live 0 4096
mkdir mnt/b
unmount mnt
mount_fleecefs -o store=small/s img mnt
fill
live 0 4096
expect_broken b
expect_ok a first
stop
