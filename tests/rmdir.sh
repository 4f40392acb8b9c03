#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Any snapshot can be dropped, in use or not: rmdir returns at once, the others stay as they were,
# a file that is open can be read to its end, and the store gets its room back.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

MIB=1048576

in_memory
setup
noise $((16 * MIB)) >img
mkdir mnt

check () {
	local name

	for name; do
		frozen "mnt/$name/img" "truth-$name"
	done
	[ "$(echo mnt/*/)" = "$(printf 'mnt/%s/ ' "$@" | sed 's/ $//')" ] || fail "left:" mnt/*/
}

# expect_kib N: what is left in the store is that much, and little more for tables.
expect_kib () {
	local kib

	kib=$(store_kib img.fleece) || exit 1
	if [ "$kib" -lt "$1" ] || [ "$kib" -gt $(($1 + 2048)) ]; then
		fail "the store has $kib KiB, not a little over $1"
	fi
}

drop () {
	timeout 5 rmdir "$@" || fail "rmdir $* fails or takes 5 s"
}

# Seven snapshots, and 1 MiB saved in each that the next ones save too, and 1 MiB that only one
# has for all older ones.
mount_fleecefs img mnt
for name in 1 2 3 4 5 6 7; do
	cp mnt/.live/img "truth-$name"
	mkdir "mnt/$name" || fail "mkdir of $name"
	patch mnt/.live/img 4000 $MIB
	patch mnt/.live/img $((name * 2 * MIB + 4000)) $MIB
done
check 1 2 3 4 5 6 7
expect_kib $((14 * 1024))

# The oldest, one in the middle, the newest.
drop mnt/1
await_layers img.fleece 6
expect_kib $((12 * 1024))
check 2 3 4 5 6 7
drop mnt/4
await_layers img.fleece 5
expect_kib $((11 * 1024))
check 2 3 5 6 7
drop mnt/7
await_layers img.fleece 4
expect_kib $((10 * 1024))
check 2 3 5 6

# Two neighbours while they are read. What is read after that is right, too.
exec {open}<mnt/5/img {direct}<mnt/3/img
dd bs=64k count=20 status=none <&"$open" >read-5
drop mnt/3 mnt/5
[ "$(stat -L -c %s "/proc/self/fd/$open")" = $((16 * MIB)) ] || fail 'stat of a dropped file'
patch mnt/.live/img 0 $((16 * MIB))
cat <&"$open" >>read-5
dd iflag=direct bs=256k status=none <&"$direct" >read-3
same read-5 truth-5
same read-3 truth-3
check 2 6
exec {open}<&- {direct}<&-
await_layers img.fleece 2
check 2 6

# All at once, while one is written to, and names that are free can be used again.
cp mnt/.live/img truth-5
mkdir mnt/5 || fail 'mkdir of a name that was dropped'
until [ -e stop ]; do
	patch mnt/.live/img $((RANDOM * 480)) 70000
done &
writer=$!
mkdir mnt/8 mnt/9 || fail 'mkdir'
cp mnt/9/img truth-9
drop mnt/2
drop mnt/8 mnt/6
await_layers img.fleece 2
check 5 9
: >stop
wait "$writer" || fail 'the writer got an error'
check 5 9
drop mnt/9
check 5
drop mnt/5
await_layers img.fleece 0
[ "$(store_kib img.fleece)" -lt 64 ] || fail "an empty store has $(store_kib img.fleece) KiB"
unmount mnt
echo 'snapshots can be dropped anywhere, and their room comes back'
