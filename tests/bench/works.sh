# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What bench.sh measures: a function work_NAME for each, run once a round. The rows that they record
# are compared by table.awk.

works=(live saved first_4k first_1m chain_100 copy copy_half copy_oldest random_read
	write_beside_copy mkdir worst_write rmdir mount space power)

work_live () {
	steady live on_source source
	steady live pair mnt/.live/image
}

# All granules saved: rewriting them all once does that.
work_saved () {
	mkdir mnt/saved
	fio_run - - mnt/.live/image "$fleecefs_pid" --rw=write --bs=1m --size="$size"
	steady saved pair mnt/.live/image
	rmdir mnt/saved
}

work_first_4k () {
	first '4k first write, depth 16' "${first_4k[@]}"
}

work_first_1m () {
	first '1M first write, depth 4' "${first_1m[@]}"
}

first () { # WORK FIO-ARGUMENTS
	local work=$1

	shift
	warm_memory
	fio_run "$work" forwarder fwd/direct "$forwarder_pid" "$@"
	mkdir mnt/first
	warm_memory
	fio_run "$work" fleecefs mnt/.live/image "$fleecefs_pid" "$@"
	rmdir mnt/first
	if [ "$have_qemu" = yes ]; then
		start_qemu
		warm_memory
		fio_run "$work" qemu qemu-live "$qemu_pid" "$@"
		stop_qemu
	fi
	if [ "$have_xfs" = yes ]; then
		cp --reflink=always xfs/live xfs/snapshot
		warm_memory
		fio_run "$work" reflink xfs/live $$ "$@"
		rm xfs/snapshot
		sync -f xfs
	fi
}

# N snapshots in the chain, then a new one: the first write costs the same.
work_chain_100 () {
	local i work='4k first write, depth 16'

	mkdir mnt/first
	warm_memory
	fio_run "$work, again" one mnt/.live/image "$fleecefs_pid" "${first_4k[@]}"
	rmdir mnt/first
	for ((i = 0; i < 99; i++)); do
		mkdir "mnt/c$i"
	done
	mkdir mnt/first
	warm_memory
	fio_run "$work, again" hundred mnt/.live/image "$fleecefs_pid" "${first_4k[@]}"
	rmdir mnt/first mnt/c*
}

work_copy () {
	mkdir mnt/copy
	in_turn copy_forwarder copy_fleecefs
	rmdir mnt/copy
	if [ "$have_qemu" = yes ]; then
		start_qemu
		cold_copy 'snapshot cp' qemu qemu-snapshot
		stop_qemu
	fi
}

copy_forwarder () {
	cold_copy 'snapshot cp' forwarder fwd/cached
}

copy_fleecefs () {
	cold_copy 'snapshot cp' fleecefs mnt/copy/image
}

# Every second granule, at random, is in the overlay.
work_copy_half () {
	cold_copy 'snapshot cp, half diverged' forwarder fwd/cached
	mkdir mnt/half
	fio_run - - mnt/.live/image "$fleecefs_pid" --rw=randwrite --bs=4k --numjobs=4 \
		--size="$size" --io_size=$((size / 8)) --norandommap=0
	cold_copy 'snapshot cp, half diverged' fleecefs mnt/half/image
	rmdir mnt/half
}

# The same blocks have diverged both times: since one snapshot, or a hundredth of them since each.
work_copy_oldest () {
	local i

	mkdir mnt/c0
	for ((i = 0; i < 100; i++)); do
		diverge "$i"
	done
	cold_copy 'snapshot cp, oldest' one mnt/c0/image
	rmdir mnt/c0
	for ((i = 0; i < 100; i++)); do
		mkdir "mnt/c$i"
		diverge "$i"
	done
	cold_copy 'snapshot cp, oldest' hundred mnt/c0/image
	rmdir mnt/c*
}

diverge () { # SEED
	perl -e '
		my ($name, $blocks, $seed) = @ARGV;
		open my $file, "+<", $name or die "$name: $!\n";
		srand $seed;
		for (1 .. 64) {
			sysseek $file, 4096 * int rand $blocks, 0;
			syswrite($file, "diverged" x 512) == 4096 or die "$name: $!\n";
		}' mnt/.live/image $((size / 4096)) "$1" || fail 'a write'
}

work_random_read () {
	mkdir mnt/random
	pair 'snapshot 4k random read, depth 16' mnt/random/image --rw=randread --numjobs=16 \
		--readonly "${jobs_4k[@]}"
	rmdir mnt/random
}

