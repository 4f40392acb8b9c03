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

need getfattr setfattr
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

new_store () {
	rm -rf img img.fleece
	noise 1000003 >img
	mount_fleecefs img mnt
	mkdir mnt/old || fail 'mkdir'
	patch mnt/.live/img 5000 100000
}

# expect_why FILE WORDS: broken, for that reason, and no bytes.
expect_why () {
	[[ $(state "$1") = "broken: "*"$2"* ]] || fail "$1 is '$(state "$1")', not: $2"
	cat "$1" >output 2>/dev/null && fail "$1 is broken and can be read"
	[ ! -s output ] || fail "$1 is broken and gives bytes"
}

# Renamed it is the same, and a true copy is as good, with its store too: they can be moved together.
# A copy of another time is not.
new_store
cp mnt/.live/img truth
mkdir mnt/x
unmount mnt
mv img elsewhere
mount_fleecefs -o store=img.fleece img=elsewhere mnt
frozen mnt/x/img truth
unmount mnt
mv elsewhere img
mount_fleecefs img mnt
frozen mnt/x/img truth
unmount mnt
mkdir moved
cp -a img img.fleece moved/
mount_fleecefs moved/img mnt
frozen mnt/x/img truth
unmount mnt
cp img copy
mv copy img
mount_fleecefs img mnt
expect_why mnt/old/img 'changed'
unmount mnt

# After a kill as well. Without a change the snapshots are right.
kill_daemon () {
	kill -9 "$(daemon_pid mnt)"
	unmount mnt
}

# Another image given by mistake breaks nothing, as long as the right one is where it was.
mkdir wrong
noise 1000003 >wrong/img
for end in 'unmount mnt' kill_daemon; do
	new_store
	cp mnt/.live/img truth
	mkdir mnt/x
	$end
	refused 1 "store '.*/img.fleece' has snapshots of '$tmp/img', and not of '.*/wrong/img'; give" \
		"$FLEECEFS" -o store=img.fleece wrong/img mnt
	mount_fleecefs img mnt
	frozen mnt/x/img truth
	rmdir mnt/old mnt/x
	unmount mnt
	mount_fleecefs -o store=img.fleece wrong/img mnt # no snapshot, nothing to lose
	unmount mnt
done
new_store
unmount mnt
mv img right
mount_fleecefs -o store=img.fleece wrong/img mnt
expect_why mnt/old/img "image '$tmp/wrong/img' was changed"
rmdir mnt/old
unmount mnt

new_store
cp mnt/.live/img truth
mkdir mnt/x
kill_daemon
mount_fleecefs img mnt
frozen mnt/x/img truth
kill_daemon
noise 1000003 >new
mv new img
mount_fleecefs img mnt
expect_why mnt/old/img 'another file'
expect_why mnt/x/img 'another file'
unmount mnt

# With another store in between, which is told by an attribute of the image, where it can have one:
# nobody wrote past fleecefs, and still the blocks are not there that the first store needs. While it
# is mounted the image says with which store; else nothing.
touch probe
if setfattr -n user.probe -v 1 probe 2>/dev/null; then
	for end in 'unmount mnt' kill_daemon; do
		new_store
		mkdir mnt/x
		kill_daemon
		mount_fleecefs -o store=other,new-store img mnt
		patch mnt/.live/img 0 1000003
		$end
		mount_fleecefs img mnt
		expect_why mnt/old/img 'mounted with another one'
		expect_why mnt/x/img 'mounted with another one'
		cp mnt/.live/img truth
		mkdir mnt/next || fail 'mkdir next to broken snapshots'
		patch mnt/.live/img 0 200000
		frozen mnt/next/img truth
		kill_daemon
		mount_fleecefs img mnt
		expect_why mnt/x/img 'mounted with another one'
		frozen mnt/next/img truth
		[ "$(getfattr --only-values -n user.fleecefs.open img)" = \
			"$(sed -n 's/^uuid=//p' img.fleece/fleecefs.ini)" ] ||
			fail "the image has no mark of its store: $(getfattr -d img)"
		unmount mnt
		[ -z "$(getfattr -d img)" ] || fail "left at the image: $(getfattr -d img)"
		rm -r other
	done
fi

# Cut off after a kill: what has saved its end is right, and nobody gets the zeros that a guest's
# write makes of the rest.
new_store
cp mnt/.live/img truth
mkdir mnt/x
patch mnt/.live/img 0 1000003
mkdir mnt/y
kill_daemon
truncate -s 500000 img
mount_fleecefs img mnt
expect_why mnt/y/img 'shorter'
frozen mnt/x/img truth
truncate -s 1000003 mnt/.live/img
expect_why mnt/y/img 'shorter'
unmount mnt

# Block devices: another file behind the same name, or a write.
[ "$(id -u)" = 0 ] || exit 0
noise 1048576 >one
noise 1048576 >two
loop_device one
for how in nothing attach write kill-attach; do
	rm -rf store
	mount_fleecefs -o store=store "$loop" mnt
	cp "mnt/.live/${loop##*/}" truth
	mkdir mnt/a
	patch "mnt/.live/${loop##*/}" 0 4096
	if [ $how = kill-attach ]; then
		kill_daemon
	else
		unmount mnt
	fi
	case $how in
	*attach)
		losetup -d "$loop"
		losetup "$loop" two || fail 'cannot attach the device again'
		;;
	write)
		patch "$loop" 8192 4096 direct
		;;
	esac
	mount_fleecefs -o store=store "$loop" mnt
	case $how in
	nothing)
		frozen "mnt/a/${loop##*/}" truth
		;;
	write)
		expect_why "mnt/a/${loop##*/}" 'written'
		;;
	*)
		expect_why "mnt/a/${loop##*/}" 'attached again'
		;;
	esac
	unmount mnt
done
