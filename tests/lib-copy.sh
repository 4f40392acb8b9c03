# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of copying share, on top of lib.sh and lib-data.sh: a disk with few data and
# many holes, and how much a tool reads of a snapshot.

SIZE=$((256 << 20))
# More than the data and what the kernel reads ahead behind each piece of it, and much less than SIZE.
LITTLE=$((32 << 20))

# sparse_disk: img is mounted on mnt; 4 MiB of it are data.
sparse_disk () {
	local at

	truncate -s "$SIZE" img
	for at in 0 50 120 255; do
		patch img $((at << 20)) $((1 << 20))
	done
	[ "$(stat -c %b img)" -lt $((LITTLE / 512)) ] || skip 'no holes here'
	mkdir mnt
	mount_fleecefs img mnt
	pid=$(daemon_pid mnt)
	read_bytes >/dev/null || skip 'the counters of the daemon cannot be read'
}

# The bytes that the daemon has read so far. What the kernel has in its cache it does not ask for
# again: so what is counted is read from snapshots that nobody has read before.
read_bytes () {
	awk '$1 == "rchar:" { print $2; found = 1 } END { exit !found }' "/proc/$pid/io" 2>/dev/null
}

# reads_at_most BYTES COMMAND...: that the command makes the daemon read.
reads_at_most () {
	local limit=$1 before n
	shift

	before=$(read_bytes)
	"$@" >output 2>&1 || fail "$*: status $?: $(cat output)"
	n=$(($(read_bytes) - before))
	echo "$n bytes are read by: $*"
	[ "$n" -le "$limit" ] || fail "$*: reads $n bytes"
}

# is_sparse FILE: it takes no more than its data.
is_sparse () {
	[ "$(stat -c %b "$1")" -lt $((LITTLE / 512)) ] || fail "$1 takes $(stat -c %b "$1") blocks"
}
