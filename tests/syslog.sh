#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The log of a daemon is the system's: each message comes from fleecefs, with the number of the
# process that serves, as of the facility daemon and with its level, and log-level= says which come.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-log.sh
. "$top_srcdir/tests/lib-log.sh"

need perl
private_mounts "$@"
in_memory
setup
system_log
mkdir mnt

# run [OPTION...]: a snapshot is made, and broken, and the daemon cannot close its store. Sets $pid.
run () {
	: >syslog
	rm -rf img img.fleece
	noise 1048576 >img
	mount_fleecefs "$@" img mnt
	pid=$(daemon_pid mnt)
	mkdir mnt/one
	truncate -s 4096 img
	patch mnt/.live/img 524288 4096 direct
	await grep -q '^broken=' img.fleece/snapshots/*/snapshot.ini || fail 'nothing broke'
	rm -r img.fleece
	grep -q '^warning: the store .* was deleted' mnt/.fleecefs/status || fail 'the loss is not noticed'
	unmount mnt
}

# But for what is said of a system that does not allow all.
messages () {
	grep -v 'I/O flusher\|lock memory' syslog
}

# logs LEVEL:REGEX...: these messages and no other.
logs () {
	local line

	await has_messages $# || fail "not $# messages: $(cat syslog)"
	while read -r line; do
		[[ $line =~ ^'<'$((3 << 3 | ${1%%:*}))'>'[A-Z][a-z]{2}\ [\ 0-9:]{11}\ fleecefs\[$pid\]:\ ${1#*:}$ ]] ||
			fail "'$line' is not $1"
		shift
	done < <(messages)
}

has_messages () {
	[ "$(messages | wc -l)" = "$1" ]
}

error="3:cannot .*'.*': No such file or directory"
warning="4:snapshot 'one' is broken: disk 'img': the image became shorter behind our back"
lost="4:the store '.*' was deleted; copy what can still be read of its snapshots before fleecefs ends"
info="6:snapshot 'one' is made"
run -o log-level=error
logs "$error"
run
logs "$warning" "$lost" "$error"
run -o log-level=info
logs "$info" "$warning" "$lost" "$error"
