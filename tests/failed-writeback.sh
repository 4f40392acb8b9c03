#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The store's disk fails where Linux writes saved blocks to it in the background, which nobody waits
# for; then Linux drops them from memory. What is read from there would be other bytes, so a snapshot
# has to refuse them.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need mkfs.ext4 getfattr
need_root
private_mounts "$@"
setup
mkdir mnt disk

noise $((8 << 20)) >img
cp img first

# lose DURABILITY: of two blocks that are saved the second one is bad, as in failed-sync.sh, and no
# longer in memory.
lose () {
	mkdir small
	mount -t tmpfs -o size=64m disk disk || fail 'no tmpfs'
	truncate -s 1G disk/image
	mkfs.ext4 -q -F -m 0 -O ^has_journal -E lazy_itable_init=0,nodiscard disk/image || fail 'no ext4'
	loop_device disk/image
	mount "$loop" small || fail 'no ext4'
	rm -f img
	cp first img
	start "$1"
	mkdir mnt/a
	patch mnt/.live/img 0 4096 direct
	sync -f small
	frozen mnt/a/img first
	dd if=/dev/zero of=disk/full bs=4k status=none 2>/dev/null
	patch mnt/.live/img 1048576 4096 direct
	frozen mnt/a/img first
	sync -f small 2>/dev/null && fail 'the disk takes all'
	echo 1 >/proc/sys/vm/drop_caches || skip 'the page cache cannot be dropped'
}

start () {
	mount_fleecefs -o "store=small/s,durability=$1" img mnt
}

refuses () { # CASE
	if cmp mnt/a/img first 2>output; then
		fail "$1: the disk has what it did not take"
	fi
	grep -q 'Input/output error' output || fail "$1: a snapshot has other bytes: $(cat output)"
}

tidy () {
	umount small || fail 'the store is busy'
	losetup -d "$loop"
	umount disk || fail 'the disk is busy'
	rmdir small
}

# It is read; then comes the end, or a kill, or nobody had read it.
for durability in process power; do
	lose $durability
	refuses "$durability, a read"
	patch mnt/.live/img 2097152 4096 direct || fail 'the guest does not go on'
	rm disk/full
	timeout "$PATIENCE" umount mnt || fail 'umount'
	await_daemon mnt
	tidy
done

lose process
umount mnt || fail 'umount'
await_daemon mnt
rm disk/full
start process
state=$(getfattr --only-values -n user.fleecefs.state mnt/a)
[[ $state == broken:* ]] || fail "after the end the state is '$state'"
refuses 'after the end'
unmount mnt
tidy

lose process
kill -9 "$(daemon_pid mnt)" || fail 'no daemon to kill'
umount mnt
rm disk/full
start process
refuses 'after a kill'
unmount mnt
tidy

lose power
kill -9 "$(daemon_pid mnt)" || fail 'no daemon to kill'
umount mnt
rm disk/full
start power
frozen mnt/a/img first # of its log
unmount mnt
tidy
echo 'what the disk did not take is not read from it'
