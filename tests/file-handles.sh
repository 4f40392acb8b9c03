#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A file handle (name_to_handle_at(2), NFS) of a snapshot's file leads to it as long as the
# snapshot is there, also when the kernel has forgotten it and after a remount.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need_root
in_memory
setup
calls=$top_builddir/tests/file-calls
[ -x "$calls" ] || skip 'tests/file-calls is not built'
noise 300001 >img
cp img truth
mkdir mnt
mount_fleecefs img mnt
mkdir mnt/a || fail 'mkdir'
names=(a/img .latest/img .live/img)
handles=()
for name in "${names[@]}"; do
	handle=$("$calls" handle "mnt/$name")
	case $? in
	0) handles+=("$handle") ;;
	77) skip "$handle" ;;
	*) fail "$handle" ;;
	esac
done
directory=$("$calls" handle mnt/a) || fail "$directory"
"$calls" open mnt "${handles[0]}" >seen
[ $? != 77 ] || skip "$(cat seen)"
unmount mnt
mount_fleecefs img mnt
for i in "${!names[@]}"; do
	"$calls" open mnt "${handles[i]}" >seen || fail "${names[i]}: $(cat seen)"
	same seen truth
done
# Of a directory: the kernel looks for those above it.
[ "$("$calls" open mnt "$directory")" = 'read: Is a directory' ] || fail 'the handle of a directory'
patch mnt/.live/img 0 100
"$calls" open mnt "${handles[0]}" | cmp - truth || fail 'a handle leads to new bytes'
rmdir mnt/a || fail 'rmdir'
[ "$("$calls" open mnt "${handles[0]}")" = 'open_by_handle_at: Stale file handle' ] ||
	fail 'a handle of what was dropped leads somewhere'
unmount mnt
echo 'file handles last'
