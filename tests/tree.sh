#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The mountpoint lists snapshots and nothing else, so that ordinary tools copy just them; owners
# and modes are those of the image; a listing is right while snapshots come and go.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

in_memory
setup
noise 100003 >a.img
noise 200003 >b.img
chmod 640 a.img
chmod 755 b.img
if [ "$(id -u)" = 0 ]; then
	chown 12:34 a.img
fi
mkdir mnt

# is FORMAT FILE WANTED: what stat says.
is () {
	[ "$(stat -c "$1" "$2")" = "$3" ] || fail "$2 is '$(stat -c "$1" "$2")', not '$3'"
}

mount_fleecefs -o store=store,max-snapshots=200 a.img b.img mnt
mkdir mnt/x mnt/y || fail 'mkdir'

# What is listed, and what is only there by name.
[ "$(ls -ax -w 0 mnt)" = '.  ..  x  y' ] || fail "ls -a:" "$(ls -a mnt)"
[ "$(find mnt | sort | tr '\n' ' ')" = \
	'mnt mnt/x mnt/x/a.img mnt/x/b.img mnt/y mnt/y/a.img mnt/y/b.img ' ] ||
	fail "find:" "$(find mnt)"
for name in .live .latest x; do
	[ "$(ls -Ax -w 0 "mnt/$name")" = 'a.img  b.img' ] || fail "ls: $(ls -A "mnt/$name")"
done
[ -f mnt/.fleecefs/status ] || fail 'there is no status'
grep -q '  x *ok$' mnt/.fleecefs/status || fail "the status is $(cat mnt/.fleecefs/status)"
[ ! -e mnt/.other ] || fail 'there is a name that nobody made'
[ "$(ls -i mnt/x/a.img)" = "$(stat -c '%i %n' mnt/x/a.img)" ] || fail 'inode numbers of readdir'

# Kinds, sizes, owners, modes.
owner=$(stat -c %u:%g a.img)
for name in x y .latest; do
	is '%F %s %a %u:%g' "mnt/$name/a.img" "regular file 100003 440 $owner"
	is '%F %s %a' "mnt/$name/b.img" 'regular file 200003 555'
done
is '%F %a %u' mnt/x "directory 555 $(id -u)"
is '%F %s %a %u:%g' mnt/.live/a.img "regular file 100003 640 $owner"
is '%a' mnt/.live/b.img 755
is '%F %a %h' mnt 'directory 755 4'

# Also when they change meanwhile; the kernel may know the old ones for a moment.
has_mode () {
	[ "$(stat -c %a "$1")" = "$2" ]
}
chmod 600 b.img
await has_mode mnt/.live/b.img 600 || fail "mode of the image is not followed"
await has_mode mnt/x/b.img 400 || fail "mode of the image is not followed in a snapshot"

# The tools that walk, measure, copy.
du mnt >output 2>&1 || fail "du: $(cat output)"
df mnt >output 2>&1 || fail "df: $(cat output)"
stat -f -c '%b %a %s %l' mnt >output || fail 'statfs'
read -r blocks free size name_max <output
if [ "$blocks" -le 0 ] || [ "$free" -gt "$blocks" ] || [ "$size" -le 0 ] || [ "$name_max" != 200 ]; then
	fail "statfs: $(cat output)"
fi
mkdir copy
if command -v rsync >/dev/null; then
	rsync -a mnt/ copy/ || fail 'rsync'
	[ "$(rsync -ai mnt/ copy/)" = '' ] || fail "a second rsync copies: $(rsync -ai mnt/ copy/)"
else
	cp -a mnt/. copy/ || fail 'cp -a'
fi
[ "$(ls -Ax -w 0 copy)" = 'x  y' ] || fail "the copy has $(ls -A copy)"
diff -r mnt copy || fail 'the copy differs'
chmod -R u+w copy

# Snapshots that stay are in each listing once while others come and go. Long names, so that one
# read of the directory is not enough.
long=$(printf '%0150d' 0)
for i in $(seq 100 149); do
	mkdir "mnt/stays-$i-$long" || fail 'mkdir'
done
until [ -e stop ]; do
	mkdir "mnt/goes-1-$long" mnt/goes-2 && rmdir "mnt/goes-1-$long" mnt/goes-2 || exit 1
	echo round
done >rounds &
churn=$!
for i in $(seq 50); do
	ls -U mnt >all || fail 'ls'
	grep '^stays' all | sort >listed
	[ "$(uniq listed | wc -l) $(wc -l <listed)" = '50 50' ] || fail "listed: $(cut -c 1-10 listed)"
done
await test -s rounds || fail 'nothing came and went'
: >stop
wait "$churn" || fail 'mkdir or rmdir failed'
unmount mnt
echo 'the tree shows snapshots only, as ordinary files'
