#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image that is renamed, removed or replaced by another file while it is mounted: status, JSON,
# metrics and the log say so, once, until it is back; the guest and its snapshots go on.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need python3
in_memory
setup
noise 1048576 >a.img
noise 1048576 >b.img
mkdir mnt

FLEECEFS_TEST=$base "$FLEECEFS" -f -o store=store a.img b.img mnt 2>log &
await mountpoint -q mnt || fail "not mounted: $(cat log)"

# says IN_PLACE [REGEX]: of a.img, and there is no other warning.
says () {
	local n=$(($# - 1))

	cp mnt/.fleecefs/status .
	[ "$(grep -c '^warning: ' status)" = $n ] || fail "status: $(cat status)"
	[ $n = 0 ] || grep -qE "^warning: $2\$" status || fail "no '$2' in: $(cat status)"
	grep -qx "fleecefs_disk_in_place{disk=\"a.img\"} $1" mnt/.fleecefs/metrics ||
		fail "$(cat mnt/.fleecefs/metrics)"
	grep -qx 'fleecefs_disk_in_place{disk="b.img"} 1' mnt/.fleecefs/metrics || fail 'b.img is not there'
	python3 -c 'import json, sys
s = json.load(open("mnt/.fleecefs/status.json"))
assert [d["in_place"] for d in s["disks"]] == [sys.argv[1] == "1", True], s
assert ["warning: " + w for w in s["warnings"]] == sys.argv[2:], s' "$1" \
		"$(sed -n '/^warning: /p' status)" 2>errors || [ $n = 0 ] || fail "$(cat errors)"
	"$FLEECECTL" status mnt >output || fail 'fleecectl'
	[ "$(grep '^warning: ' output)" = "$(grep '^warning: ' status)" ] || fail "fleecectl: $(cat output)"
}

# logged REGEX: a line of the log, once.
logged () {
	await grep -qxE "fleecefs: $1" log || fail "no line '$1': $(cat log)"
	[ "$(grep -cxE "fleecefs: $1" log)" = 1 ] || fail "said again: $(cat log)"
}

says 1
mv a.img old.img
moved="image '$tmp/a.img' was moved: guests write to '$tmp/old.img'; move it back"
says 0 "$moved"
logged "$moved"
mv old.img a.img
says 1

# By another file, as programs do that write a new one and rename it.
noise 1048576 >other.img
cp other.img other.copy
mv other.img a.img
gone="image '$tmp/a.img' was removed, or another file put in its place: .*; copy the live disk before .*"
says 0 "$gone"
logged "$gone"
mkdir mnt/monday || fail 'mkdir'
cp mnt/.live/a.img truth
patch mnt/.live/a.img 4096 8192 direct
frozen mnt/monday/a.img truth
same a.img other.copy
rm a.img
says 0 "$gone"
umount_any mnt || fail 'umount'
wait $! || fail "the daemon ends with $?: $(cat log)"
[ "$(wc -l <log)" = 2 ] || fail "the log has: $(cat log)"
