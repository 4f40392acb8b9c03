#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# max-overlay, reserve, a full file system and a quota: with break-snapshot the guest's writes go
# on and what breaks says which limit it was, while an older snapshot that has its own copies stays
# right; with break-guest-write the guest gets ENOSPC, all snapshots are right, and it goes on when
# there is space. The status warns.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-full.sh
. "$top_srcdir/tests/lib-full.sh"

need getfattr
need_root
private_mounts "$@"
in_memory
setup
mkdir mnt

# What the overlays take, in bytes.
kept () {
	sed -n 's/^kept: \([0-9]*\) bytes.*/\1/p' mnt/.fleecefs/status
}

# expect_warning WHAT: all who tell of the space say so, in one way.
expect_warning () {
	local line

	line=$(grep "^warning: .*$1" mnt/.fleecefs/status) || fail "no warning: $(cat mnt/.fleecefs/status)"
	"$FLEECECTL" status mnt | grep -qxF "$line" || fail "fleecectl: $("$FLEECECTL" status mnt)"
	grep -qF "\"${line#warning: }\"" mnt/.fleecefs/status.json || fail "$(cat mnt/.fleecefs/status.json)"
}

# Old blocks of the first 4 MiB are in the overlay of a, then b is made and the store filled by
# those of b: granules of 4 MiB on, which a needs too, then those of the first 4 MiB.
#
# limited WHY ERROR FILL UNFILL OPTION...
limited () {
	local why=$1 error=$2 fill=$3 unfill=$4 at
	shift 4

	noise $((16 << 20)) >img
	cp img first
	mount_fleecefs -o "store=small/s,on-cbw-error=break-snapshot$1" img mnt
	mkdir mnt/a
	live 0 $((1 << 20))
	live $((1 << 20)) $((3 << 20))
	expect_ok a first
	mkdir mnt/b
	$fill
	for ((at = 0; at < 4; at++)); do
		live $((at << 20)) $((1 << 20))
	done
	expect_broken b "$why"
	expect_ok a first
	rmdir mnt/b || fail "$why: rmdir"
	unmount mnt
	$unfill
	rm -rf small/s

	mount_fleecefs -o "store=small/s,on-cbw-error=break-guest-write$1" img mnt
	cp img first
	mkdir mnt/a
	live 0 $((4 << 20))
	mkdir mnt/b
	cp img second
	$fill
	live_fails $((1 << 20)) $((3 << 20)) "$error"
	expect_ok a first
	expect_ok b second
	$unfill
	[ "$unfill" != : ] || rmdir mnt/a
	await gives_way || fail "$why: no write any more"
	expect_ok b second
	unmount mnt
	rm -rf small/s
}

gives_way () {
	noise 4096 | dd of=mnt/.live/img bs=4096 seek=$((1 << 20)) iflag=fullblock \
		oflag=seek_bytes,direct conv=notrunc status=none 2>/dev/null
}

# 4 MiB are kept of a; b finds room for a part of its own.
small_mount tmpfs 64 || fail 'no tmpfs'
limited 'max-overlay' 'No space left' : : ,max-overlay=6M
limited 'file system is full' 'No space left' fill unfill ''
fill_some () { # 10 MiB stay
	local free

	free=$(stat -f -c %a small)
	head -c $((free * 4096 - (10 << 20))) /dev/zero >small/full
	cat mnt/.fleecefs/status >/dev/null # has fleecefs see it at once
}
limited 'reserve' 'No space left' fill_some unfill ,reserve=8M

# Never more than max-overlay, whatever the blocks; and the warning.
noise $((16 << 20)) >img
mount_fleecefs -o store=small/s,max-overlay=3M img mnt
mkdir mnt/a
for text in "$(cat mnt/.fleecefs/status)" "$("$FLEECECTL" status mnt)"; do
	[[ $text != *warning:* ]] || fail "a warning too early: $text"
done
for ((i = 0; i < 4000; i += 6)); do
	echo "$((i * 4096))"
done | perl -e 'open my $f, "+<", "mnt/.live/img" or die; binmode $f; while (<>) { seek $f, $_, 0;
	syswrite $f, "x" x 512 or die "write: $!" }' || fail 'a guest write failed'
expect_warning '% of max-overlay'
[ "$(kept)" -gt $((2 << 20)) ] || fail "only $(kept) bytes were kept"
live 0 $((8 << 20))
expect_broken a 'max-overlay'
[ "$(kept)" -le $((3 << 20)) ] || fail "$(kept) bytes were kept"
[ "$(du -s --block-size=1 small/s/snapshots | cut -f 1)" -le $(((3 << 20) + 16384)) ] ||
	fail "du: $(du -s small/s/snapshots)"
if mkdir mnt/b 2>errors; then
	rmdir mnt/b
else
	grep -q 'No space left' errors || fail "mkdir: $(cat errors)"
fi
unmount mnt
rm -rf small/s
expect_error 1 'reserve is as much as' "$FLEECEFS" -o store=small/s,reserve=1T img mnt
small_umount

# A granule takes what it has, also where the file system likes to take more.
if small_mount xfs; then
	noise $((64 << 20)) >img
	mount_fleecefs -o store=small/s img mnt
	mkdir mnt/a
	for ((i = 0; i < 64; i++)); do
		live $((i << 20)) 4096
	done
	[ "$(kept)" -le $((64 * 4096 + 65536)) ] || fail "64 blocks of 4 KiB take $(kept) bytes on XFS"
	unmount mnt
	small_umount
fi

# A quota: the one of btrfs; those of others are seldom in a kernel.
if command -v btrfs >/dev/null && small_mount btrfs; then
	if ! btrfs quota enable small || ! btrfs subvolume create small/s.q >/dev/null; then
		fail 'no quota on btrfs'
	fi
	echo 'quota of btrfs: tried'
	noise $((16 << 20)) >img
	cp img first
	mount_fleecefs -o store=small/s.q/s img mnt
	mkdir mnt/a
	live 0 $((4 << 20))
	btrfs qgroup limit $((5 << 20)) small/s.q || fail 'no limit'
	sync -f small
	for ((i = 4; i < 12; i++)); do
		live $((i << 20)) $((1 << 20))
	done
	expect_broken a 'quota'
	unmount mnt
	small_umount
else
	echo 'quota: skipped, for there is no btrfs here'
fi
