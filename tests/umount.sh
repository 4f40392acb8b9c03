#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# umount(8) with the helper, and fleecectl umount, come back when image and store are closed: what
# is copied then has all its snapshots. Here the daemon is stopped while they wait. They leave alone
# what they should, are done with what hangs or is dead, and do not wait for what does not end.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need fusermount3 findmnt
private_mounts "$@"
setup
UMOUNT_HELPER=${UMOUNT_HELPER:-$top_builddir/fleecefs/umount.fuse.fleecefs}

# What is in /sbin, and the helper.
mkdir "$base/sbin" m m2 copy
if ! mount --bind /sbin "$base/sbin" || ! mount -t tmpfs -o mode=755 fleecefs-test /sbin; then
	fail 'cannot put the helper where umount(8) finds it'
fi
ln -s "$base"/sbin/* /sbin
cp "$UMOUNT_HELPER" /sbin/umount.fuse.fleecefs

noise 1M >vm.img
noise 1M >other.img

# Is a process asleep in poll(2), and the mount gone?
is_waiting () {
	! mountpoint -q m && grep -qs poll "/proc/$1/wchan"
}

# copies WAY...: of unmounting; with the daemon stopped while it waits, so once would do.
copies () {
	local i pid waiter

	for i in 1 2 3; do
		rm -rf vm.img.fleece copy/*
		mount_fleecefs vm.img m
		mkdir m/a
		patch m/.live/vm.img 0 65536 direct
		mkdir m/b
		patch m/.live/vm.img 131072 65536 direct
		pid=$(daemon_pid m)
		kill -STOP "$pid"
		"$@" m >output 2>&1 &
		waiter=$!
		await is_waiting "$(waits_in "$waiter")" || fail "$*: does not wait: $(cat output)"
		grep -qx 'state=open' vm.img.fleece/fleecefs.ini || fail "$*: the store is closed already"
		kill -CONT "$pid"
		wait "$waiter" || fail "$*: status $?: $(cat output)"
		[ ! -s output ] || fail "$*: says: $(cat output)"
		# Nothing in between, as in "umount MNT; cp -a ...".
		cp -a vm.img vm.img.fleece copy
		await_exit 0 "$pid" || fail "$*: the daemon still runs"
		mv vm.img away
		mount_fleecefs copy/vm.img m2
		! grep -q broken m2/.fleecefs/status || fail "$*: copy $i: $(cat m2/.fleecefs/status)"
		[ "$(ls m2 | tr '\n' ' ')" = 'a b ' ] || fail "$*: copy $i has: $(ls m2)"
		unmount m2
		mv away vm.img
	done
}

# The helper is a child of umount(8); fleecectl waits itself.
waits_in () {
	local child

	await has_begun "$1" || fail 'does not begin'
	child=$(pgrep -P "$1" umount.fuse)
	echo "${child:-$1}"
}

has_begun () {
	[ "$(cat "/proc/$1/comm")" = fleecectl ] || pgrep -P "$1" umount.fuse >/dev/null
} 2>/dev/null

copies umount
copies "$FLEECECTL" umount

# A mount of FUSE's own kind comes back before, which is what the above is for; and so it is with
# umount -i, which runs no helper.
mount_fleecefs vm.img m
pid=$(daemon_pid m)
kill -STOP "$pid"
umount -i m || fail 'umount -i'
grep -qx 'state=open' vm.img.fleece/fleecefs.ini || fail 'umount -i waits'
kill -CONT "$pid"
await_daemon m

# One that is in use stays, and says so; -r makes it read-only; -l does not wait.
mount_fleecefs vm.img m
exec {live}<m/.live/vm.img
expect_error 32 "^umount.fuse.fleecefs: '.*/m' is busy: a program .*; fuser -vm '.*/m' names it" umount m
expect_error 1 "^fleecectl: '.*/m' is busy" "$FLEECECTL" umount m
expect_error 32 "is in use, and is read-only now" umount -r m
[[ ,$(findmnt -no OPTIONS m), = *,ro,* ]] || fail 'umount -r leaves it writable'
umount -l m || fail 'umount -l'
mountpoint -q m && fail 'umount -l leaves it'
is_fleecefs "$(daemon_pid m)" || fail 'umount -l ends it, though it is in use'
expect_error 1 "'.*/vm.img' is in use by .* \(pid [0-9]*\); stop that first: it is unmounted, and ends when no program has a file of it open" \
	"$FLEECEFS" vm.img m2
exec {live}<&-
await_daemon m

# By force, with a file open; what holds the image says who to unmount.
mount_fleecefs vm.img m
expect_error 1 "'.*/vm.img' is in use by .* \(pid $(daemon_pid m)\); stop that first: fleecectl umount '$tmp/m', with -f if it hangs" \
	"$FLEECEFS" -o store=s vm.img m2
expect_error 1 "store '.*/vm.img.fleece' is in use by .*; stop that first: fleecectl umount '$tmp/m', with" \
	"$FLEECEFS" -o store=vm.img.fleece other.img m2
exec {live}<m/.live/vm.img
"$FLEECECTL" umount --force m || fail "umount --force: status $?"
grep -qx 'state=clean' vm.img.fleece/fleecefs.ini || fail 'umount --force does not wait'
exec {live}<&-
await_daemon m

# Still in use by another way: nobody waits for its end.
: >bound
mount_fleecefs vm.img m
mount --bind m/.live/vm.img bound
expect_error 1 "is unmounted, but still in use: .* fleecefs \(pid $(daemon_pid m)\) goes on until" \
	"$FLEECECTL" umount m
