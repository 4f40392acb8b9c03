#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A limit on the size of files (RLIMIT_FSIZE) is an error of the write that meets it, and not
# the end of the daemon.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"

setup
mkdir m
truncate -s 16M img
ulimit -S -f $((18 * 1024))
mount_fleecefs img m
ulimit -S -f unlimited 2>/dev/null || skip 'the limit cannot be raised again'
denied 'File too large' dd if=/dev/zero of=m/.live/img bs=4096 seek=5120 count=1 conv=notrunc status=none
dd if=/dev/zero of=m/.live/img bs=4096 count=1 conv=notrunc status=none || fail 'the live disk is gone'
unmount m
