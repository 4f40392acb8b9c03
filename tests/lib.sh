# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the shell tests share. A test begins with
#
#	. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
#	setup
#
# and is then in an empty directory, $tmp, which is removed at the end with all mounts, daemons and
# loop devices in it, however the test ends. fail and skip end the test; in a subshell they would
# only end that.
#
# Nothing waits by sleeping. umount(8) returns before the daemon has closed its store, so what is
# waited for is the end of the process, by a descriptor of it (pidfd_open(2)). A process is found by
# its environment, which a daemon keeps, as it does not keep inherited descriptors: FLEECEFS_TEST is
# the $base of the test that started it, FLEECEFS_MOUNT the number of the mount_by in it.

top_srcdir=$(cd "${top_srcdir:-$(dirname "${BASH_SOURCE[0]}")/..}" && pwd)
top_builddir=${top_builddir:-$top_srcdir/build}
FLEECEFS=${FLEECEFS:-$top_builddir/fleecefs/fleecefs}
FLEECECTL=${FLEECECTL:-$top_builddir/fleecefs/fleecectl}
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

# How long anything may take that should be done at once, in seconds.
PATIENCE=20

# The ordinary user of as_user.
USER_NAME=nobody

base=             # $tmp is in it, and what should not be seen there
tmp=              # where the test works
loops=()          # loop devices to detach
cgroups=()        # directories of cgroups to remove
declare -A mount_numbers=() # by mountpoint, as it was given to mount_by
n_mounts=0

# ---- verdicts ----

fail () {
	echo "FAIL: ${0##*/}:${BASH_LINENO[${#BASH_LINENO[@]} - 2]}: $*"
	exit 1
}

skip () {
	echo "skipped: $*"
	exit 77
}

# need TOOL...
need () {
	local tool

	for tool; do
		command -v "$tool" >/dev/null || skip "$tool is not installed"
	done
}

need_root () {
	[ "$(id -u)" = 0 ] || skip 'not root'
}

# same A B: two files have the same bytes.
same () {
	cmp "$1" "$2" || fail "$1 and $2 differ"
}

