#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# All snapshots come back after a remount with the same names, contents, times, modes and inode
# numbers, and the inode number of a snapshot that was dropped never comes back.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

in_memory
setup
noise 1000003 >a.img
noise 300000 >b.img
mkdir mnt

remount () {
	if mountpoint -q mnt; then
		unmount mnt
	fi
	mount_fleecefs -o store=store a.img b.img mnt
}

# All that programs see of the snapshots.
picture () {
	local file

	for file in mnt/*/ mnt/*/*; do
		stat -c '%n %i %F %y %z %s %a %u %g' "$file"
		[ -d "$file" ] || sum "$file"
	done
}

expect_picture () {
	picture >seen
	diff expected seen || fail "the snapshots are not what they were, $1"
}

inodes () {
	stat -c %i mnt/*/ mnt/*/*
}

remount
: >used
for round in 1 2 3; do
	mkdir "mnt/first $round" "mnt/sécond-$round" || fail 'mkdir'
	patch mnt/.live/a.img $((round * 70000)) 50000
	[ "$round" = 2 ] || patch mnt/.live/b.img $((round * 9000)) 1
	mkdir "mnt/third-$round" || fail 'mkdir'
	truncate -s $((1000003 + round * 7001)) mnt/.live/a.img || fail 'truncate'
	mv "mnt/third-$round" "mnt/moved-$round" || fail 'mv'
	inodes | sort >now
	comm -12 <(sort used) now >again
	[ "$round" != 1 ] || : >again
	[ ! -s again ] || fail "inode numbers come again: $(tr '\n' ' ' <again)"
	[ "$(sort -u now | wc -l)" = "$(wc -l <now)" ] || fail 'an inode number is there twice'
	cat now >>used

	picture >expected
	[ "$(wc -l <expected)" = 15 ] || fail "round $round: $(cat expected)"
	remount
	expect_picture 'after the first remount'
	patch mnt/.live/b.img 100 7
	expect_picture 'after a write'
	remount
	expect_picture 'after the second remount'

	# Nothing is left, then more are made, in the same mount and the next one.
	rmdir mnt/* || fail 'rmdir'
	[ "$round" = 1 ] || remount
done
[ "$(ls mnt)" = '' ] || fail 'dropped snapshots come back'
[ "$(wc -l <used)" = 27 ] || fail "$(wc -l <used) inode numbers were seen, not 27"
unmount mnt
echo 'snapshots are the same after remounts'
