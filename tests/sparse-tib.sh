#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A sparse disk of 1 TiB costs next to nothing: mounting and snapshots need little memory, and who
# looks for data in a snapshot finds it at once, and only what was there.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need perl
in_memory
setup
mkdir mnt
TIB=1099511627776
GIB=1073741824
live=mnt/.live/img
truncate -s "$TIB" img || skip 'no file of 1 TiB here'
patch img $((700 * GIB)) 65536

# data FILE: the ranges of data in it.
cat >data.pl <<'END'
use strict; use warnings; use Fcntl;
sysopen(my $file, $ARGV[0], O_RDONLY) or die "$ARGV[0]: $!\n";
for (my $end = 0; my $data = sysseek($file, $end, 3); ) { # SEEK_DATA
	$end = sysseek($file, $data, 4) or die "SEEK_HOLE after $data: $!\n";
	printf "%d+%d\n", $data, $end - $data;
	sysseek($file, $data, 0);
}
$!{ENXIO} or die "SEEK_DATA: $!\n";
END
data () {
	timeout 60 perl data.pl "$1" | tr '\n' ' '
}
[ "$(data img)" = "$((700 * GIB))+65536 " ] || skip "no holes here, or not as expected: $(data img)"

start=$(date +%s%N)
mount_fleecefs img mnt
echo "mounted in $((($(date +%s%N) - start) / 1000000)) ms"
mkdir mnt/x || fail 'mkdir'
for at in 0 300 699 700 1023; do
	patch "$live" $((at * GIB + 8192)) 4096
done
patch "$live" $((TIB - 5)) 5
mkdir mnt/y || fail 'mkdir'
fallocate -p -o $((699 * GIB)) -l $((4 * GIB)) "$live" || fail 'cannot punch 4 GiB'

# Ticks that the daemon has worked.
ticks () {
	awk '{ print $14 + $15 }' "/proc/$(daemon_pid mnt)/stat"
}
[ "$(stat -c %s mnt/x/img)" = "$TIB" ] || fail "a snapshot has $(stat -c %s mnt/x/img) bytes"
start=$(ticks)
[ "$(data mnt/x/img)" = "$((700 * GIB))+65536 " ] || fail "data in x: $(data mnt/x/img)"
expected="8192+4096 $((300 * GIB + 8192))+4096 $((699 * GIB + 8192))+4096 $((700 * GIB))+65536 "
expected+="$((1023 * GIB + 8192))+4096 $((TIB - 4096))+4096 "
[ "$(data mnt/y/img)" = "$expected" ] || fail "data in y: $(data mnt/y/img)"
[ "$(data mnt/.live/img | wc -w)" = 4 ] || fail "data in the live disk: $(data mnt/.live/img)"
spent=$((($(ticks) - start) * 1000 / $(getconf CLK_TCK)))
echo "three walks over 1 TiB took the daemon $spent ms of CPU"
dd if=mnt/x/img bs=64k skip=$((700 * 16384)) count=1 status=none >seen
dd if=mnt/y/img bs=64k skip=$((700 * 16384)) count=1 status=none >>seen
[ "$(tr -d '\0' <seen | wc -c)" -gt 130000 ] || fail 'the data before the punch is gone'
dd if="$live" bs=64k skip=$((700 * 16384)) count=1 status=none >seen
[ "$(tr -d '\0' <seen | wc -c)" = 0 ] || fail 'the punch is not there'

need_little_memory () {
	local kib

	kib=$(awk '$1 == "VmHWM:" { print $2 }' "/proc/$(daemon_pid mnt)/status")
	echo "the daemon took up to $kib KiB"
	[ "$kib" -gt 0 ] || fail 'no measure of memory'
	case $(nm "$FLEECEFS" 2>/dev/null) in
	*__asan_init* | *__tsan_init*) ;;
	*)
		[ "$kib" -lt 65536 ] || fail "the daemon took $kib KiB"
		[ "$spent" -lt 500 ] || fail "the daemon takes $spent ms of CPU to find holes"
		;;
	esac
}
need_little_memory
[ "$(store_kib img.fleece)" -lt 65536 ] || fail "the store takes $(store_kib img.fleece) KiB"

# A table of the newest overlay for each GiB, and one block of each is in use.
perl -e 'open(my $live, "+<", $ARGV[0]) or die "$ARGV[0]: $!\n";
	for my $at (0 .. 1023) {
		sysseek($live, $at << 30, 0) && syswrite($live, "x" x 4096) == 4096 or die "write: $!\n";
	}' "$live" || fail 'cannot write all over the disk'
unmount mnt
mount_fleecefs img mnt
need_little_memory
unmount mnt
echo 'a sparse disk of 1 TiB is cheap'
