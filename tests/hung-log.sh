#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A log that does not read holds up nobody: guests, mkdir, rename and the end go on. When it reads
# again it gets, in their order, the messages for which there was room, and the number of all
# others. The log is standard error, a pipe that is full; and, for root, the system's.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-log.sh
. "$top_srcdir/tests/lib-log.sh"

MANY=1500 # messages; of each some 250 bytes

need perl
[ "$(id -u)" != 0 ] || private_mounts "$@"
in_memory
setup
mkdir mnt
long=$(printf '%080d' 0)

# ---- logs ----

# start_pipe OPTION...: serves in the foreground, with the pipe as standard error; sets $pid.
start_pipe () {
	rm -f pipe
	mkfifo pipe
	exec {pipe}<>pipe
	FLEECEFS_TEST=$base "$FLEECEFS" -f "$@" img mnt 2>&"$pipe" &
	pid=$!
	await mountpoint -q mnt || fail "not mounted: $*"
}

# hang_pipe [nonblocking]: fills it, and may leave O_NONBLOCK set, for all who have it.
hang_pipe () {
	perl -MFcntl -e '
		open my $pipe, ">>&=", $ARGV[0] or die "pipe: $!\n";
		my $flags = fcntl $pipe, F_GETFL, 0;
		fcntl $pipe, F_SETFL, $flags | O_NONBLOCK;
		for my $n (4096, 1) { 1 while syswrite $pipe, "\n" x $n }
		fcntl $pipe, F_SETFL, $flags if !$ARGV[1]' "$pipe" "${1:-}" || fail 'cannot fill the pipe'
}

# What comes from here on, and what was in it, goes to the file log.
read_pipe () {
	cat <pipe >log {pipe}>&- &
	exec {pipe}>&-
}

start_syslog () {
	: >syslog
	mount_fleecefs "$@" img mnt
	pid=$(daemon_pid mnt)
}

# The socket takes some from each sender, and so many from all.
hang_syslog () {
	kill -STOP "$reader"
	perl -MSocket -e '
		my $address = pack_sockaddr_un("/dev/log");
		for (my ($n, @sockets) = 1; $n > 0; ) {
			socket $sockets[@sockets], AF_UNIX, SOCK_DGRAM, 0 or die "socket: $!\n";
			$n = 0;
			$n++ while send $sockets[-1], "fill", MSG_DONTWAIT, $address;
		}' || fail 'cannot fill /dev/log'
}

read_syslog () {
	ln -sf syslog log
	kill -CONT "$reader"
}

# ---- what must go on ----

new_image () {
	noise 1048576 >img
	rm -rf img.fleece
}

# in_time COMMAND...: nothing can kill what hangs in a request but the end of the daemon.
in_time () {
	"$@" 2>errors &
	if ! await_exit "$PATIENCE" $!; then
		kill -9 "$pid"
		fail "$log: $1 hangs"
	fi
	wait $! || fail "$log: $*: $(cat errors)"
}

# guest_writes N: the Nth 64 KiB.
guest_writes () {
	noise 65536 >block
	in_time dd if=block of=mnt/.live/img bs=64k seek="$1" oflag=direct conv=notrunc status=none
}

# Also when a snapshot breaks, which is a warning.
all_goes_on () {
	guest_writes 0
	truncate -s 4096 img
	guest_writes 8
	await grep -q '^broken=' img.fleece/snapshots/*/snapshot.ini || fail "$log: nothing broke"
	in_time mkdir mnt/two
	guest_writes 1
	in_time rmdir mnt/two
}

# ends COMMAND...: with all that belongs to an end.
ends () {
	in_time "$@"
	await_exit "$PATIENCE" "$pid" || fail "$log: still runs after $*"
	grep -qx 'state=clean' img.fleece/fleecefs.ini || fail "$log: the store is not clean"
	! mountpoint -q mnt || fail "$log: still mounted"
	[ "$log" = syslog ] || wait "$pid" || fail "$log: status $?"
}

# many_messages FROM: a rename gives one.
many_messages () {
	# shellcheck disable=SC2016 # for perl
	in_time perl -e '
		my ($name, $long, $many) = @ARGV;
		for my $i (1 .. $many) {
			rename "mnt/$name", "mnt/$i-$long" or die "rename: $!\n";
			$name = "$i-$long";
		}' "$1" "$long" "$MANY"
}

# The numbers of the renames that the log has, and how many messages are lost in their place.
count_messages () {
	perl -ne '
		BEGIN { $last = 0 }
		if (/ is now called .(\d+)-/) {
			die "$1 comes after $last\n" if $1 <= $last;
			die "between $last and $1 are lost: $lost\n" if $1 != $last + $lost + 1;
			($last, $lost) = ($1, 0);
			$n++;
		} elsif (/(?:\]|fleecefs): (\d+) messages? (?:was|were) lost here: the log was not read in time$/) {
			die "two counts together\n" if $lost;
			$lost = $1;
			$n_lost += $1;
		}
		END { print $n_lost ? "$n of $last\n" : "nothing is lost\n" if !$? }' log
}

logs=('pipe' 'pipe nonblocking')
if [ "$(id -u)" = 0 ]; then
	logs+=(syslog)
	system_log
fi

# It hangs to the end. With -d each request is a message, of libfuse's.
for log in "${logs[@]}" 'pipe -d'; do
	new_image
	case $log in
	*-d) start_pipe -d ;;
	*) "start_${log% *}" ;;
	esac
	mkdir mnt/one
	# shellcheck disable=SC2086 # words
	hang_${log% -d}
	all_goes_on
	ends kill "$pid"
	"read_${log% *}"
done

# It reads again.
for log in "${logs[@]}"; do
	new_image
	"start_${log% *}" -o log-level=info
	mkdir mnt/one
	# shellcheck disable=SC2086 # words
	hang_$log
	many_messages one
	guest_writes 0
	"read_${log% *}"
	await grep -q 'lost here' log || fail "$log: no word of what is lost"
	in_time mv "mnt/$MANY-$long" "mnt/$((MANY + 1))-end"
	ends umount_any mnt
	await grep -q "called '$((MANY + 1))-end" log || fail "$log: the last message does not come"
	count=$(count_messages) || fail "$log: see above"
	[[ $count = *" of $((MANY + 1))" ]] || fail "$log: $count"
	[ "${count%% *}" -gt 100 ] || fail "$log: only ${count%% *} came"
done
