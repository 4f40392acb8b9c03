#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Readers of a snapshot that are stopped in mid-file, more of them than threads, hold up neither
# guests nor mkdir and rmdir, also of that snapshot. Once they go on they read what it was, and its
# space comes back when they have ended.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need perl
in_memory
setup
mkdir mnt
noise $((4 << 20)) >img
cp img first
mount_fleecefs -o threads=4,store=store img mnt
mkdir mnt/kept mnt/gone

is_stopped () {
	[[ $(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status") = T* ]]
}

# It stops itself after the first bytes, and compares the rest.
cat >reader.pl <<'END'
use strict; use warnings;
my ($seen, $true);
open(my $file, "<:raw", $ARGV[0]) or die "open: $!\n";
open(my $first, "<:raw", "first") or die "first: $!\n";
for (my $n = 0; ; $n++) {
	my $got = sysread($file, $seen, 65536) // die "read: $!\n";
	sysread($first, $true, 65536) // die "first: $!\n";
	$seen eq $true or die "other bytes in block $n\n";
	last if !$got;
	kill STOP => $$ if $n == 0;
}
END
readers=()
for i in 1 2 3 4 5 6 7 8; do
	perl reader.pl mnt/gone/img 2>>errors &
	readers+=($!)
done
# And one that stands still because nobody takes what it has read.
mkfifo pipe
exec {both}<>pipe
cat mnt/gone/img >pipe &
cat=$!
for pid in "${readers[@]}"; do
	await is_stopped "$pid" || fail "a reader does not stop: $(cat errors)"
done

for i in 1 2 3 4 5 6 7 8; do
	patch mnt/.live/img $((i * 262144)) 65536
	mkdir "mnt/s$i" || fail "mkdir $i"
done
rmdir mnt/gone || fail 'rmdir of what is being read'
for i in 1 2 3 4 5 6 7 8; do
	rmdir "mnt/s$i" || fail "rmdir $i"
	patch mnt/.live/img $((i * 262144 + 65536)) 65536
done
await_layers store 2
frozen mnt/kept/img first

kill -CONT "${readers[@]}"
for pid in "${readers[@]}"; do
	wait "$pid" || fail "a reader: $(cat errors)"
done
has_layers store 2 || fail 'the snapshot is gone while cat has it open'
head -c $((4 << 20)) <&"$both" | cmp - first || fail 'cat read other bytes'
wait "$cat" || fail 'cat'
await_layers store 1
frozen mnt/kept/img first
unmount mnt
