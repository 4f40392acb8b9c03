#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# While the store's disk hangs, and with it more snapshot readers, writers that have to copy and
# mkdirs than there are threads, guests go on reading, and writing what is saved. When it answers
# again all of them get what they asked for.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

MANY=40 # more than threads=8, and than what the kernel lets be under way in the background

need mkfs.ext4 fsfreeze
need_root
private_mounts "$@"
in_memory
setup
mkdir mnt below disk ctl
ln -s mnt/.live live # fio makes the directories of a path, and mkdir in mnt hangs here
mount -t fusectl fusectl ctl 2>/dev/null || skip 'no fusectl'

# The store's disk is the live file of another fleecefs: stop that, and the disk hangs.
truncate -s 128M disk.img
mkfs.ext4 -q disk.img || fail 'mkfs'
mount_fleecefs disk.img below
below=$(daemon_pid below)
loop_device below/.live/disk.img --direct-io=on
mount "$loop" disk || skip 'cannot mount ext4'

noise $((MANY << 18)) >img
cp img first

mount_store () {
	mount_fleecefs -o threads=8,store=disk/store img mnt
	connection=$(($(stat -c %d mnt) & 255))
	# So that no reader finds what another has read ahead.
	echo 128 >"/sys/class/bdi/0:$connection/read_ahead_kb" || skip 'the read-ahead cannot be set'
}

# are_waiting N: so many requests have come to the file system and are not answered.
are_waiting () {
	[ "$(cat "ctl/$connection/waiting")" -ge "$1" ]
}

# What a guest may expect: reads, and writes to blocks that are saved, also asynchronous ones.
guest () {
	local i

	for i in 1 2 3 4 5 6 7 8 9 10; do
		dd if=live/img of=/dev/null bs=64k count=4 iflag=direct skip=$((i * 4)) status=none ||
			return
		noise 4096 | dd of=live/img bs=4k conv=notrunc oflag=direct status=none || return
	done
	if command -v fio >/dev/null && fio --enghelp=libaio >/dev/null 2>&1; then
		fio --name=aio --ioengine=libaio --direct=1 --iodepth=16 --rw=randwrite --bs=4k \
			--size=64k --number_ios=64 --filename=live/img || return
	fi
	: >"$1"
}

# guest_goes_on HUNG: sets status if not. What hangs would hang a wait for it, so there is none
# before the disk answers again.
guest_goes_on () {
	if ! await are_waiting $MANY; then
		status="the $1 do not come"
		return
	fi
	in_background guest "guest-and-$1" >output
	await test -e "guest-and-$1" || status="with hung $1 the guest hangs too: $(cat output)"
}

status=
others=()

# in_background COMMAND...
in_background () {
	"$@" 2>>errors &
	others+=($!)
}

all_succeed () {
	local other

	for other in "${others[@]}"; do
		wait "$other" || fail "$1: $(cat errors)"
	done
	others=()
}

# Readers: what they want is in the store and not in memory.
mount_store
mkdir mnt/old
noise $((MANY << 18)) | dd of=mnt/.live/img bs=256k iflag=fullblock conv=notrunc status=none ||
	fail 'cannot write'
unmount mnt
umount disk || fail 'umount of the disk'
mount "$loop" disk || fail 'mount'
mount_store
dd if=mnt/old/img of=/dev/null bs=4k count=1 iflag=direct status=none || fail 'the tables'
kill -STOP "$below"
for ((i = 0; i < MANY; i++)); do
	in_background dd if=mnt/old/img of="part-$i" bs=128k skip=$((2 * i)) count=1 status=none
done
guest_goes_on readers
kill -CONT "$below"
[ -z "$status" ] || fail "$status"
all_succeed 'hung readers'
for ((i = 0; i < MANY; i++)); do
	dd if=first bs=128k skip=$((2 * i)) count=1 status=none | cmp - "part-$i" ||
		fail "a reader that hung got other bytes at $i"
done

# Writers that have to copy, and mkdirs.
mkdir mnt/new
cp mnt/.live/img second
patch mnt/.live/img 0 65536 direct
fsfreeze -f disk || fail 'fsfreeze'
for ((i = 1; i <= MANY; i++)); do
	noise 65536 >"new-$i"
	[ $i = $MANY ] || in_background dd if="new-$i" of=mnt/.live/img bs=64k seek=$((4 * i)) \
		conv=notrunc oflag=direct status=none
	in_background mkdir "mnt/hung-$i"
done
guest_goes_on writers
fsfreeze -u disk || fail 'fsfreeze -u'
[ -z "$status" ] || fail "$status"
all_succeed 'hung writers'
for ((i = 1; i < MANY; i++)); do
	dd if=mnt/.live/img bs=64k skip=$((4 * i)) count=1 status=none | cmp - "new-$i" ||
		fail "a writer that hung wrote something else at $i"
	[ -d "mnt/hung-$i" ] || fail "no hung-$i"
done
frozen mnt/old/img first
frozen mnt/new/img second

unmount mnt
umount disk || fail 'umount of the disk'
losetup -d "$loop" || fail 'losetup -d'
loops=()
unmount below
