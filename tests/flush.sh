#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a guest wants on disk gets there: fsync, fdatasync, and writes with O_SYNC, O_DSYNC or
# RWF_DSYNC, of blocks that are saved and of blocks that are not. The block device under the image gets
# a flush for each (the kernel counts them), and then has the bytes. Writing alone causes none. Then
# what reaches an image that is a file, call by call.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need python3
in_memory
setup
noise 1048576 >file
loop_device file
read -ra fields <"/sys/block/${loop#/dev/}/stat"
[ "${#fields[@]}" -ge 16 ] || skip 'this kernel does not count flushes'
mkdir mnt

n_flushes () {
	local fields

	read -ra fields <"/sys/block/${loop#/dev/}/stat"
	echo "${fields[15]}"
}

# check WHAT COMMAND...: the command makes what was written before it durable.
check () {
	local before offset=$((4096 * (RANDOM % 200)))

	before=$(n_flushes)
	noise 8192 >new
	dd if=new of=mnt/.live/disk bs=8192 seek="$offset" oflag=seek_bytes conv=notrunc \
		status=none || fail "write before $1"
	[ "$(n_flushes)" = "$before" ] || fail "a write alone makes the device flush"
	"${@:2}" || fail "$1"
	[ "$(n_flushes)" -gt "$before" ] || fail "$1 does not reach the device"
	dd if=file iflag=skip_bytes,count_bytes skip="$offset" count=8192 status=none | cmp - new ||
		fail "after $1 the bytes are not there"
}

# written N COMMAND...: the command writes "new" to the first blocks, and the device gets at least N
# flushes by that.
written () {
	local before n=$1

	before=$(n_flushes)
	noise 16384 >new
	"${@:2}" || fail "${*:2}"
	[ "$(n_flushes)" -ge $((before + n)) ] ||
		fail "${*:2}: $(($(n_flushes) - before)) flushes, not $n"
	dd if=file bs=16384 count=1 status=none | cmp - new || fail "after ${*:2} the bytes are not there"
}

# by_dd FLAGS
by_dd () {
	dd if=new of=mnt/.live/disk bs=4096 count=4 oflag="$1" conv=notrunc status=none
}

# by_call FLAGS CALL: FLAGS of open(2), CALL in the words of Python: of the file f and the bytes b.
by_call () {
	python3 -c 'import ctypes, os, sys
b = open("new", "rb").read()
f = os.open("mnt/.live/disk", os.O_RDWR | eval(sys.argv[1]))
def fallocate(mode):
    n = ctypes.c_long
    r = ctypes.CDLL(None, use_errno=True).fallocate(f, mode, n(1 << 19), n(4096))
    assert r == 0, os.strerror(ctypes.get_errno())
exec(sys.argv[2])' "$@"
}

for durability in process power; do
	mount_fleecefs -o "store=store-$durability,durability=$durability" "disk=$loop" mnt
	check fsync sync mnt/.live/disk
	check fdatasync sync -d mnt/.live/disk
	for flags in dsync sync direct,dsync direct,sync; do
		written 4 by_dd $flags # nothing is frozen
		mkdir mnt/a
		written 4 by_dd $flags # old blocks are saved first
		written 4 by_dd $flags # they are saved
		rmdir mnt/a
	done
	mkdir mnt/a
	for i in 1 2; do
		written 1 by_call 0 'os.pwritev(f, [b], 0, os.RWF_DSYNC)'
		written 1 by_call 0 'os.pwritev(f, [b], 0, os.RWF_SYNC)'
		written 2 by_call os.O_DSYNC 'os.pwrite(f, b, 0); fallocate(16)'
		written 2 by_call os.O_SYNC 'os.pwrite(f, b, 0); fallocate(16)'
	done
	before=$(n_flushes)
	by_call 0 'os.pwrite(f, b, 0); fallocate(16)' || fail 'plain calls'
	[ "$(n_flushes)" = "$before" ] || fail 'plain calls make the device flush'
	# Linux does not hand it on; the manual says so.
	sync -f mnt/.live/disk
	[ "$(n_flushes)" = "$before" ] || fail 'syncfs reaches the device: tell the manual'
	unmount mnt
done

# What it asks of a file, for each of these.
strace -o calls true 2>/dev/null || skip 'strace cannot watch a program'
noise 1048576 >img
FLEECEFS_TEST=$base strace -A -f -q -s 0 -e trace=pwrite64,pwritev2,fsync,fdatasync,ftruncate -o calls -P "$tmp/img" \
	-E ASAN_OPTIONS=detect_leaks=0 "$FLEECEFS" -f -o store=store disk=img mnt &
await mountpoint -q mnt || fail 'not mounted'

# asks REGEX FLAGS CALL: as by_call; the calls that come of it.
asks () {
	: >calls
	by_call "$2" "$3" || fail "$3"
	await grep -q . calls
	[[ $(sed 's/^[0-9]* *//; s/""[.]*/B/; s/ *= .*//' calls) =~ ^$1$ ]] || fail "$2, $3: $(cat calls)"
}

new='\[\.\.\.\], 1, 0'
asks 'pwrite64\([0-9]+, B, 16384, 0\)' 0 'os.pwrite(f, b, 0)'
asks "pwritev2\\([0-9]+, $new, RWF_DSYNC\\)" os.O_DSYNC 'os.pwrite(f, b, 0)'
asks "pwritev2\\([0-9]+, $new, RWF_SYNC\\)" os.O_SYNC 'os.pwrite(f, b, 0)'
asks "pwritev2\\([0-9]+, $new, RWF_DSYNC\\)" 0 'os.pwritev(f, [b], 0, os.RWF_DSYNC)'
asks "pwritev2\\([0-9]+, $new, RWF_SYNC\\)" 0 'os.pwritev(f, [b], 0, os.RWF_SYNC)'
asks 'fsync\([0-9]+\)' 0 'os.fsync(f)'
asks 'fdatasync\([0-9]+\)' 0 'os.fdatasync(f)'
asks 'pwrite64\([0-9]+, B, 16384, 1048576\)' os.O_APPEND 'os.write(f, b)'
asks 'pwrite64\([0-9]+, B, 16384, 1064960\)' 0 'os.pwritev(f, [b], 0, 16)' # RWF_APPEND
asks 'ftruncate\([0-9]+, 1048576\)' 0 'os.ftruncate(f, 1 << 20)'
asks 'pwrite64\([0-9]+, B, 3, 1\)' os.O_DIRECT 'os.pwrite(f, b[:3], 1)' # no alignment is needed

# refuses ERRNO CALL
refuses () {
	by_call 0 "import errno
try: $2
except OSError as e: assert e.errno == errno.$1, e
else: assert False" || fail "$2: not $1"
}
# The kernel has no way to hand these on.
refuses EOPNOTSUPP 'os.pwritev(f, [b], 0, os.RWF_NOWAIT)'
unmount_strace=$!
umount_any mnt || fail umount
wait $unmount_strace || fail "status $?"
