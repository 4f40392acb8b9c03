#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A symbolic link of another user is not followed to an image, a store or a mountpoint: it is the
# user who would say what root serves, where root writes and mounts. Links of root and of one's own
# are as good as any path.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_root
private_mounts "$@"
setup
prepare_user
let_user_mount

mkdir -m 700 roots
mkdir roots/empty m home/m home/d
head -c 64K /dev/urandom >a.img
cp a.img home/u.img
cp a.img home/d/u.img
chown "$USER_NAME:" home/u.img home/d home/d/u.img home/m

# link OWNER TARGET NAME
link () {
	ln -sfn "$2" "$3"
	chown -h "$1" "$3"
}

link "$USER_NAME" "$tmp/roots/empty" home/store
link "$USER_NAME" "$tmp/roots" home/way
link "$USER_NAME" ../roots/empty home/d/u.img.fleece
link "$USER_NAME" "$tmp/a.img" home/a.img
link "$USER_NAME" "$tmp/m" home/mnt
link "$USER_NAME" nowhere home/dangling
link root home/store over
theirs () {
	refused 1 "the symbolic link '.*home/$1' belongs to another user .uid $(id -u "$USER_NAME").*give the path" \
		"$FLEECEFS" "${@:2}"
}
theirs store -o store=home/store a.img m
theirs store -o store="$tmp/home/store" a.img m
theirs store -o store=home/store/ a.img m
theirs d/../store -o store=home/d/../store/new a.img m
theirs store -o store=over a.img m
theirs way -o store=home/way/empty a.img m
theirs way -o store=home/way/new a.img m
theirs dangling -o store=home/dangling a.img m
theirs d/u.img.fleece home/d/u.img m
theirs a.img -o store=new home/a.img m
theirs mnt a.img home/mnt
[ -z "$(ls -A roots/empty)" ] || fail "made in a directory of root: $(ls -A roots/empty)"

# Of root.
link root "$tmp/roots/empty" store
link root a.img link.img
link root m mnt
mount_by "$FLEECEFS" -o store=store link.img mnt || fail 'links of root are not followed'
[ -d roots/empty/snapshots ] || fail 'the store is not where the link leads'
same a.img m/.live/link.img
umount m || fail 'umount'
await_daemon mnt

# Of the user and of root, by the user; not of another one.
chmod 755 roots
link root home/u.img u.img
link "$USER_NAME" m home/my
as_user mkdir home/place
link "$USER_NAME" place home/store
mount_by as_user "$FLEECEFS" -o store=home/store u.img home/my || fail 'the own link is not followed'
[ -d home/place/snapshots ] || fail 'the store is not where the link leads'
as_user fusermount3 -u home/m || fail 'the user cannot unmount'
await_daemon home/my
link 1 place home/store
refused 1 "home/store' belongs to another user .uid 1\)" \
	as_user "$FLEECEFS" -o store=home/store u.img home/m
