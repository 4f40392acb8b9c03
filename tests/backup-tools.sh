#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Programs for backups and for images read snapshots as they should: those that know holes read only
# data, those that keep a catalogue do not read a disk again that was not written. The first word of
# the command line, if any, is the only one that is tried.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-copy.sh
. "$top_srcdir/tests/lib-copy.sh"

in_memory
setup
sparse_disk
cp --sparse=always img truth
export HOME=$tmp
tried=()
missing=()

# snapshot NAME: a new one, of which nothing is in any cache, and of the one moment.
snapshot () {
	mkdir "mnt/$1" || fail "mkdir of $1"
}

try_qemu-img () {
	snapshot convert
	reads_at_most "$LITTLE" qemu-img convert -f raw -O qcow2 mnt/convert/img copy
	is_sparse copy
	reads_at_most "$LITTLE" qemu-img compare -f raw -F qcow2 mnt/convert/img copy
	qemu-img compare -f qcow2 -F raw copy truth >output || fail "qemu-img compare: $(cat output)"
}

try_ddrescue () {
	snapshot ddrescue
	ddrescue -q -S mnt/ddrescue/img copy map || fail 'ddrescue'
	same copy truth
	is_sparse copy
}

try_bmaptool () {
	# Up to 3.6 at least it makes a file beside the image to see whether holes are told.
	bmaptool create -o map truth || skip 'bmaptool knows no holes here'
	snapshot bmaptool
	reads_at_most "$LITTLE" bmaptool copy --bmap map mnt/bmaptool/img copy
	same copy truth
	is_sparse copy
}

# The newest file of a run borg leaves out of its cache of files (its FAQ says why), so that it reads
# a single file again each time. A newer one beside it, stamp, helps. It finds holes only when it
# cuts into chunks of one size.
try_borg () {
	local create

	export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
	borg init -e none repo || fail 'borg init'
	touch stamp
	snapshot borg-1
	create=(borg create --sparse --chunker-params=fixed,1048576)
	reads_at_most "$LITTLE" "${create[@]}" repo::1 mnt/.latest stamp
	snapshot borg-2
	reads_at_most 65536 "${create[@]}" repo::2 mnt/.latest stamp
	snapshot borg-3
	reads_at_most "$LITTLE" "${create[@]}" --files-cache=disabled repo::3 mnt/.latest stamp
	mkdir out
	(cd out && borg extract --sparse ../repo::3) || fail 'borg extract'
	same out/mnt/.latest/img truth
	is_sparse out/mnt/.latest/img
	[ "$(du -sk repo | cut -f 1)" -lt 8192 ] || fail "the repository takes $(du -sk repo)"
}

try_restic () {
	export RESTIC_PASSWORD=secret
	restic -q -r repo init || fail 'restic init'
	snapshot restic-1
	restic -q -r repo backup mnt/.latest || fail 'restic backup'
	snapshot restic-2
	reads_at_most 65536 restic -r repo backup mnt/.latest
	grep -Eq '^Files: +0 new, +0 changed, +1 unmodified' output || fail "restic: $(cat output)"
	restic -q -r repo restore latest --sparse --target out >output 2>&1 ||
		restic -q -r repo restore latest --target out || fail 'restic restore'
	same "$(find out -name img)" truth
}

# A file system in the disk can be looked at.
try_debugfs () {
	need mkfs.ext4
	mkfs.ext4 -q -E nodiscard mnt/.live/img 64M || fail 'mkfs.ext4'
	noise 100000 >file
	debugfs -w -R 'write file file' mnt/.live/img >output 2>&1 || fail "debugfs: $(cat output)"
	snapshot debugfs
	reads_at_most "$LITTLE" debugfs -R 'dump file seen' mnt/debugfs/img
	same seen file
}

try_losetup () {
	local loop

	[ "$(id -u)" = 0 ] || return 0
	[ -e file ] || try_debugfs
	mkdir look
	loop=$(losetup --find --show --read-only mnt/debugfs/img 2>output) || return 0
	loops+=("$loop")
	mount -t ext4 -o ro,noload "$loop" look 2>output || fail "mount: $(cat output)"
	debugfs -w -R 'rm file' mnt/.live/img >output 2>&1 || fail "debugfs: $(cat output)"
	same look/file file
	umount look
	losetup -d "$loop"
	loops=()
}

for tool in ${1:-qemu-img ddrescue bmaptool borg restic debugfs losetup}; do
	if command -v "$tool" >/dev/null; then
		"try_$tool"
		rm -rf copy map repo out
		tried+=("$tool")
	else
		missing+=("$tool")
	fi
done
unmount mnt
[ ${#tried[@]} -gt 0 ] || skip "not installed: ${missing[*]}"
echo "read right: ${tried[*]}; not installed: ${missing[*]:--}"
