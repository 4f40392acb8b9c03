#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fsync and fdatasync of the live file reach the disk below: the block device under the image
# gets a flush for each (the kernel counts them), and then has the bytes. Writing alone causes none.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

in_memory
setup
noise 1048576 >file
loop_device file
read -ra fields <"/sys/block/${loop#/dev/}/stat"
[ "${#fields[@]}" -ge 16 ] || skip 'this kernel does not count flushes'
mkdir mnt

n_flushes () {
	local fields

	read -ra fields <"/sys/block/${loop#/dev/}/stat"
	echo "${fields[15]}"
}

# check WHAT COMMAND...: the command makes what was written before it durable.
check () {
	local before offset=$((4096 * (RANDOM % 200)))

	before=$(n_flushes)
	noise 8192 >new
	dd if=new of=mnt/.live/disk bs=8192 seek="$offset" oflag=seek_bytes conv=notrunc \
		status=none || fail "write before $1"
	[ "$(n_flushes)" = "$before" ] || fail "a write alone makes the device flush"
	"${@:2}" || fail "$1"
	[ "$(n_flushes)" -gt "$before" ] || fail "$1 does not reach the device"
	dd if=file iflag=skip_bytes,count_bytes skip="$offset" count=8192 status=none | cmp - new ||
		fail "after $1 the bytes are not there"
}

for durability in process power; do
	mount_fleecefs -o "store=store-$durability,durability=$durability" "disk=$loop" mnt
	check fsync sync mnt/.live/disk
	check fdatasync sync -d mnt/.live/disk
	unmount mnt
done