umount bound
await_daemon m
mount_fleecefs vm.img m
mount --bind m/.live/vm.img bound || fail 'mount --bind'
umount m 2>errors
status=$?
if [ "$status" != 2 ] || ! grep -q '^umount.fuse.fleecefs: .* still in use' errors; then
	fail "umount: status $status: $(cat errors); $(grep fleecefs /proc/self/mountinfo)"
fi
umount bound
await_daemon m
mount_fleecefs vm.img m
mount --bind m m2
"$FLEECECTL" umount m2 || fail 'one of two'
same vm.img m/.live/vm.img
unmount m
mount_fleecefs -o overmount vm.img m
"$FLEECECTL" umount m || fail "of overmount: status $?"
mountpoint -q vm.img && fail 'the image is still covered'
await_daemon m

# A stopped one: it is unmounted, and whoever waits is told.
mount_fleecefs vm.img m
pid=$(daemon_pid m)
kill -STOP "$pid"
expect_error 1 "'.*/m' is unmounted, but fleecefs \(pid $pid\) has not closed image and store after 0 s; .* kill -9 $pid" \
	"$FLEECECTL" umount --timeout=0 m
kill -CONT "$pid"
await_daemon m

# A dead one goes without a wait; --dead leaves what is not, or is no fleecefs.
mount_fleecefs vm.img m
"$FLEECECTL" umount --dead m || fail "--dead: status $?"
same vm.img m/.live/vm.img
kill -9 "$(daemon_pid m)"
await_daemon m
expect_error 1 'Transport endpoint is not connected' stat m/.live
"$FLEECECTL" umount --dead m || fail "--dead of a dead one: status $?"
"$FLEECECTL" umount --dead m "$tmp/none" || fail "--dead of nothing: status $?"
mountpoint -q m && fail '--dead leaves a dead one'
mount_fleecefs vm.img m
kill -9 "$(daemon_pid m)"
await_daemon m
umount m || fail "umount of a dead one: status $?"
mount -t tmpfs none m2
"$FLEECECTL" umount --dead m2 || fail '--dead of a tmpfs'
expect_error 1 "'.*/m2' is no mount of fleecefs" "$FLEECECTL" umount m2
mountpoint -q m2 || fail 'a tmpfs is unmounted'
umount m2
expect_error 1 "nothing is mounted on 'm2'" "$FLEECECTL" umount m2
expect_error 1 "cannot look at 'none': No such file" "$FLEECECTL" umount none
"$UMOUNT_HELPER" 2>/dev/null && fail 'the helper without a mountpoint'

# Other paths to it; a namespace.
ln -s m link
for path in m/ ./m "$tmp/copy/../m" link m/.; do
	mount_fleecefs vm.img m
	"$FLEECECTL" umount "$path" || fail "umount $path"
	grep -qx 'state=clean' vm.img.fleece/fleecefs.ini || fail "umount $path does not wait"
	await_daemon m
done
mount_fleecefs vm.img m
unshare --mount "$UMOUNT_HELPER" "$tmp/m" -N $$ -t fuse.fleecefs -nv >output || fail 'in a namespace'
mountpoint -q m && fail 'it is unmounted in another namespace'
await_daemon m

# What another user says of a process of theirs is not believed.
case $(uname -m) in
x86_64) memfd_create=319 ;;
*) memfd_create=279 ;; # as most
esac
need perl setpriv
mount_fleecefs vm.img m
setpriv --reuid=65534 --regid=65534 --clear-groups perl -e '
	my $name = "fleecefs-mount $ARGV[0]";
	syscall $ARGV[1] + 0, $name, 0;
	sleep 1000' "$(findmnt -rno MAJ:MIN m | tr -d ' ')" "$memfd_create" &
liar=$!
lies () {
	find "/proc/$liar/fd" -lname '/memfd:fleecefs-mount *' | grep -q .
}
await lies || fail 'there is no such process'
kill -9 "$(daemon_pid m)"
await_daemon m
timeout "$PATIENCE" "$FLEECECTL" umount m || fail "it waits for another user's process"
kill "$liar"

# An ordinary user, by fusermount3; and root, what the user mounted and root may not look at.
prepare_user
let_user_mount
cp "$FLEECECTL" "$base/bin/"
chmod 755 "$base/bin/"*
as_user dd if=/dev/urandom of=home/a.img bs=64K count=4 status=none
as_user mkdir home/m
for way in "as_user $base/bin/fleecectl umount" umount "as_user umount"; do
	mount_by as_user "$FLEECEFS" home/a.img home/m || fail "the user cannot mount: status $?"
	pid=$(daemon_pid home/m)
	$way home/m || fail "$way: status $?"
	await_exit 0 "$pid" || fail "$way: the daemon still runs"
	grep -qx 'state=clean' home/a.img.fleece/fleecefs.ini || fail "$way: not closed"
done
mount_by as_user "$FLEECEFS" home/a.img home/m || fail "the user cannot mount: status $?"
pid=$(daemon_pid home/m)
exec {live}< <(as_user sh -c 'exec 3<home/m/.live/a.img; echo; exec sleep 1000 >/dev/null')
read -r -u "$live"
expect_error 1 'fusermount3: failed to unmount .*: Device or resource busy' \
	as_user "$base/bin/fleecectl" umount home/m
as_user "$base/bin/fleecectl" umount --lazy home/m || fail "--lazy: status $?"
mountpoint -q home/m && fail '--lazy leaves it'
is_fleecefs "$pid" || fail '--lazy ends it, though it is in use'
exec {live}<&-
pkill -P $$ -x timeout
await_daemon home/m
exit 0
