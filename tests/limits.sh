#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# At a limit there is an error, nothing is half made, and it goes on when there is room again: the
# number of snapshots, also of those that were removed and are still open; open files of snapshots;
# descriptors and address space of the daemon, which starts with them, or leaves all as it is.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need prlimit
in_memory
setup
mkdir mnt
noise 1048576 >img
cp img first
mount_fleecefs -o max-snapshots=3,store=store img mnt
pid=$(daemon_pid mnt)

for i in 1 2 3; do
	mkdir "mnt/$i" || fail 'mkdir'
done
denied 'Too many links' mkdir mnt/4
has_layers store 3 || fail 'the refused one left something'
rmdir mnt/2 mnt/3

# 2 * 3 + 16 levels in all. They stay while their files are open, and hold up no one else.
files=()
for ((i = 0; ; i++)); do
	mkdir mnt/open 2>errors || break
	[ $i -le 22 ] || fail 'no limit'
	exec {file}<mnt/open/img
	files+=("$file")
	rmdir mnt/open || fail 'rmdir'
	patch mnt/.live/img 0 4096
done
grep -q 'Too many links' errors || fail "$(cat errors)"
[ ${#files[@]} -ge 19 ] || fail "only ${#files[@]} open"
mv mnt/1 mnt/one || fail 'mv'
patch mnt/.live/img 8192 4096
for file in "${files[@]}"; do
	exec {file}<&-
done
await mkdir mnt/2 2>/dev/null || fail 'no room again'
rmdir mnt/2
await_layers store 1
frozen mnt/one/img first

# A thousand files are open at once; they cost the daemon no descriptors.
before=$(echo /proc/"$pid"/fd/* | wc -w)
perl -e '
	for (1 .. 1000) { open($f[$_], "<", "mnt/one/img") or die "open $_: $!\n" }
	for (1 .. 1000) { sysread($f[$_], $bytes, 4096) == 4096 or die "read $_: $!\n" }
	my @n = glob("/proc/$ARGV[0]/fd/*");
	@n <= $ARGV[1] + 16 or die scalar(@n) . " descriptors, not $ARGV[1]\n"' "$pid" "$before" ||
	fail 'a thousand opens'

# No descriptor for an overlay.
limit=$(prlimit --pid "$pid" --nofile --noheadings --output SOFT)
free=0
while [ -e "/proc/$pid/fd/$free" ]; do
	free=$((free + 1))
done
prlimit --pid "$pid" "--nofile=$free:" || fail 'prlimit'
denied 'Too many open files' mkdir mnt/two
denied 'Too many open files' rmdir mnt/one
patch mnt/.live/img 16384 4096
frozen mnt/one/img first
prlimit --pid "$pid" "--nofile=$limit:" || fail 'prlimit'
records=(store/snapshots/*/snapshot.ini store/snapshots/*/img.qcow2)
[ ${#records[@]} = 2 ] || fail "the refused one left: ${records[*]}"
mkdir mnt/two || fail 'no snapshot any more'
cp mnt/.live/img second

# No room for a thread's stack: those that are there do the work. A sanitizer's address space has no
# limit.
if [ -n "${SANITIZED:-}" ]; then
	unmount mnt
	exit 0
fi
size=$(awk '/^VmSize:/ { print $2 * 1024 }' "/proc/$pid/status")
prlimit --pid "$pid" "--as=$size:" || fail 'prlimit'
others=()
for i in 1 2 3 4 5 6 7 8; do
	timeout "$PATIENCE" cp mnt/one/img "copy-$i" 2>>errors &
	others+=($!)
done
for other in "${others[@]}"; do
	wait "$other"
done
prlimit --pid "$pid" --as=unlimited: || fail 'prlimit'
frozen mnt/one/img first
frozen mnt/two/img second
unmount mnt
mount_fleecefs -o max-snapshots=3,store=store img mnt
frozen mnt/one/img first
frozen mnt/two/img second
unmount mnt

# Ever more descriptors, up to those for the first overlays: what cannot be opened is not broken.
for ((n = 5; ; n++)); do
	refused 1 'Too many open files' prlimit "--nofile=$n:$n" \
		"$FLEECEFS" -o max-snapshots=3,store=store img mnt
	! grep -q 'cannot open the overlays' "$base/errors" || break
done
mount_fleecefs -o max-snapshots=3,store=store img mnt
frozen mnt/one/img first
frozen mnt/two/img second
unmount mnt

# A disk that grew beyond what qcow2 can have.
truncate -s 1M big.img
mount_fleecefs big.img mnt
if truncate -s 5P mnt/.live/big.img 2>errors; then
	denied 'File too large' mkdir mnt/x
	truncate -s 1M mnt/.live/big.img
	mkdir mnt/x || fail 'mkdir of a disk that is small again'
else
	grep -q 'File too large' errors || fail "$(cat errors)"
fi
unmount mnt
