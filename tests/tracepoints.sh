#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The tracepoints that the manual lists are in the program, with these arguments, and no others;
# without sys/sdt.h there are none.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need readelf
setup_directory

# Of each argument, what readelf says: bytes, with a minus sign if it can be negative.
declare -A size=([image]=8 [offset]=8 [length]=8 [zero]=8 [error]=-4 [snapshot]=4 [older]=4
	[removed]=4 [up]=-4)

# The manual's lines, as in .B copy_start (image, offset, length).
sed -n 's/^\.B \([a-z_]*\) (\(.*\))$/\1 \2/p' "$top_srcdir/man/fleecefs.8" |
	while read -r name arguments; do
		sizes=
		for argument in ${arguments//,/}; do
			sizes="$sizes ${size[$argument]:-unknown:$argument}"
		done
		echo "$name$sizes"
	done | sort >documented
[ "$(wc -l <documented)" -ge 13 ] || fail "the manual lists: $(cat documented)"

readelf -n "$FLEECEFS" >notes 2>errors || fail "readelf: $(cat errors)"
awk '$1 == "Provider:" { provider = $2 }
	$1 == "Name:" { name = $2 }
	$1 == "Arguments:" && provider == "fleecefs" {
		for (i = 2; i <= NF; i++) {
			sub(/@.*/, "", $i)
			name = name " " $i
		}
		print name
	}' notes | sort -u >built

if grep -qx '#define ENABLE_SDT 1' "$top_builddir/config.h"; then
	diff documented built || fail 'the manual (<) and the program (>) differ'
else
	[ ! -s built ] || fail "built without them, the program has: $(cat built)"
	skip 'built without tracepoints, for there is no sys/sdt.h'
fi
exit 0
