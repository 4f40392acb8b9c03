#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Times tell nothing on a machine that others use too; instructions do. callgrind counts those of each
# kind of operation of tests/instructions.c, in user space; tests/instructions.txt has what they were when
# somebody last agreed to it, and more than a tenth above that fails. An operation that got that much
# cheaper fails too: then write the new figures down, `tests/instructions.sh record` does that; but not
# with another compiler than they are of, which may be the better one.

set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$here/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

recorded=$here/instructions.txt
program=$top_builddir/tests/instructions

need valgrind
case "$(uname -m) $(${CC:-gcc} --version | head -n 1) ${TEST_COMPILE:-}" in
*fsanitize*) skip 'sanitizers have instructions of their own' ;;
x86_64*gcc*-O2*) ;;
*) skip 'not built for x86_64 by gcc -O2, as what the figures are of' ;;
esac
in_memory
setup_directory

mkdir disk
valgrind --tool=callgrind --collect-atstart=no --toggle-collect='work_*' \
	--callgrind-out-file=counts "$program" "$PWD/disk" 2>valgrind.log ||
	fail "$(tail -n 20 valgrind.log)"
callgrind_annotate --inclusive=yes --threshold=100 --auto=no counts |
	sed -n 's/^ *\([0-9,]*\) .*:work_\([a-z_]*\).*/\2 \1/p' | tr -d , |
	awk '{ print $1, int($2 / 1000 + 0.5) }' | sort >now # for an operation
echo "gcc $(${CC:-gcc} -dumpversion | cut -d . -f 1)" >>now
if [ "${1:-}" = record ]; then
	cp now "$recorded"
fi
awk 'NR == FNR { old[$1] = $2; next }
	$1 == "gcc" { next }
	{
		verdict = !($1 in old) ? "not recorded" : $2 > old[$1] * 1.1 ? "MORE" : \
			$2 < old[$1] * 0.9 && same_gcc ? "LESS: record it" : ""
		bad += verdict != ""
		seen[$1] = 1
		printf "%-20s %8d  %8d  %s\n", $1, $2, old[$1], verdict
	}
	END {
		for (work in old)
			if (!(work in seen) && work != "gcc") {
				print work, "was not measured"
				bad++
			}
		exit bad > 0
	}' same_gcc="$(grep -cxF "$(grep '^gcc ' now)" "$recorded")" "$recorded" now || fail 'instructions for an operation: now, recorded'
