#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What is a hole and stays one costs nothing: fstrim of a file system in a sparse disk of 1 TiB, and
# a discard of all of it, take no blocks of the store, and break no snapshot where there are none.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need fstrim losetup mkfs.ext4 getfattr
private_mounts "$@"
in_memory
setup
mkdir mnt fs
live=mnt/.live/img
truncate -s 1T img || skip 'no file of 1 TiB here'

# The granules that guests had saved, in bytes.
copied () {
	awk '$1 ~ /^fleecefs_copied_bytes/ { print $2 }' mnt/.fleecefs/metrics
}

need_intact () {
	local state

	state=$(getfattr --only-values -n user.fleecefs.state "mnt/$1") || fail "getfattr of $1"
	[ "$state" = ok ] || fail "snapshot $1 is $state"
}

# Room for what mkfs overwrites, which is nothing but holes, and for the tables of some GiB only.
mount_fleecefs -o max-overlay=16M img mnt
mkdir mnt/empty || fail 'mkdir'
before=$(store_kib img.fleece)
fallocate -p -o 0 -l 1T "$live" || fail 'cannot discard the disk'
[ "$(store_kib img.fleece)" = "$before" ] || fail "holes take $(store_kib img.fleece) KiB, not $before"
[ "$(copied)" = 0 ] || fail "$(copied) bytes were saved of holes"
need_intact empty
rmdir mnt/empty
unmount mnt

loop_device img
mkfs.ext4 -q -E lazy_itable_init=1 "$loop" || fail 'mkfs'
losetup -d "$loop" || fail 'losetup -d'
mount_fleecefs -o max-overlay=16M img mnt
loop_device "$live"
mount "$loop" fs || fail 'cannot mount the live disk'
echo before >fs/file
sync -f fs
mkdir mnt/trimmed || fail 'mkdir'
before=$(copied)
fstrim fs || fail 'fstrim'
[ "$(copied)" -lt $((before + 1048576)) ] || fail "$(copied) bytes saved for fstrim, $before before"
need_intact trimmed
echo after >fs/file
sync -f fs
[ "$(store_kib img.fleece)" -lt 16384 ] || fail "the store takes $(store_kib img.fleece) KiB"
umount fs || fail 'umount'
losetup -d "$loop" || fail 'losetup -d'
loop_device mnt/trimmed/img --read-only
mount -o ro,noload "$loop" fs || fail 'cannot mount the snapshot'
[ "$(cat fs/file)" = before ] || fail "the snapshot's file says: $(cat fs/file)"
umount fs || fail 'umount of the snapshot'
losetup -d "$loop" || fail 'losetup -d'
need_intact trimmed
unmount mnt
echo 'holes cost nothing'
