#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A mountpoint that cannot be one is refused with status 1 and one line: what, why, what to do;
# nothing is made, nothing is changed. After a kill -9 the mount that is left is such a one.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
setup

mkdir m full s s/inside above above/store
head -c 64K /dev/urandom >a.img
cp a.img b.img
cp a.img file
: >full/.hidden
ln -s nowhere dangling
ln -s m link

# mountpoint REGEX MOUNTPOINT [OPTION...]
mountpoint_refused () {
	refused 1 "$1" "$FLEECEFS" "${@:3}" a.img "$2"
}

mountpoint_refused "there is no mountpoint 'missing'; make it by mkdir" missing
mountpoint_refused "there is no mountpoint 'missing/m'; make it" missing/m
mountpoint_refused "there is no mountpoint 'dangling'; make it" dangling
mountpoint_refused "'file' is not a directory; give an empty one" file
mountpoint_refused "'file/m' is not a directory; give an empty one" file/m
mountpoint_refused "'a.img' is not a directory; give an empty one" a.img
mountpoint_refused "/full' is not empty; give an empty directory, or move '.hidden' out of it" full

# One that cannot be listed is not taken for empty.
if strace -o "$base/calls" true 2>/dev/null; then
	refused 1 "^fleecefs: cannot list the mountpoint '.*/full': Input/output error$" \
		strace -E ASAN_OPTIONS=detect_leaks=0 -o "$base/calls" -P "$tmp/full" \
		-e inject=getdents64:error=EIO "$FLEECEFS" a.img full
fi

# The store must be seen from outside.
mountpoint_refused "/s/inside' lies in the store '.*/s'; give another one" s/inside -o store=s
mountpoint_refused "/s' lies in the store" s -o store=s
mountpoint_refused "the store '.*/above/store' lies under the mountpoint '.*/above'.*give another" \
	above -o store=above/store
mountpoint_refused "the store '.*/m/new' lies under the mountpoint" m -o store=m/new
mountpoint_refused "the store '.*/m/new' lies under the mountpoint" m -o store=link/new
mountpoint_refused "the store '.*/m/new' lies under the mountpoint" link -o store=m/new
mountpoint_refused "lies under the mountpoint" "$base"
mountpoint_refused "lies under the mountpoint" /

# A fleecefs is there already: another image, another store. It goes on.
mount_fleecefs b.img m
for name in m link "$tmp/m/"; do
	mountpoint_refused "a file system is mounted on '.*/m'; run umount '.*/m' first" "$name"
done
mountpoint_refused "/m/.live' is not empty; give" m/.live
same b.img m/.live/b.img
mkdir m/monday || fail 'the first mount does not work any more'

# It is killed, and what is left of it is no mountpoint; after umount it is one again.
kill -9 "$(daemon_pid m)" || fail 'no daemon to kill'
await_daemon m
mountpoint_refused "the program that served 'm' is gone; run umount 'm' first" m
mountpoint_refused "the program that served 'm/' is gone; run umount" m/
mountpoint_refused "the program that served 'link' is gone; run umount" link
umount_any m || fail 'the dead mount cannot be unmounted'
mount_fleecefs b.img m
same b.img m/monday/b.img
unmount m
