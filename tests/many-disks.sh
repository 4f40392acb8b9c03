#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# All disks are frozen at one instant: of records that are written to one disk after the other, a
# snapshot never has a later one without those before it.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

in_memory
setup
mkdir mnt
# A disk is a column of lines of 64 bytes. Of each the writer fills the next line with its number.
LINES=65536
blank=$(printf '%063d' 0)
yes "$blank" | head -n $LINES >a.img
cp a.img b.img
cp a.img c.img

mount_fleecefs -o store=store a.img b.img c.img mnt

(
	exec {a}<>mnt/.live/a.img {b}<>mnt/.live/b.img {c}<>mnt/.live/c.img
	n=1
	while [ $n -lt $LINES ]; do
		printf -v line '%063d\n' $n
		printf '%s' "$line" >&"$a"
		printf '%s' "$line" >&"$b"
		printf '%s' "$line" >&"$c"
		n=$((n + 1))
	done
	echo "all of $LINES lines were used up" >end
) 2>errors &
writer=$!

# The number in the last line that was written: all up to it must be there.
last () {
	awk -v n="$LINES" '
		$0 + 0 == 0 { exit }
		$0 + 0 != NR { print "line", NR, "is", $0; exit }
		{ last = NR }
		END { print last + 0 }' "$1"
}

previous=0
has_moved_on () {
	[ "$(last mnt/.live/a.img)" -gt "$previous" ]
}

n_between=0
for round in $(seq 50); do
	await has_moved_on || fail "nothing was written until $round"
	mkdir "mnt/$round" || fail 'mkdir'
	a=$(last "mnt/$round/a.img")
	b=$(last "mnt/$round/b.img")
	c=$(last "mnt/$round/c.img")
	if [ "$a" -lt "$b" ] || [ "$b" -lt "$c" ] || [ $((a - c)) -gt 1 ]; then
		fail "snapshot $round has records up to $a, $b, $c"
	fi
	[ "$a" = "$c" ] || n_between=$((n_between + 1))
	previous=$a
	echo "$a $b $c" >"seen-$round"
done
kill "$writer" 2>/dev/null || fail "the writer has ended: $(cat end errors)"
wait "$writer" 2>/dev/null

# The same at the end, and with all disks in one snapshot.
for round in $(seq 50); do
	echo "$(last "mnt/$round/a.img") $(last "mnt/$round/b.img") $(last "mnt/$round/c.img")" >now
	same now "seen-$round"
done
[ "$(echo mnt/50/*)" = 'mnt/50/a.img mnt/50/b.img mnt/50/c.img' ] || fail "files:" mnt/50/*
unmount mnt
echo "50 snapshots of three disks, $n_between of them between two writes, are each of one instant"
