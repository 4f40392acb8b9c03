#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Snapshots are made, renamed and dropped by several programs at once while others read and write:
# each gets what it asked for or a documented error, and what is left is what they say.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need perl
in_memory
setup
mkdir mnt
head -c 65536 /dev/zero | tr '\0' x >img
mount_fleecefs -o max-snapshots=20 img mnt
mkdir mnt/kept-{1..14}

# Names that only one program uses are kept in %mine: there an answer can be foretold, but for the
# limit. For shared names all documented answers will do. So many are kept that one program comes up
# to the limit by itself, whenever the others run.
cat >verbs.pl <<'END'
use strict; use warnings; use Errno qw(EEXIST EINVAL EMLINK ENOENT EPERM);
my ($me, $rounds) = @ARGV;
my (%mine, %count);
srand($me);
sub try {
	my ($what, $ok, @expected) = @_;
	my $errno = $ok ? 0 : $! + 0;
	grep { $errno == $_ } @expected or die "$what: errno $errno, not one of @expected\n";
	$count{$errno}++;
	return $errno == 0;
}
for (1 .. $rounds) {
	my ($x, $y) = map { "w$me-" . int(rand(8)) } 1, 2;
	my ($s, $t) = map { "shared-" . int(rand(4)) } 1, 2;
	my $verb = int(rand(9));
	if ($verb <= 2) {
		$mine{$x} = 1 if try("mkdir $x", mkdir("mnt/$x"), $mine{$x} ? EEXIST : (0, EMLINK));
	} elsif ($verb <= 4) {
		delete $mine{$x} if try("rmdir $x", rmdir("mnt/$x"), $mine{$x} ? 0 : ENOENT);
	} elsif ($verb == 5 && $x ne $y) {
		if (try("mv $x $y", rename("mnt/$x", "mnt/$y"),
				!$mine{$x} ? ENOENT : $mine{$y} ? EEXIST : 0)) {
			delete $mine{$x};
			$mine{$y} = 1;
		}
	} elsif ($verb == 6) {
		try("mkdir $s", mkdir("mnt/$s"), 0, EEXIST, EMLINK);
		try("mv $s $t", rename("mnt/$s", "mnt/$t"), 0, EEXIST, ENOENT) if $s ne $t;
	} elsif ($verb == 7) {
		try("rmdir $s", rmdir("mnt/$s"), 0, ENOENT);
	} else {
		try("mkdir .x", mkdir("mnt/.x"), EINVAL);
		try("rmdir .live", rmdir("mnt/.live"), EPERM);
	}
}
$count{$_} or die "errno $_ never came\n" for 0, EEXIST, ENOENT, EMLINK;
print map { "$_\n" } sort keys %mine;
END

# One write fills the whole disk with one letter, so any file of a snapshot has only one.
cat >writer.pl <<'END'
use strict; use warnings; use Fcntl;
sysopen(my $live, "mnt/.live/img", O_WRONLY) or die "live: $!\n";
for (my $n = 0; ! -e "stop"; $n++) {
	sysseek($live, 0, 0);
	syswrite($live, chr(97 + $n % 26) x 65536) == 65536 or die "write: $!\n";
}
END
cat >reader.pl <<'END'
use strict; use warnings; use Errno qw(ENOENT ESTALE);
my $n = 0;
until (-e "stop") {
	opendir(my $top, "mnt") or die "readdir: $!\n";
	for my $name (grep { !/^\./ } readdir $top) {
		my ($file, $bytes);
		if (!open($file, "<:raw", "mnt/$name/img")) {
			next if $! == ENOENT || $! == ESTALE;
			die "open $name: $!\n";
		}
		my $read = sysread($file, $bytes, 100000);
		defined $read or die "read $name: $!\n";
		$read == 65536 or die "$name has $read bytes\n";
		$bytes eq substr($bytes, 0, 1) x 65536 or die "$name is of two moments\n";
		$n++;
	}
}
$n > 0 or die "nothing was read\n";
END

others=()
for program in writer reader reader; do
	perl "$program.pl" 2>>errors &
	others+=($!)
done
workers=()
for i in 1 2 3 4; do
	perl verbs.pl "$i" 300 >"record-$i" 2>>errors &
	workers+=($!)
done
for pid in "${workers[@]}"; do
	wait "$pid" || fail "$(cat errors)"
done
: >stop
for pid in "${others[@]}"; do
	wait "$pid" || fail "$(cat errors)"
done

ls mnt >listed
[ "$(wc -l <listed)" -le 20 ] || fail "more than 20: $(cat listed)"
{ printf '%s\n' kept-{1..14} && cat record-*; } | sort >expected
grep -v '^shared-' listed | diff expected - || fail 'the listing (>) is not what was done (<)'
(cd mnt && stat -c '%n %i %z' -- * && sha256sum -- */img) >before
unmount mnt
mount_fleecefs -o max-snapshots=20 img mnt
(cd mnt && stat -c '%n %i %z' -- * && sha256sum -- */img) >after
diff before after || fail 'differs after a remount'
unmount mnt
echo 'programs that make and drop snapshots at once do not disturb each other'
