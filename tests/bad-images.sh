#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image that cannot be served is refused with status 1 and one line: what, why, and what to do;
# nothing is made, nothing is changed. Devices are in bad-devices.sh.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
setup
prepare_user

mkdir m m/sub s dir other
head -c 64K /dev/urandom >good.img
cp good.img m/inside.img
cp good.img m/sub/inside.img
cp good.img s/inside.img
ln -s good.img link.img
ln good.img hard.img
ln -s nowhere dangling.img
ln -s loop.img loop.img
ln -s ../m/inside.img other/link.img
: >empty.img
mkfifo fifo
mkdir "$base/m"
mnt=$base/m

# image REGEX WORD...: fleecefs WORD... refuses.
image () {
	refused 1 "$1" "$FLEECEFS" "${@:2}" "$mnt"
}

image "there is no image 'missing.img'; check the path" missing.img
image "there is no image 'no/dir/a.img'; check" no/dir/a.img
image "'good.img/a': Not a directory" good.img/a
image "there is no image 'dangling.img'" dangling.img
cp good.img eq=x.img
image "there is no image 'x.img'; give './eq=x.img', if you mean the file 'eq=x.img'" eq=x.img
rm eq=x.img
image "'loop.img': Too many levels" loop.img
image "'.*empty.img' is empty; give it a size" empty.img
image "'dir' is a directory; give a disk image" dir
refused 1 "'dir' is a directory; give the image first, the mountpoint last" "$FLEECEFS" dir good.img
image "'fifo' is neither .*; give a disk image" fifo
image "'/dev/null' is neither .*; give a disk image" -o store=new /dev/null

# One of several, the last: those before it were fine.
image "there is no image 'missing.img'" -o store=new good.img missing.img
image "empty.img' is empty" -o store=new good.img empty.img

for twice in good.img ./good.img "$tmp/good.img" dir/../good.img link.img hard.img; do
	image "'$twice' is the same disk as 'good.img'; name it once" -o store=new a=good.img "b=$twice"
done

# Where it would be hidden, or be part of its own store.
for inside in m/inside.img m/sub/inside.img other/link.img; do
	refused 1 "inside.img' lies under the mountpoint '$tmp/m'.*give another mountpoint" \
		"$FLEECEFS" -o store=new "$inside" m
done
image "'.*good.img' is both image and store; give another" -o store=good.img good.img
image "'.*good.img' is both image and store; give another" -o store=link.img good.img
image "the image '.*inside.img' lies in the store '$tmp/s'; move it" -o store=s s/inside.img

# Names as they were given come back as one line, whatever they hold.
image "'two\?lines.img'" x=$'two\nlines.img'

# Not for this user. Not one byte can be written to an image that is read-only: it is no live disk.
cd home || exit 1
mnt=m
mkdir m
cp ../good.img unreadable.img
cp ../good.img read-only.img
mkdir closed
cp ../good.img closed/closed.img
[ "$(id -u)" != 0 ] || chown -R "$USER_NAME:" .
chmod 0 unreadable.img closed
chmod 444 read-only.img
for file in unreadable.img read-only.img closed/closed.img; do
	refused 1 "'.*$file'.*: Permission denied" as_user "$FLEECEFS" "$file" m
done
refused 1 "'.*read-only.img'.*: Permission denied; see ls -l, or run as its owner" \
	as_user "$FLEECEFS" read-only.img m
