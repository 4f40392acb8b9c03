#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# mv gives a snapshot another name and changes nothing else; it never replaces a snapshot, and
# takes none out of the directory.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need perl
setup

# exchange A B: prints why it fails.
cat >exchange.c <<'END'
#define _GNU_SOURCE
#include <stdio.h>
int
main (int argc, char **argv)
{
  if (argc != 3 || renameat2 (-100, argv[1], -100, argv[2], RENAME_EXCHANGE) == 0)
    return 0;
  perror ("exchange");
  return 1;
}
END
# shellcheck disable=SC2086 # a command with options
${CC:-cc} -o exchange exchange.c 2>errors || skip "no C compiler that works: $(cat errors)"

mkdir m other
head -c 64K /dev/urandom >a.img
cp a.img old.img
mount_fleecefs a.img m
mkdir m/monday
head -c 4096 /dev/urandom | dd of=m/.live/a.img conv=notrunc status=none
mkdir m/tuesday

# seen NAME: what mv must not change.
seen () {
	stat -c '%i %s %y %z %u %g %a' "m/$1" "m/$1/a.img"
	sha256sum <"m/$1/a.img"
}

seen monday >before
exec {file}<m/monday/a.img
mv -T m/monday m/renamed || fail 'cannot rename'
[ "$(ls m)" = $'renamed\ntuesday' ] || fail "the listing: $(ls m)"
seen renamed >after
same before after
cmp old.img - <&"$file" || fail 'what was open does not read on'
exec {file}<&-

denied 'File exists' rename m/renamed m/tuesday
denied 'No such file or directory' rename m/missing m/new
denied 'Invalid argument' rename m/renamed m/.live/new
denied 'Invalid argument' ./exchange m/renamed m/tuesday
denied 'Read-only file system' rename m/tuesday/a.img m/new
rename m/renamed m/renamed || fail 'a rename to the same name'
[ "$(ls m)" = $'renamed\ntuesday' ] || fail "a rename that was refused did something: $(ls m)"
seen renamed >after
same before after
same m/tuesday/a.img m/.latest/a.img

unmount m
mount_fleecefs a.img m
seen renamed >after
same before after
# The old name is free.
mkdir m/monday || fail 'the old name is not free'
same a.img m/monday/a.img
unmount m
