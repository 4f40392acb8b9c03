#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fleecefs returns when the mount answers, not before, and holds nothing of the shell it came from.
# When it will never answer there is status 1 and one line. It ends by umount, fusermount3 -u or a
# signal, and its store is clean then.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=lib-data.sh source-path=SCRIPTDIR
. "$top_srcdir/tests/lib-data.sh"
need fusermount3 flock
setup

mkdir m
head -c 1M /dev/urandom >a.img

clean () {
	grep -qx 'state=clean' a.img.fleece/fleecefs.ini || fail "$1: the store is not clean"
	! mountpoint -q m || fail "$1: still mounted"
}

# It answers at once.
for i in {1..20}; do
	mount_fleecefs a.img m
	[ "$(ls -A m/.live)" = a.img ] || fail "the mount does not answer, the $i. time"
	unmount m
	clean umount
done

# Who waits for the lock of the store waits until it is closed.
mount_fleecefs a.img m
flock -n a.img.fleece/lock true && fail 'the store of a daemon is not locked'
umount_any m
timeout "$PATIENCE" flock a.img.fleece/lock true || fail 'the lock stays'
clean 'umount and flock'
await_daemon m

# Descriptors 0, 1 and 2 are given back: else $(...) would wait for the daemon's end. Its directory
# is no place that could be in use, its session not that of the terminal.
output=$(watched "$FLEECEFS" a.img m 2>&1) || fail "in a substitution: status $?: $output"
[ -z "$output" ] || fail "prints: $output"
pid=$(daemons "FLEECEFS_TEST=$base")
[ "$(readlink "/proc/$pid/cwd")" = / ] || fail "stays in the directory where it was started"
[ "$(ps -o sid= -p "$pid" | tr -d ' ')" = "$pid" ] || fail 'has no session of its own'
umount_any m
await_all || fail 'umount does not end it'
clean 'started in a substitution'

# Who interrupts it before that finds no mount; here its child comes late.
has_child () {
	parent=$(pgrep -P "$tracer") && pgrep -P "$parent" >children
}

if strace -o "$base/calls" true 2>/dev/null; then
	for signal in TERM INT; do
		strace -f -E ASAN_OPTIONS=detect_leaks=0 -o "$base/calls" -e trace=setsid \
			-e inject=setsid:delay_enter=3000000 \
			env --default-signal=INT "$FLEECEFS" a.img m 2>output &
		tracer=$!
		await has_child || fail "SIG$signal: it has no child"
		kill "-$signal" "$parent"
		wait "$tracer" && fail "SIG$signal: status 0"
		[[ $(cat output) = "fleecefs: interrupted, so nothing is mounted on '"*"/m'" ]] ||
			fail "SIG$signal: it said '$(cat output)'"
		await_all || fail "SIG$signal does not end it"
		clean "SIG$signal"
	done
fi

# By each way to end.
for way in 'kill -TERM PID' 'kill -INT PID' 'kill -HUP PID' 'fusermount3 -u m'; do
	mount_fleecefs a.img m
	mkdir "m/$way"
	${way/PID/$(daemon_pid m)} || fail "$way: status $?"
	await_daemon m
	clean "$way"
done
mount_fleecefs a.img m
snapshots=$(printf '%s\n' 'fusermount3 -u m' 'kill -HUP PID' 'kill -INT PID' 'kill -TERM PID')
[ "$(ls m)" = "$snapshots" ] || fail "snapshots are missing: $(ls m)"

# With a file open umount refuses, and all goes on; a signal does not ask.
exec {live}<m/.live/a.img
umount_any m 2>errors && fail 'umount succeeds with a file open'
same a.img m/.live/a.img
kill -TERM "$(daemon_pid m)"
await_daemon m
exec {live}<&-
clean 'kill with a file open'

# It cannot mount: one line and status 1, and what it had made is gone.
ls -A >"$base/before"
expect_error 1 "cannot mount on '.*/m': .+" "$FLEECEFS" -o store=new,blkdev a.img m
ls -A >"$base/after"
same "$base/before" "$base/after"
