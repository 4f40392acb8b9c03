#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image that was changed while it was not mounted is noticed: the snapshots of that disk are
# broken and say why, they never give wrong bytes; everything else works.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need getfattr
in_memory
setup
mkdir mnt

state () {
	getfattr -n user.fleecefs.state --only-values "$1" 2>/dev/null
}

expect_broken () {
	local file=$1 status

	status=$(state "$file") || fail "$file has no state"
	[[ $status = "broken: image '$tmp/"*' was '*' while it was not mounted' ]] ||
		 fail "the state of $file is '$status'"
	if cat "$file" >output 2>errors; then
		fail "$file is broken and can be read"
	fi
	[ ! -s output ] || fail "$file is broken and gives $(wc -c <output) bytes"
	grep -q 'Input/output error' errors || fail "reading $file: $(cat errors)"
}

try () {
	noise 1000003 >img
	mount_fleecefs img mnt
	mkdir mnt/old || fail 'mkdir'
	patch mnt/.live/img 5000 100000
	mkdir mnt/new || fail 'mkdir'
	patch mnt/.live/img 500000 1
	unmount mnt
	"$@" || fail "cannot change the image: $*"
	cp img truth

	mount_fleecefs img mnt
	expect_broken mnt/old/img
	expect_broken mnt/new/img
	[[ $(state mnt/old) = broken:* ]] || fail "the state of the directory is '$(state mnt/old)'"
	[ "$(grep -c ' broken: ' mnt/.fleecefs/status)" = 2 ] ||
		fail "the status is $(cat mnt/.fleecefs/status)"
	same mnt/.live/img truth
	mkdir mnt/next || fail 'mkdir next to broken snapshots'
	patch mnt/.live/img 0 200000
	frozen mnt/next/img truth
	[ "$(state mnt/next/img)" = ok ] || fail "a new snapshot is '$(state mnt/next/img)'"
	expect_broken mnt/old/img
	unmount mnt

	# And once broken, always so.
	mount_fleecefs img mnt
	expect_broken mnt/new/img
	rmdir mnt/old mnt/new || fail 'cannot drop broken snapshots'
	frozen mnt/next/img truth
	[ "$(ls mnt)" = next ] || fail "left: $(ls mnt)"
	unmount mnt
	rm -r img.fleece
}

try patch img 4096 4096
try patch img 999999 1
try touch -d '2020-01-01 12:00' img
try truncate -s 999999 img
try truncate -s 2000000 img

# Of two disks one was changed: a snapshot of both is broken only where it is.
noise 100000 >a.img
noise 100000 >b.img
cp b.img truth
mount_fleecefs -o store=store a.img b.img mnt
mkdir mnt/x || fail 'mkdir'
unmount mnt
patch a.img 0 1
mount_fleecefs -o store=store a.img b.img mnt
expect_broken mnt/x/a.img
frozen mnt/x/b.img truth
unmount mnt
echo 'a changed image breaks its snapshots and nothing else'

# The record of it may not have fitted into a full store: the overlays say it as well.
noise 1000003 >img
mount_fleecefs img mnt
mkdir mnt/old || fail 'mkdir'
unmount mnt
patch img 4096 4096
mount_fleecefs img mnt
unmount mnt
sed -i '/^broken=/d' img.fleece/snapshots/*/snapshot.ini
mount_fleecefs img mnt
[[ $(state mnt/old/img) = broken:* ]] || fail "without its record the state is '$(state mnt/old/img)'"
cat mnt/old/img >output 2>/dev/null && fail 'without its record it can be read'
unmount mnt
