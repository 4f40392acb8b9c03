#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -o io_uring: where libfuse or the kernel has no io_uring for FUSE, or has it switched off, one line
# says so. Else requests come by it or the log says that they do not, and bytes are right both ways.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=lib-data.sh source-path=SCRIPTDIR
. "$top_srcdir/tests/lib-data.sh"
private_mounts "$@"
in_memory
setup

switch=/sys/module/fuse/parameters/enable_uring
mkdir m
noise $((4 << 20)) >img

# kernel_says VALUE: to fleecefs.
kernel_says () {
	echo "$1" >"$base/switch"
	mount --bind "$base/switch" "$switch" || skip "$switch cannot be covered"
}

# It is asked before the kernel.
if "$FLEECEFS" -o io_uring,nonsense img m 2>&1 | grep -q io_uring; then
	refused 2 "unknown option.*io_uring" "$FLEECEFS" -o io_uring img m
	echo 'this libfuse does not know the option'
	exit 0
fi
if [ ! -e "$switch" ]; then
	refused 1 'no io_uring for FUSE.*6\.14' "$FLEECEFS" -o io_uring img m
	exit 0
fi
kernel_says N
refused 1 "io_uring is switched off for FUSE; run: echo Y >$switch" "$FLEECEFS" -o io_uring img m
umount "$switch"
[ "$(cat "$switch")" = Y ] || kernel_says Y

# Two threads: few, so that requests are queued.
cp img first
FLEECEFS_TEST=$base "$FLEECEFS" -f -o io_uring,threads=2,store=s img m 2>log &
daemon=$!
await mountpoint -q m || fail "does not mount: $(cat log)"
mkdir m/a
others=()
for ((i = 0; i < 16; i++)); do
	noise 262144 >"new-$i"
	dd if="new-$i" of=m/.live/img bs=64k seek=$((4 * i)) oflag=direct conv=notrunc status=none &
	others+=($!)
	dd if=m/a/img of="part-$i" bs=64k skip=$((4 * i)) count=4 iflag=direct status=none &
	others+=($!)
done
for other in "${others[@]}"; do
	wait "$other" || fail 'dd'
done
cat part-{0..9} part-1{0..5} | cmp - first || fail 'a reader beside writers got other bytes'
frozen m/a/img first
cat new-{0..9} new-1{0..5} | cmp - m/.live/img || fail 'the live disk is not what was written'
if cat "/proc/$daemon/task"/*/comm | grep -q '^fuse-ring'; then
	way='by io_uring'
	[ ! -s log ] || fail "requests come $way, and the log has: $(cat log)"
else
	way='by /dev/fuse'
	grep -q 'requests come by /dev/fuse, not by io_uring' log || fail "the log does not say: $(cat log)"
fi
umount m || fail 'umount'
wait "$daemon" || fail "the daemon: status $?: $(cat log)"
grep -qx 'state=clean' s/fleecefs.ini || fail 'not closed clean'
cat new-{0..9} new-1{0..5} | cmp - img || fail 'the image is not the live disk'
echo "requests came $way"
