#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# While the store's file system does not say what is free in it, or what a file takes, as one over a
# network that is down, more of those who ask for that than there are threads hold up no guest.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

MANY=4 # askers of each kind, and threads

need getfattr strace
need_root
private_mounts "$@"
in_memory
setup
mkdir mnt ctl
mount -t fusectl fusectl ctl 2>/dev/null || skip 'no fusectl'
noise 1048576 >img
mount_fleecefs -o "threads=$MANY" img mnt
mkdir mnt/a
pid=$(daemon_pid mnt)
connection=$(($(stat -c %d mnt) & 255))
ls -l mnt/.fleecefs mnt/.live >output # what has been looked up once is not again

# What looks at the store is not answered before strace ends.
strace -f -q -o calls -P "$tmp/img.fleece" -P "$tmp/img.fleece/snapshots/000001/img.qcow2" \
	-e trace=fstatfs,fstat,newfstatat -e inject=fstatfs,fstat,newfstatat:delay_enter=1000s \
	-p "$pid" 2>errors &
strace=$!
is_traced () {
	! kill -0 "$strace" 2>/dev/null || ! grep -q '^TracerPid:[^0-9]*0$' /proc/"$pid"/task/*/status
}
await is_traced || fail 'strace does not come'
kill -0 "$strace" 2>/dev/null || skip "strace cannot: $(cat errors)"

askers=()
ask () {
	"$@" >>answers 2>&1 &
	askers+=($!)
}
for ((i = 0; i < MANY; i++)); do
	ask stat -f mnt
	ask cat mnt/.fleecefs/status
	ask stat mnt/.fleecefs/metrics
	ask getfattr --only-values -n user.fleecefs.overlay-bytes mnt/a/img
done
are_waiting () {
	[ "$(cat "ctl/$connection/waiting")" -ge "$1" ]
}
await are_waiting $((3 * MANY)) || fail "they are not held up: $(cat ctl/*/waiting)"

guest () {
	dd if=mnt/.live/img of=/dev/null bs=64k count=4 iflag=direct status=none &&
		noise 4096 | dd of=mnt/.live/img bs=4k conv=notrunc oflag=direct status=none &&
		ls mnt/.fleecefs && : >guest
}
guest >output 2>&1 &
status=
await test -e guest || status="the guest hangs, too: $(cat output)"
kill "$strace"
[ -z "$status" ] || fail "$status"
for asker in "${askers[@]}"; do
	wait "$asker" || fail "an asker fails: $(cat answers)"
done
[ "$(grep -o 'store: ' answers | wc -l)" = "$MANY" ] || fail "the answers are: $(cat answers)"
unmount mnt
