#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The daemon is killed at random moments, under load, and started again on the same disks and
# snapshots: nothing is lost, nothing is half there. See kill-torture.c.
#
#     KILLS=N       how often; 10
#     SEED=S        of an earlier run
#     KILL_DIR=DIR  works in there, and leaves all in it when something is wrong

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need_root
private_mounts "$@"
in_memory
setup
program=$top_builddir/tests/kill-torture
[ -x "$program" ] || skip 'without libcheck tests in C are not built'
[ -e "/proc/$$/task/$$/children" ] || skip 'this kernel does not list the children of a process'

arguments=(--program "$FLEECEFS" --kills "${KILLS:-10}" --dir "${KILL_DIR:-$tmp}")
[ ! -e /dev/loop-control ] || arguments+=(--loop)
[ -z "${SEED:-}" ] || arguments+=(--seed "$SEED")
FLEECEFS_TEST=$base "$program" "${arguments[@]}" || fail "kill-torture: status $?"
echo 'all is there after kills'
