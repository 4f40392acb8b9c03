#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
#	guest.sh [all]
#
# A Linux guest under QEMU with two disks on .live, at work on file systems with fsync and discards:
# each of five snapshots is a sound file system, holds what the guest had synced before mkdir and
# nothing that it wrote after it, and stays as it is; its two disks are of one instant.
#
# all: for each cache mode and kind of asynchronous I/O; else for one that needs most of fleecefs.
#
# The guest is a kernel (see guest-kernel.sh), busybox, guest-init.sh and synced-load.sh. It is
# emulated in full: what is tested is not speed, and KVM is not everywhere.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-synced.sh
. "$top_srcdir/tests/lib-synced.sh"

# shellcheck disable=SC2034 # for lib-data.sh
PATIENCE=120 # an emulated machine boots in 5 seconds, or 50 with other work
kernel=${GUEST_KERNEL:-$top_builddir/guest}

need qemu-system-x86_64 busybox mkfs.ext4 e2fsck
[ "$(uname -m)" = x86_64 ] || skip 'the guest is of x86_64'
[ -e "$kernel/vmlinuz" ] ||
	skip "there is no kernel for the guest (tests/guest-kernel.sh $kernel fetches one)"
# Else a copy of the mounts, in a namespace that somebody else makes, could hold a loop device.
private_mounts "$@"
in_memory
setup

make_initramfs () {
	mkdir -p root/bin root/modules
	cp "$(command -v busybox)" root/bin/busybox
	find "$kernel" -name '*.ko' -exec cp {} root/modules \;
	cp "$top_srcdir/tests/guest-init.sh" root/init
	cp "$top_srcdir/tests/synced-load.sh" root
	chmod 755 root/init
	chroot root /bin/busybox true 2>/dev/null || skip 'busybox is not linked statically'
	(cd root && find . | busybox cpio -o -H newc 2>/dev/null) >initramfs || fail 'cpio'
}

# boot CACHE AIO: until the guest is at work. Linux would measure clocks, which on a busy host are wrong.
boot () {
	local options="format=raw,if=none,cache=$1,aio=$2,discard=unmap"

	: >report
	qemu-system-x86_64 -accel tcg -m 192 -nodefaults -no-user-config -display none -no-reboot \
		-serial file:report -kernel "$kernel/vmlinuz" -initrd initramfs \
		-append 'console=ttyS0 quiet printk.devkmsg=on panic=-1 no_timer_check tsc=unstable' \
		-drive "file=mnt/.live/a.img,id=a,$options" -device virtio-blk-pci,drive=a \
		-drive "file=mnt/.live/b.img,id=b,$options" -device virtio-blk-pci,drive=b \
		2>qemu-errors &
	qemu=$!
	await has_booted || fail "the guest does not boot: $(tail -n 5 report)"
}

# has_booted: or will it never?
has_booted () {
	kill -0 "$qemu" 2>/dev/null || fail "qemu ended: $(cat qemu-errors) $(tail -n 20 report)"
	! grep 'failed\|Kernel panic' report || fail 'the guest failed'
	grep -q 'guest: discarded' report
}

# mount_disks DIRECTORY: on seen; the kernel replays the journals.
mount_disks () {
	local disk

	for disk in a b; do
		mount -o loop "$1/$disk.img" "seen/$disk" || fail "cannot mount $1/$disk.img"
	done
}

# check_disks DIRECTORY BEFORE AFTER: two images, copies of ours.
check_disks () {
	local disk

	mount_disks "$1"
	holds "$2" "$3" seen/a seen/b || fail "$1 lacks something"
	umount seen/a seen/b || fail 'umount'
	for disk in a b; do
		e2fsck -fn "$1/$disk.img" >output 2>&1 || fail "e2fsck: $(cat output)"
	done
}

# try CACHE AIO
try () {
	local disk number

	truncate -s 64M a.img
	truncate -s 16M b.img
	for disk in a b; do
		mkfs.ext4 -q -b 4096 "$disk.img" || fail 'mkfs'
	done
	mount_fleecefs -o store=store a.img b.img mnt
	boot "$@"
	[ "$(du -sk a.img | cut -f 1)" -lt $((12 << 10)) ] || fail "a discard did nothing: $(du -sk a.img)"

	for number in 1 2 3 4 5; do
		snapshot_in_flight "$number"
		# Of what is there now some is not yet saved, and is read from the image.
		mkdir "copy-$number"
		cp --sparse=always "mnt/$number"/*.img "copy-$number" || fail "cp of $number"
	done
	await_rounds "$ROUNDS"
	kill "$qemu"
	wait "$qemu" 2>/dev/null
	! grep -v 'terminating on signal' qemu-errors || fail 'qemu has errors'

	for number in 1 2 3 4 5; do
		for disk in a b; do
			stays "mnt/$number/$disk.img" "copy-$number/$disk.img"
		done
		check_disks "copy-$number" "${before[$number]}" "${after[$number]}"
	done
	unmount mnt
	check_disks . "$(n_synced)" "$(n_synced)"
	mount_disks .
	check_checks seen/a seen/b
	umount seen/a seen/b
	rm -r store copy-*
	echo "cache=$1,aio=$2: five snapshots of $(n_synced) rounds"
}

mkdir -p mnt seen/a seen/b
make_initramfs
if [ "${1:-}" != all ]; then
	try none native
	exit 0
fi
for mode in none:threads none:native none:io_uring writeback:threads writeback:io_uring \
	writethrough:threads writethrough:io_uring; do
	try "${mode%:*}" "${mode#*:}"
done
