#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# With allow_other the owner and mode of the image decide who may read what, and those of the
# mountpoint's user who may freeze: also when the kernel is not told to look at them.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_root
setup
prepare_user

mkdir -m 755 m
head -c 64K /dev/urandom >open.img
cp open.img closed.img
cp open.img theirs.img
chmod 644 open.img
chmod 600 closed.img
chmod 640 theirs.img
chown "$USER_NAME:" theirs.img

mount_fleecefs -o allow_other,store=s open.img closed.img theirs.img m
mkdir m/monday

# user_denied WHAT COMMAND...: for the user.
user_denied () {
	as_user "${@:2}" >output 2>errors && fail "may do: ${*:2}"
	grep -q "$1" errors || fail "${*:2}: $(cat errors)"
	[ ! -s output ] || fail "${*:2}: prints"
}

[ "$(as_user ls m)" = monday ] || fail 'cannot look in'
for place in .live monday .latest; do
	as_user cmp "m/$place/open.img" open.img || fail "cannot read what everybody may: $place"
	as_user cmp "m/$place/theirs.img" theirs.img || fail "cannot read what is theirs: $place"
	user_denied 'Permission denied' cat "m/$place/closed.img"
	user_denied 'Permission denied' dd if=/dev/null "of=m/$place/closed.img"
done
user_denied 'Permission denied' dd if=/dev/zero of=m/.live/open.img conv=notrunc count=1
user_denied 'Permission denied' truncate -s 0 m/.live/open.img
same open.img m/.live/open.img
as_user dd if=/dev/zero of=m/.live/theirs.img conv=notrunc count=1 status=none ||
	fail 'cannot write what is theirs'
user_denied 'Read-only file system\|Permission denied' \
	dd if=/dev/zero of=m/monday/theirs.img conv=notrunc count=1

# Of an image that is only its owner's, size and times can be seen, and nothing else.
user_denied 'Permission denied\|Operation not permitted' getfattr --only-values -n user.fleecefs.state m/monday/closed.img
user_denied 'Permission denied' ls m/.fleecefs
user_denied 'Permission denied' cat m/.fleecefs/status
grep -q "$tmp/s" m/.fleecefs/status || fail 'the mounter cannot see the status'

user_denied 'Permission denied' mkdir m/tuesday
user_denied 'Permission denied' rmdir m/monday
user_denied 'Permission denied' mv m/monday m/tuesday
[ "$(ls m)" = monday ] || fail 'the snapshots are others now'

# A later change of the image's mode is one of all its files.
chmod 600 open.img
for place in .live monday .latest; do
	user_denied 'Permission denied' cat "m/$place/open.img"
done
unmount m

# However the option is written, the kernel is told to look at owners and modes, or nobody is let in.
written () {
	grep " $tmp/m fuse" /proc/self/mounts
}
for option in allow_other allow_other,allow_other ro,allow_other allow_other,ro \
	'allow\_other' '\141llow_other' allow_other,default_permissions \
	default_permissions,allow_other allow_root ',,allow_other,' allow_other,fsname=x \
	'fsname=x\,allow_other' 'subtype=x\,allow_other' user=allow_other x-allow_other \
	comment=allow_other allow_other=1 default_permissions=0,allow_other \
	nodefault_permissions,allow_other user_id=65534 allow_other,rootmode=40777; do
	mount_by "$FLEECEFS" -o "store=s,$option" open.img closed.img theirs.img m 2>errors || {
		[ -z "$(mounts_here)" ] || fail "$option: refused, and mounted"
		continue
	}
	if [[ $(written | cut -d ' ' -f 4) = *allow_other* ]]; then
		[[ $(written | cut -d ' ' -f 4) = *default_permissions* ]] ||
			fail "$option: all are let in: $(written)"
	else
		user_denied 'Permission denied' ls m
	fi
	user_denied 'Permission denied' cat m/.live/closed.img
	unmount m
done

# As before without an option: nobody but the mounter.
mount_fleecefs -o store=s open.img closed.img theirs.img m
user_denied 'Permission denied' ls m
user_denied 'Permission denied' cat m/monday/theirs.img
unmount m