# A guest's rate while the snapshot, or the forwarder's file, is copied again and again; over its rate
# alone.
work_write_beside_copy () {
	mkdir mnt/beside
	fio_run - - mnt/.live/image "$fleecefs_pid" --rw=write --bs=1m --size="$size"
	in_turn beside_forwarder beside_fleecefs
	rmdir mnt/beside
}

beside_forwarder () {
	beside forwarder fwd/direct "$forwarder_pid" fwd/cached
}

beside_fleecefs () {
	beside fleecefs mnt/.live/image "$fleecefs_pid" mnt/beside/image
}

beside () { # TARGET FILE PID COPIED
	local copier

	warm_memory
	fio_run 'write alone' "$1" "$2" "$3" --rw=randwrite --numjobs=4 "${jobs_4k[@]}"
	while [ ! -e beside-done ]; do
		drop_cache "$4"
		cat "$4" >/dev/null
	done &
	copier=$!
	fio_run 'write beside cp' "$1" "$2" "$3" --rw=randwrite --numjobs=4 "${jobs_4k[@]}"
	: >beside-done
	wait "$copier" # its last copy too, lest the file is open when all is unmounted
	rm beside-done
	drop_cache "$4"
	record 'write beside cp, of that alone' "$1" "$(tail -n 2 "$csv" | awk -F, '
		{ rate[NR] = $(NF - 2) } END { printf "%.0f", 100 * rate[2] / rate[1] }')" %
}

# mkdir under 16 writers: milliseconds that mkdir(2) takes. Starting mkdir(1) each time would be
# measured with it.
mkdir_times () { # WORK MNT LIVE N
	local writer times

	fio --name=writers --filename="$3" --rw=randwrite --bs=4k --numjobs=16 --thread \
		--ioengine=psync --direct=1 --size=256m --runtime=600 --time_based --norandommap \
		--allow_file_create=0 --fallocate=none --output=/dev/null &
	writer=$!
	times=$(perl -MTime::HiRes=time -e '
		for (1 .. $ARGV[1]) {
			my $begun = time;
			mkdir "$ARGV[0]/m" or die "mkdir: $!\n";
			printf "%.3f\n", (time - $begun) * 1000;
			rmdir "$ARGV[0]/m" or die "rmdir: $!\n";
		}' "$2" "$4") || fail "mkdir or rmdir in $2"
	kill "$writer"
	wait "$writer" 2>/dev/null
	record "$1, median" fleecefs "$(percentile 50 <<<"$times")" ms
	record "$1, 99 %" fleecefs "$(percentile 99 <<<"$times")" ms
}

to_ms () {
	awk -v s="$1" 'BEGIN { printf "%.1f\n", s * 1000 }'
}

work_mkdir () {
	local i

	mkdir_times 'mkdir under 16 writers' mnt mnt/.live/image 100
	for ((i = 0; i < 99; i++)); do
		mkdir "mnt/c$i"
	done
	mkdir_times 'mkdir, the 100th snapshot' mnt mnt/.live/image 100
	rmdir mnt/c*
	truncate -s 1T huge
	start_fleecefs huge huge-mnt
	mkdir_times 'mkdir, 1 TiB' huge-mnt huge-mnt/.live/huge 100
	stop_fleecefs huge-mnt "$pid"
	rm -rf huge huge.fleece
}

# The worst write of a time, a minute in all rounds, with one mkdir a second: microseconds.
work_worst_write () {
	local i writer time=$((milliseconds * 7 / 2000))

	[ "$time" -ge 2 ] || time=2
	worst forwarder fwd/direct
	(
		for ((i = 0; i < time; i++)); do
			mkdir "mnt/w$i"
			read -rt 1 <> <(:) || true
		done
	) &
	writer=$!
	worst fleecefs mnt/.live/image
	wait "$writer"
	rmdir mnt/w*
}

worst () { # TARGET FILE
	local figure

	figure=$(fio --name=worst --filename="$2" --rw=randwrite --bs=4k --numjobs=4 --thread \
		--ioengine=psync --direct=1 --size="$size" --runtime="$time" --time_based \
		--norandommap --group_reporting --allow_file_create=0 --fallocate=none \
		--output-format=terse --terse-version=3 2>/dev/null | awk -F';' '/^3;/ { print $56 }')
	record 'worst 4k write, a mkdir each second' "$1" "$figure" us
}

# Both snapshots have all blocks of their own, but the older one only the first half, so that the merge
# has the other half to move.
work_rmdir () {
	local time

	mkdir mnt/older
	fio_run - - mnt/.live/image "$fleecefs_pid" --rw=write --bs=1m --size=$((size / 2))
	mkdir mnt/newer
	fio_run - - mnt/.live/image "$fleecefs_pid" --rw=write --bs=1m --size="$size"
	cold_copy merge cp mnt/newer/image
	drop_cache mnt/newer/image
	time=$({ time rmdir mnt/newer; } 2>&1)
	record 'rmdir' fleecefs "$(to_ms "$time")" ms
	time=$({ time await one_layer; } 2>&1)
	record merge fleecefs "$(megabytes_per_second $((size / 2)) "$time")" MB/s
	cat mnt/older/image >/dev/null
	time=$({ time rmdir mnt/older; } 2>&1)
	record 'rmdir, of what is in the page cache' fleecefs "$(to_ms "$time")" ms
}

one_layer () {
	[ "$(find image.fleece/snapshots -mindepth 1 -maxdepth 1 | wc -l)" = 1 ]
}

# 1 TiB with 10 snapshots, 1 percent of it diverged: here in 640 clusters of 16 MiB each, for memory
# has to hold it.
work_mount () {
	local i before

	[ "$round" = 1 ] || [ "$quick" = no ] || return
	truncate -s 1T huge
	start_fleecefs huge huge-mnt
	for ((i = 0; i < 10; i++)); do
		mkdir "huge-mnt/s$i"
		fio --name=diverge --filename=huge-mnt/.live/huge --rw=randwrite --bs=4k --direct=1 \
			--ioengine=psync --thread --numjobs=4 --size=1t --number_ios=2000 \
			--norandommap --randrepeat=0 --allow_file_create=0 --fallocate=none \
			--output=/dev/null
	done
	stop_fleecefs huge-mnt "$pid"
	before=${EPOCHREALTIME/./}
	start_fleecefs huge huge-mnt
	record 'mount, 1 TiB, 10 snapshots' fleecefs $(((${EPOCHREALTIME/./} - before) / 1000)) ms
	record 'memory then' fleecefs "$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status")" KiB
	stop_fleecefs huge-mnt "$pid"
	rm -rf huge huge.fleece
}

