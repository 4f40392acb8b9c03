#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Backup programs can trust the times: a disk that was not written has the same size and times in
# two snapshots, and the same size and modification time mean the same bytes, however fast writes
# and snapshots follow each other.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

in_memory
setup
noise 50003 >a.img
noise 50003 >b.img
touch -d '2021-03-04 05:06:07.123456789' a.img b.img
mkdir mnt

times () {
	stat -c '%Y %y %z %s' "$1" || fail "stat $1"
}

mount_fleecefs -o store=store,max-snapshots=300 a.img b.img mnt

# A disk has the time of its image until it is written.
mkdir mnt/1 || fail 'mkdir'
[ "$(stat -c %y mnt/1/a.img)" = '2021-03-04 05:06:07.123456789 +0000' ] ||
	fail "an unwritten disk has $(stat -c %y mnt/1/a.img)"
start=$(date +%s.%N)
printf x | dd of=mnt/.live/a.img conv=notrunc status=none
mkdir mnt/2 || fail 'mkdir'
end=$(date +%s.%N)
mkdir mnt/3 || fail 'mkdir'
[ "$(times mnt/1/b.img)" = "$(times mnt/2/b.img)" ] || fail 'a disk that was not written differs'
[ "$(times mnt/2/a.img)" = "$(times mnt/3/a.img)" ] || fail 'it was not written after 2'
[ "$(times mnt/1/a.img)" != "$(times mnt/2/a.img)" ] || fail 'a write left no trace in the times'
for what in Y Z; do
	# The kernel's clock of files lags by a tick.
	awk -v a="$start" -v b="$end" -v t="$(stat -c "%.9$what" mnt/2/a.img)" \
		'BEGIN { exit !(a - 0.02 <= t && t <= b) }' || fail "%$what of 2/a.img is not the write's"
done
[ mnt/.live/a.img -nt mnt/1/a.img ] || fail 'the time of the live disk stands still'

# The directory has the moment of the snapshot.
awk -v a="$start" -v b="$end" -v t="$(stat -c %.9Y mnt/2)" \
	'BEGIN { exit !(a - 0.02 <= t && t <= b) }' || fail 'the time of 2 is not that of its mkdir'

# As fast as can be, every write different, sometimes none.
exec {live}<>mnt/.live/a.img
for ((i = 100; i < 200; i++)); do
	[ $((RANDOM % 4)) = 0 ] || printf '%d' "$i" >&"$live"
	mkdir "mnt/$i" || fail "mkdir of $i"
done
# And writes that are in flight when the snapshot is made.
while :; do
	printf '%d ' "$((i++))" >&"$live" || break
done 2>/dev/null &
writer=$!
for ((i = 200; i < 260; i++)); do
	mkdir "mnt/$i" || fail "mkdir of $i"
done
kill "$writer"
wait "$writer" 2>/dev/null
exec {live}>&-

# One line for each time and contents; the same time must not be there with other contents.
paste -d ' ' <(stat -c '%s %y' mnt/*/a.img) <(sha256sum mnt/*/a.img | cut -c 1-64) | sort -u >seen
[ "$(wc -l <seen)" -gt 50 ] || fail 'the writes did not come through'
cut -d ' ' -f 1-4 seen | uniq -d >twice
[ ! -s twice ] || fail "equal size and time, other bytes: $(grep -Ff twice seen)"

stat -c '%n %Y %y %z %s' mnt/*/ mnt/*/*.img mnt/.live/*.img >before
unmount mnt
mount_fleecefs -o store=store,max-snapshots=300 a.img b.img mnt
stat -c '%n %Y %y %z %s' mnt/*/ mnt/*/*.img mnt/.live/*.img >after
diff before after || fail 'times differ after a remount'

# A write right after the remount moves the time on.
mkdir mnt/x || fail 'mkdir'
[ "$(times mnt/x/a.img)" = "$(stat -c '%Y %y %z %s' mnt/.live/a.img)" ] || fail 'x is not the live one'
patch mnt/.live/a.img 0 1
mkdir mnt/y || fail 'mkdir'
[ mnt/y/a.img -nt mnt/259/a.img ] || fail "a write after the remount has $(times mnt/y/a.img)"
unmount mnt

# Before 1970 the fraction of a second counts forward, too.
noise 50003 >old.img
touch -d '1969-12-31 23:59:58.25 UTC' old.img
mount_fleecefs old.img mnt
mkdir mnt/x || fail 'mkdir'
for file in old.img mnt/x/old.img mnt/.live/old.img; do
	[ "$(stat -c %.9Y "$file")" = -1.750000000 ] || fail "$file is of $(stat -c %y "$file")"
done
unmount mnt
mount_fleecefs old.img mnt
[ "$(stat -c %.9Y mnt/x/old.img)" = -1.750000000 ] || fail "then of $(stat -c %y mnt/x/old.img)"
unmount mnt
echo 'equal size and time mean equal bytes'
