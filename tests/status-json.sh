#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# .fleecefs/status.json is one JSON object that tells all there is to know: disks, snapshots, space,
# counters; of one moment for each open; whatever the names of files hold.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need python3
in_memory
setup
mkdir mnt

# An image in a directory that nobody would choose, and a disk's name that needs escaping.
dir=$'d "\\\e[31m\n\x1f\x7f\xff'
mkdir "$dir"
noise 1048576 >"$dir/a"
noise 2097152 >b.img
name='a "\ é'
mount_fleecefs -o store=store,durability=process,max-snapshots=7,reserve=4k,max-overlay=64M \
	"$name=$dir/a" b.img mnt
pid=$(daemon_pid mnt)
[ "$(ls -A -x -w 0 mnt/.fleecefs)" = 'metrics  status  status.json' ] || fail "$(ls -A mnt/.fleecefs)"

# check EXPRESSION...: Python, true of the object s; d, n are its disks and snapshots by name.
check () {
	python3 - mnt/.fleecefs/status.json "$@" <<'PYTHON' || fail 'status.json, see above'
import json, sys

def unique(pairs):
    assert len(dict(pairs)) == len(pairs), "a name is there twice: %s" % pairs
    return dict(pairs)

with open(sys.argv[1], "rb") as file:
    text = file.read().decode("utf-8")  # strict
s = json.loads(text, object_pairs_hook=unique)  # strict about control characters
d = {disk["name"]: disk for disk in s["disks"]}
n = {snapshot["name"]: snapshot for snapshot in s["snapshots"]}
bad = [e for e in sys.argv[2:] if not eval(e)]
if bad:
    print(text, *bad, sep="\n")
sys.exit(bool(bad))
PYTHON
}

check 's["format"] == 1' "s['pid'] == $pid" "s['version'] == '$("$FLEECEFS" --version | cut -d' ' -f2)'" \
	's["durability"] == "process"' 's["max_snapshots"] == 7' 's["snapshots"] == []' \
	's["merges"] == []' 's["freeze_waits"] == 0' 'sorted(d) == ["a \"\\ é", "b.img"]' \
	's["mounted_unix"] <= s["time_unix"]' 'abs(__import__("time").time() - s["time_unix"]) < 60' \
	's["time"].startswith("20") and s["time"].endswith("Z")' \
	'd["b.img"]["size_bytes"] == 2097152' 'd["b.img"]["block_device"] is False' \
	"d['b.img']['source'] == '$tmp/b.img'" \
	'd["a \"\\ é"]["source"].endswith("/d \"\\\x1b[31m\n?\x7f\ufffd/a")' \
	"s['store']['path'] == '$tmp/store'" 's["store"]["max_overlay_bytes"] == 64 << 20' \
	's["store"]["reserve_bytes"] == 4096' \
	'all(v == 0 for disk in d.values() for v in disk["counters"].values())'

# The table for people beside it: of names the characters count, a path takes one line, and nothing
# is taken for something else.
[ "$(sed -n '/^DISK/,/^$/p' mnt/.fleecefs/status)" = "$(
	printf '%-20s  %-20s  %s\n' DISK BYTES IMAGE
	printf '%s%13s  %-20s  %s\n' 'a "\\ é' '' 1048576 "$tmp/d \"\\\\\\x1b[31m\\n\\x1f\\x7f�/a"
	printf '%-20s  %-20s  %s\n' b.img 2097152 "$tmp/b.img"
)" ] || fail "status: $(cat -A mnt/.fleecefs/status)"

# Counters: what is done to the live disk and to snapshots.
dd if=mnt/.live/b.img iflag=direct bs=64k count=2 status=none of=read || fail 'dd'
patch mnt/.live/b.img 0 8192 direct
mkdir mnt/one
patch mnt/.live/b.img 0 8192 direct
patch mnt/.live/b.img 0 4096 direct
sync -d mnt/.live/b.img || fail 'sync'
fallocate -p -o 65536 -l 4096 mnt/.live/b.img || fail 'fallocate' # syncs, too
dd if=mnt/one/b.img iflag=direct bs=4096 count=1 skip=2 status=none of=read || fail 'dd'
dd if=mnt/one/b.img iflag=direct bs=4096 count=1 status=none of=read || fail 'dd'
check 'd["b.img"]["counters"] == {"reads": 2, "read_bytes": 131072, "writes": 3,
	"written_bytes": 20480, "discards": 1, "flushes": 2, "copies": 2, "copied_bytes": 12288,
	"copy_failures": 0, "snapshot_reads": 2, "snapshot_read_bytes": 8192, "frozen_reads": 1,
	"copy_waits": 0, "read_waits": 0, "merged_bytes": 0}' \
	'all(v == 0 for v in d["a \"\\ é"]["counters"].values())'

# Snapshots, oldest first; one that is removed and still open; what they take.
mkdir 'mnt/two "2"' mnt/three
patch mnt/.live/b.img 131072 65536 direct
exec {file}<'mnt/two "2"/b.img'
rmdir 'mnt/two "2"' || fail 'rmdir'
bytes=$(($(du -s --block-size=512 store/snapshots/*/*.qcow2 | awk '{ n += $1 } END { print n }') * 512))
one=$(($(stat -c %b "store/snapshots/$(number_of store one)/b.img.qcow2") * 512))
check '[i["name"] for i in s["snapshots"]] == ["one", "three"]' \
	'[i["levels"] for i in s["snapshots"]] == [3, 1]' 's["store"]["levels"] == 3' \
	's["store"]["removed_levels"] == 1' 's["store"]["removed_kept_bytes"] > 0' \
	"s['store']['kept_bytes'] == $bytes" \
	"sum(i['kept_bytes'] for i in s['snapshots']) + s['store']['removed_kept_bytes'] == $bytes" \
	"n['one']['created_unix'] == $(stat -c %Y mnt/one)" \
	"n['one']['created'] == '$(date -u -d "@$(stat -c %Y mnt/one)" +%FT%TZ)'" \
	'n["one"]["state"] == "ok" and n["one"]["reason"] is None' \
	"[(i['name'], i['size_bytes'], i['state']) for i in n['one']['disks']] == [('a \"\\\\ é', 1048576, 'ok'), ('b.img', 2097152, 'ok')]" \
	"n['one']['disks'][1]['kept_bytes'] == $one"
exec {file}<&-

# One that breaks.
truncate -s 1M b.img
patch mnt/.live/b.img 2093056 4096 direct
check 'n["one"]["state"] == "broken" and "became shorter" in n["one"]["reason"]' \
	'n["three"]["disks"][1]["state"] == "broken"' 'n["one"]["disks"][0]["state"] == "ok"' \
	'"became shorter" in n["one"]["disks"][1]["reason"]'

# What was opened once stays as it was then; nobody writes it.
exec {file}<mnt/.fleecefs/status.json
head -c 10 <&"$file" >text
mkdir mnt/four
cat <&"$file" >>text
exec {file}<&-
python3 -c 'import json
assert [i["name"] for i in json.load(open("text"))["snapshots"]] == ["one", "three"]' || fail "$(cat text)"
denied 'Operation not permitted' truncate -s 0 mnt/.fleecefs/status.json
denied 'Operation not permitted' touch mnt/.fleecefs/metrics
denied 'No such file or directory' cat mnt/.fleecefs/other
unmount mnt