# durability=power on the disk of the output directory: a first write beside a write and fdatasync(2)
# there, to blocks that the file has and to new ones, of which the file system has to write down where
# they are: so it has for those of an overlay.
work_power () {
	local disk first=(--rw=randwrite --bs=4k --size=256m --norandommap=0 --runtime="${milliseconds}ms"
		--time_based)

	disk=$(mktemp -d "$output/power.XXXXXX") || fail "no directory in $output"
	[ "$(stat -f -c %T "$disk")" != tmpfs ] || return
	dd if=image of="$disk/plain" bs=1M count=256 status=none
	truncate -s 256M "$disk/sparse"
	dd if=image of="$disk/image" bs=1M count=256 conv=fsync status=none
	fio_run 'power: first write' fdatasync "$disk/plain" $$ "${first[@]}" --fdatasync=1 --direct=0
	fio_run 'power: first write' new-blocks "$disk/sparse" $$ "${first[@]}" --fdatasync=1 --direct=0
	start_fleecefs "$disk/image" "$disk/mnt" -o durability=power
	mkdir "$disk/mnt/one"
	fio_run 'power: first write' fleecefs "$disk/mnt/.live/image" "$pid" "${first[@]}"
	rmdir "$disk/mnt/one"
	mkdir "$disk/mnt/sixteen"
	fio_run 'power: first write, depth 16' fleecefs "$disk/mnt/.live/image" "$pid" "${first[@]}" \
		--numjobs=16 --size=16m --offset_increment=16m
	stop_fleecefs "$disk/mnt" "$pid"
	rm -rf "$disk"
}

# What 4k first writes cost in the store.
work_space () {
	local n=$((size / 64 / 4096 * 16)) before after wrote

	mkdir mnt/space
	before=$(awk '/^wchar/ { print $2 }' "/proc/$fleecefs_pid/io")
	fio_run - - mnt/.live/image "$fleecefs_pid" "${first_4k[@]}"
	after=$(awk '/^wchar/ { print $2 }' "/proc/$fleecefs_pid/io")
	wrote=$((after - before - n * 4096)) # the guest's own writes, and replies, are in it too
	record 'store bytes for each byte of first write, allocated' fleecefs \
		"$(awk -v a="$(du -sB1 image.fleece | cut -f1)" -v n="$n" \
			'BEGIN { printf "%.3f", a / n / 4096 }')" x
	record 'store bytes for each byte of first write, written' fleecefs \
		"$(awk -v a="$wrote" -v n="$n" 'BEGIN { printf "%.3f", a / n / 4096 }')" x
	rmdir mnt/space
}
