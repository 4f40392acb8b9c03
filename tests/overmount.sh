#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -o overmount: the images' own paths are the live disks. However the mount ends, the images are the
# images again; after a kill they stay covered until the next start. A covered image is no image.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=lib-data.sh source-path=SCRIPTDIR
. "$top_srcdir/tests/lib-data.sh"
need_root
private_mounts "$@"
setup

mkdir m other 'd d'
noise 256K >a.img
noise 256K >'d d/b.img'
ln -s 'd d/b.img' link.img

# covered FILE...: it is a live disk; plain FILE...: it is itself.
covered () {
	local file
	for file; do
		mountpoint -q "$file" || fail "$file is not covered"
	done
}
plain () {
	local file
	for file; do
		! mountpoint -q "$file" || fail "$file is covered"
	done
}
is_plain () {
	! mountpoint -q "$1"
}
start () {
	mount_fleecefs -o overmount,store=s a.img b=link.img m
	covered a.img 'd d/b.img'
}

# What is written to the path is written to the disk, and a snapshot keeps what was there.
cp a.img old-a
cp link.img old-b
start
mkdir m/1
patch a.img 4096 4096
patch link.img 8192 4096
same a.img m/.live/a.img
same link.img m/.live/b
frozen m/1/a.img old-a
frozen m/1/b old-b
! cmp -s a.img old-a || fail 'a.img was not written'
cp a.img new-a
cp link.img new-b

# Another one, with this one's images.
expect_error 1 "/a.img' is the live file of the fleecefs on '$tmp/m', by its -o overmount; run umount" \
	"$FLEECEFS" a.img other
expect_error 1 "/d d/b.img' is the live file of the fleecefs on" "$FLEECEFS" -o overmount link.img other

# Ends: umount, in any order; fusermount3; a signal.
unmount m
plain a.img 'd d/b.img'
same a.img new-a
same link.img new-b
start
umount a.img || fail 'cannot unmount a.img'
same m/.live/a.img new-a
unmount m
plain 'd d/b.img'
if command -v fusermount3 >/dev/null; then
	start
	fusermount3 -u m || fail 'fusermount3 -u'
	await_daemon m
	plain a.img 'd d/b.img'
fi
start
pid=$(daemon_pid m)
kill "$pid"
await_daemon m
plain a.img 'd d/b.img' m

# While somebody has a covered image open: it goes on until that is closed.
for how in umount 'umount -l'; do
	start
	exec 5<>a.img
	$how m || fail "$how"
	for image in a.img 'd d/b.img'; do
		await is_plain "$image" || fail "$how: $image is covered"
	done
	[ -n "$(daemon_pid m)" ] || fail "$how: the daemon is gone, and a file is open"
	expect_error 1 "/a.img' is in use by fleecefs" "$FLEECEFS" -o overmount,store=s a.img b=link.img m
	echo "$how" >&5 || fail "$how: cannot write"
	exec 5>&-
	await_daemon m
	[ "$(head -n 1 a.img)" = "$how" ] || fail "$how: what was written is not in the image"
done
cp a.img new-a

# Killed: covered by a dead mount, which the next start takes away, but not one that fails for
# something else.
start
kill -9 "$(daemon_pid m)"
await_daemon m
denied 'Transport endpoint is not connected' cat a.img
expect_error 1 "the program that served 'm' is gone; run umount 'm' first" \
	"$FLEECEFS" -o overmount,store=s a.img b=link.img m
denied 'Transport endpoint is not connected' cat a.img
umount m || fail 'cannot unmount what is dead'
expect_error 1 "the program that served 'a.img' is gone; run umount 'a.img' first" \
	"$FLEECEFS" -o store=s a.img b=link.img m
start
same a.img new-a
frozen m/1/a.img old-a
frozen m/1/b old-b
unmount m
plain a.img 'd d/b.img'
same a.img new-a

# In the foreground; and what cannot be covered is not half covered.
FLEECEFS_TEST=$base "$FLEECEFS" -f -o overmount,store=s a.img b=link.img m &
daemon=$!
await mountpoint -q link.img || fail 'not covered, in the foreground'
same a.img m/.live/a.img
kill "$daemon"
wait "$daemon" || fail "in the foreground: status $?"
plain a.img 'd d/b.img' m
loop_device old-a
refused 1 'is a block device, which overmount is not for' \
	"$FLEECEFS" -o "overmount,store=$base/t" "$loop" m
prepare_user
let_user_mount
cp old-a home/a.img
chown -R "$USER_NAME": home
mkdir home/m
refused 1 'only root may mount over an image; leave out overmount' \
	as_user "$FLEECEFS" -o overmount home/a.img home/m
exit 0
