#!/usr/bin/env perl
# SPDX-License-Identifier: GPL-2.0-or-later
#
#	synced-check.pl REPORT BEFORE AFTER DIRECTORY [SECOND]
#
# Is in DIRECTORY what tests/synced-load.sh had synced? REPORT is what it said, BEFORE how many rounds
# it had reported before the snapshot began to be made, AFTER how many when it was made. All of
# round BEFORE must be there, and nothing of a round after AFTER + 1, which may have been under way;
# of every file one state at a time, whole. Of two disks the second has what the first has, or lacks
# the last record of it.

use strict;
use warnings;
use Digest::MD5;

my $SLOTS = 64;

my ($report, $before, $after, $dir, $second) = @ARGV;

sub wrong { print "@_\n"; exit 1; }

sub contents {
    my ($name) = @_;
    open my $file, '<:raw', $name or wrong "cannot open $name: $!";
    local $/;
    my $all = <$file>;
    defined $all or wrong "cannot read $name: $!";
    return $all;
}

# The number that a text is full of, which must be of a round from $first on.
sub number {
    my ($what, $text, $first) = @_;
    my ($n) = $text =~ /^(\d{7})\n/ or wrong "$what begins with no number";
    $text eq "$n\n" x 512 or wrong "$what is torn";
    $n >= $first or wrong "$what is of round $n, but $first was synced";
    $n <= $after + 1 or wrong "$what is of round $n, but the snapshot was made in or before ", $after + 1;
    return $n + 0;
}

sub records {
    my ($name) = @_;
    my $text = $before == 0 && !-e $name ? '' : contents($name);
    my $n = length($text) / 8;
    $text eq join '', map { sprintf "%07d\n", $_ } 1 .. $n or wrong "$name is not the numbers from 1 on";
    $n >= $before or wrong "$name ends with $n, but $before was synced";
    $n <= $after + 1 or wrong "$name ends with $n, but the snapshot was made in or before ", $after + 1;
    return $n;
}

my $n = records("$dir/records");
if (defined $second) {
    my $skew = $n - records("$second/records");
    $skew == 0 || $skew == 1 or wrong "the first disk has $skew records more than the second";
}

my $slots = contents("$dir/slots");
length($slots) == $SLOTS * 4096 or wrong 'slots has ', length($slots), ' bytes';
for my $i (0 .. $SLOTS - 1) {
    my $slot = substr $slots, $i * 4096, 4096;
    my $first = $before - ($before - $i) % $SLOTS;
    next if $first <= 0 && $slot eq "\0" x 4096;
    number("slot $i", $slot, $first) % $SLOTS == $i or wrong "slot $i is that of another";
}

number('now', contents("$dir/now"), $before) if $before > 0;

my $n_kept = 0;
open my $lines, '<', $report or wrong "cannot open $report: $!";
while (<$lines>) {
    my ($round, $sum) = /load: synced (\d+) ([0-9a-f]{32})/ or next;
    next if $round > $before;
    Digest::MD5::md5_hex(contents("$dir/keep-$round")) eq $sum or wrong "keep-$round has other bytes";
    $n_kept++;
}
# Rounds are not reported but by what this reads.
$n_kept == int($before / 3) or wrong "$n_kept of the files of $before rounds were reported";
