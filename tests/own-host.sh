#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
#	own-host.sh [SECONDS]
#
# In the I/O path of its own host: ext4 on a loop device over the live file, and a writer in a cgroup
# with so little memory that the kernel must write to the loop device before it can give any out.
# While snapshots come and go the writer gets on, sync(1) and mkdir(2) return, and all bytes are
# right at the end.
#
# The daemon is in the same cgroup, where memory that it asks for is memory that waits for its
# answers: without fs/own-host.h everything stands still within seconds. That needs CAP_SYS_RESOURCE
# (tests/README says how to have it where a container or host has not): else the daemon stays
# outside, where this only tests that the rest works.
#
# When nothing moves the connection is aborted, so that neither test nor host hang.

set -u
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

SECONDS_TO_RUN=${1:-12}
STALL=40 # seconds in which the writer must have done something
CAP_SYS_RESOURCE=24

need mkfs.ext4 e2fsck losetup
# Else a copy of the mounts, in a namespace that somebody else makes, could hold the loop device.
private_mounts "$@"
setup
[ "$(stat -f -c %T .)" != tmpfs ] || skip "$tmp is in memory; set TMPDIR"

# Version 1 does not slow a writer down before its cgroup is full of pages under writeback: in too
# small a one the kernel finds nothing to free and kills.
if [ -w /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
	parent=/sys/fs/cgroup/memory limit=memory.limit_in_bytes mib=256
elif grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null; then
	parent=/sys/fs/cgroup limit=memory.max mib=64
else
	skip 'no memory cgroup to be had'
fi
cgroup=$parent/fleecefs-test-$$
mkdir "$cgroup" || skip "cannot make $cgroup"
cgroups+=("$cgroup")
echo $((mib << 20)) >"$cgroup/$limit" || fail "$limit"

# limited COMMAND...: in the cgroup.
limited () (
	echo "$BASHPID" >"$cgroup/cgroup.procs" && "$@"
)

capabilities=$(sed -n 's/^CapEff:[^0-9a-f]*//p' /proc/self/status)
where=()
if [ $((0x$capabilities >> CAP_SYS_RESOURCE & 1)) = 1 ]; then
	where=(limited)
fi

mkdir mnt ext4 control
truncate -s 512M img
mkfs.ext4 -q img || fail 'mkfs'
mount -t fusectl none control || skip 'no fusectl'
mount_by "${where[@]}" "$FLEECEFS" img mnt || fail 'cannot mount'
connection=control/$(mountpoint -d mnt | cut -d : -f 2)
[ -e "$connection/abort" ] || fail "no $connection"
loop_device mnt/.live/img --direct-io=on
mount "$loop" ext4 || skip 'cannot mount ext4'
pid=$(daemon_pid mnt)

if [ -n "${where[*]}" ]; then
	[ "$(cat "/proc/$pid/oom_score_adj")" = -900 ] || fail 'the daemon is not the last to be killed'
	grep -q '^VmLck:.* 0 kB' "/proc/$pid/status" && fail 'no memory is locked'
fi

# Overwrites four files in turns, 48 MiB at a time, as fast as can be; a line of progress for each.
write_on () {
	local i

	for ((i = 0; ; i++)); do
		[ ! -e stop ] || return 0
		yes "$i" | dd of="ext4/file-$((i % 4))" bs=1M count=48 iflag=fullblock conv=notrunc \
			status=none || return 1
		[ $((i % 3)) != 2 ] || sync -f ext4 || return 1
		echo "$i" >>progress
	done
}
: >progress
limited write_on 2>errors &
writer=$!

# abort WHAT: ends all that waits for the daemon, then the test.
abort () {
	local task

	for task in "/proc/$pid/task"/*; do
		head -n 12 "$task/stack" 2>/dev/null
	done | sort | uniq -c | sort -rn | head -n 20
	echo 1 >"$connection/abort"
	: >stop
	fail "$1; after $(wc -l <progress) writes of 48 MiB"
}

# Each second a snapshot, of which three stay.
worst=0 before=0 last=$SECONDS end=$((SECONDS + SECONDS_TO_RUN))
for ((round = 1; SECONDS < end; round++)); do
	start=$(date +%s%N)
	timeout -k 1 "$STALL" mkdir "mnt/$round" || abort "no snapshot $round in $STALL s"
	took=$((($(date +%s%N) - start) / 1000000))
	[ "$took" -le "$worst" ] || worst=$took
	[ "$round" -le 3 ] || timeout -k 1 "$STALL" rmdir "mnt/$((round - 3))" || abort 'no rmdir'
	now=$(wc -l <progress)
	[ "$now" = "$before" ] || last=$SECONDS
	before=$now
	[ $((SECONDS - last)) -lt "$STALL" ] || abort "the writer stands still for $STALL s"
	kill -0 "$writer" 2>/dev/null || abort "the writer ended: $(cat errors)"
	timeout 1 tail --pid="$writer" -f /dev/null
done

: >stop
timeout -k 1 "$STALL" tail --pid="$writer" -f /dev/null || abort 'the writer does not end'
wait "$writer" || abort "the writer failed: $(cat errors)"
timeout -k 1 "$STALL" sync -f ext4 || abort 'sync does not end'
writes=$(wc -l <progress)
[ "$writes" -gt 0 ] || abort 'nothing was written'
(cd ext4 && sha256sum file-*) >sums || fail 'cannot read'
memory=$(sed -n 's/^VmHWM:[[:space:]]*//p' "/proc/$pid/status")
umount ext4 || fail 'umount of ext4'
losetup -d "$loop" || fail 'losetup -d'
loops=()
grep 'broken' mnt/.fleecefs/status && fail 'a snapshot is broken'
unmount mnt

e2fsck -fn img >output 2>&1 || fail "the image is damaged: $(cat output)"
mount -o loop,ro img ext4 || fail 'cannot mount the image'
(cd ext4 && sha256sum --quiet -c ../sums) || fail 'other bytes'
umount ext4
if [ -z "${where[*]}" ]; then
	where=(outside of)
fi
echo "daemon ${where[*]} a cgroup of $mib MiB: $writes writes of 48 MiB, $((round - 1)) snapshots;" \
	"worst mkdir $worst ms, the daemon's memory $memory"
