#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Root's mounts read 1 MiB ahead, so that a copy of a snapshot does not wait for each small request.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need_root
setup
[ -d /sys/class/bdi ] || skip 'no /sys/class/bdi here'
noise 8388608 >img

for place in plain 'a b\c'; do
	mkdir "$place"
	mount_fleecefs img "$place"
	device=$(stat -c %Hd:%Ld "$place")
	[ "$(cat "/sys/class/bdi/$device/read_ahead_kb")" = 1024 ] ||
		fail "on '$place': $(cat "/sys/class/bdi/$device/read_ahead_kb") KiB"
	mkdir "$place/s"
	cmp img "$place/s/img" || fail 'the snapshot differs'
	rmdir "$place/s"
	unmount "$place"
done
