#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How fleecectl finds mounts: none, several, with names that mountinfo escapes, dead ones, ones that
# it may not read; its words of the command line; files that are not what they should be.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need python3
private_mounts
in_memory
setup

# Wrong usage, and the rest that needs no mount.
expect_error 2 'no command given' "$FLEECECTL"
expect_error 2 "unknown command 'stat'" "$FLEECECTL" stat
expect_error 2 "bad option '-x'" "$FLEECECTL" list -x
expect_error 2 "bad option '-x'" "$FLEECECTL" -xj list
expect_error 2 "bad option '--json=1'" "$FLEECECTL" list --json=1
expect_error 2 "bad option '--watch=0': give" "$FLEECECTL" status -w0
expect_error 2 "bad option '--watch=0': give seconds from 1 to 3600" "$FLEECECTL" status --watch=0
expect_error 2 "'--timeout=x': give seconds from 0 to 86400" "$FLEECECTL" umount -tx one
expect_error 2 '--watch is not for list' "$FLEECECTL" list --watch
expect_error 2 '--force is not for status' "$FLEECECTL" status -f
expect_error 2 '--json is not for umount' "$FLEECECTL" umount --json one
expect_error 2 'no mountpoint given' "$FLEECECTL" umount
expect_error 2 '--dead goes with no other option' "$FLEECECTL" umount --dead --force one
expect_error 2 'do not go together' "$FLEECECTL" status --watch --json
"$FLEECECTL" --help >output || fail 'no help'
grep -q '^Usage: fleecectl list' output || fail "$(cat output)"
[ "$(awk '{ if (length($0) > 80) print }' output)" = '' ] || fail 'the help is too wide'
[ "$("$FLEECECTL" --version)" = "fleecectl $("$FLEECEFS" --version | cut -d' ' -f2)" ] || fail 'version'
expect_error 1 'cannot write to standard output: No space left' bash -c '"$1" --help >/dev/full' - "$FLEECECTL"

expect_error 1 '^fleecectl: no fleecefs is mounted here$' "$FLEECECTL" list
expect_error 1 '^fleecectl: no fleecefs is mounted here$' "$FLEECECTL" status
[ "$("$FLEECECTL" status --json 2>/dev/null)" = '[]' ] || fail 'no mount is no empty array'
expect_error 1 "^fleecectl: '.' is in no mount of fleecefs$" "$FLEECECTL" list .
expect_error 1 "^fleecectl: cannot look at 'none': No such file or directory$" "$FLEECECTL" list none
for locale in C C.UTF-8; do
	LC_ALL=$locale expect_error 1 "cannot look at 'no.x1b.x9b.u202e.n.?'" "$FLEECECTL" list $'no\e\xc2\x9b\xe2\x80\xae\n'
done

