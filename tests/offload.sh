#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whatever the file system under image and store can do (share blocks or not), and whichever way
# blocks are copied, snapshots are right, and holes take no room in the store. When it gets full, that
# is the snapshot's affair and not the guest's.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need getfattr
in_memory
setup
mkdir mnt fs

# try DIRECTORY METHOD WHAT: 8 MiB with 1.5 of data, all overwritten, partly twice.
try () {
	local dir=$1 method=$2 what="copy=$2 on $3" kib

	truncate -s 8388611 "$dir/img"
	patch "$dir/img" 500000 524288
	patch "$dir/img" 4194304 1048576
	cp --sparse=always "$dir/img" truth-1
	mount_fleecefs -o "store=$dir/store,copy=$method" "$dir/img" mnt
	mkdir mnt/1 || fail "$what: mkdir"
	patch mnt/.live/img 4800001 3000
	fallocate -p -o 5000000 -l 150000 mnt/.live/img || fail "$what: punch"
	cp mnt/.live/img truth-2
	mkdir mnt/2 || fail "$what: mkdir"
	noise 8388611 >new
	dd if=new of=mnt/.live/img bs=300000 conv=notrunc status=none || fail "$what: dd"
	same mnt/.live/img new
	mkdir mnt/3 || fail "$what: mkdir"
	patch mnt/.live/img 1000 2621440
	frozen mnt/1/img truth-1
	frozen mnt/2/img truth-2
	frozen mnt/3/img new
	rmdir mnt/2 || fail "$what: rmdir"
	await_layers "$dir/store" 2
	frozen mnt/1/img truth-1
	frozen mnt/3/img new
	unmount mnt
	# Only now, for XFS gives open files room in advance.
	kib=$(store_kib "$dir/store") || exit 1
	[ "$kib" -lt $((1536 + 2560 + 1024)) ] || fail "$what: the store takes $kib KiB"
	mount_fleecefs -o "store=$dir/store,copy=$method" "$dir/img" mnt
	frozen mnt/1/img truth-1
	frozen mnt/3/img new
	unmount mnt
	rm -r "$dir/store" "$dir/img"
}

# try_full DIRECTORY METHOD: where blocks are shared it is the guest's write that needs room for new
# ones. An image that has all its blocks must not come to feel that, with whatever little room.
try_full () {
	local dir=$1 image_mib=48 avail i

	noise $((image_mib << 20)) >"$dir/img"
	mount_fleecefs -o "store=$dir/store,copy=$2" "$dir/img" mnt
	mkdir mnt/1 || fail "full, copy=$2: mkdir"
	sync -f "$dir"
	avail=$(stat -f -c '%a * %S' "$dir")
	fallocate -l $((avail - (4 << 20))) "$dir/full" || fail 'cannot fill'
	for ((i = 0; i < image_mib; i += 4)); do
		patch mnt/.live/img $((i << 20)) $((4 << 20)) direct
	done
	[[ $(getfattr -n user.fleecefs.state --only-values mnt/1) = broken:*full ]] ||
		fail "full, copy=$2: $(getfattr -n user.fleecefs.state --only-values mnt/1)"
	unmount mnt
	rm -r "$dir/store" "$dir/img" "$dir/full"
}

mkdir here
for method in offload auto bounce; do
	try here "$method" 'what is here'
done

# on_loop METHODS MKFS [OPTION...]: on a file system made for it. A btrfs that is full has no room
# for a write to an image at all, shared or not.
n_tried=0
on_loop () {
	local methods=$1 kind=${2#mkfs.} method
	shift

	command -v "$1" >/dev/null || return
	truncate -s 1200M "$kind.disk" # below 512 MiB nothing is shared
	"$@" "$kind.disk" >output 2>&1 || fail "$*: $(cat output)"
	loop_device "$kind.disk"
	if mount -t "$kind" "$loop" fs 2>/dev/null; then
		for method in $methods; do
			try fs "$method" "$kind"
			[ "$kind" = btrfs ] || try_full fs "$method"
		done
		n_tried=$((n_tried + 1))
		umount fs || fail "umount of $kind"
	fi
	losetup -d "$loop"
	loops=()
	rm "$kind.disk"
}

need_root
on_loop 'auto offload bounce' mkfs.xfs -q -m reflink=1
on_loop 'offload auto' mkfs.btrfs -q
on_loop offload mkfs.ext4 -q -m 0
echo "snapshots are right however blocks are copied, here and on $n_tried other file systems"
