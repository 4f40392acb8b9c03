#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What is no verb of the tree is refused: with EROFS in a snapshot and in .latest, with EPERM
# elsewhere. Dropping a snapshot never fails for what is in it or for who uses it.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need setfattr perl
setup

mkdir m
head -c 64K /dev/urandom >a.img
cp a.img old.img
mount_fleecefs a.img m
mkdir m/monday m/tuesday
for dir in m/monday m/.latest; do
	why='Read-only file system'
	denied "$why" dd if=old.img "of=$dir/a.img" conv=notrunc status=none
	denied "$why" truncate -s 0 "$dir/a.img"
	denied "$why" truncate -s 1M "$dir/a.img"
	denied "$why" fallocate -l 1M "$dir/a.img"
	denied "$why" touch "$dir/new"
	denied "$why" mkdir "$dir/new"
	denied "$why" mkfifo "$dir/new"
	denied "$why" ln -s x "$dir/new"
	denied "$why" ln "$dir/a.img" "$dir/new"
	denied "$why" ln m/.live/a.img "$dir/new"
	denied "$why" rm "$dir/a.img"
	denied "$why" rename "$dir/a.img" "$dir/new"
	for file in "$dir" "$dir/a.img"; do
		denied "$why" touch "$file"
		denied "$why" touch -d yesterday "$file"
		denied "$why" chmod 777 "$file"
		denied "$why" chown 1 "$file"
		denied "$why" setfattr -n user.x -v y "$file"
	done
	same old.img "$dir/a.img"
done
for dir in m m/.live m/.fleecefs; do
	why='Operation not permitted'
	denied "$why" touch "$dir/new"
	denied "$why" mkfifo "$dir/new"
	denied "$why" ln -s x "$dir/new"
	denied "$why" ln m/.live/a.img "$dir/new"
	[ "$dir" = m ] || denied "$why" mkdir "$dir/new"
	denied "$why" chmod 777 "$dir"
	denied "$why" chown 1 "$dir"
	denied "$why" touch "$dir"
	denied "$why" setfattr -n user.x -v y "$dir"
done
denied "$why" rm m/.live/a.img
denied "$why" rm m/.fleecefs/status
denied "$why" rename m/.live/a.img m/.live/b.img
denied "$why" chmod 600 m/.live/a.img
denied "$why" chown 1 m/.live/a.img
denied "$why" touch m/.live/a.img
denied "$why" setfattr -n user.x -v y m/.live/a.img
denied "$why" truncate -s 0 m/.fleecefs/status
for own in .live .latest .fleecefs; do
	denied "$why" rmdir "m/$own"
	denied "$why" rename "m/$own" m/new
	denied "$why" rename m/monday "m/$own"
done
denied 'No such file or directory' rmdir m/missing
denied 'No such file or directory' ls m/monday/missing
denied 'No such file or directory' ls m/.live/missing
denied 'No such file or directory' ls m/.missing
same old.img m/.live/a.img

# In use in every way: as a directory, as a file, as memory.
exec {file}<m/monday/a.img
(
	cd m/monday || exit 1
	rmdir ../monday || exit 1
) || fail 'a snapshot that is in use is not dropped'
[ "$(ls m)" = tuesday ] || fail "the listing: $(ls m)"
cmp old.img - <&"$file" || fail 'what was open does not read on'
exec {file}<&-
rmdir m/tuesday || fail 'rmdir of the newest'
[ -z "$(ls m/.latest)" ] || fail ".latest shows what is dropped: $(ls m/.latest)"
denied 'No such file or directory' rmdir m/tuesday
unmount m

# What is wrong with the store is not said of a name.
mount_fleecefs -o store=gone a.img m
mkdir m/monday
rm -r gone
denied 'Input/output error' mkdir m/tuesday
denied 'Input/output error' rename m/monday m/friday
denied 'Input/output error' rmdir m/monday
same old.img m/monday/a.img
unmount m
