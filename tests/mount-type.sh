#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# mount -t fuse.fleecefs and a line in fstab(5) mount as the program itself does, with options of
# fleecefs, of FUSE and of mount(8) together; umount is the end.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
private_mounts "$@"
need mount.fuse3 mount.fuse findmnt
setup

# mount(8) gives its helpers a PATH of its own; this directory is in it.
mkdir bin m
cp "$FLEECEFS" bin/fleecefs
mount --bind bin /usr/local/sbin || fail 'cannot put the program where mount(8) finds it'
head -c 64K /dev/urandom >a.img
cp a.img 'b c.img'

# mounted SOURCE [OPTION...]: it is what the table of mounts says, and it works.
mounted () {
	local option

	[ "$(findmnt -rno FSTYPE m)" = fuse.fleecefs ] || fail "type $(findmnt -no FSTYPE m)"
	[ "$(findmnt -no SOURCE m)" = "$1" ] || fail "source $(findmnt -no SOURCE m)"
	for option in "${@:2}"; do
		[[ ,$(findmnt -no OPTIONS m), = *,$option,* ]] || fail "no $option: $(findmnt -no OPTIONS m)"
	done
	same "$1" "m/.live/${1##*/}"
}

mount_by mount -t fuse.fleecefs a.img m || fail "mount -t: status $?"
mounted "$tmp/a.img" rw
mkdir m/monday
unmount m
[ -d a.img.fleece/snapshots/000001 ] || fail 'the snapshot is not in the store'

mount_by mount -t fuse.fleecefs \
	-o store="$tmp/s",granule=8k,allow_other,noatime,nosuid,nodev,nofail,_netdev,x-systemd.automount \
	"$tmp/b c.img" m || fail "mount -t with options: status $?"
mounted "$tmp/b c.img" noatime nosuid nodev allow_other default_permissions
mkdir m/monday
unmount m
grep -qx 'granule=8192' s/fleecefs.ini || fail 'granule=8k has not arrived'

# Read-only.
mount_by mount -t fuse.fleecefs -o ro a.img m || fail "mount -o ro: status $?"
mounted "$tmp/a.img" ro
mkdir m/tuesday 2>errors && fail 'mkdir in a mount that is read-only'
same a.img m/monday/a.img
unmount m

# From fstab, with a blank in the name, by mountpoint, by source, and all.
cat >fstab <<END
$tmp/b\\040c.img $tmp/m fuse.fleecefs store=$tmp/s,granule=8k,noauto,nofail,user 0 0
$tmp/a.img $tmp/m fuse.fleecefs max-snapshots=1 0 0
END
mount_by mount -T fstab "$tmp/b c.img" || fail "mount of fstab's first: status $?"
mounted "$tmp/b c.img"
umount m
await_daemon "$tmp/b c.img"
sed -i 1d fstab
mount_by mount -T fstab "$tmp/m" || fail "mount of fstab's second: status $?"
mounted "$tmp/a.img"
mkdir m/tuesday 2>errors && fail 'max-snapshots=1 has not arrived'
mount -a -T fstab || fail 'mount -a does not see that it is mounted'
unmount "$tmp/m"

# What is wrong reaches the user, and nothing is mounted.
mount -t fuse.fleecefs -o granule=5k a.img m 2>errors && fail 'a bad option is mounted'
grep -q "^fleecefs: bad option 'granule=5k'" errors || fail "mount says: $(cat errors)"
mount -t fuse.fleecefs missing.img m 2>errors && fail 'a missing image is mounted'
grep -q "^fleecefs: there is no image 'missing.img'" errors || fail "mount says: $(cat errors)"
mountpoint -q m && fail 'something is mounted'
exit 0
