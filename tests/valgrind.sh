#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The engine's forced races, and the base it stands on, under valgrind: no read of what was
# never written or is gone, nothing lost. The other test programs run under the sanitizers
# (./bootstrap check --enable-sanitizers=...).

set -u
: "${top_builddir:?}"

command -v valgrind >/dev/null || { echo 'skipped: valgrind is not installed'; exit 77; }
case $(nm "$top_builddir/tests/test-race" 2>/dev/null) in
*__asan_init* | *__tsan_init*) echo 'skipped: valgrind does not run what is built with a sanitizer'; exit 77 ;;
esac

export CK_FORK=no CK_DEFAULT_TIMEOUT=0
for program in test-base test-race; do
	timeout 300 valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
		"$top_builddir/tests/$program" || { echo "FAIL: $program under valgrind: status $?"; exit 1; }
done
