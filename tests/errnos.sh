#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whatever errno the store or the image fails with, callers see those that the manual promises: a
# read of a snapshot EIO, the live file what a file can say, mkdir what says nothing untrue of its
# name. strace puts the errors in.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need strace python3
need_root
in_memory
setup
strace -o calls true 2>/dev/null || skip 'strace cannot watch a program'
mkdir mnt
noise 1048576 >img
mount_fleecefs img mnt
pid=$(daemon_pid mnt)
mkdir mnt/a
patch mnt/.live/img 0 65536
tracer=

# all_traced PID: strace has each of its threads.
all_traced () {
	! grep -q '^TracerPid:.0$' "/proc/$1"/task/*/status
}

none_traced () {
	! grep -q '^TracerPid:.[1-9]' "/proc/$1"/task/*/status
}

# failing CALLS ERRNO PATH: from here on, these calls on this path fail.
failing () {
	strace -f -q -o calls -P "$tmp/$3" -e "trace=$1" -e "inject=$1:error=$2" -p "$pid" 2>/dev/null &
	tracer=$!
	await all_traced "$pid" || fail 'strace does not attach'
}

working () {
	kill -INT "$tracer"
	wait "$tracer"
	await none_traced "$pid" || fail 'strace does not detach'
}

# gives ERRNO CALL: in the words of Python; f is the live file, s that of the snapshot, opened before.
exec {live_fd}<>mnt/.live/img {frozen_fd}<mnt/a/img
gives () {
	f=$live_fd s=$frozen_fd python3 -c 'import errno, os, sys
f, s = int(os.environ["f"]), int(os.environ["s"])
os.posix_fadvise(s, 0, 0, os.POSIX_FADV_DONTNEED)
try: eval(sys.argv[2])
except OSError as e: got = errno.errorcode[e.errno]
else: got = "0"
assert got == sys.argv[1], got' "$@" 2>errors || fail "$*: $(cat errors calls)"
}

overlay=img.fleece/snapshots/000001/img.qcow2
[ -e "$overlay" ] || fail 'the overlay is elsewhere'
for errno in ENOSPC ENOENT ENOSYS EAGAIN ESTALE ENOTCONN EACCES EBADF ENODATA EDQUOT EPERM; do
	failing pread64,preadv $errno "$overlay"
	gives EIO 'os.pread(s, 4096, 0)'
	working
	gives 0 'os.pread(s, 4096, 0)' # nothing broke

	failing pread64,preadv $errno img
	gives EIO 'os.pread(s, 4096, 524288)'
	working
	gives 0 'os.pread(s, 4096, 524288)'
done

for errno in ENOENT ENOSYS EAGAIN ESTALE ENOTCONN EACCES EBADF ENODATA; do
	failing pread64,pwrite64,pwritev2,fsync,fdatasync,ftruncate,fallocate $errno img
	for call in 'pread(f, 4096, 0)' 'pwrite(f, b"x", 0)' 'fsync(f)' \
		'fdatasync(f)' 'ftruncate(f, 1 << 20)' 'posix_fallocate(f, 0, 4096)'; do
		gives EIO "os.$call"
	done
	working
	[ "$errno" != EAGAIN ] || continue # there is nothing that makes a system call of these fail so
	failing openat,mkdirat $errno img.fleece/snapshots
	mkdir mnt/b 2>errors && fail "mkdir: $errno"
	grep -q 'Input/output error' errors || fail "$errno: $(cat errors)"
	working
done
for errno in ENOSPC EFBIG EDQUOT EROFS; do
	failing pwrite64 $errno img
	gives $errno 'os.pwrite(f, b"x", 0)'
	working
done
gives 0 'os.fsync(f)'
grep -q '  a *ok' mnt/.fleecefs/status || fail "a broke: $(cat mnt/.fleecefs/status)"
exec {live_fd}<&- {frozen_fd}<&-
unmount mnt
