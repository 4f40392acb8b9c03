#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The file system of the store dies while a guest writes to a disk that takes no note (a block
# device): the snapshot is broken, and it still is after a kill of fleecefs, when the store is there
# again. Then the same where nothing outside of the store can be written either: the guest's write
# waits for the store, and a signal ends that.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need mkfs.ext4 python3
need_root
private_mounts "$@"
in_memory
setup
mkdir mnt disk
for own in /run /var/lib; do
	mount -t tmpfs fleecefs-test $own || skip 'cannot mount a tmpfs'
done

truncate -s 64M disk.img
mkfs.ext4 -q disk.img || fail 'mkfs'
loop_device disk.img
store_disk=$loop
noise $((4 << 20)) >img
loop_device img
source_disk=$loop

# What is written is written; then the file system takes nothing more (EXT4_IOC_SHUTDOWN).
kill_store_disk () {
	python3 -c '
import fcntl, os, struct
fcntl.ioctl(os.open("disk", os.O_RDONLY), 0x8004587D, struct.pack("I", 0))' ||
		skip 'ext4 cannot be shut down'
}

bring_store_back () {
	umount disk || fail 'umount of the disk of the store'
	mount "$store_disk" disk || fail 'mount of the disk of the store'
}

kill_daemon () {
	local pid

	pid=$(daemon_pid mnt)
	kill -9 "$pid"
	await_exit "$PATIENCE" "$pid" || fail 'it survives kill -9'
	umount mnt || umount -l mnt
}

state () {
	getfattr -n user.fleecefs.state --only-values "mnt/$1" 2>/dev/null
}

mount "$store_disk" disk || skip 'cannot mount ext4'
for options in cbw-timeout=0 cbw-timeout=1 durability=power; do
	rm -rf disk/store
	mount_fleecefs -o "$options,store=disk/store" "disk=$source_disk" mnt
	mkdir mnt/a || fail 'mkdir'
	kill_store_disk
	patch mnt/.live/disk 0 $((5 * 4096)) direct
	cat mnt/a/disk >/dev/null 2>&1 && fail "with $options: a broken snapshot can be read"
	kill_daemon
	bring_store_back
	mount_fleecefs -o "$options,store=disk/store" "disk=$source_disk" mnt
	[[ $(state a) = "broken: "*seal* ]] || fail "with $options, after a kill: a is '$(state a)'"
	cat mnt/a/disk >/dev/null 2>&1 && fail "with $options: it can be read after a kill"
	mkdir mnt/b || fail 'mkdir'
	cp mnt/.live/disk truth
	patch mnt/.live/disk 0 $((5 * 4096)) direct
	frozen mnt/b/disk truth
	kill_daemon
	mount_fleecefs -o "$options,store=disk/store" "disk=$source_disk" mnt
	frozen mnt/b/disk truth
	unmount mnt
	left=$(find /run/fleecefs /var/lib/fleecefs -type f 2>/dev/null)
	[ -z "$left" ] || fail "left: $left"
done

# Nowhere.
rm -rf disk/store /run/fleecefs
: >/run/fleecefs
mount_fleecefs -o store=disk/store "disk=$source_disk" mnt
mkdir mnt/a || fail 'mkdir'
cp mnt/.live/disk truth
kill_store_disk
noise 4096 >block
dd if=block of=mnt/.live/disk bs=4096 count=1 conv=notrunc oflag=direct status=none 2>errors &
writer=$!
await grep -q "warning: writes to 'disk' are held" mnt/.fleecefs/status || fail 'no write is held'
cmp -s -n 4096 truth "$source_disk" || fail 'the write that is held was made'
kill "$(daemon_pid mnt)"
await_daemon mnt
wait "$writer" && fail 'the write that was held succeeds'
bring_store_back
mount_fleecefs -o store=disk/store "disk=$source_disk" mnt
[ "$(state a)" = ok ] || fail "a, for which no block was lost, is '$(state a)'"
frozen mnt/a/disk truth
unmount mnt
umount disk
