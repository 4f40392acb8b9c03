#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A sync of the store that fails, with durability=power. Linux then keeps in memory what did not get
# to disk, as if it had; so the next start must look at what the disk has, and until then nobody must
# read what may be in the overlay's log only.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need mkfs.ext4
need_root
private_mounts "$@"
setup
mkdir mnt disk small

# The store's disk is a file, which can only grow while its own file system has space: where it has
# none, a block that was never written before is a bad one. Without a journal of ext4's, which would
# take the whole of it away.
mount -t tmpfs -o size=64m disk disk || fail 'no tmpfs'
truncate -s 1G disk/image
mkfs.ext4 -q -F -m 0 -O ^has_journal -E lazy_itable_init=0,nodiscard disk/image || fail 'no ext4'
loop_device disk/image
mount "$loop" small || fail 'no ext4'

noise $((8 << 20)) >img
cp img old

start () {
	mount_fleecefs -o store=small/s,durability=power,on-cbw-error=break-guest-write img mnt
}

start
mkdir mnt/a
patch mnt/.live/img 0 4096 direct
sync -f small
dd if=/dev/zero of=disk/full bs=4k status=none 2>/dev/null
patch mnt/.live/img 20480 4096 direct # is in the log, and its place is a bad block
if noise 131072 | dd of=mnt/.live/img bs=131072 seek=10 iflag=fullblock oflag=direct conv=notrunc \
	status=none 2>output; then
	fail 'a copy is durable on a disk that takes nothing'
fi
if cmp mnt/a/img old 2>output; then
	fail 'an overlay is read that may lack bytes'
fi
grep -q 'Input/output error' output || fail "a snapshot has other bytes: $(cat output)"
if noise 4096 | dd of=mnt/.live/img bs=4096 seek=20 iflag=fullblock oflag=direct conv=notrunc \
	status=none 2>output; then
	fail 'a copy is durable after a sync that failed'
fi
kill -9 "$(daemon_pid mnt)" || fail 'no daemon to kill'
unmount mnt
rm disk/full

start
frozen mnt/a/img old
patch mnt/.live/img 1310720 131072 direct
patch mnt/.live/img 81920 4096 direct
kill -9 "$(daemon_pid mnt)" || fail 'no daemon to kill'
unmount mnt
umount small || fail 'the store is busy' # and what is in memory only is gone
mount "$loop" small || fail 'no ext4'
start
frozen mnt/a/img old
unmount mnt
umount small
echo 'what a failed sync left in memory is not taken for what is on disk'
