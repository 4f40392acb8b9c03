#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The log warns at 80 and at 95 percent, once until it was less; and a merge that lacks space is done
# when there is some, without a further removal.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-full.sh
. "$top_srcdir/tests/lib-full.sh"

need getfattr
need_root
private_mounts "$@"
in_memory
setup
mkdir mnt

# logged N REGEX: there are N lines that match, and within reason there will be.
logged () {
	await has_lines "$@" || fail "not $1 lines of '$2': $(cat log)"
}

has_lines () {
	[ "$(grep -cE "$2" log)" = "$1" ]
}

# use PERCENT: of the small file system is in use.
use () {
	local total used

	read -r total used < <(df -k --output=size,used small | tail -n 1)
	used=$((used - ($(stat -c %b small/full 2>/dev/null || echo 0) + 1) / 2))
	head -c $(((total * $1 / 100 - used) * 1024)) /dev/zero >small/full
}

small_mount tmpfs 32 || fail 'no tmpfs'
noise $((16 << 20)) >img
FLEECEFS_TEST=$base "$FLEECEFS" -f -o store=small/s img mnt 2>log &
await mountpoint -q mnt || fail "not mounted: $(cat log)"
mkdir mnt/a
logged 0 'is used'
use 82
logged 1 '8[0-9]% of the file system of the store .* is used'
use 78 # less, and not enough less to be told again
use 84
use 96
logged 1 '9[0-9]% of the file system of the store .* is used'
logged 1 '8[0-9]% of the file system'
rm small/full
sleep 1.5 # a look of the daemon, which says nothing
use 83
logged 2 '8[0-9]% of the file system'
rm small/full

# a has 1 MiB, b has 2: whatever way they are merged, something is to be copied.
cp mnt/a/img first
live 0 $((1 << 20))
mkdir mnt/b
live $((4 << 20)) $((2 << 20))
mkdir mnt/c
cp mnt/.live/img third
fill
rmdir mnt/b
logged 1 'cannot merge level .*file system is full'
unfill
await_layers small/s 2
expect_ok a first
expect_ok c third
umount mnt
wait
small_umount
