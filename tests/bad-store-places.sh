#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where the store cannot be made or written, there is one line that says so, and nothing is made:
# on a file system that is read-only, in a directory of somebody else, in a store of somebody else.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_root
setup
prepare_user

mkdir m place home/m
head -c 64K /dev/urandom >a.img
mount -t tmpfs fleecefs-test place || fail 'cannot mount a tmpfs'
mount_fleecefs -o store=place/old a.img m
mkdir m/monday
unmount m
mount -o remount,ro place

refused 1 "cannot create the store '.*/place/new': Read-only file system" \
	"$FLEECEFS" -o store=place/new a.img m
refused 1 "place/old/lock': Read-only file system" "$FLEECEFS" -o store=place/old a.img m
# The image too is there: it cannot be written, and beside it nothing can be made.
mount -o remount,rw place
cp a.img place
mount -o remount,ro place
refused 1 "place/a.img' for reading and writing: Read-only file system; copy it" "$FLEECEFS" place/a.img m

# The user's image in a directory that is not theirs: no store beside it. And somebody else's store.
cp a.img theirs.img
chown "$USER_NAME:" theirs.img
mkdir -m 755 roots
mount_fleecefs -o store=roots/closed a.img m
unmount m
refused 1 "cannot create the store '.*/theirs.img.fleece': Permission denied; give another place by -o store=DIR" \
	as_user "$FLEECEFS" theirs.img home/m
refused 1 "roots/new': Permission denied" as_user "$FLEECEFS" -o store=roots/new theirs.img home/m
refused 1 "roots/closed'.*: Permission denied" \
	as_user "$FLEECEFS" -o store=roots/closed theirs.img home/m
chmod 755 roots/closed
refused 1 "roots/closed/.*': Permission denied" \
	as_user "$FLEECEFS" -o store=roots/closed theirs.img home/m
