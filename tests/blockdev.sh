#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A block device can be the disk: it is written, punched and zeroed but never resized, it is not
# shared with a mounted file system, and its snapshots come back.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need mkfs.ext4 blockdev fallocate
in_memory
setup
# A multiple of the sector, not of the granule.
noise 8389120 >file
loop_device file
size=$(blockdev --getsize64 "$loop") || fail 'blockdev'
[ "$size" = 8389120 ] || fail "the device has $size bytes"
mkdir mnt ext4
live=mnt/.live/disk

mount_fleecefs -o store=store "disk=$loop" mnt
[ "$(stat -c '%F %s' "$live")" = "regular file $size" ] || fail "$(stat -c '%F %s' "$live")"
cp "$live" reference
same reference file

for round in 1 2 3; do
	cp reference "truth-$round"
	mkdir "mnt/$round" || fail 'mkdir'
	[ "$(stat -c '%F %s' "mnt/$round/disk")" = "regular file $size" ] || fail 'size of a snapshot'
	noise 300000 >new
	for file in "$live" reference; do
		dd if=new of="$file" bs=300000 seek=$((round * 70001)) oflag=seek_bytes conv=notrunc \
			status=none || fail "dd to $file"
		# The last bytes.
		dd if=new of="$file" bs=1000 count=1 seek=$((size - 1000)) oflag=seek_bytes \
			conv=notrunc status=none || fail "dd to $file"
	done
	fallocate -p -o $((1024000 + round * 4608)) -l 20480 "$live" || fail 'punch'
	fallocate -z -o $((2000000 + round * 1000)) -l 5001 "$live" || fail 'zero'
	for zeros in "$((1024000 + round * 4608)) 20480" "$((2000000 + round * 1000)) 5001"; do
		dd if=/dev/zero of=reference bs="${zeros#* }" count=1 seek="${zeros% *}" \
			oflag=seek_bytes conv=notrunc status=none
	done
	same "$live" reference
	for old in $(seq "$round"); do
		frozen "mnt/$old/disk" "truth-$old"
	done
done

# Its size stays.
for new in 0 1000000 9000000; do
	truncate -s "$new" "$live" 2>errors && fail "it can be resized to $new"
	grep -q 'Operation not permitted' errors || fail "truncate to $new: $(cat errors)"
done
fallocate -l 9000000 "$live" 2>errors && fail 'it can grow'
printf x | dd of="$live" bs=1 seek="$size" conv=notrunc 2>errors && fail 'it can be written past its end'
grep -q 'No space left on device' errors || fail "a write past the end: $(cat errors)"
[ "$(stat -c %s "$live")" = "$size" ] || fail 'the size has changed'

# Nobody else has it meanwhile, and it comes back.
mount "$loop" ext4 2>errors && fail 'a device in use can be mounted'
unmount mnt
same "$loop" reference
mount_fleecefs -o store=store "disk=$loop" mnt
for old in 1 2 3; do
	frozen "mnt/$old/disk" "truth-$old"
done
unmount mnt

# A device with a mounted file system is refused.
mkfs.ext4 -q "$loop" || fail 'mkfs'
mount "$loop" ext4 || skip 'cannot mount ext4'
expect_error 1 "$loop.*(busy|in use|mounted)" "$FLEECEFS" -o store=other "disk=$loop" mnt
[ ! -e other ] || fail 'a store was made'
umount ext4
echo 'block devices work as disks'
