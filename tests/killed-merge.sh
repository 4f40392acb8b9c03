#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A merge that was killed between its last two steps: the newer of two layers has taken over the
# snapshot, the older has not been removed. The next start removes it; and if that is killed too, no
# overlay names the removed one as its backing file.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need qemu-img
need_root
in_memory
setup
noise 1000000 >img
mkdir mnt
mount_fleecefs -o store=store img mnt

cp img first
mkdir mnt/a || fail 'mkdir'
patch mnt/.live/img 0 100000 direct
cp img second
mkdir mnt/b mnt/c || fail 'mkdir'
patch mnt/.live/img 50000 100000 direct
older=store/snapshots/$(number_of store b)
newer=store/snapshots/$(number_of store c)
oldest=store/snapshots/$(number_of store a)
unmount mnt
cp "$older/snapshot.ini" "$newer/snapshot.ini"

mount_fleecefs -o store=store img mnt
[ "$(ls mnt)" = $'a\nb' ] || fail "there are: $(ls mnt)"
[ ! -e "$older" ] || fail "$older is still there"
kill -9 "$(daemon_pid mnt)" || fail 'no daemon to kill'
umount -l mnt
await_daemon mnt

qemu-img convert -f qcow2 -O raw "$oldest/img.qcow2" read || fail 'qemu-img cannot read a'
truncate -s 1000000 read
same read first
qemu-img convert -f qcow2 -O raw "$newer/img.qcow2" read || fail 'qemu-img cannot read b'
truncate -s 1000000 read
same read second

mount_fleecefs -o store=store img mnt
frozen mnt/a/img first
frozen mnt/b/img second
unmount mnt
echo 'what a killed merge leaves is taken away in the right order'
