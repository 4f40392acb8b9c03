#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# With -f fleecefs stays in the foreground until umount, fusermount3 -u or a signal; it ends with
# status 0 then, and with a clean store. With -d it prints the requests of the kernel too.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need fusermount3 findmnt
setup

mkdir m
head -c 1M /dev/urandom >a.img

# foreground OPTION: sets $pid to a fleecefs that is mounted and in the foreground.
foreground () {
	# Without job control the shell lets its background ignore SIGINT.
	env --default-signal=INT "$FLEECEFS" "$1" a.img m >output 2>errors &
	pid=$!
	# The kernel tells findmnt of new mounts; the time is for one that came just before.
	until mountpoint -q m; do
		kill -0 "$pid" || fail "$1: ends: $(cat errors)"
		findmnt --poll=mount --first-only --timeout 50 >/dev/null
	done
	mkdir m/x || fail "$1: does not answer: $(cat errors)"
	rmdir m/x
	kill -0 "$pid" || fail "$1: is not in the foreground"
}

# ended WAY [MESSAGE]
ended () {
	timeout "$PATIENCE" tail --pid="$pid" -s 0.02 -f /dev/null || fail "$1: does not end"
	wait "$pid" || fail "$1: status $?: $(cat errors)"
	grep -qx 'state=clean' a.img.fleece/fleecefs.ini || fail "$1: the store is not clean"
	! mountpoint -q m || fail "$1: still mounted"
}

for way in 'kill -TERM PID' 'kill -INT PID' 'kill -HUP PID' 'umount_any m' 'fusermount3 -u m'; do
	foreground -f
	${way/PID/$pid} || fail "$way: status $?"
	ended "$way"
	[ -z "$(cat output errors)" ] || fail "$way: prints: $(cat output errors)"
done

foreground -d
umount_any m
ended 'umount of -d'
for request in LOOKUP MKDIR RMDIR; do
	grep -q "$request" output errors || fail "-d prints no line of $request"
done
