#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --help and --version print what they are asked for. Wrong usage ends with status 2, one line that
# says what is wrong, one that says what to try, and nothing made.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
setup_directory

for option in --help -h; do
	"$FLEECEFS" "$option" >help 2>errors || fail "$option: status $?"
	[ ! -s errors ] || fail "$option prints to standard error"
	grep -q '^Usage: fleecefs .*IMAGE\.\.\. MOUNTPOINT$' help || fail "$option: no usage line"
	# Each option of the manual is in the summary.
	for word in store= granule= copy= on-cbw-error= max-overlay= reserve= max-snapshots= \
		threads= durability= log-level= io_uring allow_other; do
		grep -qF -- "$word" help || fail "$option does not name $word"
	done
done
for option in --version -V; do
	"$FLEECEFS" "$option" >version || fail "$option: status $?"
	[[ $(cat version) =~ ^fleecefs\ [0-9]+\.[0-9] ]] || fail "$option prints: $(cat version)"
done
if "$FLEECEFS" --help >/dev/full 2>errors || [ "$(wc -l <errors)" != 1 ]; then
	fail "--help to a full device: no failure, or no line that says why: $(cat errors)"
fi

rm -f help version errors
mkdir m sub
truncate -s 64K a.img b.img sub/a.img .hidden a=b.img

# usage REGEX ARGUMENT...
usage () {
	refused 2 "$1" "$FLEECEFS" "${@:2}"
}

usage 'no image and no mountpoint'
usage 'no mountpoint' a.img
usage 'mountpoint.*empty word' a.img ''
usage "no image after 'x='" x= m
usage "unknown option '--frobnicate'" --frobnicate a.img m
usage "unknown option '-q'" -q a.img m
usage "unknown option.*frobnicate" -o frobnicate a.img m
usage "unknown option.*frobnicate=1" -o frobnicate=1 a.img m
usage "cannot be changed by remount; unmount it" -o remount,ro a.img m
usage "-o" a.img m -o

# option WORDS REGEX VALUE...: each value of -o WORDS is refused; the line names it and says which
# there are.
option () {
	local value

	for value in "${@:3}"; do
		usage "'$1$value'.*$2" -o "$1$value" a.img m
	done
	usage "'$1$value'.*$2" -o "allow_other,$1$value" a.img m
}

option granule= '4k, 8k, 16k, 32k or 64k' '' 0 x -4k 2k 12k 5000 4k4k 4kk 65537 128k 1M 99999999999999999999
option threads= 'number from 1 to 256' '' 0 x -1 1.5 257 99999999999999999999 '1 '
option cbw-timeout= 'number from 0 to 86400' '' x -1 1.5 86401
option max-snapshots= 'number from 1 to 10000' '' 0 x -1 10001 99999999999999999999
option max-overlay= 'size from 1M on' '' 0 x -1 1.5G 1000k 1X 1MB 99999999999999999999 9999999999G
option reserve= 'give a size' '' x -1 1.5G 1X 99999999999999999999 9999999999G
option copy= 'auto, bounce, offload' '' x Auto autob
option on-cbw-error= 'break-snapshot, break-guest-write' '' x break
option durability= 'process, power' '' x
option log-level= 'error, warning, notice, info, debug' '' x 4
option store= 'directory' ''
option max_read= 'number' x -1

usage "several images \('a.img', 'b.img'\.\.\.\).*store=DIR" a.img b.img m
usage "'a.img'.*NAME=" -o store=s a.img sub/a.img m
usage "'a.img' is given twice; name it once, and quote paths with spaces" -o store=s a.img a.img m
usage "'my' is given twice" my disk.img my mnt
usage "'x'.*NAME=" -o store=s x=a.img x=b.img m

usage 'is empty' =a.img m
usage 'begins with a dot.*NAME=' .hidden m
usage 'begins with a dot' .x=a.img m
usage 'longer than 200 bytes' "$(printf 'x%.0s' {1..201})=a.img" m
usage 'control characters' $'a\nb=a.img' m
usage 'control characters' $'a\x7fb=a.img' m
usage 'not UTF-8' $'a\xff=a.img' m
# A name ends at the first '=', so this one asks for the image 'b.img' and calls it 'a'.
usage "would both be called 'a'" -o store=s a=b.img a=a.img m

# The words come first: what is wrong with files or places is not looked at.
usage 'granule' -o granule=x,store=/nonexistent/x no-image no-mountpoint
