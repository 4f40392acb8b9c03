#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The demo of `./bootstrap run` works with the program just built, and leaves nothing behind: not
# at its end, not when it is killed half way, not when the program cannot mount. With an image it
# mounts that, and the commands that it then prints are right.

set -eu

skip () {
	echo "skipped: $1"
	exit 77
}

fail () {
	echo "FAIL: $1"
	cat "$tmp/output" "$tmp/errors" 2>/dev/null || true
	exit 1
}

top=${top_srcdir:-$(cd "$(dirname "$0")/.." && pwd)}
PATH=$PATH:/usr/sbin:/sbin
export FLEECEFS="${FLEECEFS:-$top/build/fleecefs/fleecefs}"

for tool in mke2fs debugfs e2fsck fusermount3; do
	command -v "$tool" >/dev/null || skip "$tool is not installed"
done
if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
	skip 'no access to /dev/fuse'
fi
# In a container without CAP_SYS_ADMIN (bit 21) fusermount3 cannot help either.
capabilities=$(sed -n 's/^CapBnd:[^0-9a-f]*//p' /proc/self/status)
if [ $((0x$capabilities >> 21 & 1)) = 0 ]; then
	skip 'mounting is not permitted here'
fi

tmp=$(mktemp -d)
export TMPDIR="$tmp/demo"
mkdir "$TMPDIR"

demo_pid=
clean_up () {
	if [ -n "$demo_pid" ]; then
		kill "$demo_pid" 2>/dev/null || true
		wait "$demo_pid" || true
	fi
	# If the demo could not unmount, its files are not ours to delete through the mount.
	if rmdir "$TMPDIR" 2>/dev/null; then
		rm -rf "$tmp"
	fi
}
trap clean_up EXIT
trap 'exit 143' HUP INT TERM

nothing_left () {
	if [ -n "$(ls -A "$TMPDIR")" ]; then
		fail "$1, files are left: $(find "$TMPDIR" | head)"
	elif grep -qF " $TMPDIR/" /proc/self/mounts; then
		fail "$1, a mount is left"
	fi
}

# To the end.
"$top/bootstrap" run >"$tmp/output" 2>"$tmp/errors" || fail 'the demo failed'
grep -q '^All as promised' "$tmp/output" || fail 'the demo does not say that all is well'
if [ -s "$tmp/errors" ]; then
	fail 'the demo complains'
fi
nothing_left 'after the demo'

# Killed after the first snapshot, while the writer writes.
mkfifo "$tmp/lines"
"$top/bootstrap" run >"$tmp/lines" 2>"$tmp/errors" &
demo_pid=$!
exec 3<"$tmp/lines"
while read -r line <&3; do
	case $line in
	3.*) break ;;
	esac
done
kill "$demo_pid"
status=0
wait "$demo_pid" || status=$?
demo_pid=
exec 3<&-
[ "$status" = 143 ] || fail "the demo was killed but exits with $status"
nothing_left 'after a killed demo'

# Its reader goes away, as head(1) does.
"$top/bootstrap" run >"$tmp/lines" 2>"$tmp/errors" &
demo_pid=$!
exec 3<"$tmp/lines"
read -r line <&3
exec 3<&-
status=0
wait "$demo_pid" || status=$?
demo_pid=
[ "$status" = 141 ] || fail "nobody reads what the demo says, and it exits with $status"
nothing_left 'after a demo that nobody reads'

# With a program that does not mount.
if FLEECEFS=false "$top/bootstrap" run >"$tmp/output" 2>"$tmp/errors"; then
	fail 'the demo succeeds with a program that fails'
fi
nothing_left 'after a failed mount'

# With an image of one's own. What is printed after a word and a colon is run as it stands, with
# another place for /backup.
cd "$TMPDIR"
mkdir backup
head -c 100000 /dev/urandom >'my disk.img'
cp 'my disk.img' old.img
"$top/bootstrap" run -o granule=8k 'my disk.img' 'a b/my mnt' >"$tmp/output" 2>"$tmp/errors" ||
	fail 'cannot mount an image'
live=$(sed -n '2s/^ *//p' "$tmp/output")
sed -n -e 's/^[A-Z][a-z ]*: *//p' "$tmp/output" |
	sed "s| /backup/| backup/|" >commands
[ "$(wc -l <commands)" = 5 ] || fail 'not five commands'
[ -s "$tmp/errors" ] && fail 'there are complaints'
{
	sed -n 1p commands
	echo "echo new | dd of=$live conv=notrunc status=none"
	sed -n '2,4p' commands
	sed -n 5p commands
} >all
sh -eux all >"$tmp/output" 2>"$tmp/errors" || fail 'the commands that it prints fail'
cmp old.img 'backup/my disk.img' || fail 'the copy is wrong'
grep -qx 'state=clean' 'my disk.img.fleece/fleecefs.ini' || fail 'the unmount does not wait'
[ "$(head -c 3 'my disk.img')" = new ] || fail 'the image lacks what was written'

# refused REGEX WORD...
refused () {
	regex=$1
	shift
	if "$top/bootstrap" run "$@" >"$tmp/output" 2>"$tmp/errors"; then
		fail "run $*: succeeds"
	fi
	grep -q "$regex" "$tmp/errors" || fail "run $*: does not say: $regex"
	[ "$(wc -l <"$tmp/errors")" = 1 ] || fail "run $*: more than one line"
}
refused "there is no image 'none.img'; check the path" none.img mnt
[ ! -e mnt ] || fail 'makes a mountpoint for no image'
refused "'backup' is a directory; give the image first, the mountpoint last" backup old.img
refused "'old.img' is not a directory; give an empty one" 'my disk.img' old.img
cd /
rm -rf "$TMPDIR"
mkdir "$TMPDIR"

echo 'the demo works and cleans up'
