#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0-or-later
#
# full-random.pl SECONDS SEED POLICY: random writes, snapshots, removals and readings on mnt, while a
# second process fills and empties the file system small, on which the store is. The whole disk as
# it should be is in memory, and so is each snapshot. Prints what was done; dies at the first byte
# that is wrong.

use strict;
use warnings;
use Errno qw(ENOSPC EDQUOT EIO);

use constant SIZE => 8 << 20;

my ($seconds, $seed, $policy) = @ARGV;
my $end = time + $seconds;

srand $seed;
my $filler = fork // die "fork: $!\n";
if (!$filler) {
	srand $seed + 1;
	while (time < $end) {
		open my $file, '>', 'small/filler' or next;
		my $n = 64 * int rand 400;
		for (1 .. $n) {
			last unless syswrite $file, 'x' x 4096;
		}
		close $file;
		select undef, undef, undef, rand 0.05;
		unlink 'small/filler' if rand () < 0.7;
	}
	unlink 'small/filler';
	exit 0;
}

open my $live, '+<', 'mnt/.live/img' or die "open: $!\n";
binmode $live;
sysread ($live, my $disk, SIZE) == SIZE or die "read: $!\n";
my (%snapshots, %n);
my $number = 0;

sub state_of {
	my $name = shift;
	my $state = `getfattr -n user.fleecefs.state --only-values mnt/$name 2>/dev/null`;
	die "no state of $name\n" if $state eq '';
	return $state;
}

sub check {
	my $name = shift;
	my $offset = 4096 * int rand SIZE / 4096;
	my ($n, $bytes);
	if (open my $file, '<', "mnt/$name/img") {
		binmode $file;
		sysseek $file, $offset, 0;
		$n = sysread $file, $bytes, 1 << 20;
	}
	if (!defined $n) {
		die "$name: $!\n" unless $! == EIO;
		my $state = state_of ($name);
		die "$name gives EIO and is $state\n" unless $state =~ /^broken: /;
		die "$name is $state\n" if $policy eq 'break-guest-write';
		$n{broken}++;
		return;
	}
	die "$name has wrong bytes at $offset\n"
		unless $bytes eq substr $snapshots{$name}, $offset, $n;
	$n{right}++;
}

while (time < $end) {
	my $what = rand;
	my @names = sort keys %snapshots;
	if ($what < 0.7) {
		my $offset = 512 * int rand ((SIZE - (128 << 10)) / 512);
		my $bytes = pack ('N', int rand 1 << 32) x (128 * (1 + int rand 255));
		sysseek $live, $offset, 0;
		my $n = syswrite $live, $bytes;
		if (!defined $n) {
			die "a write fails: $!\n" if $policy eq 'break-snapshot' || $! != ENOSPC;
			$n{refused}++;
		} else {
			substr ($disk, $offset, $n) = substr $bytes, 0, $n;
			$n{written}++;
		}
	} elsif ($what < 0.78 && @names < 6) {
		my $name = 's' . ++$number;
		if (mkdir "mnt/$name") {
			$snapshots{$name} = $disk;
			$n{made}++;
		} else {
			die "mkdir: $!\n" unless $! == ENOSPC;
			$n{'not made'}++;
		}
	} elsif ($what < 0.84 && @names) {
		my $name = $names[rand @names];
		rmdir "mnt/$name" or die "rmdir: $!\n";
		delete $snapshots{$name};
		$n{removed}++;
	} elsif (@names) {
		check ($names[rand @names]);
	}
}
waitpid $filler, 0;
sysseek $live, 0, 0;
sysread ($live, my $now, SIZE) == SIZE or die "read: $!\n";
die "the live disk is wrong\n" unless $now eq $disk;
for my $name (keys %snapshots) {
	check ($name) for 1 .. 20;
	open my $file, '>', "truth-$name" or die;
	print $file $snapshots{$name};
	close $file or die;
}
print join (', ', map { "$n{$_} $_" } sort keys %n), "\n";