# Two, one of them hostile to those who split lines at spaces; and a file of one that is bound.
odd=$'a b\tc\\\\d\e[1m'
noise 1048576 >one.img
noise 1048576 >two.img
mkdir one "$odd" hidden
touch bound
mount_fleecefs one.img one
mount_fleecefs two.img "$odd"
mount --bind one/.live/one.img bound || fail 'mount --bind'
mkdir one/first "$odd/second"
"$FLEECECTL" list >output 2>errors || fail "list: $(cat errors)"
[ "$(grep -v '^SNAPSHOT' output | sed 's/  .*//')" = "$tmp/one
first

$tmp/a b\\x09c\\\\\\\\d\\x1b[1m
second" ] || fail "$(cat output)"
"$FLEECECTL" status --json >output || fail 'status --json'
python3 -c 'import json, sys
assert [i["mountpoint"] for i in json.load(open("output"))] == sys.argv[1:]' "$tmp/one" "$tmp/$odd" ||
	fail "$(cat output)"
"$FLEECECTL" list --json "$odd/second/two.img" "$odd" >output || fail 'list --json'
python3 -c 'import json, sys
a = json.load(open("output"))
assert [(i["mountpoint"], i["snapshots"][0]["name"], len(i)) for i in a] == [(sys.argv[1], "second", 2)]' \
	"$tmp/$odd" || fail "$(cat output)"
"$FLEECECTL" list one one/first "$odd" >output || fail 'list of two'
[ "$(grep -c '^SNAPSHOT' output)" = 2 ] || fail "$(cat output)"

# JSON has no character that it does not allow.
control=$'control \x1f \x7f \xff'
mkdir "$control"
mount --bind one "$control" || fail 'mount --bind'
"$FLEECECTL" list --json "$control" >output || fail 'list --json'
python3 -c 'import json
assert json.load(open("output"))[0]["mountpoint"].endswith("/control ? \x7f \ufffd")' ||
	fail "$(cat -A output)"
umount "$control"

# A daemon that hangs does not keep the other from being shown.
stopped=$(daemon_pid one)
kill -STOP "$stopped"
timeout "$PATIENCE" "$FLEECECTL" list >output 2>errors && fail 'list with a daemon that hangs has status 0'
grep -qx "fleecectl: '$tmp/one/.fleecefs/status.json' does not answer for 10 s: its daemon .*" errors ||
	fail "a daemon that hangs: $(cat errors)"
grep -q '^second' output || fail "a daemon that hangs: $(cat output)"
kill -CONT "$stopped"
"$FLEECECTL" list one | grep -q '^first' || fail 'list after that'

# When fleecectl is killed, the process that reads for it ends too, though nobody takes its answer.
mkdir other
mkfifo alive
mount -t tmpfs none other || fail 'tmpfs'
mkdir other/.fleecefs
mkfifo other/.fleecefs/status.json
cat alive &
watcher=$!
"$FLEECECTL" list other 8>alive &
killed=$!
exec {file}>other/.fleecefs/status.json # it has it open
kill -9 "$killed"
wait "$killed" 2>/dev/null
head -c 300000 /dev/zero >&"$file"
exec {file}>&-
await_exit "$PATIENCE" "$watcher" || fail 'what reads for fleecectl does not end'
umount other

# Both are watched: the end of one is not passed over.
mkfifo pipe
"$FLEECECTL" status -w1 >pipe 2>errors &
watcher=$!
exec {file}<pipe
while read -r -t "$PATIENCE" -u "$file" line && [[ $line != "$tmp/a b"* ]]; do
	:
done
umount "$odd" || fail 'umount'
cat <&"$file" >output & # what else it says must not hold it up
await_exit "$PATIENCE" "$watcher" || fail 'a mount is gone, and --watch goes on'
wait "$watcher" && fail '--watch ends, and has status 0'
grep -q "a b.* is no longer mounted$" errors || fail "--watch ends with: $(cat errors)"
exec {file}<&-
await_daemon "$odd"
mount_fleecefs two.img "$odd"

# A bound file leads to the mount that it is of, if that is still there.
"$FLEECECTL" list one bound >output || fail 'list of a bound file'
[ "$(grep -v '^SNAPSHOT' output | sed 's/  .*//')" = first ] || fail "$(cat output)"
"$FLEECECTL" list --json bound | grep -qF "\"$tmp/one\"" || fail 'a bound file leads elsewhere'
mount --move one hidden || fail 'mount --move'
"$FLEECECTL" list --json bound | grep -qF "\"$tmp/hidden\"" || fail 'a bound file leads elsewhere'
umount -l hidden
expect_error 1 "^fleecectl: 'bound' is in no mount of fleecefs$" "$FLEECECTL" list bound
umount bound
await_daemon one
mount_fleecefs one.img one

# What is hidden by another mount is not asked.
mount -t tmpfs none one || fail 'tmpfs'
"$FLEECECTL" list >output 2>errors || fail "list: $(cat errors)"
grep -q '^first' output && fail 'what is hidden is shown'
expect_error 1 "^fleecectl: 'one' is in no mount of fleecefs$" "$FLEECECTL" list one

# Files that are not what they should be, in the place where one is.
mkdir one/.fleecefs
for text in '' '[]' '7' '{"format":1' '{"format":1}}' '\0' '\0377\0376' '{"format":1,"x":"\0377"}'; do
	printf '%b' "$text" >one/.fleecefs/status.json
	expect_error 1 "^fleecectl: cannot understand '$tmp/one/.fleecefs/status.json': " "$FLEECECTL" status one
done
for text in '{}' '{"format":2}' '{"format":"1"}' '{"format":null}'; do
	printf '%b' "$text" >one/.fleecefs/status.json
	expect_error 1 'use the fleecectl of that fleecefs$' "$FLEECECTL" list one
done
for text in '{"format":1}' '{"format":1,"disks":{},"snapshots":7,"store":[],"merges":"x","pid":-1}' \
	'{"format":1,"disks":[1,null,[],{}],"snapshots":[1,{"name":[]},null],"store":{},"merges":[0,{}]}' \
	'{"format":1,"disks":[{"name":null,"counters":7}],"store":{"free_bytes":"x"},"time_unix":1e300}'; do
	printf '%s' "$text" >one/.fleecefs/status.json
	for command in list status; do
		"$FLEECECTL" $command one >output 2>errors || fail "$command of $text: $(cat errors)"
		[ ! -s errors ] || fail "$command of $text: $(cat errors)"
	done
done
# A snapshot's name from elsewhere, and a merge under way.
cat >one/.fleecefs/status.json <<'JSON'
{"format":1,"time_unix":1000000,"snapshots":[{"name":"a\u007fb\u001b]0;x\u0007\nc\u009b","created_unix":1,
"state":"broken","reason":"so\rwhat"}],"disks":[{"name":"silent","source":"/x"}],"store":{"path":"/\u001b","free_bytes":1,"size_bytes":4},
"merges":[{"into":"a\tb","done_bytes":30,"size_bytes":120}]}
JSON
COLUMNS=80 "$FLEECECTL" status one >output 2>errors || fail "$(cat errors)"
[[ $(LC_ALL=C tr -d '\n -~' <output | wc -c) = 0 ]] || fail "not printable: $(cat -A output)"
grep -qE '^a\\x7fb\\x1b\]0;x\\x07\\nc\\(x9b|u009b) +11d 13h +0  broken: so\\x0dwhat$' output || fail "$(cat output)"
grep -qE '^silent +\? +0 +0 +0  /x$' output || fail "$(cat output)"
grep -qE '^merge +\[#{9}\.{29}\]  *25%  into a\\x09b$' output || fail "$(cat output)"
umount one
unmount one

# A dead one is told of, and the others are shown; so it is with those that others mounted.
pid=$(daemon_pid "$odd")
mkdir three
mount_fleecefs -o store=other one.img three
kill -9 "$pid"
await_exit "$PATIENCE" "$pid"
"$FLEECECTL" list >output 2>errors
[ $? = 1 ] || fail "a dead mount is no error: $(cat output)"
grep -q "^SNAPSHOT" output || fail "$(cat output errors)"
[ "$(wc -l <errors)" = 1 ] || fail "more than a line: $(cat errors)"
grep -q '^fleecectl: .*Transport endpoint is not connected$' errors || fail "$(cat errors)"
umount "$odd"
if [ "$(id -u)" = 0 ]; then
	prepare_user
	cp "$FLEECECTL" "$base/bin/fleecectl"
	chmod 755 "$base/bin/fleecectl"
	as_user "$base/bin/fleecectl" list >output 2>errors
	[ $? = 1 ] || fail "it shows what is not theirs: $(cat output)"
	grep -q '^fleecectl: .*Permission denied; run fleecectl as the user who mounted it$' errors || fail "$(cat errors)"
	[ ! -s output ] || fail "$(cat output)"
fi
unmount three
