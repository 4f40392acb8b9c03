#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# fleecectl on one mount: what it shows, in whatever width, of whatever names; JSON; rates.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

need python3
in_memory
setup
mkdir mnt $'d\e[31m\n\xe2\x80\xae'
noise 8388608 >a.img
noise 8388608 >$'d\e[31m\n\xe2\x80\xae/b.img'
mount_fleecefs -o store=store,max-overlay=4M,reserve=1M a.img $'d\e[31m\n\xe2\x80\xae/b.img' mnt
mkdir mnt/one
patch mnt/.live/a.img 0 1048576 direct
mkdir $'mnt/two \\ \xc3\xa9'
long=$(printf 'long%0100d' 0)
mkdir "mnt/$long"

# shows REGEX...: each matches a line of the output.
shows () {
	local regex

	for regex; do
		grep -qE -- "$regex" output || fail "no line '$regex' in: $(cat output)"
	done
}

ctl () {
	"$FLEECECTL" "$@" >output 2>errors || fail "fleecectl $*: status $?: $(cat errors)"
	[ ! -s errors ] || fail "fleecectl $*: $(cat errors)"
}

# Without a terminal nothing is cut. The way to the mount is any path in it.
for path in mnt "$tmp/mnt/" mnt/.live/a.img mnt/one/a.img mnt/one/..; do
	ctl list "$path"
	[ "$(wc -l <output)" = 4 ] || fail "$(cat output)"
	shows '^SNAPSHOT +CREATED +KEPT  STATE$' '^one +20..-..-..T..:..:..Z  1.0M  ok$' "^$long  .*  ok$"
done
ctl status mnt
shows "^$tmp/mnt$" "pid $(daemon_pid mnt), mounted for [0-9ms ]*, durability process$" \
	'^DISK +SIZE +READ +WRITTEN +COPIED  IMAGE$' \
	'^a\.img +8\.0M +0 +1\.0M +1\.0M  .*/a\.img$' '^b\.img +8\.0M +0 +0 +0 ' \
	'^SNAPSHOT +AGE +KEPT  STATE$' "^store $tmp/store$" '^kept  *1\.1M$' \
	'^max-overlay  \[#{10}\.{28}\]   27%  1.1M of 4.0M$' '^file system  \[.*\] .* free of .*, reserve 1.0M$'
(cd mnt/one && "$FLEECECTL" list . >../../output) || fail 'in the mount'
shows '^one '

# Nothing that is not printable comes out, in any locale; and what does is unambiguous.
hostile=$'\e|\xe2\x80\xae|\x7f'
for locale in C C.UTF-8; do
	LC_ALL=$locale ctl status mnt
	if LC_ALL=C grep -qE "$hostile" output; then
		fail "not printable: $(cat -A output)"
	fi
	shows 'd\\x1b\[31m\\n\\u202e/b\.img$' '^two \\\\ '
done
shows $'^two .. \xc3\xa9 '
LC_ALL=C ctl list mnt
shows '^two \\\\ \\xe9 '

# Every width; the widest cells are cut.
for width in 20 30 40 60 80 132; do
	for locale in C C.UTF-8; do
		for command in list status; do
			LC_ALL=$locale COLUMNS=$width ctl $command mnt
			LC_ALL=C.UTF-8 awk -v width="$width" 'length($0) > width { print; bad = 1 } END { exit bad }' \
				output || fail "$command is wider than $width"
			[ "$width" = 132 ] || shows '^long.*~'
		done
	done
done
COLUMNS=60 ctl status mnt
shows '^one +.*  ok$' '^long0+~ .*  ok$' '^max-overlay  \[[#.]{6,}\] .*~?$'
# A terminal tells its own width.
python3 - "$FLEECECTL" <<'PYTHON' || fail 'at a terminal'
import fcntl, os, pty, struct, subprocess, sys, termios

master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 47, 0, 0))
child = subprocess.Popen([sys.argv[1], "status", "mnt"], stdout=slave)
os.close(slave)
text = b""
try:
    while chunk := os.read(master, 65536):
        text += chunk
except OSError:  # the end, at a terminal
    pass
assert child.wait() == 0
lengths = [len(line) for line in text.decode().split("\r\n")]
assert max(lengths) == 47, text
PYTHON

