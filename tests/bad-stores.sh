#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A store that is not one, or is damaged, newer, or not for these images, is refused with status 1
# and one line: what, why, what to do; nothing is made, nothing is changed. What an interrupted
# making of a store leaves is none of that: it becomes a store.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
setup

mkdir m foreign
head -c 64K /dev/urandom >a.img
cp a.img b.img
cp a.img file
ln -s nowhere dangling
echo 'my letters' >foreign/letter

mount_fleecefs -o store=good a.img b.img m
mkdir m/monday
printf 'new' | dd of=m/.live/a.img conv=notrunc status=none
mkdir m/tuesday
unmount m

# store REGEX STORE [OPTION...]
store_refused () {
	refused 1 "$1" "$FLEECEFS" -o "store=$2" "${@:3}" a.img b.img m
}

store_refused "'.*/foreign' is not a fleecefs store: .*give another directory" foreign
store_refused "store '.*/file': Not a directory" file
store_refused "store '.*/dangling'" dangling
store_refused "store '.*/no/parent': make the directory above it first" no/parent
store_refused "store '.*/file/s'.*: Not a directory" file/s

# For other images, another granule.
refused 1 "'.*/good' has snapshots of a disk 'b.img' that was not given; give it too" \
	"$FLEECEFS" -o store=good a.img m
refused 1 "'.*/good' has snapshots of a disk 'b.img' that was not given; give it too" \
	"$FLEECEFS" -o store=good a.img c=b.img m
cp -a b.img renamed
refused 1 "give it too \\(as b\\.img=IMAGE, if its image is called otherwise\\)" \
	"$FLEECEFS" -o store=good a.img renamed m
rm renamed
store_refused "'.*/good' have granule 4k, not 8k; use -o granule=4k" good -o granule=8k

# damaged REGEX COMMAND...: run in a copy of the good store it makes one that is refused.
damaged () {
	rm -rf damaged
	cp -a good damaged
	(cd damaged && "${@:2}") || fail "cannot damage by ${*:2}"
	! diff --no-dereference -r good damaged >/dev/null || fail "no damage is done by: ${*:2}"
	store_refused "$1" damaged
}

ini=fleecefs.ini
record=snapshots/000001/snapshot.ini
damaged "'.*/damaged' was made by a newer fleecefs \(format 2\); use that version" \
	sed -i 's/^format=1/format=2/' $ini
# Of a newer format nothing else is known.
damaged "was made by a newer fleecefs \(format 7\)" sh -c "printf '[fleecefs]\nformat=7\n' >$ini"

damaged "$ini' is damaged" sh -c ": >$ini"
damaged "$ini' is damaged" sh -c "head -c 100 /dev/urandom >$ini"
damaged "$ini' is damaged" sh -c "head -c 60 ../good/$ini >$ini"
damaged "$ini' is damaged" truncate -s 1M $ini
damaged "$ini' is damaged: it is a symbolic link" ln -sf ../good/$ini $ini
damaged "$ini' is damaged: it is not a regular file" sh -c "rm $ini && mkdir $ini"
damaged "$ini' is damaged: it is not a regular file" sh -c "rm $ini && mkfifo $ini"
for key in format uuid boot-id state granule next-number name path size mtime write-time; do
	damaged "$ini' is damaged: .*'$key'" sed -i "0,/^$key=/{/^$key=/d}" $ini
	damaged "$ini' is damaged: .*'$key'" sed -i "0,/^$key=/s/^$key=.*/$key=/" $ini
done
damaged "$ini' is damaged: .*'granule'.*power of two" sed -i 's/^granule=.*/granule=12288/' $ini
damaged "$ini' is damaged: .*'name'" sed -i 's/^name=b.img/name=a.img/' $ini
damaged "$ini' is damaged: .*disk" sed -i 's/^\[disk 1\]/[disk 0]/' $ini
damaged "$ini' is damaged: .*twice" sed -i 's/^\[disk 2\]/[disk 1]/' $ini

damaged "000001/snapshot.ini' is damaged" sh -c ": >$record"
damaged "000001/snapshot.ini' is damaged" truncate -s 25 $record
damaged "000001/snapshot.ini' is damaged" sed -i 's/^name=monday/name=.monday/' $record
damaged "is damaged: two snapshots have the name 'tuesday'" sed -i 's/^name=monday/name=tuesday/' $record
damaged "is damaged: .* both snapshot 2" sed -i 's/^id=1/id=2/' $record
damaged "snapshots' is damaged: 'x' is not .*; move it away" touch snapshots/x
damaged "has no directory 'snapshots'" rm -r snapshots
damaged "lock' is damaged" sh -c 'rm lock && mkdir lock'
damaged "is not a fleecefs store: it has no $ini" rm $ini

# Cut by another hand, in the middle of a number too.
damaged "000001/snapshot.ini' is damaged: it was cut" sed -i '/^created=/s/.....$//; /^created=/q' $record
damaged "$ini' is damaged: it was cut" sed -i '$d' $ini

# An overlay that is something else: an image, another overlay, a device. And what others can change.
overlay=snapshots/000001/a.img.qcow2
damaged "a.img.qcow2' is damaged: it is not a regular file" ln -sf "$tmp/a.img" $overlay
damaged "a.img.qcow2' is damaged: it is not a regular file" sh -c "rm $overlay && mkfifo $overlay"
damaged "a.img.qcow2' has 2 names" ln -f "$tmp/file" $overlay
damaged "qcow2' has 2 names" ln -f $overlay snapshots/000002/a.img.qcow2
damaged "damaged' can be written by other users \(mode 770\)" sh -c "chmod 770 . && touch changed"
damaged "$ini' can be written by other users" sh -c "chmod 666 $ini && touch changed"

# Half made: what is there without the manifest is no more than a making leaves.
mkdir copies # the marks of another store would be seen at the images
cp a.img b.img copies
for form in true 'touch lock' 'touch lock fleecefs.ini.new' 'touch lock; mkdir snapshots'; do
	rm -rf half
	mkdir half
	(cd half && eval "$form")
	mount_fleecefs -o store=half copies/a.img copies/b.img m
	unmount m
done

# None of this has hurt the good one, and a half-made snapshot in it is removed.
mkdir good/snapshots/000003
: >good/snapshots/000003/a.img.qcow2
mount_fleecefs -o store=good a.img b.img m
same b.img m/monday/b.img
cmp -s a.img m/monday/a.img && fail 'monday is not what it was'
same a.img m/tuesday/a.img
[ ! -e good/snapshots/000003 ] || fail 'the half-made snapshot is still in the store'
unmount m
