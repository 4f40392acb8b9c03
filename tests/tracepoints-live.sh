#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tracepoints that bpftrace(8) watches say what happens.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=lib-data.sh source-path=SCRIPTDIR
. "$top_srcdir/tests/lib-data.sh"
need bpftrace
need_root
grep -qx '#define ENABLE_SDT 1' "$top_builddir/config.h" || skip 'built without tracepoints'
in_memory
setup

# A copy, for what is watched is a file: of the program itself other tests run daemons too.
cp "$FLEECEFS" "$base/fleecefs"
FLEECEFS=$base/fleecefs

mkdir m
noise 1M >img
mount_fleecefs -o store=s,max-snapshots=1000 img m

# One line for each event: its time (lines of two processors may change places), name, arguments.
script=
for event in copy_start:sdd copy_done:sddd copy_skip:sdd frozen_read_start:sddd \
	frozen_read_done:sdddd merge_start:ddd merge_done:dddd barrier_close: barrier_closed: \
	barrier_open:; do
	name=${event%:*} formats=${event#*:} format='' values=''
	for ((i = 0; i < ${#formats}; i++)); do
		format+=" %${formats:i:1}"
		[ "${formats:i:1}" = s ] && values+=", str(arg$i)" || values+=", arg$i"
	done
	script+="usdt:$FLEECEFS:fleecefs:$name { printf(\"%lld $name$format\\n\", nsecs$values); } "
done
# It reads no events before it watches for all of them, and what happens until then fills its buffers;
# so nothing happens until it shows that it reads.
script+='interval:ms:100 { printf("%lld ready\n", nsecs); }'
BPFTRACE_STRLEN=200 bpftrace -B line -e "$script" >events 2>errors &
tracer=$!
ready () {
	kill -0 "$tracer" 2>/dev/null || skip "bpftrace cannot watch here: $(tail -n 1 errors)"
	grep -q ' ready$' events
}
PATIENCE=60 await ready || fail "bpftrace sees nothing: $(cat events errors)"

# event LINE: it is seen.
has_event () {
	grep -qxE "[0-9]+ $1" events
}
event () {
	await has_event "$1" || fail "no '$1' in: $(tail -n 30 events)"
}

mkdir m/1
number=$((10#$(number_of s 1)))
patch m/.live/img 8192 4096
event "copy_start $tmp/img 8192 4096"
event "copy_done $tmp/img 8192 4096 0"
patch m/.live/img 8192 2048
event "copy_skip $tmp/img 8192 2048"
dd if=m/1/img iflag=direct bs=64k skip=8 count=1 status=none >/dev/null
event "frozen_read_start $tmp/img $number 524288 65536"
event "frozen_read_done $tmp/img $number 524288 65536 0"

# A merge, of a snapshot that was removed with the one before it.
mkdir m/2
removed=$((10#$(number_of s 2)))
patch m/.live/img 65536 4096
rmdir m/2
event "merge_start $number $removed [01]"
event "merge_done $number $removed [01] 0"

# Each closing comes to an end before the next, and is followed by an opening. What the two
# processors have seen is read by turns.
in_order () {
	sort -n events | sed -n 's/.* barrier_/barrier_/p' | paste -d ' ' - - - | sort -u >order
	[ "$(cat order)" = 'barrier_close barrier_closed barrier_open' ]
}
await in_order || fail "barriers: $(cat order)"

kill -INT "$tracer"
wait "$tracer"
! grep -i lost errors || fail 'bpftrace has lost events'
unmount m
