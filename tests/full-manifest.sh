#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# On a store whose file system has no block and no inode left, snapshots can be renamed and removed,
# the unmount is clean, and the next start works; on tmpfs, ext4 and XFS, also with
# parent pointers, where a rename needs space.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-full.sh
. "$top_srcdir/tests/lib-full.sh"

need getfattr
need_root
private_mounts "$@"
in_memory
setup
mkdir mnt

clean_unmount () {
	unmount mnt
	grep -qx 'state=clean' small/s/fleecefs.ini || fail "$filesystem: not closed clean"
	if command -v qemu-img >/dev/null; then
		for overlay in small/s/snapshots/*/*.qcow2; do
			grep -aq . "$overlay" || continue
			qemu-img check -q "$overlay" >"$base/check" 2>&1 ||
				fail "$filesystem: qemu-img check $overlay: $(cat "$base/check")"
		done
	fi
}

start () {
	mount_fleecefs -o store=small/s img mnt
}

tried=
for filesystem in tmpfs ext4 xfs xfs-parent; do
	small_mount $filesystem || continue
	tried+=" $filesystem"
	noise $((8 << 20)) >img
	start
	cp img first
	mkdir mnt/a
	live 0 4096
	cp img second
	mkdir mnt/b mnt/c
	live 0 8192
	mkdir mnt/d
	unmount mnt
	start # with tables that are not in memory, and room that is not made
	fill

	if mkdir mnt/e 2>errors; then
		fail "$filesystem: a snapshot on a full store"
	fi
	grep -q 'No space left' errors || fail "$filesystem: mkdir: $(cat errors)"
	mv mnt/a mnt/a2 || fail "$filesystem: mv on a full store"
	mv mnt/a2 mnt/a || fail "$filesystem: a second mv on a full store"
	live $((4 << 20)) $((2 << 20))
	expect_broken d 'file system is full'
	rmdir mnt/d || fail "$filesystem: rmdir on a full store"
	clean_unmount

	fill # what the removal gave back
	start
	[ "$(ls mnt)" = $'a\nb\nc' ] || fail "$filesystem: after a new start: $(ls mnt)"
	rmdir mnt/b || fail "$filesystem: rmdir on a full store, again"
	mv mnt/c mnt/c2 || fail "$filesystem: mv on a full store, again"
	clean_unmount

	unfill
	start
	rmdir mnt/a mnt/c2 || fail "$filesystem: rmdir"
	await_layers small/s 0
	mkdir mnt/new || fail "$filesystem: mkdir when there is space again"
	cp img truth
	live 0 $((1 << 20))
	expect_ok new truth
	clean_unmount
	small_umount
done

# The same, call by call, in blocks of 1 KiB.
if [ -x "$top_builddir/tests/test-spare" ] && small_mount ext4; then
	tried+=' blocks'
	TMPDIR=$PWD/small "$top_builddir/tests/test-spare" >"$base/output" 2>&1 ||
		fail "small blocks: $(cat "$base/output")"
	small_umount
fi
echo "tried:$tried"
