#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The log in the foreground: what each level shows, each message one line, and with its level where
# standard error leads to systemd's journal.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

in_memory
setup
mkdir mnt
: >log

# run [OPTION...]: two snapshots of which one is renamed, and broken, and one is removed; then the
# log has it all.
run () {
	noise 1048576 >img
	rm -rf img.fleece
	FLEECEFS_TEST=$base "$FLEECEFS" -f "$@" img mnt 2>log &
	await mountpoint -q mnt || fail "not mounted: $(cat log)"
	mkdir mnt/one mnt/two
	patch mnt/.live/img 0 65536 direct
	mv mnt/one mnt/three
	rmdir mnt/two
	await_layers img.fleece 1
	truncate -s 4096 img
	patch mnt/.live/img 524288 4096 direct
	await grep -q "state=broken\|broken" img.fleece/snapshots/*/snapshot.ini || fail 'nothing broke'
	umount_any mnt || fail 'umount'
	wait $! || fail "the daemon ends with $?: $(cat log)"
}

# logs LINE...: these and no other.
logs () {
	diff <(printf '%s\n' "$@") log || fail 'the log is another, see above'
}

broken="snapshot 'three' is broken: disk 'img': the image became shorter behind our back"
info=("snapshot 'one' is made" "snapshot 'two' is made" "snapshot 'one' is now called 'three'"
	"snapshot 'two' is removed")
for level in notice warning; do
	run -o log-level=$level
	logs "fleecefs: $broken"
done
run
logs "fleecefs: $broken"
run -o log-level=error
[ ! -s log ] || fail "beyond error: $(cat log)"
run -o log-level=info
for line in "${info[@]}" 'level [0-9]* of the store is merged into level [0-9]*' "$broken"; do
	grep -qx "fleecefs: $line" log || fail "no line '$line': $(cat log)"
done

# The journal's stream is known by its device and inode.
JOURNAL_STREAM=$(stat -c %d:%i log) run -o log-level=info
for line in "${info[@]}"; do
	grep -qx "<6>$line" log || fail "no line '$line': $(cat log)"
done
grep -qx "<4>$broken" log || fail "$(cat log)"
JOURNAL_STREAM=$(stat -c %d:%i img) run
logs "fleecefs: $broken"

# Whatever stands in a path, a message is one line.
dir=$'d\n\e[1m'
mkdir "$dir"
noise 65536 >"$dir/img"
truncate -s 0 log
"$FLEECEFS" -o log-level=info "$dir/img" mnt || fail 'mount'
mkdir mnt/one
umount_any mnt || fail 'umount'
await flock -n "$dir/img.fleece/lock" true || fail 'not closed'
noise 65536 >"$dir/img"
FLEECEFS_TEST=$base "$FLEECEFS" -f "$dir/img" mnt 2>log &
await mountpoint -q mnt || fail "not mounted: $(cat log)"
umount_any mnt || fail 'umount'
wait $! || fail "the daemon ends with $?: $(cat log)"
logs "fleecefs: snapshot 'one' is broken: disk 'img': image '$tmp/d??[1m/img' was changed while it was not mounted"
