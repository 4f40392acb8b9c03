#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Under many writes at a time, from asynchronous I/O and from threads, while snapshots are made and
# dropped: what was written is read, and a snapshot reads the same early and late.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need fio
in_memory
setup
noise 33554432 >img
mkdir mnt

# In the foreground, so that it says here what it does not like.
FLEECEFS_TEST=$base "$FLEECEFS" -f img mnt 2>log &
daemon=$!
await mountpoint -q mnt || fail "does not mount: $(cat log)"

# direct_sum NAME: of the snapshot, not of the page cache.
direct_sum () {
	dd if="mnt/$1/img" iflag=direct bs=512k status=none | cksum
}

fio --filename=mnt/.live/img --rw=randwrite --bsrange=4k-64k --direct=1 --verify=crc32c \
	--do_verify=1 --verify_fatal=1 --fallocate=none --allow_file_create=0 --loops=2 \
	--name=asynchronous --ioengine=libaio --iodepth=16 --size=16m --rate=,12m \
	--name=threads --ioengine=psync --thread --numjobs=4 --offset=16m \
	--offset_increment=4m --size=4m --rate=,3m >fio-output 2>&1 &
writer=$!

declare -A sums=()
n_made=0
n_dropped=0
check_and_drop () {
	[ "$(direct_sum "$1")" = "${sums[$1]}" ] || fail "snapshot $1 has changed"
	rmdir "mnt/$1" || fail "rmdir of $1"
	unset "sums[$1]"
	n_dropped=$((n_dropped + 1))
}

while kill -0 "$writer" 2>/dev/null; do
	mkdir "mnt/$n_made" || fail "mkdir of $n_made"
	sums[$n_made]=$(direct_sum "$n_made")
	n_made=$((n_made + 1))
	if [ ${#sums[@]} = 5 ]; then
		names=("${!sums[@]}")
		check_and_drop "${names[RANDOM % 5]}"
	fi
done
wait "$writer" || fail "fio: $(cat fio-output)"
[ "$n_made" -ge 2 ] || fail "only $n_made snapshots were made"

names=(mnt/*)
[ ${#names[@]} = $((n_made - n_dropped)) ] || fail "$n_made made, $n_dropped dropped, left:" mnt/*
for name in "${!sums[@]}"; do
	check_and_drop "$name"
done
umount_any mnt || fail 'umount'
wait "$daemon" || fail "the daemon ends with $?: $(cat log)"
[ ! -s log ] || fail "the daemon says: $(cat log)"
echo "fio is content, and $n_made snapshots stayed as they were"
