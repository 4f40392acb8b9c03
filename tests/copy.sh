#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The files of snapshots can be copied with what every system has, in every way to read a file, and
# who looks for holes reads only data.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-copy.sh
. "$top_srcdir/tests/lib-copy.sh"

need rsync
in_memory
setup
sparse_disk
calls=$top_builddir/tests/file-calls
[ -x "$calls" ] || skip 'tests/file-calls is not built'
cp --sparse=always img truth

# Blocks are those of the moment, also after the guest filled holes and made some, and after a
# remount; the file system is that of the store.
mkdir mnt/first || fail 'mkdir'
blocks=$(stat -c %b img)
[ "$(stat -c '%b %B' mnt/first/img)" = "$blocks 512" ] || fail "$(stat -c %b mnt/first/img) blocks, not $blocks"
[ "$(stat -c %b mnt/.latest/img)" = "$blocks" ] || fail 'other blocks in .latest'
patch mnt/.live/img $((20 << 20)) $((3 << 20))
fallocate -p -o 0 -l $((1 << 20)) mnt/.live/img || fail 'punch'
mkdir mnt/second || fail 'mkdir'
[ "$(stat -c %b mnt/first/img)" = "$blocks" ] || fail 'the blocks of a snapshot have changed'
[ "$(stat -c %b mnt/second/img)" = "$((blocks + (2 << 11)))" ] || fail "$(stat -c %b mnt/second/img) blocks in second"
unmount mnt
mount_fleecefs img mnt
pid=$(daemon_pid mnt)
[ "$(stat -c %b mnt/first/img)" = "$blocks" ] || fail 'the blocks have changed over a remount'
[ "$(stat -f -c '%b %S' mnt/first)" = "$(stat -f -c '%b %S' img.fleece)" ] || fail 'statfs is not of the store'

cp mnt/second/img truth-second
# One snapshot for each: what was read is in the kernel's cache. All are of one moment.
for name in auto always tar dd; do
	mkdir "mnt/$name" || fail 'mkdir'
done
reads_at_most "$LITTLE" cp --sparse=auto mnt/first/img copy
same copy truth
is_sparse copy
for name in auto always; do
	reads_at_most "$LITTLE" cp --reflink=auto --sparse="$name" "mnt/$name/img" copy
	same copy truth-second
	is_sparse copy
done
reads_at_most "$LITTLE" tar -S -cf copy.tar mnt/tar/img
is_sparse copy.tar
mkdir unpacked
tar -C unpacked -xf copy.tar || fail 'tar -x'
same unpacked/mnt/tar/img truth-second
is_sparse unpacked/mnt/tar/img
rm -r unpacked copy copy.tar
dd if=mnt/dd/img iflag=direct bs=1M status=none | cmp - truth-second || fail 'dd'

for name in sendfile mmap; do
	"$calls" "$name" mnt/second/img copy || fail "$name"
	same copy truth-second
	rm copy
done
# Into another file system not with every kernel; into the live disk it is a restore.
if "$calls" copy_file_range mnt/second/img copy >output; then
	same copy truth-second
else
	[ "$(cat output)" = 'copy_file_range: Invalid cross-device link' ] || fail "$(cat output)"
fi
rm copy
"$calls" copy_file_range mnt/first/img mnt/.live/img || fail 'copy_file_range to the live disk'
same mnt/.live/img truth
same mnt/second/img truth-second
mkdir mnt/third || fail 'mkdir'

# rsync: by size and time nothing is read of a disk that was not written; and it can update a copy
# in its place, which stays sparse.
mkdir backup
rsync -aS --modify-window=-1 mnt/.latest/ backup || fail 'rsync'
same backup/img truth
is_sparse backup/img
mkdir mnt/unwritten || fail 'mkdir'
reads_at_most 65536 rsync -a --modify-window=-1 --stats mnt/.latest/ backup
grep -qx 'Number of regular files transferred: 0' output || fail "rsync copies again: $(cat output)"
inode=$(stat -c %i backup/img)
patch mnt/.live/img $((130 << 20)) 5000
mkdir mnt/written || fail 'mkdir'
rsync -a --modify-window=-1 --inplace --no-whole-file --stats mnt/.latest/ backup >output || fail 'rsync --inplace'
same backup/img mnt/written/img
[ "$(stat -c %i backup/img)" = "$inode" ] || fail 'not in place'
literal=$(sed -n 's/^Literal data: \([0-9,]*\) bytes/\1/p' output)
[ "${literal//,/}" -le 1000000 ] || fail "rsync sends $literal bytes for 5000 that changed"
unmount mnt

# An image that grew after the snapshot, within the snapshot's last granule, which is a hole: who goes
# from data to hole and on comes to the end.
truncate -s $((6 * 65536 + 100)) grows
patch grows 0 4096
cp grows truth-grows
mount_fleecefs -o granule=64k grows mnt
mkdir mnt/before || fail 'mkdir'
patch mnt/.live/grows $((6 * 65536 + 8192)) 100
timeout "$PATIENCE" cp --sparse=auto mnt/before/grows copy || fail "cp: status $?"
same copy truth-grows
timeout "$PATIENCE" tar -S -cf copy.tar -C mnt/before grows || fail "tar: status $?"
unmount mnt
echo 'snapshots are copied, and only their data is read'
