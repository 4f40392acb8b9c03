#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Broken means broken: whatever way a broken snapshot is read there is an error and there are no
# bytes, also where the kernel had them; it can be listed, renamed and removed, and says why.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need getfattr python3 tar
in_memory
setup
mkdir mnt

size=$((4 << 20))

state () {
	getfattr -n user.fleecefs.state --only-values "$1" 2>/dev/null
}

# The snapshot's line in the status, from its name on.
status_of () {
	sed -n "s/^[^ ]*  \($1 .*\)/\1/p" mnt/.fleecefs/status | tr -s ' '
}

# Breaks the snapshots that have the end of the image from the image itself: somebody cuts it off,
# and the guest writes there.
break_snapshots () {
	truncate -s $((size / 2)) img
	patch mnt/.live/img $((size - 4096)) 4096 direct
}

# refuses COMMAND...: it fails, says EIO, and writes no byte to the file output.
refuses () {
	: >output
	if "$@" >output 2>errors; then
		fail "$*: succeeds"
	fi
	[ ! -s output ] || fail "$*: gives $(wc -c <output) bytes"
	grep -qi 'input/output error' errors || fail "$*: $(cat errors)"
}

# Opens, reads and maps the file while it is right, so that the kernel has all its pages, and waits
# for a line. Then none of the ways may give a byte.
cat >reader.py <<'PYTHON'
import ctypes, errno, mmap, os, signal, sys, time

path, size = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_RDONLY)
direct_fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
assert len(os.pread(fd, size, 0)) == size
mapped = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
private = mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
touched = sum(mapped[i] + private[i] for i in range(0, size, 4096))
print("ready", flush=True)
sys.stdin.readline()
pipe_out, pipe_in = os.pipe()
sink = os.open("sink", os.O_RDWR | os.O_CREAT)
aligned = mmap.mmap(-1, 65536)