# JSON: what status.json has, and the mountpoint.
ctl status --json mnt/one
cp mnt/.fleecefs/status.json .
ctl_json () {
	python3 -c 'import json, sys
a = json.load(open("output")); s = json.load(open("status.json"))
assert len(a) == 1
a = a[0]
assert a.pop("mountpoint") == sys.argv[1] + "/mnt"
for object in a, s:
    object.pop("time", 0), object.pop("time_unix", 0)
    if "store" in object:
        object["store"].pop("free_bytes")
assert a == ({"snapshots": s["snapshots"]} if sys.argv[2] == "list" else s), (a, s)' "$tmp" "$1" ||
		fail "$1 --json: $(cat output)"
}
ctl_json status
ctl list -j mnt
ctl_json list

# A snapshot that is dropped between the open of status.json and a look at its size, if there is one.
# (Under strace LeakSanitizer cannot work.)
if strace -o /dev/null true 2>/dev/null; then
	mkdir "mnt/x$long"
	strace -f -E ASAN_OPTIONS=detect_leaks=0 -o calls -P "$tmp/mnt/.fleecefs/status.json" -e inject=fstat,newfstatat,statx:delay_enter=3s \
		"$FLEECECTL" list mnt >output 2>errors &
	reader=$!
	await grep -qs 'status\.json.*= [0-9]' calls || fail "no open: $(cat calls)"
	rmdir "mnt/x$long"
	wait "$reader" || fail "a snapshot is dropped, and then: $(cat errors)"
	shows "^x$long "
fi

# One that is removed and still open, and one that broke.
exec {file}<mnt/one/a.img
rmdir mnt/one
ctl status mnt
shows '^kept +1\.1M, .* of it for removed snapshots$'
exec {file}<&-
truncate -s 1M a.img
patch mnt/.live/a.img 8384512 4096 direct
ctl list mnt
shows "^$long .*  broken: disk 'a\.img': .*shorter"

# At a terminal: no more lines than it has, whatever it shrinks to.
mkdir mnt/s{1..30}
timeout "$PATIENCE" python3 - "$FLEECECTL" <<'PYTHON' || fail 'at a terminal that changes its size'
import fcntl, os, pty, signal, struct, sys, termios

def set_size(rows, columns):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

def next_screen():
    text = b""
    while not text.endswith(b"\033[J"):
        text += os.read(master, 65536)
    lines = text.decode().rpartition("\033[H")[2].split("\033[K\r\n")
    print(*lines, sep="\n")
    return lines

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
pid, master = pty.fork()
if pid == 0:
    signal.sigwait([signal.SIGUSR1])  # until there is a size
    os.execv(sys.argv[1], [sys.argv[1], "status", "--watch=3600", "mnt"])
set_size(50, 100)
os.kill(pid, signal.SIGUSR1)
lines = next_screen()
assert len(lines) < 50 and any(line.startswith("s1 ") for line in lines)
set_size(24, 47)
lines = next_screen()
assert len(lines) == 24 and max(map(len, lines)) <= 47
assert any(line.startswith("file system ") for line in lines)
assert any(line.startswith("(") and " older)" in line and line.endswith("  2 broken") for line in lines)
assert any(line.startswith("s30 ") for line in lines)
set_size(5, 47)
assert len(next_screen()) == 5
os.kill(pid, signal.SIGTERM)
os.waitpid(pid, 0)
PYTHON
rmdir mnt/s{1..30}

# Rates from the second time on; the end comes with the mount's.
mkfifo pipe
"$FLEECECTL" status --watch=1 mnt >pipe 2>errors &
watcher=$!
exec {file}<pipe
seen () {
	local line end=$((SECONDS + PATIENCE))

	while [ "$SECONDS" -lt "$end" ] && read -r -t "$PATIENCE" -u "$file" line; do
		[[ ! $line =~ $1 ]] || return 0
	done
	fail "--watch shows no '$1'"
}
seen '^DISK .* WRITTEN '
seen '^file system'
patch mnt/.live/b.img 0 4194304 direct
seen '^DISK +SIZE +READ/s +WRITE/s +COPY/s  IMAGE$'
seen '^b\.img +8\.0M +[0-9]+ +[0-9.]+[KM] +[0-9.]+[KM] '
seen '^b\.img +8\.0M +[0-9]+ +0 +0 '
unmount mnt
cat <&"$file" >rest
wait "$watcher"
status=$?
[ "$status" = 1 ] || fail "--watch ends with $status"
grep -qE '^fleecectl: ' errors || fail "--watch ends without a word: $(cat errors)"
[ "$(wc -l <errors)" = 1 ] || fail "$(cat errors)"
