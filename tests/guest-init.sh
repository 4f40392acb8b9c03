#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The first process of the guest of tests/guest.sh. Its console is the log of the kernel, for a line
# that is written there is at the host when the write returns.

export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /a /b
/bin/busybox --install -s /bin
say () {
	echo "<1>guest: $*" >/dev/kmsg
}

mount -t devtmpfs dev /dev && mount -t proc proc /proc && mount -t sysfs sys /sys
for module in /modules/*.ko; do
	[ ! -e "$module" ] || insmod "$module" || say "failed: $module"
done
if ! mount -t ext4 /dev/vda /a || ! mount -t ext4 /dev/vdb /b; then
	say 'failed: mount'
fi

# What is discarded the image no longer has.
if ! dd if=/dev/urandom of=/a/large bs=1M count=16 conv=fsync 2>/dev/null || ! rm /a/large ||
	! sync || ! fstrim /a; then
	say 'failed: discard'
fi
say discarded
sh /synced-load.sh /dev/kmsg /a /b
say 'failed: the load ended'
sleep 1000000
