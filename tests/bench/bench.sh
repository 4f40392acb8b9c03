#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Speed as ratios: fleecefs beside the source itself, a bare forwarder, QEMU's storage daemon and a
# reflink copy, one after the other in each round, so that what else the machine does hits all
# alike. What is measured and what it says: tests/bench/README.
#
#     bench.sh [--quick] [--only 'PATTERN...'] [--rounds N] [--ms N] [--mib N] [--on DIR] [--output DIR]
#
# --on: the data are there, and not in memory. QEMU_STORAGE_DAEMON is another qemu-storage-daemon
# than that of the PATH.
#
# Writes DIRECTORY/bench.csv as it goes, then bench.txt (also printed) and bench.svg.

set -u

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$here/../..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

usage () {
	sed -n 's/^#     \(bench.sh .*\)/usage: \1/p' "$0" >&2
	exit 2
}

rounds=9
milliseconds=2000
size=$((256 << 20))
quick=no
only=
on=
output=$PWD
while [ $# -gt 0 ]; do
	case $1 in
	--quick)
		quick=yes
		rounds=3
		milliseconds=400 ;;
	--only) only=${2?} && shift ;;
	--rounds) rounds=${2?} && shift ;;
	--ms) milliseconds=${2?} && shift ;;
	--mib) size=$((${2?} << 20)) && shift ;;
	--on) on=${2?} && shift ;;
	--output) output=${2?} && shift ;;
	*) usage ;;
	esac
	shift
done
mkdir -p "$output" || exit
output=$(cd "$output" && pwd)
forwarder=$top_builddir/tests/bench/forwarder

need fio awk perl
need_root
where='in memory'
if [ -z "$on" ]; then
	in_memory
else
	export TMPDIR=$on
	where="on $(findmnt -n -o FSTYPE -T "$on")" || exit
fi
setup
export TIMEFORMAT=%R

csv=$output/bench.csv
echo 'work,target,round,value,unit,cpu_us' >"$csv"

wanted () { # WORK
	local pattern patterns

	read -ra patterns <<<"${only:-*}"
	for pattern in "${patterns[@]}"; do
		# shellcheck disable=SC2053 # a pattern
		[[ $1 != $pattern ]] || return 0
	done
	return 1
}

# ---- processes and figures ----

cpu_ticks () { # PID: user and system time of all its threads
	awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat" 2>/dev/null || echo 0
}

record () { # WORK TARGET VALUE UNIT [CPU_US]
	printf '%s,%s,%s,%s,%s,%s\n' "$1" "$2" "$round" "$3" "$4" "${5:-}" >>"$csv"
	printf '%2s  %-34s %-12s %14s %s\n' "$round" "$1" "$2" "$3" "$4" >&2
}

# fio_run WORK TARGET FILE PID FIO-ARGUMENTS...: operations a second, and the daemon's CPU time for
# one of them. TARGET may be "-": then nothing is recorded.
fio_run () {
	local work=$1 target=$2 file=$3 pid=$4 before after figures

	shift 4
	before=$(cpu_ticks "$pid")
	figures=$(fio --name=bench --filename="$file" --ioengine=psync --thread --group_reporting \
		--direct=1 --fallocate=none --allow_file_create=0 --randrepeat=0 --norandommap \
		--output-format=terse --terse-version=3 "$@" 2>/dev/null |
		awk -F';' '/^3;/ { print $8 + $49, $6 + $47 }')
	after=$(cpu_ticks "$pid")
	[ -n "$figures" ] || fail "fio $* on $file"
	[ "$target" = - ] || awk -v figures="$figures" -v ticks=$((after - before)) \
		-v hz="$(getconf CLK_TCK)" -v block="$(block_of "$@")" 'BEGIN {
			split(figures, f, " ")
			operations = f[2] * 1024 / block
			printf "%.0f %.2f\n", f[1], (operations > 0 ? ticks / hz * 1e6 / operations : 0)
		}' | {
		read -r rate cpu
		record "$work" "$target" "$rate" /s "$cpu"
	}
}

block_of () {
	local word

	for word; do
		case $word in
		--bs=4k) echo 4096 ;;
		--bs=1m) echo 1048576 ;;
		esac
	done
}

