#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A block device that is in use, or an image that a loop device has, is refused with one line that
# says who has it and what to do; nothing is made, nothing is changed.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_root
need mke2fs
setup

mkdir m
head -c 1M /dev/urandom >disk.img
mke2fs -q -F mounted.img 1M >"$base/mke2fs" 2>&1 || fail "mke2fs: $(cat "$base/mke2fs")"
truncate -s 1M busy.img

# An image under a loop device, by whatever name, of which the kernel's locks tell nothing.
loop_device disk.img
disk_loop=$loop
ln disk.img hard.img
for name in disk.img hard.img; do
	refused 1 "'.*$name' is in use by $disk_loop; run losetup -d $disk_loop first" \
		"$FLEECEFS" -o store=s "$name" m
done

# The loop device itself is a good block device, but beside it is no place for a store.
refused 1 "'$disk_loop' is a block device.*give -o store=DIR" "$FLEECEFS" "$disk_loop" m
refused 1 "'$disk_loop' is the same disk as" \
	"$FLEECEFS" -o store=s "a=$disk_loop" "b=$disk_loop" m
mknod other-node b "0x$(stat -c %t "$disk_loop")" "0x$(stat -c %T "$disk_loop")"
refused 1 "'other-node' is the same disk as '$disk_loop'" \
	"$FLEECEFS" -o store=s "a=$disk_loop" b=other-node m

# A mounted one.
loop_device mounted.img
mkdir "$base/fs"
mount "$loop" "$base/fs" || fail "cannot mount $loop"
refused 1 "'$loop' is in use \(mounted, or part of a volume\); free it first" \
	"$FLEECEFS" -o store=s "$loop" m
umount "$base/fs"

# One that is read-only.
loop_device busy.img --read-only
refused 1 "'$loop' for reading and writing: (Permission denied|Read-only file system)|'$loop'.*read-only" \
	"$FLEECEFS" -o store=s "$loop" m

# One that a fleecefs has.
mount_fleecefs -o store=s "$disk_loop" m
mkdir "$base/m"
refused 1 "'$disk_loop' is in use" "$FLEECEFS" -o store=s2 "$disk_loop" "$base/m"
denied 'Operation not permitted' truncate -s 2M "m/.live/${disk_loop##*/}"
denied 'Operation not permitted' truncate -s 4K "m/.live/${disk_loop##*/}"
unmount m

# Nothing attached to it: empty.
losetup -d "$disk_loop"
refused 1 "'$disk_loop'.*(empty|nothing is attached|No such device)" \
	"$FLEECEFS" -o store=s2 "$disk_loop" m
