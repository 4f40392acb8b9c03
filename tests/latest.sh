#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# .latest shows the newest snapshot under one path and one inode number, and who has its file open
# stays with the snapshot that it was.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

in_memory
setup
noise 3000001 >img
mkdir mnt
latest=mnt/.latest/img

mount_fleecefs img mnt
[ "$(ls -A mnt/.latest)" = '' ] || fail "without a snapshot there is $(ls -A mnt/.latest)"
if cat "$latest" 2>errors; then
	fail 'without a snapshot it can be read'
fi
grep -q 'No such file or directory' errors || fail "without a snapshot: $(cat errors)"

inode=''
first=()
second=()
for round in 1 2 3 4 5; do
	cp mnt/.live/img "truth-$round"
	mkdir "mnt/$round" || fail 'mkdir'
	[ "$(stat -c '%s %y %a' "$latest")" = "$(stat -c '%s %y %a' "mnt/$round/img")" ] ||
		fail "$(stat -c '%s %y %a' "$latest")"
	frozen "$latest" "truth-$round"
	frozen "mnt/$round/img" "truth-$round"

	inode=${inode:-$(stat -c %i "$latest")}
	[ "$(stat -c %i "$latest")" = "$inode" ] || fail 'its inode number has changed'
	[ "$(ls -i "$latest")" = "$inode $latest" ] || fail 'readdir has another inode number'

	# Opened now, read after the next ones came: two, so that not all comes from one cache.
	exec {cached}<"$latest" {direct}<"$latest"
	first[round]=$cached second[round]=$direct
	dd bs=1000 count=1 status=none <&"${first[round]}" >"read-$round"
	patch mnt/.live/img $((RANDOM * 60)) 1000000
	truncate -s $((3000001 + round * 5000)) mnt/.live/img || fail 'truncate'
done
# What they stay with may even be dropped.
rmdir mnt/2 mnt/5 || fail 'rmdir'
frozen "$latest" truth-4
for round in 1 2 3 4 5; do
	cat <&"${first[round]}" >>"read-$round"
	same "read-$round" "truth-$round"
	dd iflag=direct bs=100k status=none <&"${second[round]}" >"read-$round"
	same "read-$round" "truth-$round"
	cached=${first[round]} direct=${second[round]}
	exec {cached}<&- {direct}<&-
done
unmount mnt
mount_fleecefs img mnt
frozen "$latest" truth-4
[ "$(stat -c %i "$latest")" = "$inode" ] || fail 'its inode number has changed over a remount'
unmount mnt
echo '.latest is the newest snapshot, and constant for those who have it open'