jobs_4k=(--bs=4k --runtime="${milliseconds}ms" --time_based --size="$size")
jobs_1m=(--bs=1m --runtime="${milliseconds}ms" --time_based --numjobs=4 --size=$((size / 4))
	--offset_increment=$((size / 4)))

# in_turn A B: two commands without arguments; who is first changes from round to round.
in_turn () {
	if ((round % 2)); then
		"$1"
		"$2"
	else
		"$2"
		"$1"
	fi
}

# pair WORK FILE FIO-ARGUMENTS...: the same on the forwarder and on a file of fleecefs, one right after
# the other.
pair () {
	local arguments=("$@")

	in_turn pair_forwarder pair_fleecefs
}

pair_forwarder () {
	fio_run "${arguments[0]}" forwarder fwd/direct "$forwarder_pid" "${arguments[@]:2}"
}

pair_fleecefs () {
	fio_run "${arguments[0]}" fleecefs "${arguments[1]}" "$fleecefs_pid" "${arguments[@]:2}"
}

on_source () { # WORK FILE FIO-ARGUMENTS...
	fio_run "$1" source "$2" $$ "${@:3}"
}

# The six rows that all have.
steady () { # PREFIX COMMAND FILE
	"$2" "$1 4k random read, depth 1" "$3" --rw=randread "${jobs_4k[@]}"
	"$2" "$1 4k random read, depth 16" "$3" --rw=randread --numjobs=16 "${jobs_4k[@]}"
	"$2" "$1 4k random write, depth 1" "$3" --rw=randwrite "${jobs_4k[@]}"
	"$2" "$1 4k random write, depth 16" "$3" --rw=randwrite --numjobs=16 "${jobs_4k[@]}"
	"$2" "$1 1M read, depth 4" "$3" --rw=read "${jobs_1m[@]}"
	"$2" "$1 1M write, depth 4" "$3" --rw=write "${jobs_1m[@]}"
}

# A first write touches each block once: it ends when it has written its share.
first_4k=(--rw=randwrite --bs=4k --numjobs=16 --size=$((size / 16)) --offset_increment=$((size / 16))
	--io_size=$((size / 64)) --norandommap=0)
first_1m=(--rw=write --bs=1m --numjobs=4 --size=$((size / 4)) --offset_increment=$((size / 4)))

megabytes_per_second () { # BYTES SECONDS
	awk -v b="$1" -v s="$2" 'BEGIN { printf "%.0f\n", b / (s > 0 ? s : 0.001) / 1e6 }'
}

drop_cache () { # FILE: from the page cache
	dd if="$1" iflag=nocache count=0 status=none
}

# cp, with nothing of the file in the page cache before, nor after.
cold_copy () { # WORK TARGET FILE
	local time

	drop_cache "$3"
	echo 1 >/proc/sys/vm/drop_caches
	warm_memory
	time=$({ time cat "$3" >/dev/null; } 2>&1) || fail "cat $3"
	drop_cache "$3"
	record "$1" "$2" "$(megabytes_per_second "$(stat -c %s "$3")" "$time")" MB/s
}

percentile () { # PERCENT: of the lines of standard input
	sort -n | awk -v p="$1" '{ v[NR] = $1 } END { print v[int((NR - 1) * p / 100 + 0.5) + 1] }'
}

# ---- targets ----

make_image () { # FILE: no holes, no zeros
	rm -f "$1"
	fio --name=fill --filename="$1" --rw=write --bs=1m --size="$size" --ioengine=psync \
		--output=/dev/null || fail "cannot make $1"
}

start_forwarder () {
	mkdir -p fwd
	"$forwarder" image fwd 16 9<>"$base/alive" &
	forwarder_pid=$!
	await mountpoint -q fwd
	set_read_ahead fwd
}

# start_fleecefs IMAGE MOUNTPOINT [OPTION...]: sets $pid.
start_fleecefs () {
	mkdir -p "$2"
	"$FLEECEFS" -f "${@:3}" "$1" "$2" 9<>"$base/alive" &
	pid=$!
	await mountpoint -q "$2" || fail "cannot mount $1"
	stat "$2" >/dev/null
}

