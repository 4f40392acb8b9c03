#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
#	loop-on-live.sh [FILESYSTEM...]
#
# A file system that is mounted, through a loop device, from the live disk, and at work with fsync and
# discards: each of five snapshots, after the file system has recovered by its log in a copy, has
# all that was synced before mkdir and nothing that was written after it, and needs no repair.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-synced.sh
. "$top_srcdir/tests/lib-synced.sh"

# shellcheck disable=SC2034 # for lib-data.sh
PATIENCE=60

need fstrim losetup
# Else a copy of the mounts, in a namespace that somebody else makes, could hold a loop device.
private_mounts "$@"
in_memory
setup
mkdir mnt fs seen

# make_filesystem TYPE FILE
make_filesystem () {
	case $1 in
	ext4) mkfs.ext4 -q -b 4096 "$2" ;;
	*) "mkfs.$1" -q "$2" ;;
	esac >output 2>&1 || fail "mkfs: $(cat output)"
}

# check_filesystem TYPE FILE: is there nothing to repair?
check_filesystem () {
	case $1 in
	ext4) e2fsck -fn "$2" ;;
	xfs) xfs_repair -n "$2" ;;
	btrfs) btrfs check --readonly "$2" ;;
	esac >output 2>&1 || fail "$2 is damaged: $(cat output)"
}

# mount_copy TYPE FILE: read-only, but the file is writable, so the log is replayed.
mount_copy () {
	loop_device "$2"
	mount -t "$1" -o ro "$loop" seen || fail "cannot mount $2"
}

umount_copy () {
	umount seen || fail 'umount of a copy'
	# All copies have the UUID of the first, which btrfs would keep in mind.
	[ "$1" != btrfs ] || btrfs device scan --forget "$loop" || fail 'forget'
	losetup -d "$loop" || fail 'losetup -d'
}

try () {
	local type=$1 number load live_loop size

	rm -rf img img.fleece copy-*
	case $type in
	xfs) size=320M ;; # mkfs makes none that is much smaller
	btrfs) size=128M ;;
	*) size=64M ;;
	esac
	truncate -s "$size" img
	make_filesystem "$type" img
	mount_fleecefs img mnt
	loop_device mnt/.live/img --direct-io=on
	live_loop=$loop
	if ! mount -t "$type" "$loop" fs 2>output; then
		echo "without $type: $(cat output)"
		losetup -d "$loop" && unmount mnt
		return
	fi
	n_tried=$((n_tried + 1))

	: >report
	"$top_srcdir/tests/synced-load.sh" report fs &
	load=$!
	for number in 1 2 3 4 5; do
		snapshot_in_flight "$number"
		cp --sparse=always "mnt/$number/img" "copy-$number" || fail 'cp'
	done
	await_rounds "$ROUNDS"
	kill "$load"
	wait "$load" || fail "the load ends with $?: $(tail -n 1 report)"
	check_checks fs
	umount fs || fail "umount of $type"
	losetup -d "$live_loop" || fail 'losetup -d'
	for number in 1 2 3 4 5; do
		stays "mnt/$number/img" "copy-$number"
	done
	unmount mnt

	[ "$type" != btrfs ] || btrfs device scan --forget "$live_loop" || fail 'forget'
	for number in 1 2 3 4 5; do
		mount_copy "$type" "copy-$number"
		holds "${before[$number]}" "${after[$number]}" seen || fail "snapshot $number of $type"
		umount_copy "$type"
		check_filesystem "$type" "copy-$number"
	done
	check_filesystem "$type" img
	echo "$type: five snapshots of $(n_synced) rounds are sound and hold what was synced"
}

[ $# -gt 0 ] || set -- ext4 xfs btrfs
n_tried=0
for type; do
	if command -v "mkfs.$type" >/dev/null; then
		try "$type"
	else
		echo "without $type: mkfs.$type is not installed"
	fi
done
[ "$n_tried" -gt 0 ] || skip 'no file system to be had'
