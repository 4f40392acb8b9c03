#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The daemon holds no descriptor that it inherited and, while it serves, no capability and no way to
# start a program; it unmounts all the same. Its store is for the mounter only, and nothing of it
# can be reached through the mount.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
setup

mkdir m
head -c 1M /dev/urandom >a.img
cp a.img old.img
echo secret >secret

# state KEY [PID]: a line of /proc/PID/status, without its name.
state () {
	sed -n "s/^$1:[[:space:]]*//p" "/proc/${2:-$pid}/status"
}

# has KEY VALUE [PID]
has () {
	[ "$(state "$1" "${3:-$pid}")" = "$2" ] || fail "$1 is $(state "$1" "${3:-$pid}"), not $2"
}

# Of the process that unmounts.
unmounter () {
	local other

	for other in $(processes "FLEECEFS_TEST=$base" "FLEECEFS_MOUNT=${mount_numbers[m]}"); do
		[ "$(cat "/proc/$other/comm")" != fleecefs-umount ] || echo "$other"
	done
}

# ---- descriptors ----

# A store that the user made and others may read is closed to them.
mkdir -m 755 s
mount_fleecefs -o store=s a.img m 3<secret 7<secret 200<secret
mkdir m/monday
pid=$(daemon_pid m)
for process in "$pid" "$(unmounter)"; do
	for fd in "/proc/$process/fd"/*; do
		target=$(readlink "$fd") || continue
		case $target in
		'/memfd:fleecefs-mount '*) [ "$process" = "$pid" ] || fail "not only the daemon has $target" ;;
		/dev/null | /dev/fuse | "$tmp/a.img" | "$tmp/s" | "$tmp/s/"* | pipe:* | socket:*) ;;
		*) fail "process $process holds ${fd##*/}: $target" ;;
		esac
	done
done
fds=$(find "/proc/$(unmounter)/fd" -type l -lname 'socket:*' | wc -l)
[ "$fds" = 1 ] || fail "the process that unmounts holds $fds sockets"
find "/proc/$(unmounter)/fd" -type l -lname "$tmp/*" | grep . && fail 'it holds files'
has Umask 0077
grep -q '^Max core file size *0 *0 ' "/proc/$pid/limits" || fail "$(grep core "/proc/$pid/limits")"

# ---- privileges ----

symbols=$(nm "$FLEECEFS" 2>/dev/null)
tasks=("/proc/$pid/task"/*)
case $symbols in
*__tsan_init*) tasks=("/proc/$pid/task/$pid") ;; # ThreadSanitizer has a thread of its own
esac
for task in "${tasks[@]}"; do
	for set in CapInh CapPrm CapEff CapAmb; do
		has "$set" 0000000000000000 "$pid/task/${task##*/}"
	done
	has NoNewPrivs 1 "$pid/task/${task##*/}"
done
if [ "$(id -u)" = 0 ]; then
	has CapBnd 0000000000000000
	for set in CapBnd CapPrm CapEff; do
		has "$set" 0000000000200000 "$(unmounter)" # CAP_SYS_ADMIN
	done
fi
case $(uname -m):$symbols in
*__asan_init* | *__tsan_init*) ;;
x86_64:* | aarch64:* | riscv64:*) has Seccomp 2 ;;
esac

# An image that is not root's keeps root the right to leave a note at it, and nothing more.
if [ "$(id -u)" = 0 ]; then
	mkdir other
	cp a.img b.img
	chown 1 b.img
	mount_fleecefs b.img other
	has CapEff 0000000000000002 "$(daemon_pid other)" # CAP_DAC_OVERRIDE
	has CapBnd 0000000000000002 "$(daemon_pid other)"
	unmount other
	rm -r b.img*
fi

# ---- the store ----

[ "$(stat -c %a s)" = 700 ] || fail "the store has mode $(stat -c %a s)"
find s -type d ! -perm 700 -o -type f ! -perm 600 -o ! -uid "$(id -u)" | grep . && fail 'modes'
find m m/.live m/.latest m/.fleecefs | sort >seen
printf '%s\n' m m/.fleecefs m/.fleecefs/{metrics,status,status.json} m/.latest m/.latest/a.img m/.live m/.live/a.img \
	m/monday m/monday/a.img | sort | diff - <(sort -u seen) || fail 'in the mount is something else'
for name in s lock fleecefs.ini snapshots 000001 a.img.qcow2 snapshot.ini secret; do
	for place in m m/.live m/.latest m/.fleecefs m/monday; do
		[ ! -e "$place/$name" ] || fail "there is $place/$name"
	done
done
# Whatever a snapshot is called, its files in the store have numbers.
for name in s fleecefs.ini 000001 a.img.qcow2 '~' %s '; x'; do
	mkdir "m/$name" || fail "no snapshot '$name'"
done
find s -mindepth 2 -maxdepth 2 -path 's/snapshots/*' ! -name '[0-9][0-9][0-9][0-9][0-9][0-9]' |
	grep . && fail 'a name of a request is a name in the store'
denied 'Invalid argument' mkdir m/..a

# ---- the end ----

# Its word is sent right after the device is closed; then it waits.
is_disconnected () {
	[ -z "$(find "/proc/$pid/fd" -lname /dev/fuse)" ] && grep -q do_wait "/proc/$pid/wchan"
}

other=$(unmounter)
kill -TERM "$other" "$pid"
await_daemon m
await_exit "$PATIENCE" "$other" || fail 'the process that unmounts is left'
! mountpoint -q m || fail 'SIGTERM: still mounted'
grep -qx 'state=clean' s/fleecefs.ini || fail 'SIGTERM: the store is not clean'

# After a kill the mount is still there, as the man page says, and nothing else is.
mount_fleecefs -o store=s a.img m
pid=$(daemon_pid m)
other=$(unmounter)
kill -9 "$pid"
await_daemon m
await_exit "$PATIENCE" "$other" || fail 'kill -9: the process that unmounts is left'
[ -n "$(mounts_here)" ] || fail 'kill -9: unmounted'
umount_any m

# Killed after it has told that process to unmount, which has not come to it: a new mount stays.
mount_fleecefs -o store=s a.img m
pid=$(daemon_pid m)
other=$(unmounter)
kill -STOP "$other"
kill -TERM "$pid"
await is_disconnected || fail 'the daemon does not end'
kill -9 "$pid"
await_exit "$PATIENCE" "$pid"
umount_any m
mount_fleecefs -o store=s a.img m
kill -CONT "$other" 2>/dev/null
await_exit "$PATIENCE" "$other" || fail 'the old process that unmounts is left'
mountpoint -q m || fail 'a process of a killed daemon unmounts what is not its own'
unmount m

# Without standard streams an image does not become one of them.
mount_fleecefs -o store=s a.img m <&- >&- 2>&-
for fd in 0 1 2; do
	[ "$(readlink "/proc/$(daemon_pid m)/fd/$fd")" = /dev/null ] || fail "descriptor $fd"
done
unmount m
same a.img old.img