stop_fleecefs () { # MOUNTPOINT PID
	umount "$1" || fail "cannot unmount $1"
	wait "$2" || fail "the daemon of $1 failed"
}

# A virtual machine may have to get memory from its host, ten times as slowly as it is used, and what
# is free can go back there within seconds. So what a target takes is used, and freed, just before it.
warm_memory () {
	[ -z "$on" ] || return 0
	dd if=/dev/zero of=warm bs=1M count=$((size >> 19)) status=none || fail 'no memory'
	rm warm
}

# The forwarder gets the read-ahead that fleecefs sets for itself.
set_read_ahead () {
	local device

	device=$(stat -c '%Hd:%Ld' "$1")
	echo 1024 >"/sys/class/bdi/$device/read_ahead_kb"
}

# QEMU's fleecing: an overlay, a filter that copies before it writes, and two exports.
start_qemu () {
	rm -f qemu.qcow2
	qemu-img create -q -f qcow2 qemu.qcow2 "$size"
	: >qemu-live
	: >qemu-snapshot
	"$qemu_storage_daemon" \
		--blockdev driver=file,filename="$PWD/qemu-image",node-name=file,cache.direct=off \
		--blockdev driver=raw,file=file,node-name=source \
		--blockdev driver=qcow2,file.driver=file,file.filename="$PWD/qemu.qcow2",node-name=overlay \
		--blockdev driver=copy-before-write,file=source,target=overlay,node-name=cbw \
		--blockdev driver=snapshot-access,file=cbw,node-name=access \
		--export type=fuse,id=live,node-name=cbw,mountpoint="$PWD/qemu-live",writable=on \
		--export type=fuse,id=snapshot,node-name=access,mountpoint="$PWD/qemu-snapshot" \
		2>qemu.log 9<>"$base/alive" &
	qemu_pid=$!
	await mountpoint -q qemu-snapshot || fail "$qemu_storage_daemon: $(cat qemu.log)"
}

stop_qemu () {
	kill "$qemu_pid"
	wait "$qemu_pid" 2>/dev/null
}

have_qemu=no
qemu_storage_daemon=${QEMU_STORAGE_DAEMON:-qemu-storage-daemon}
if "$qemu_storage_daemon" --help 2>"$base/errors" | grep -q 'type=\]fuse'; then
	have_qemu=yes
elif [ -n "${QEMU_STORAGE_DAEMON:-}" ]; then
	fail "$qemu_storage_daemon has no export by FUSE, or does not run: $(cat "$base/errors")"
fi

start_xfs () {
	truncate -s $((size * 3 + (512 << 20))) xfs.img
	mkfs.xfs -q -m reflink=1 xfs.img 2>/dev/null || return
	mkdir -p xfs
	mount -o loop xfs.img xfs || return
	make_image xfs/live
	sync -f xfs # lest it is written in the background later
}

# ---- the works ----

. "$here/works.sh"

round=0
# The forwarder serves the same file: of two in memory, one can be 5 % faster from beginning to end. It
# writes to it when there is no snapshot, or where all of one is saved; the bytes do not matter.
make_image image
cp image source # a file of its own: direct I/O takes a file's pages from the others
start_forwarder
start_fleecefs image mnt
fleecefs_pid=$pid
have_xfs=no
if command -v mkfs.xfs >/dev/null && start_xfs; then
	have_xfs=yes
fi
[ "$have_qemu" = no ] || cp image qemu-image

for ((round = 1; round <= rounds; round++)); do
	for work in "${works[@]}"; do
		wanted "$work" || continue
		warm_memory
		"work_$work"
	done
done

stop_fleecefs mnt "$fleecefs_pid"
umount fwd
wait "$forwarder_pid"
{
	echo "fleecefs $("$FLEECEFS" --version | cut -d' ' -f2-), $(uname -sr), $(nproc) CPUs:" \
		"$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1);" \
		"data $where, $((size >> 20)) MiB, $rounds rounds of $milliseconds ms"
	[ "$have_qemu" = no ] || "$qemu_storage_daemon" --version | head -n 1
	echo
	awk -f "$here/table.awk" "$csv"
} | tee "$output/bench.txt"
awk -f "$here/plot.awk" "$csv" >"$output/bench.svg"
