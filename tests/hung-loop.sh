#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A loop device over a file on a file system that does not answer keeps nobody from starting; and a
# file that has a loop device is still found out.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"

setup
mkdir hung mnt
truncate -s 1M a.img b.img c.img
mount_fleecefs a.img hung
loop_device hung/.live/a.img
pid=$(daemon_pid hung)
kill -STOP "$pid" || fail 'no daemon'
mount_by "$FLEECEFS" b.img mnt
status=$?
kill -CONT "$pid"
[ "$status" = 0 ] || fail "status $status"
unmount mnt
losetup -d "$loop" || fail 'losetup -d'
unmount hung

loop_device c.img
refused 1 "image '.*c.img' is in use by $loop; run losetup -d $loop first" "$FLEECEFS" c.img mnt
