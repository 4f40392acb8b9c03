#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The names that a snapshot may have, at mkdir and at mv alike, and the error for each that it may
# not.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need perl
setup

mkdir m
head -c 64K /dev/urandom >a.img
long=$(printf 'x%.0s' {1..200})
good=(x monday 'two words' ' ' '-' 'a:b;c*?[]\"$' "it's" 'x.' 'a..b' $'caf\xc3\xa9' $'\xe6\x97\xa5\xe6\x9c\xac'
	$'\xf0\x9f\xa6\xa5' $'\xe2\x80\x8b' "$long" "${long:2}"$'\xc3\xa9')

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
