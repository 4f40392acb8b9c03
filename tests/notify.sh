#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A service manager that waits at NOTIFY_SOCKET hears READY=1 when the mount answers, and STOPPING=1
# when it ends; from a start that fails, and from a daemon, nothing. One that does not listen
# holds up nobody.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=lib-data.sh source-path=SCRIPTDIR
. "$top_srcdir/tests/lib-data.sh"
need perl
setup

mkdir m
noise 64K >a.img

# listen NAME: prints what comes to the socket of that name (@: an abstract one), until "end" does.
# Its first line says that it listens.
listen () {
	timeout 60 perl -MSocket -e '
		$| = 1;
		(my $name = $ARGV[0]) =~ s/^@/\0/;
		socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die "socket: $!";
		bind $socket, pack_sockaddr_un($name) or die "bind: $!";
		print "listening\n";
		while (defined recv $socket, my $word, 100, 0) {
			print "$word\n";
			exit if $word eq "end";
		}' "$1"
}

tell () {
	perl -MSocket -e '
		(my $name = $ARGV[0]) =~ s/^@/\0/;
		socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die "socket: $!";
		send $socket, $ARGV[1], 0, pack_sockaddr_un($name) or die "send: $!"' "$@"
}

heard () {
	grep -qx "$1" words
}

for name in "$base/socket" "@fleecefs-test-$$"; do
	: >words
	listen "$name" >words &
	listener=$!
	await heard listening || fail "no socket $name"
	# What fails and what goes into the background says nothing; a datagram that was sent is there.
	export NOTIFY_SOCKET=$name
	expect_error 1 'there is no image' "$FLEECEFS" -f missing.img m
	mount_fleecefs a.img m
	unmount m
	FLEECEFS_TEST=$base "$FLEECEFS" -f a.img m &
	daemon=$!
	await heard READY=1 || fail "no READY=1 at $name: $(cat words)"
	mountpoint -q m || fail 'READY=1, and nothing is mounted'
	same a.img m/.live/a.img
	kill "$daemon"
	wait "$daemon" || fail "ended with $?"
	unset NOTIFY_SOCKET
	tell "$name" end
	wait "$listener" || fail 'the socket got no end'
	[ "$(tr '\n' ' ' <words)" = 'listening READY=1 STOPPING=1 end ' ] || fail "heard: $(cat words)"
done

# Nobody is there, or it is no socket.
for name in "$base/socket" "$tmp/a.img" relative "/$(printf '%0200d' 0)"; do
	NOTIFY_SOCKET=$name FLEECEFS_TEST=$base "$FLEECEFS" -f a.img m 2>errors &
	daemon=$!
	await mountpoint -q m || fail "NOTIFY_SOCKET=$name: $(cat errors)"
	same a.img m/.live/a.img
	kill "$daemon"
	wait "$daemon" || fail "NOTIFY_SOCKET=$name: ended with $?"
	grep -q "cannot tell the service manager 'READY=1'" errors || fail "$name: $(cat errors)"
done
exit 0