def direct():
    other = os.open("/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_DIRECT)
    return os.preadv(other, [aligned], 0)

# Until the kernel's pages are gone a read may still give right bytes. It is not asked for long.
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    try:
        os.pread(fd, 1, size // 4)
        time.sleep(0.01)
    except OSError:
        break

bad = 0
for name, way in {
    "read": lambda: os.read(fd, 4096),
    "pread of a byte": lambda: os.pread(fd, 1, 0),
    "pread in the middle": lambda: os.pread(fd, 100, size // 2 + 7),
    "preadv": lambda: os.preadv(fd, [bytearray(size)], 0),
    "a direct read": lambda: os.preadv(direct_fd, [aligned], 0),
    "splice": lambda: os.splice(fd, pipe_in, 4096, offset_src=0),
    "sendfile": lambda: os.sendfile(sink, fd, 0, 4096),
    "copy_file_range": lambda: os.copy_file_range(fd, sink, 4096, 0, 0),
    "SEEK_DATA": lambda: os.lseek(fd, 0, os.SEEK_DATA),
    "SEEK_HOLE": lambda: os.lseek(fd, 0, os.SEEK_HOLE),
    "an open": lambda: os.open(path, os.O_RDONLY),
    "an open for direct reads": direct,
}.items():
    try:
        print("%s gives %r" % (name, way()))
        bad = 1
    except OSError as error:
        # The kernel copies by copy_file_range only inside of a file system.
        if error.errno != (errno.EXDEV if name == "copy_file_range" else errno.EIO):
            print("%s: %s" % (name, error))
            bad = 1
for where, pages in ("mapped", mapped), ("mapped privately", private):
    for offset in range(0, size, 4096):
        child = os.fork()
        if child == 0:
            os._exit(pages[offset] & 0)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGBUS:
            print("%s: the page at %d can be read: %d" % (where, offset, status))
            bad = 1
            break
if os.fstat(sink).st_size != 0:
    print("bytes came through")
    bad = 1
os._exit(bad)
PYTHON

# expect_broken SNAPSHOT FILE: the snapshot is broken, and so is the file, one of it.
expect_broken () {
	local file=mnt/$1/img why

	why=$(state "mnt/$1")
	[[ $why = "broken: "* ]] || fail "$1 is '$why'"
	[ "broken: disk 'img': $(state "$file" | sed 's/^broken: //')" = "$why" ] ||
		fail "$file is '$(state "$file")', and its snapshot '$why'"
	[ "$(status_of "$1")" = "$1 $why" ] || fail "the status of $1 is '$(status_of "$1")'"
	for file in "$file" ${2:+"$2"}; do
		refuses cat "$file"
		refuses dd if="$file" bs=4096 count=1 iflag=direct status=none
		refuses dd if="$file" bs=512 skip=$((size / 512 - 1)) status=none
		rm -f copy
		refuses cp "$file" copy
		[ ! -s copy ] || fail "cp $file gives $(wc -c <copy) bytes"
		rm -f copy
		refuses cp --sparse=always "$file" copy
		[ ! -s copy ] || fail "cp --sparse=always $file gives $(wc -c <copy) bytes"
		# Not one of the zeros by which tar stands in for what it cannot read.
		tar -cSf copy.tar "$file" 2>errors && fail "tar $file: succeeds"
		[ "$(tar -tf copy.tar | wc -l)" = 0 ] || fail "tar $file: has a file"
		if command -v rsync >/dev/null; then
			rm -f copy
			rsync "$file" copy 2>errors && fail "rsync $file: succeeds"
			[ ! -e copy ] || fail "rsync $file: made a file"
		fi
	done
}

noise "$size" >img
mount_fleecefs img mnt
mkdir mnt/old || fail 'mkdir'
patch mnt/.live/img 0 "$size"
cp mnt/.live/img truth
mkdir mnt/a || fail 'mkdir'
patch mnt/.live/img 0 100000
mkdir mnt/b || fail 'mkdir'
stat -c '%i %s %y %z %a' mnt/a mnt/a/img mnt/b/img mnt/.latest/img >before
ls mnt mnt/a mnt/.latest >>before
cp mnt/old/img first
same mnt/a/img truth

mkfifo go1 go2
python3 reader.py mnt/a/img "$size" "$PATIENCE" <go1 >said1 &
one=$!
python3 reader.py mnt/.latest/img "$size" "$PATIENCE" <go2 >said2 &
two=$!
exec {in1}>go1 {in2}>go2
await grep -qs ready said1 || fail 'the reader does not read'
await grep -qs ready said2 || fail 'the reader of .latest does not read'
break_snapshots
echo >&"$in1"
echo >&"$in2"
wait "$one" || fail "$(cat said1)"
wait "$two" || fail "of .latest: $(cat said2)"

# What the older one of all has saved itself, it keeps.
[ "$(state mnt/old)" = ok ] || fail "old is '$(state mnt/old)'"
frozen mnt/old/img first
expect_broken a
expect_broken b mnt/.latest/img
[ "$(state mnt/.latest/img)" = "$(state mnt/b/img)" ] || fail ".latest is '$(state mnt/.latest/img)'"
{
	stat -c '%i %s %y %z %a' mnt/a mnt/a/img mnt/b/img mnt/.latest/img
	ls mnt mnt/a mnt/.latest
} >after
diff before after || fail 'broken, it looks different'

# A new one is right; .latest is the newest, and that is right now.
truncate -s "$size" mnt/.live/img
cp mnt/.live/img truth
mkdir mnt/new || fail 'mkdir next to broken ones'
patch mnt/.live/img $((size / 4)) $((size / 2))
frozen mnt/new/img truth
frozen mnt/.latest/img truth

# It stays broken, with the reason, whatever happens around it.
why=$(state mnt/a)
mv mnt/a mnt/c || fail 'mv'
[ "$(state mnt/c)" = "$why" ] || fail "renamed it is '$(state mnt/c)'"
expect_broken c
rmdir mnt/b || fail 'rmdir'
await_layers img.fleece 3
expect_broken c
unmount mnt
mount_fleecefs img mnt
[ "$(state mnt/c)" = "$why" ] || fail "mounted again it is '$(state mnt/c)'"
expect_broken c
frozen mnt/old/img first
frozen mnt/new/img truth
rmdir mnt/c || fail 'rmdir of a broken one'
[ "$(ls mnt)" = $'new\nold' ] || fail "left: $(ls mnt)"
await_layers img.fleece 2
frozen mnt/old/img first
frozen mnt/new/img truth
unmount mnt

# Of two disks one breaks: the snapshot says so, the other file is right, also mounted again.
noise "$size" >img
noise "$size" >other
mount_fleecefs -o store=two img other mnt
mkdir mnt/a
cp other truth
cat mnt/a/other >/dev/null
break_snapshots
for time in 1 2; do
	[[ $(state mnt/a) = "broken: disk 'img': "* ]] || fail "a is '$(state mnt/a)'"
	[[ $(state mnt/a/img) = broken:* ]] || fail "a/img is '$(state mnt/a/img)'"
	[ "$(state mnt/a/other)" = ok ] || fail "a/other is '$(state mnt/a/other)'"
	refuses cat mnt/a/img
	frozen mnt/a/other truth
	[ "$time" = 2 ] || unmount mnt
	[ "$time" = 2 ] || mount_fleecefs -o store=two img other mnt
done
unmount mnt

# Somebody has taken a newer level out of the store, or its record: the old blocks that an older
# snapshot needs of it are not there, and it does not read the image instead.
for gone in 000002 000002/snapshot.ini; do
	noise "$size" >img
	rm -rf lost
	mount_fleecefs -o store=lost img mnt
	mkdir mnt/a mnt/b
	patch mnt/.live/img 0 65536
	unmount mnt
	rm -r "lost/snapshots/$gone"
	for time in 1 2; do
		mount_fleecefs -o store=lost img mnt
		[[ $(state mnt/a) = "broken: disk 'img': "*"is gone" ]] || fail "a is '$(state mnt/a)'"
		refuses cat mnt/a/img
		unmount mnt
	done
done