# expect_error STATUS REGEX COMMAND...: the command ends with the status, prints nothing, and one
# line to standard error that matches; wrong usage (2) has a second one, 'Try ...'.
expect_error () {
	local status=$1 regex=$2 result lines
	shift 2

	watched "$@" </dev/null >"$base/output" 2>"$base/errors"
	result=$?
	mapfile -t lines <"$base/errors"
	if [ "$result" != "$status" ]; then
		fail "$*: status $result, not $status: $(cat "$base/output" "$base/errors")"
	elif [ -s "$base/output" ]; then
		fail "$*: prints: $(cat "$base/output")"
	elif [ "$status" = 2 ] && [[ ${lines[1]:-} != "Try '"*" --help'." ]]; then
		fail "$*: no second line that says what to try: $(cat "$base/errors")"
	elif [ ${#lines[@]} != $((status == 2 ? 2 : 1)) ]; then
		fail "$*: ${#lines[@]} lines of error: $(cat "$base/errors")"
	elif ! [[ ${lines[0]} =~ $regex ]]; then
		fail "$*: '${lines[0]}' does not match '$regex'"
	elif [[ " $* " = *" $FLEECEFS "* && ${lines[0]} != 'fleecefs: '* ]]; then
		fail "$*: does not begin with its name: ${lines[0]}"
	fi
}

# denied WHY COMMAND...: the command fails, and says so in one line that ends in WHY, the text of an
# errno value.
denied () {
	local why=$1 output
	shift

	output=$("$@" 2>&1 </dev/null) && fail "$*: succeeds, and should give: $why"
	[[ $output = *": $why" && $output != *$'\n'* ]] || fail "$*: not '$why': $output"
}

# rename FROM TO: as rename(2); mv(1) does more, and has its own words for some errors.
rename () {
	perl -e 'rename $ARGV[0], $ARGV[1] or die "rename: $!\n"' -- "$@"
}

# snapshot_tree DIR...: prints all that can be seen of what is in there (not below other mounts),
# so that a comparison tells whether anything was made or changed.
snapshot_tree () {
	find "$@" -xdev -printf '%p %y %m %U:%G %n %i %s %T@ %C@ %l\n' 2>&1
	find "$@" -xdev -type f -exec sha256sum {} + 2>&1
}

# refused STATUS REGEX COMMAND...: as expect_error, and nothing in $tmp was made or changed.
refused () {
	snapshot_tree "$tmp" >"$base/before"
	expect_error "$@"
	snapshot_tree "$tmp" >"$base/after"
	diff "$base/before" "$base/after" || fail "${*:3}: changed the files above"
}

# ---- set-up and end ----

# setup: the test mounts; setup_directory: it does not.
setup () {
	local bounding

	[ -e /dev/fuse ] || skip 'there is no /dev/fuse'
	if ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
		skip 'no access to /dev/fuse'
	fi
	# In a container without CAP_SYS_ADMIN (bit 21) fusermount3 cannot help either.
	bounding=$(sed -n 's/^CapBnd:[^0-9a-f]*//p' /proc/self/status)
	if [ $((0x$bounding >> 21 & 1)) = 0 ]; then
		skip 'mounting is not permitted here'
	fi
	[ "$(id -u)" = 0 ] || need fusermount3
	setup_directory
}

setup_directory () {
	umask 022 # a store that others can write to is refused
	[ -x "$FLEECEFS" ] || fail "there is no program '$FLEECEFS'"
	base=$(mktemp -d "${TMPDIR:-/tmp}/fleecefs-test.XXXXXX") || exit 1
	trap clean_up EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	base=$(cd "$base" && pwd -P)
	tmp=$base/tmp
	if ! mkdir "$tmp" || ! cd "$tmp"; then
		exit 1
	fi
}

# The mountpoints in $base, the last mounted first.
mounts_here () {
	local mountpoint

	while read -r _ _ _ _ mountpoint _; do
		mountpoint=$(printf '%b' "${mountpoint//\\/\\0}")
		[ "${mountpoint#"$base"/}" = "$mountpoint" ] || printf '%s\n' "$mountpoint"
	done </proc/self/mountinfo | tac
}

# processes LINE...: those whose environment has all of these lines.
processes () {
	local line process

	for process in /proc/[0-9]*; do
		for line; do
			grep -qzxF "$line" "$process/environ" || continue 2
		done
		echo "${process#/proc/}"
	done 2>/dev/null
}

# await_exit SECONDS PID: until the process is gone, or nothing is left of it but a zombie.
await_exit () {
	# pidfd_open has one number on all machines.
	perl -e '
		my $fd = syscall 434, $ARGV[1] + 0, 0;
		exit($! == 3 ? 0 : 1) if $fd < 0; # ESRCH
		vec(my $set = "", $fd, 1) = 1;
		exit !select $set, undef, undef, $ARGV[0]' "$@"
}

# What is still there of the processes started by watched and mount_fleecefs.
await_all () {
	local pid status=0

	for pid in $(processes "FLEECEFS_TEST=$base"); do
		await_exit 10 "$pid" && continue
		echo "FAIL: killed, for it was left: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
		kill -9 "$pid"
		status=1
	done
	return "$status"
}

clean_up () {
	local status=$? cgroup job loop mountpoint

	trap - EXIT
	trap '' HUP INT TERM
	cd /
	for job in $(jobs -p); do
		kill "$job" 2>/dev/null && kill -CONT "$job" 2>/dev/null
	done
	# Before the mounts go, by which the files of the devices are known: they are detached when nobody
	# uses them any more. One that was detached already may be another test's by now.
	for loop in "${loops[@]}"; do
		[[ $(cat "/sys/block/${loop##*/}/loop/backing_file") != "$base"/* ]] || losetup -d "$loop"
	done 2>/dev/null
	mounts_here | while read -r mountpoint; do
		umount_any "$mountpoint" 2>/dev/null || umount -l "$mountpoint" 2>/dev/null ||
			fusermount3 -uz "$mountpoint"
	done
	if ! await_all && [ "$status" = 0 ]; then
		status=1
	fi
	for cgroup in "${cgroups[@]}"; do
		rmdir "$cgroup"
	done
	# rm -r must not walk into a mount.
	if [ -n "$(mounts_here)" ]; then
		echo "FAIL: $base stays, for in it are still mounted: $(mounts_here)"
		exit 1
	fi
	[ "$(id -u)" = 0 ] || chmod -R u+rwX "$base"
	rm -rf --one-file-system "$base"
	exit "$status"
}

# ---- mounts and daemons ----

umount_any () {
	if [ "$(id -u)" = 0 ]; then
		umount "$1"
	else
		fusermount3 -u "$1"
	fi
}

# watched COMMAND...: runs it, for a while at most. What it leaves running the test waits for at
# its end.
watched () {
	local -x FLEECEFS_TEST=$base

	if [ "$(type -t "$1")" = function ]; then
		"$@"
	else
		timeout "$PATIENCE" "$@"
	fi
}

# mount_by COMMAND...: the command, whose last word is the mountpoint, is to leave a daemon in the
# background, which unmount, await_daemon and daemon_pid are about. Its status is the command's.
mount_by () {
	local -x FLEECEFS_MOUNT=$((n_mounts + 1))

	n_mounts=$FLEECEFS_MOUNT
	mount_numbers[${!#}]=$FLEECEFS_MOUNT
	watched "$@"
}

# mount_fleecefs ARGUMENT...: the same for fleecefs, which must succeed.
mount_fleecefs () {
	mount_by "$FLEECEFS" "$@" || fail "fleecefs $*: status $?"
	mountpoint -q "${!#}" || fail "fleecefs $*: returned, and nothing is mounted"
}

is_fleecefs () {
	[ "$(cat "/proc/$1/comm")" = "${FLEECEFS##*/}" ]
} 2>/dev/null

# daemons LINE...: as processes, but only those that serve. The child of such a one is to unmount,
# though it may not have its name yet.
daemons () {
	local pid

	for pid in $(processes "$@"); do
		is_fleecefs "$pid" || continue
		is_fleecefs "$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$pid/status" 2>/dev/null)" || echo "$pid"
	done
}

# The process that serves the mountpoint (as it was given to mount_by).
daemon_pid () {
	daemons "FLEECEFS_TEST=$base" "FLEECEFS_MOUNT=${mount_numbers[$1]}"
}

# await_daemon MOUNTPOINT: until the process that serves it is gone.
await_daemon () {
	local pid

	for pid in $(daemon_pid "$1"); do
		await_exit "$PATIENCE" "$pid" || fail "the daemon of $1 still runs after $PATIENCE s"
	done
}

# unmount MOUNTPOINT: and until its daemon is gone, so that image and store are free.
unmount () {
	umount_any "$1" || fail "cannot unmount $1"
	await_daemon "$1"
}

# loop_device FILE [OPTION...]: sets $loop to a new loop device over the file.
loop_device () {
	need losetup
	need_root
	loop=$(losetup --find --show "${@:2}" "$1" 2>&1) || skip "no loop device to be had: $loop"
	loops+=("$loop")
}

# ---- an ordinary user ----

# The copies of others' mounts, which would keep their daemons alive, or be taken for the test's.
drop_foreign_mounts () {
	local mountpoint rest

	tac /proc/self/mountinfo | while read -r _ _ _ _ mountpoint rest; do
		mountpoint=$(printf '%b' "${mountpoint//\\/\\0}")
		[[ $mountpoint != */fleecefs-test.* && $rest != *' - fuse.fleecefs '* ]] ||
			umount -l "$mountpoint" 2>/dev/null
	done
}

# private_mounts: before setup; runs the test again in a mount namespace of its own, where it can
# replace what it likes and nobody sees it.
private_mounts () {
	if [ -z "${IN_PRIVATE_MOUNTS:-}" ]; then
		need_root
		need unshare
		unshare --mount true 2>/dev/null || skip 'unshare --mount is not permitted here'
		IN_PRIVATE_MOUNTS=yes exec unshare --mount "$BASH" "$0" "$@"
	fi
	unset IN_PRIVATE_MOUNTS
	drop_foreign_mounts
}

# prepare_user: $USER_NAME may run $FLEECEFS, and the directory $tmp/home is theirs.
prepare_user () {
	mkdir home
	[ "$(id -u)" = 0 ] || return
	need setpriv
	id "$USER_NAME" >/dev/null 2>&1 || skip "there is no user $USER_NAME"
	mkdir "$base/bin"
	cp "$FLEECEFS" "$base/bin/fleecefs"
	FLEECEFS=$base/bin/fleecefs
	chmod 755 "$base" "$tmp" "$base/bin" "$base/bin/fleecefs"
	chown "$USER_NAME:" home
}

# let_user_mount: after private_mounts and prepare_user.
let_user_mount () {
	need fusermount3
	mkdir "$base/dev"
	if ! mount -t tmpfs -o mode=755 fleecefs-test "$base/dev" ||
		! mknod -m 666 "$base/dev/fuse" c 10 229 ||
		! mount --bind "$base/dev/fuse" /dev/fuse; then
		fail 'cannot make a /dev/fuse for all'
	fi
}

# as_user COMMAND...: as $USER_NAME if this is root, as who this is otherwise.
as_user () {
	local become=()

	if [ "$(id -u)" = 0 ]; then
		become=(setpriv "--reuid=$USER_NAME" "--regid=$(id -g "$USER_NAME")" --clear-groups)
	fi
	timeout "$PATIENCE" "${become[@]}" "$@"
}
