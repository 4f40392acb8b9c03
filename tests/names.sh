#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The names that a snapshot may have, at mkdir and at mv alike, and the error for each that it may
# not. What has got a name that is no longer given, of a snapshot or a disk, can still be used, and is
# shown so that no table lies.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need perl
setup

mkdir m
head -c 64K /dev/urandom >a.img
long=$(printf 'x%.0s' {1..200})
good=(x monday 'two words' ' ' '-' 'a:b;c*?[]\"$' "it's" 'x.' 'a..b' $'caf\xc3\xa9' $'\xe6\x97\xa5\xe6\x9c\xac'
	$'\xf0\x9f\xa6\xa5' $'a\xcc\x81' $'\xe3\x80\x80' "$long" "${long:2}"$'\xc3\xa9')

mount_fleecefs -o max-snapshots=100 a.img m
for name in "${good[@]}"; do
	mkdir "m/$name" || fail "mkdir '$name'"
	[ -f "m/$name/a.img" ] || fail "no file in '$name'"
done
printf '%s\n' "${good[@]}" | sort >expected
# shellcheck disable=SC2012 # no name has a newline
ls m | sort >listed
same expected listed
unmount m
mount_fleecefs a.img m
find m -mindepth 1 -maxdepth 1 -printf '%f\n' | sort >listed
same expected listed
for name in "${good[@]}"; do
	rmdir "m/$name" || fail "rmdir '$name'"
done
[ -z "$(ls -A m)" ] || fail "left: $(ls -A m)"

# bad WHY NAME...
bad () {
	local name

	for name in "${@:2}"; do
		denied "$1" mkdir "m/$name"
		denied "$1" rename m/x "m/$name"
	done
}
no_characters='Invalid or incomplete multibyte or wide character'
mkdir m/x
bad 'Invalid argument' .x ... ..x .live2 ".$long"
bad 'File name too long' "${long}x" "${long:1}"$'\xc3\xa9' "$(printf 'x%.0s' {1..255})"
bad "$no_characters" $'\xff' $'caf\xe9' $'\xc3' $'\xed\xa0\x80' $'\xc0\xae' $'\xf5\x80\x80\x80'
bad "$no_characters" $'a\nb' $'\t' $'\x01' $'\x7f' $'\xc2\x85'
# To the left, a mark of the right, no space, a joiner, soft hyphen; separators of lines, paragraphs.
bad "$no_characters" $'a\xe2\x80\xaeb' $'\xe2\x80\x8f' $'\xe2\x80\x8b' $'\xe2\x80\x8d' $'x\xc2\xad' \
	$'\xe2\x80\xa8' $'x\xe2\x80\xa9'
denied 'File exists' mkdir m/x
denied 'File exists' mkdir m/.live
denied 'Operation not permitted' rename m/x m/.latest
[ "$(ls m)" = x ] || fail "a bad name has done something: $(ls m)"
unmount m

# As many as max-snapshots says, not those that are being dropped.
mount_fleecefs -o max-snapshots=2 a.img m
mkdir m/y || fail 'max-snapshots=2, and not two'
denied 'Too many links' mkdir m/z
rmdir m/x
mkdir m/z || fail 'no room where one was dropped'
denied 'Too many links' mkdir m/x
# A limit that is lower than what is there takes nothing away.
unmount m
mount_fleecefs -o max-snapshots=1 a.img m
[ "$(ls m)" = $'y\nz' ] || fail "a lower limit has dropped something: $(ls m)"
denied 'Too many links' mkdir m/x
unmount m

# Disks.
left=$'\xe2\x80\xae'
expect_error 1 "the name of the disk 'd.u202e.img' has invisible characters; choose one by NAME=" \
	"$FLEECEFS" -o store=new "d${left}.img=a.img" m
[ ! -e new ] || fail 'of a disk with a bad name there is a store'
cp a.img "d${left}.img"
expect_error 1 "the name of the disk 'd.u202e.img' has invisible characters" "$FLEECEFS" "d${left}.img" m

# What a store has of a time when such names were given: of a disk, and of snapshots.
cp a.img b.img
mount_fleecefs -o store=store b.img m
mkdir m/x
head -c 64K /dev/urandom | dd of=m/.live/b.img conv=notrunc status=none
unmount m
sed -i "s/^name=b.img\$/name=b$left.img/" store/fleecefs.ini store/snapshots/*/snapshot.ini
sed -i "s/^name=x\$/name=x${left}1/" store/snapshots/*/snapshot.ini
mv store/snapshots/000001/{b.img.qcow2,"b$left.img.qcow2"} || fail 'mv'
mount_fleecefs -o store=store "b$left.img=b.img" m
[ "$(cd m && echo *)" = "x${left}1" ] || fail "the snapshots are: $(ls m)"
same a.img "m/x${left}1/b$left.img"
grep -q '  x.u202e1  *ok$' m/.fleecefs/status || fail "status: $(cat -A m/.fleecefs/status)"
grep -q '^b.u202e.img ' m/.fleecefs/status || fail "status: $(cat -A m/.fleecefs/status)"
"$FLEECECTL" list m | grep -q '^x.u202e1 ' || fail "$("$FLEECECTL" list m | cat -A)"
perl -MJSON::PP -0777 -e 'my $s = decode_json (<STDIN>);
	exit !($s->{snapshots}[0]{name} eq "x\x{202e}1" && $s->{disks}[0]{name} eq "b\x{202e}.img")' \
	<m/.fleecefs/status.json || fail "$(cat m/.fleecefs/status.json)"
denied "$no_characters" rename "m/x${left}1" "m/z${left}"
rename "m/x${left}1" m/x || fail 'such a snapshot cannot be renamed'
same a.img "m/x/b$left.img"
unmount m
sed -i "s/^name=x\$/name=x${left}1/" store/snapshots/*/snapshot.ini
mount_fleecefs -o store=store "b$left.img=b.img" m
rmdir "m/x${left}1" || fail 'such a snapshot cannot be dropped'
[ -z "$(ls m)" ] || fail "left: $(ls m)"
unmount m
