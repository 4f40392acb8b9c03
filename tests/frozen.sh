#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Snapshots stay what they were, and the live disk is what was written, whatever way it is written:
# parts of granules, whole ones, across them, holes, zeros, growing and shrinking.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need fallocate
in_memory
setup
mkdir mnt
live=mnt/.live/img

# The same command on the live disk and on a reference file, for each of which FILE stands.
both () {
	local file

	for file in "$live" reference; do
		"${@//FILE/$file}" || fail "failed: $*"
	done
}

# The same bytes to both, BLOCK of them in each write, with a flag of dd for the live disk.
write () {
	local offset=$1 bytes=$2 block=$3 flag=${4:-}

	noise "$bytes" >new
	dd if=new of="$live" bs="$block" seek="$offset" oflag="seek_bytes${flag:+,$flag}" \
		conv=notrunc status=none || fail "failed: write $*"
	dd if=new of=reference bs="$block" seek="$offset" oflag=seek_bytes conv=notrunc status=none
}

# Zeros to both. Not every file system knows fallocate -z, so the reference gets plain ones, and
# with keep only up to its end.
zero () {
	local offset=$1 bytes=$2 left

	fallocate -z ${3:+-n} -o "$offset" -l "$bytes" "$live" || fail "failed: zero $*"
	left=$(($(stat -c %s reference) - offset))
	if [ -n "${3:-}" ] && [ "$bytes" -gt "$left" ]; then
		bytes=$left
	fi
	head -c "$bytes" /dev/zero |
		dd of=reference seek="$offset" oflag=seek_bytes conv=notrunc status=none
}

check () {
	local truth

	same "$live" reference
	for truth in truth-*; do
		frozen "mnt/${truth#truth-}/img" "$truth"
	done
}

# Everything at other places in each round.
write_everything () {
	local g=$1 round=$2 at
	local patterns=(
		"write $((3 * g)) $g $g"                  # one whole granule
		"write $((5 * g)) 100 100"                # the left of one
		"write $((7 * g + g - 100)) 100 100"      # the right
		"write $((6 * g + 10)) $((g - 20)) 999"   # the middle, bit by bit
		"write $((8 * g - 7)) 14 14"              # across a border
		"write $((9 * g - 77)) $((2 * g + 154)) $((2 * g + 154))" # over a whole one
		"write $((2 * g)) $((8 * g)) $((2 * g)) direct"
		"write $((4 * g + 512)) 1024 512 direct"
		"write 0 1 1"
		"write 1000002 1 1"                       # the last byte
		"write $((999000 + round)) 5000 700"      # over the end
		"both fallocate -p -o $((9 * g)) -l $((2 * g)) FILE"
		"both fallocate -p -o $((3 * g + 1)) -l $((2 * g)) FILE"
		"both fallocate -p -o 999999 -l $((3 * g)) FILE"
		"zero $((5 * g - 100)) 200"
		"zero $((6 * g)) $g"
		"zero 990000 900000 keep"
		"zero $((1000000 + round)) $((g + 5))"
		"both fallocate -n -l $((2000000 + round)) FILE"
		"both fallocate -l $((1100000 + 1000 * round)) FILE"
		"both truncate -s $((12 * g + 1 + round)) FILE"
		"both truncate -s $((14 * g)) FILE"
		"write $((13 * g - 9)) 400 400"           # where it was cut off
		"both truncate -s $((11 * g - 1)) FILE"
		"both truncate -s 1000003 FILE"
		"write $((11 * g)) 300000 100000"
	)

	# Rotated, so that each pattern is once the first after a snapshot was made.
	for ((at = 0; at < ${#patterns[@]}; at++)); do
		# shellcheck disable=SC2086 # words
		${patterns[(at + 9 * round) % ${#patterns[@]}]}
		[ $((at % 4)) != 0 ] || check
	done
	check
}

for granule in 4 64; do
	noise 1000003 >img
	cp img reference
	mount_fleecefs -o "granule=${granule}k" img mnt
	for round in 0 1 2; do
		cp reference "truth-$round"
		mkdir "mnt/$round" || fail "mkdir of snapshot $round"
		write_everything $((granule * 1024)) "$round"
	done
	unmount mnt
	same img reference
	mount_fleecefs img mnt
	check
	unmount mnt
	same img reference
	rm -r img.fleece truth-*
done
echo 'snapshots stay as they were under every pattern of writes'
