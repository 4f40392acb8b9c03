#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The extended attributes of snapshots: there for those who ask by name, on directories and files,
# and never carried away by a copy.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need getfattr python3 setfattr
in_memory
setup
mkdir mnt

noise 1048576 >a
noise 300000 >b
touch probe
setfattr -n user.probe -v 1 probe 2>/dev/null || skip 'no extended attributes in TMPDIR'

# attribute NAME FILE: its value.
attribute () {
	getfattr --only-values -n "user.fleecefs.$1" "$2" 2>&1
}

# is NAME FILE VALUE
is () {
	[ "$(attribute "$1" "$2")" = "$3" ] || fail "$1 of $2 is '$(attribute "$1" "$2")', not '$3'"
}

# blocks SNAPSHOT DISK: bytes that the overlay takes.
blocks () {
	echo $(($(stat -c %b "store/snapshots/$(number_of store "$1")/$2.qcow2") * 512))
}

mount_fleecefs -o store=store a b mnt
mkdir mnt/one
patch mnt/.live/a 0 65536 direct
truncate -s 500000 mnt/.live/b || fail 'truncate'
mkdir mnt/two

for file in one one/a one/b; do
	is state "mnt/$file" ok
	is created "mnt/$file" "$(date -u -d "@$(stat -c %Y mnt/one)" +%FT%TZ)"
done
is source-size mnt/one/a 1048576
is source-size mnt/one/b 300000
is source-size mnt/one 1348576
is source-size mnt/two/b 500000
is source-size mnt/.latest/b 500000
for name in one two; do
	is overlay-bytes mnt/$name/a "$(blocks $name a)"
	is overlay-bytes mnt/$name/b "$(blocks $name b)"
	is overlay-bytes mnt/$name $(($(blocks $name a) + $(blocks $name b)))
done
[ "$(attribute overlay-bytes mnt/one/a)" -ge 65536 ] || fail 'one keeps nothing'

# Only there, only these.
for file in mnt mnt/.live mnt/.live/a mnt/.latest mnt/.fleecefs/status; do
	for name in state created overlay-bytes source-size; do
		attribute "$name" "$file" >output && fail "$file has $name: $(cat output)"
		grep -q 'No such attribute' output || fail "$file, $name: $(cat output)"
	done
done
attribute other mnt/one >output && fail 'there is an attribute that nobody made'

# Listed nowhere, so that no copy has them.
[ -z "$(getfattr -d -m - mnt/one mnt/one/a mnt/.latest/a 2>&1)" ] ||
	fail "listed: $(getfattr -d -m - mnt/one mnt/one/a mnt/.latest/a 2>&1)"
cp -a mnt/one copy-cp || fail 'cp -a'
copies=(copy-cp)
if command -v rsync >/dev/null; then
	rsync -aX mnt/one/ copy-rsync || fail 'rsync -X'
	copies+=(copy-rsync)
fi
for copy in "${copies[@]}"; do
	same mnt/one/a "$copy/a"
	[ -z "$(getfattr -R -d -m 'user[.]' "$copy" 2>&1)" ] || fail "$(getfattr -R -d -m 'user[.]' "$copy" 2>&1)"
	attribute created "$copy/a" >output && fail "carried away: $(cat output)"
done

# A buffer that is too small, and the length alone.
python3 - mnt/one/a <<'PYTHON' || fail 'getxattr(2)'
import ctypes, errno, sys

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(64)
path, name = sys.argv[1].encode(), b"user.fleecefs.source-size"
assert libc.getxattr(path, name, None, 0) == 7
assert libc.getxattr(path, name, buffer, 7) == 7 and buffer.value == b"1048576"
assert libc.getxattr(path, name, buffer, 6) == -1 and ctypes.get_errno() == errno.ERANGE
PYTHON
denied 'Read-only file system' setfattr -n user.fleecefs.created -v x mnt/one
unmount mnt
