#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# 64 writers and 64 readers, 100 snapshots, a mkdir and an rmdir every 10 ms: nobody starves, what
# is read is right, and the daemon takes no more threads, descriptors and memory than the manual
# says. Prints how long anything waited. OVERLOAD_SECONDS=60 (make overload) for figures.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

: "${OVERLOAD_SECONDS:=8}"

program=$(cd "$top_builddir" && pwd)/tests/overload
[ -x "$program" ] || skip "there is no $program, as configure found no libcheck"
[ "$(id -u)" != 0 ] || private_mounts "$@" # or who clones the mounts keeps the daemon from ending
in_memory
setup
mkdir mnt
truncate -s 32M img
mount_fleecefs -o threads=16,max-snapshots=101,store=store img mnt
FLEECEFS_TEST=$base timeout $((OVERLOAD_SECONDS + 120)) "$program" mnt img store "$(daemon_pid mnt)" \
	"$OVERLOAD_SECONDS" 16 || fail "overload: status $?"
unmount mnt
