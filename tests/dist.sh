#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The tarball of make dist has every file below tests/ that the repository has, and no list of
# Makefile.am names a file twice.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need git make
setup_directory
[ -f "$top_builddir/Makefile" ] || skip "$top_builddir is not a build directory"

# words VARIABLE...: of Makefile.am, each in its line.
words () {
	# shellcheck disable=SC2016 # for make
	printf 'include Makefile\nwords:\n\t@printf "%%s\\n" %s\n' "$(printf '$(%s) ' "$@")" |
		env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -C "$top_builddir" -f - words ||
		fail "make does not tell $*"
}

# is_packed FILE: by itself, or in a directory that is packed whole.
is_packed () {
	local name=$1

	until grep -qxF "$name" packed; do
		[[ $name = */* ]] || return
		name=${name%/*}
	done
}

for list in library_files fs_files ctl_files c_tests test_programs shell_tests test_data; do
	twice=$(words "$list" | sort | uniq -d)
	[ -z "$twice" ] || fail "$list has several times: ${twice//$'\n'/ }"
done

if ! git -C "$top_srcdir" ls-files tests >tracked 2>errors || [ ! -s tracked ]; then
	skip "the sources are in no repository: $(cat errors)"
fi
words DISTFILES | sed "s|^$top_srcdir/||; s|^\(\.\./\)*||" >packed
while read -r file; do
	is_packed "$file" || fail "make dist leaves out $file"
done <tracked
echo 'make dist has all files of the tests'
