# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A log of the system's for a test alone, on top of lib.sh, which is sourced first.

# system_log: after private_mounts and setup; /dev/log is a socket whose reader, the process
# $reader, adds each message to the file syslog, as one line. Stopped, it is a log that hangs.
system_log () {
	mkdir "$base/dev"
	mount -t tmpfs -o mode=755 fleecefs-test "$base/dev" || fail 'no tmpfs'
	mkdir "$base/dev/shm"
	if ! mknod "$base/dev/null" c 1 3 || ! mknod "$base/dev/zero" c 1 5 ||
		! mknod "$base/dev/urandom" c 1 9 || ! mknod "$base/dev/fuse" c 10 229 ||
		! ln -s /proc/self/fd "$base/dev/fd" || ! mount --bind /dev/shm "$base/dev/shm" ||
		! mount --move "$base/dev" /dev || ! cd "$tmp"; then
		fail 'cannot make a /dev for the test alone'
	fi
	: >syslog
	perl -MSocket -e '
		$| = 1;
		socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die "socket: $!\n";
		bind $socket, pack_sockaddr_un("/dev/log") or die "bind: $!\n";
		print "$_\n" while defined recv $socket, $_, 65536, 0' >>syslog &
	reader=$!
	await test -S /dev/log || fail 'no /dev/log'
}
