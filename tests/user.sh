#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An ordinary user does everything with an image of their own: mount, freeze, copy, drop, unmount.
# Nobody else, not even root, can look in. Where they may not mount there is one line that says why.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
private_mounts "$@"
setup
prepare_user
let_user_mount

as_user dd if=/dev/urandom of=home/a.img bs=64K count=4 status=none
cp home/a.img old.img
as_user mkdir home/m home/copies
mkdir roots

mount_by as_user "$FLEECEFS" home/a.img home/m || fail "the user cannot mount: status $?"
as_user mkdir home/m/monday || fail 'the user cannot freeze'
printf 'new' | as_user dd of=home/m/.live/a.img conv=notrunc status=none ||
	fail 'the user cannot write the live file'
as_user cp home/m/monday/a.img home/copies || fail 'the user cannot copy a snapshot'
same old.img home/copies/a.img
as_user mv home/m/monday home/m/tuesday || fail 'the user cannot rename'
[ "$(as_user ls home/m)" = tuesday ] || fail 'the listing is wrong'

# owner FILE: of a file in the mount.
owner () {
	as_user stat -c %U "home/m/$1"
}
for file in . tuesday tuesday/a.img .live .live/a.img .latest/a.img; do
	[ "$(owner "$file")" = "$USER_NAME" ] || fail "$file belongs to $(owner "$file")"
done
[ "$(stat -c %U:%a home/a.img.fleece)" = "$USER_NAME:700" ] ||
	fail "the store is $(stat -c %U:%a home/a.img.fleece)"

# Without allow_other.
ls home/m 2>errors && fail 'root can look in'
cat home/m/tuesday/a.img >root-read 2>errors && fail 'root can read'
[ ! -s root-read ] || fail 'root has read something'
setpriv --reuid=1 --regid=1 --clear-groups ls home/m 2>errors && fail 'another user can look in'

as_user rmdir home/m/tuesday || fail 'the user cannot drop a snapshot'
[ -z "$(as_user ls home/m)" ] || fail 'the snapshot is still there'
as_user fusermount3 -u home/m || fail 'the user cannot unmount'
await_daemon home/m
printf 'new' | cmp -n 3 - home/a.img || fail 'what was written is not in the image'

# A signal: to unmount, fusermount3 must get its privilege, though the daemon can not.
mount_by as_user "$FLEECEFS" home/a.img home/m || fail "the user cannot mount again: status $?"
pid=$(daemon_pid home/m)
grep -qx 'NoNewPrivs:.1' "/proc/$pid/status" || fail 'the daemon could get new privileges'
kill -TERM "$pid"
await_daemon home/m
mountpoint -q home/m && fail 'SIGTERM: still mounted'

# A directory that is not theirs, an option that is not for them, a device that is not for them.
refused_to_user () {
	as_user ls -A home >"$base/before"
	expect_error 1 "$1" as_user "$FLEECEFS" -o store=home/new "${@:2}"
	as_user ls -A home >"$base/after"
	same "$base/before" "$base/after"
}
refused_to_user "cannot mount on '.*/roots': .*user has no write access to mountpoint .*; give a directory of your own" \
	home/a.img roots
printf '# user_allow_other\n' >"$base/fuse.conf"
[ ! -e /etc/fuse.conf ] || mount --bind "$base/fuse.conf" /etc/fuse.conf
refused_to_user "cannot mount on '.*/home/m': .*allow_other .*user_allow_other" \
	-o allow_other home/a.img home/m
chmod 600 "$base/dev/fuse"
refused_to_user "cannot mount on '.*/home/m': .*/dev/fuse" home/a.img home/m
