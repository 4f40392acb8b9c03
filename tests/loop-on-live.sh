#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A file system that is mounted, through a loop device, from the live disk is sound in a snapshot
# that was made while files were written, and all that had been synced is in it.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need mkfs.ext4 e2fsck
in_memory
setup
truncate -s 64M img
mkfs.ext4 -q img || fail 'mkfs'
mkdir mnt ext4

mount_fleecefs img mnt
loop_device mnt/.live/img --direct-io=on
mount "$loop" ext4 || skip 'cannot mount ext4'

# Files come and go all the time.
for ((i = 0; ; i++)); do
	[ ! -e stop ] || break
	noise $((RANDOM * 8)) >"ext4/busy-$((i % 40))" || exit 1
	[ $((i % 7)) != 0 ] || rm -f "ext4/busy-$((RANDOM % 40))"
	[ $((i % 10)) != 0 ] || echo "$i"
done >progress 2>errors &
writer=$!
await test -s progress || fail "the writer does not get on: $(cat errors)"

# The last round only overwrites, in place, what is in the snapshots.
for round in 1 2 3 4; do
	noise 500000 >"synced-$round"
	dd if="synced-$round" of=ext4/synced bs=500000 conv=notrunc status=none || fail 'dd'
	cp "synced-$round" "ext4/synced-$round"
	sync -f ext4 || fail 'sync'
	[ "$round" != 4 ] || break
	mkdir "mnt/$round" || fail 'mkdir'
	: >progress
	await test -s progress || fail "the writer stands still: $(cat errors)"
done
: >stop
wait "$writer" || fail "the writer got an error: $(cat errors)"

# The kernel replays the journal in a copy. Then there must be nothing to repair.
mkdir seen
for round in 1 2 3; do
	cp --sparse=always "mnt/$round/img" copy || fail 'cp'
	mount -o loop copy seen || fail "cannot mount the copy of $round"
	same seen/synced "synced-$round"
	for old in $(seq "$round"); do
		same "seen/synced-$old" "synced-$old"
	done
	[ "$(echo seen/busy-*)" != 'seen/busy-*' ] || fail 'the writer left no file'
	[ ! -e "seen/synced-$((round + 1))" ] || fail 'a snapshot has what came later'
	umount seen || fail 'umount'
	e2fsck -fn copy >output 2>&1 || fail "e2fsck of $round: $(cat output)"
done

umount ext4 || fail 'umount of ext4'
losetup -d "$loop" || fail 'losetup -d'
loops=()
unmount mnt
e2fsck -fn img >output 2>&1 || fail "the image is damaged: $(cat output)"
echo 'a mounted file system is sound in snapshots'
