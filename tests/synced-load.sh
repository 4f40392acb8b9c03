#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
#	synced-load.sh REPORT DIRECTORY [SECOND]
#
# Works on the file system in DIRECTORY, and says in REPORT what must be in it from now on: a line
# "synced N SUM" when all of round N was synced by fsync(2). tests/synced-check.pl knows what that
# means. It ends when it gets SIGTERM, with a whole round, and with an error if anything failed.
#
# It runs in guests too: nothing but what the shell and the tools of busybox can.
#
# A round adds its number to records; then to SECOND/records, if there is a second disk; fills one
# of 64 blocks of slots with it, in place; replaces the file now by one that is full of it; and in
# each third round makes a file keep-N that nobody touches again, of which SUM is the MD5 sum.
# Meanwhile churn makes and removes files which it does not sync, and discards what they took.

report=$1 dir=$2 second=${3:-}
SLOTS=64
stop=
trap 'stop=yes' TERM

broken_off () {
	echo "<1>load: failed: $*" >>"$report"
	kill "$churn" 2>/dev/null
	exit 1
}

# The number, as often as makes 4096 bytes.
block () {
	yes "$(printf '%07d' "$1")" | head -n 512
}

# record N FILE
record () {
	printf '%07d\n' "$1" | dd of="$2" oflag=append conv=notrunc,fsync 2>/dev/null
}

churn () {
	trap - TERM
	i=0
	dd if=/dev/urandom of="$dir/noise" bs=64k count=16 2>/dev/null
	while :; do
		i=$((i + 1))
		cat "$dir/noise" "$dir/noise" >"$dir/busy-$((i % 8))" || return 1
		[ $((i % 4)) != 0 ] || rm -f "$dir/busy-$((i % 3))" "$dir/busy-$((3 + i % 5))"
		[ $((i % 8)) != 0 ] || fstrim "$dir" || return 1
		sleep 0.1
	done
}

churn &
churn=$!
[ -e "$dir/slots" ] || dd if=/dev/zero of="$dir/slots" bs=4096 count=$SLOTS conv=fsync 2>/dev/null ||
	broken_off slots
n=0
while [ -z "$stop" ]; do
	n=$((n + 1))
	sum=-
	record $n "$dir/records" || broken_off records
	[ -z "$second" ] || record $n "$second/records" || broken_off 'records of the second'
	block $n | dd of="$dir/slots" bs=4096 seek=$((n % SLOTS)) count=1 iflag=fullblock \
		conv=notrunc,fsync 2>/dev/null || broken_off slots
	block $n >"$dir/new" && mv "$dir/new" "$dir/now" &&
		dd if=/dev/null of="$dir/now" conv=notrunc,fsync 2>/dev/null || broken_off now
	if [ $((n % 3)) = 0 ]; then
		dd if=/dev/urandom of="$dir/keep-$n" bs=$((1000 + n % 7 * 5000)) count=2 conv=fsync \
			2>/dev/null || broken_off keep
		sum=$(md5sum <"$dir/keep-$n") || broken_off md5sum
		sum=${sum%% *}
	fi
	kill -0 $churn 2>/dev/null || broken_off churn
	echo "<1>load: synced $n $sum" >>"$report" # a line of its own in the log of a kernel
done
kill $churn
wait $churn 2>/dev/null
exit 0
