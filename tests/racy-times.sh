#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An image that somebody changes right after the end, within the tick of the file system's clock, or
# whose time is set back after the change, is noticed all the same; what does not change its bytes is
# not held against it.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need mkfs.ext4 perl strace
need_root
private_mounts "$@"
in_memory
setup
mkdir mnt disk

# broken REGEX: the snapshot is, for that reason.
broken () {
	grep -qE "^[^ ]+ +a +broken: .*$1" mnt/.fleecefs/status || fail "not '$1': $(cat mnt/.fleecefs/status)"
	cat mnt/a/img >/dev/null 2>&1 && fail 'it can be read'
}

# Whole seconds: the times of an ext4 with small inodes.
truncate -s 64M ext4
mkfs.ext4 -q -F -I 128 ext4 2>mkfs.log || fail "$(cat mkfs.log)"
loop_device ext4
mount "$loop" disk || fail 'mount'
noise 1048576 >disk/img
touch disk/clock
[[ $(stat -c %y disk/clock) = *.000000000* ]] || fail "times have fractions: $(stat -c %y disk/clock)"

# second: starts.
second () {
	perl -MTime::HiRes=time,sleep -e 'my $t = time; sleep (1 - ($t - int $t) + 0.01)'
}
for round in 1 2 3; do
	mount_fleecefs -o store=store disk/img mnt
	second
	patch mnt/.live/img 0 4096
	mkdir mnt/a
	cp disk/img truth
	unmount mnt
	patch disk/img 524288 4096
	mount_fleecefs -o store=store disk/img mnt
	broken 'was changed while it was not mounted'
	# The next one has not the time that a backup knows.
	mkdir mnt/b
	[ "$(stat -c %Y.%y mnt/b/img)" != "$(stat -c %Y.%y mnt/a/img)" ] || fail 'other bytes, the same time'
	rmdir mnt/a mnt/b
	unmount mnt
	rm -r store
done

# When the last write is long ago, or there is no snapshot, nobody waits.
sleeps () {
	grep -cE '^[0-9]+ +(clock_)?nanosleep' calls
}
strace -o calls true 2>/dev/null || skip 'strace cannot watch a program'
# ends [COMMAND...]: mounts, does that, ends; the calls that wait are in the file "calls".
ends () {
	touch -d 2020-01-01 disk/img
	FLEECEFS_TEST=$base strace -f -q -e trace=nanosleep,clock_nanosleep -o calls \
		-E ASAN_OPTIONS=detect_leaks=0 "$FLEECEFS" -f -o store=store disk/img mnt &
	await mountpoint -q mnt || fail 'not mounted'
	"${@:-true}" || fail "$*"
	umount_any mnt || fail 'umount'
	wait $! || fail "status $?"
}
ends
[ "$(sleeps)" = 0 ] || fail "it waits for nothing: $(cat calls)"
ends mkdir mnt/a
[ "$(sleeps)" = 0 ] || fail "it waits after no write: $(cat calls)"
ends patch mnt/.live/img 0 4096
[ "$(sleeps)" = 1 ] || fail "it does not wait: $(cat calls)"
umount disk

# Set back.
noise 1048576 >img
again () { # COMMAND...: with a snapshot, between two mounts
	[ ! -d img.fleece ] || rm -r img.fleece
	mount_fleecefs img mnt
	mkdir mnt/a
	cp img truth
	unmount mnt
	touch -r img reference
	"$@" || fail "$*"
	mount_fleecefs "${image:-img}" mnt
}
change () {
	patch img 0 4096
	touch -r reference img
}
again change
broken 'not its mtime, but its ctime'
unmount mnt
for command in 'chmod 640 img' 'ln img link' 'chown nobody img' 'cmp img truth' 'cp -a img other'; do
	again $command
	frozen mnt/a/img truth
	unmount mnt
done
move () {
	mkdir moved
	mv img img.fleece moved
}
image=moved/img again move
frozen mnt/a/img truth
unmount mnt
mv moved/* .

# A store of a version that did not know of this.
older () {
	sed -i -E '/^(inode|ctime|mode|uid|gid|links)=/d' img.fleece/fleecefs.ini
	change
}
again older
grep -qE '^[^ ]+ +a +ok' mnt/.fleecefs/status || fail "$(cat mnt/.fleecefs/status)"
unmount mnt
