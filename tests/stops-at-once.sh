#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fleecefs ends at once, by SIGKILL, SIGTERM or a crash, while the kernel drops the pages of a snapshot
# and waits for a read of it: readers get an error, and the next start is taken. The first two are
# forced, with a read that the image holds up and one that nobody takes from the kernel. When all of
# its processes are killed at once, fleecectl umount --dead ends what hangs. Then, for as many seconds
# as the argument says (8), at random moments.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need "${CC:-cc}" perl
[ -z "${SANITIZED:-}" ] || skip 'a sanitizer comes before the double of pread'
in_memory
setup
mkdir mnt

# While the file "hold" is there, reads between 8 and 12 MiB of any file wait, each after a byte
# more in the file "held".
cat >hold.c <<'END_OF_C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

ssize_t
pread64 (int fd, void *buffer, size_t length, off64_t offset)
{
  static ssize_t (*next) (int, void *, size_t, off64_t);
  const char *hold = getenv ("HOLD"), *held_path = getenv ("HELD");
  const struct timespec while_held = { .tv_nsec = 5000000 };

  if (next == NULL)
    next = (ssize_t (*) (int, void *, size_t, off64_t)) dlsym (RTLD_NEXT, "pread64");
  if (offset >= 8 << 20 && offset < 12 << 20 && access (hold, F_OK) == 0)
    {
      int held = open (held_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

      if (write (held, "h", 1) != 1)
        abort ();
      close (held);
      while (access (hold, F_OK) == 0)
        nanosleep (&while_held, NULL);
    }
  return next (fd, buffer, length, offset);
}

ssize_t
pread (int fd, void *buffer, size_t length, off_t offset)
{
  return pread64 (fd, buffer, length, offset);
}
END_OF_C
"${CC:-cc}" -shared -fPIC -o hold.so hold.c -ldl || fail 'cannot build the double'
export HOLD=$tmp/hold HELD=$tmp/held

# n_held N: so many reads are waiting.
n_held () {
	[ "$(stat -c %s held 2>/dev/null)" = "$1" ]
}

# Some thread of fleecefs's processes waits for a page.
is_dropping () {
	local pid

	for pid in $(processes "FLEECEFS_TEST=$base"); do
		grep -qs '^State:.D' "/proc/$pid"/task/*/status && return
	done
	return 1
}

# For a page, or first for the attributes, which the kernel asks for anew after it drops pages.
is_waiting () {
	grep -q '^State:.D' "/proc/$1/status" || [ "$(cat "/proc/$1/wchan")" = request_wait_answer ]
}

# read_at MIB DESCRIPTOR: in the background; sets $reader. Asks for a page, and for nothing before it,
# as dd(1) and what opens a handle would.
read_at () {
	perl -MPOSIX -e 'lseek 9, $ARGV[0] << 20, SEEK_SET and defined POSIX::read (9, my $page, 4096) or exit 1' \
		"$1" 9<&"$2" 2>>errors &
	reader=$!
}

# Mounts, and leaves a snapshot that has just broken, whose pages are being dropped while a read of
# them waits.
break_while_read () {
	rm -rf store held
	noise $((16 << 20)) >img
	LD_PRELOAD=$tmp/hold.so mount_fleecefs -o threads=2,store=store img mnt
	pid=$(daemon_pid mnt)
	mkdir mnt/a
	# What opens a file needs a thread, and finds no broken one.
	exec {first_fd}<mnt/a/img {second_fd}<mnt/a/img {live_fd}<mnt/.live/img
	: >hold
	read_at 8 "$first_fd"
	first=$reader
	await n_held 1 || fail 'the read is not held'
	# Somebody cuts the image's end off, and the guest writes there.
	truncate -s 12M img
	patch mnt/.live/img $(((16 << 20) - 4096)) 4096 direct
	await is_dropping || fail 'nobody drops the pages of what broke'
}

# What is stuck would outlive the test: the connection is ended.
stuck () {
	kill -CONT "$pid" 2>/dev/null
	rm -f hold
	umount -f "$tmp/mnt" 2>/dev/null
	fail "$1"
}

# The daemon and what it has started are to end, and the readers with an error.
ends () {
	local reader process

	await_exit 10 "$pid" || stuck "$1: it still runs after 10 s"
	for process in $(processes "FLEECEFS_TEST=$base"); do
		await_exit 10 "$process" || fail "$1: $(cat "/proc/$process/comm") still runs after 10 s"
	done
	for reader in "${@:2}"; do
		await_exit 10 "$reader" || fail "$1: a reader still waits after 10 s"
		wait "$reader" && fail "$1: a read succeeds"
	done
	exec {first_fd}<&- {second_fd}<&- {live_fd}<&-
	[ -z "$(mounts_here)" ] || umount_any mnt || fail "$1: what is left cannot be unmounted"
	rm -f hold
	mount_fleecefs -o store=store img mnt
	grep -q '  a *broken: ' mnt/.fleecefs/status || fail "$1: not broken: $(cat mnt/.fleecefs/status)"
	unmount mnt
}

# SIGKILL, with a read that waits in the daemon, and one that it has not taken.
break_while_read
kill -STOP "$pid"
read_at 10 "$second_fd"
await is_waiting "$reader" || stuck 'the second reader does not wait'
kill -9 "$pid"
ends 'kill -9' "$first" "$reader"

# SIGTERM, when both threads are busy, so that nobody takes the second read: they answer what they
# have and take no more.
break_while_read
read_at 9 "$live_fd"
live=$reader
await n_held 2 || fail 'the live read is not held'
read_at 10 "$second_fd"
await is_waiting "$reader" || stuck 'the second reader does not wait'
kill -TERM "$pid"
rm hold
ends 'SIGTERM' "$first" "$reader"
wait "$live"

# By a crash, with a read that waits in it.
for signal in ABRT SEGV QUIT; do
	break_while_read
	kill "-$signal" "$pid"
	ends "SIG$signal" "$first"
done

# SIGQUIT of a terminal, SIGKILL of a group: what drops pages is not in it.
break_while_read
dropper=$(for process in $(processes "FLEECEFS_TEST=$base"); do
	grep -lx fleecefs-drop "/proc/$process/comm"
done | cut -d / -f 3)
[ "$(ps -o pgid= -p "$dropper" | tr -d ' ')" = "$dropper" ] || stuck 'it is in the group of the daemon'
kill -QUIT "$dropper"
kill -STOP "$pid"
read_at 10 "$second_fd"
await is_waiting "$reader" || stuck 'the second reader does not wait'
kill -9 -- "-$(ps -o pgid= -p "$pid" | tr -d ' ')"
ends 'SIGKILL of the group' "$first" "$reader"

# SIGKILL of all, as of a control group: the daemon ends, and so image and store are free. The mount
# may not answer, and what drops pages may wait for what nobody has read, until --dead ends that. It
# waits for that only if it comes to the second page before the first one's end takes it out of the
# kernel, which is likely and cannot be forced: so it is tried until it does.
kill_all () {
	break_while_read
	kill -STOP "$pid"
	read_at 10 "$second_fd"
	await is_waiting "$reader" || stuck 'the second reader does not wait'
	# shellcheck disable=SC2046 # numbers
	kill -9 $(processes "FLEECEFS_TEST=$base")
	await_exit 10 "$pid" || stuck 'SIGKILL of all: the daemon still runs after 10 s'
}
for try in 1 2 3 4 5 6 7 8; do
	kill_all
	await_exit 0 "$reader" || break
	[ $try -lt 8 ] || fail 'SIGKILL of all: nothing hangs, so this tests nothing'
	ends 'SIGKILL of all, and nothing hangs' "$first" "$reader"
done
rm hold
timeout 30 "$FLEECECTL" umount --dead mnt || stuck 'SIGKILL of all: --dead fails'
[ -z "$(mounts_here)" ] || stuck 'SIGKILL of all: --dead leaves the mount'
ends 'SIGKILL of all' "$first" "$reader"

# At random: snapshots are read through the page cache, and removed, and the daemon is killed within
# milliseconds.
pause () {
	perl -e 'select undef, undef, undef, $ARGV[0] + rand $ARGV[1]' "$@"
}

read_on () {
	while [ -e going ]; do
		cat mnt/*/img
	done >/dev/null 2>&1
}

noise $((64 << 20)) >img
n=0
until [ "$SECONDS" -gt $((${started:=$SECONDS} + ${1:-8})) ]; do
	n=$((n + 1))
	signal=$((n % 4 ? 9 : 15))
	rm -rf store
	mount_fleecefs -o new-store,store=store img mnt
	pid=$(daemon_pid mnt)
	mkdir mnt/a mnt/b mnt/c
	: >going
	read_on &
	read_on &
	pause .005 .03
	rmdir mnt/a mnt/b mnt/c 2>/dev/null &
	pause 0 .004
	kill -"$signal" "$pid"
	rm going
	for process in $(processes "FLEECEFS_TEST=$base"); do
		await_exit 10 "$process" || stuck "signal $signal, try $n: not ended after 10 s"
	done
	wait
	[ -z "$(mounts_here)" ] || umount_any mnt || fail 'what is left cannot be unmounted'
done
echo "ended at once, $n times at random moments"
