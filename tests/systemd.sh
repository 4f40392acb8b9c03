#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The unit of systemd under a systemd: started, stopped, unmounted, killed and started again, wrongly
# configured, with several images, a block device and overmount, and at the end of the host.
#
# The systemd is that of this host, the first process of namespaces of its own. Its root is an
# overlay over the host's, in which make install put fleecefs; but of the host's units it has only
# those of the journal and of the end. It has a directory of the test as /test, where this script
# runs once more, as a service.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"

# The host's units that it has.
units='poweroff.target shutdown.target umount.target final.target systemd-poweroff.service
	systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket'

# With these it could change the host.
capabilities=-sys_module,-sys_rawio,-sys_time,-syslog,-audit_control,-audit_read,-mac_admin

# ---- the test, outside ----

# The directory of the hierarchy that systemd needs.
find_cgroup2 () {
	awk '/ - cgroup2 / { print $5; exit }' /proc/self/mountinfo
}

outside () {
	local cgroup

	need make unshare setpriv
	need_root
	[ -z "${SANITIZED:-}" ] || skip 'sanitizers need what the unit forbids'
	[ -f "$top_builddir/Makefile" ] || skip "$top_builddir is not a build directory"
	systemd=$(PATH=/usr/lib/systemd:/lib/systemd type -P systemd) || skip 'there is no systemd'
	cgroup=$(find_cgroup2)
	[ -n "$cgroup" ] || skip 'no cgroup2 is mounted'
	setup
	cgroup+=/${base##*/}
	mkdir "$cgroup" || skip "cannot make a cgroup in ${cgroup%/*}"
	cgroups+=("$cgroup")
	noise 1M >disk.img
	loop_device disk.img
	mkdir "$base/space" mnt
	: >console

	export systemd loop
	(
		echo $BASHPID >"$cgroup/cgroup.procs"
		exec timeout -s KILL 120 unshare --mount --pid --fork --kill-child --cgroup --ipc --uts \
			--net "$BASH" "$top_srcdir/tests/systemd.sh" boot "$base/space" "$tmp"
	) >boot.log 2>&1
	find "$cgroup" -mindepth 1 -depth -type d -exec rmdir {} +
	[ -e output ] || skip "no systemd comes up here: $(cat boot.log console)"
	[ "$(cat status)" = 0 ] || fail "$(cat output boot.log console)"

	# As the end of that host left it.
	[ "$(head -c 8 vm.img)" = 'the end.' ] || fail 'the guest could not write when it was to end'
	grep -qx 'state=clean' vm.img.fleece/fleecefs.ini || fail 'the store is not clean'
	mount_fleecefs vm.img mnt
	frozen mnt/monday/vm.img first
	unmount mnt
}

# ---- before systemd, in its namespaces ----

# make_root SPACE TEST: in SPACE, an empty directory; sets $root.
make_root () {
	local directory

	mount -t tmpfs -o mode=755 fleecefs-test "$1"
	root=$1/root
	mkdir "$root" "$1/upper" "$1/work"
	mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" fleecefs-test "$root"
	mount -t proc proc "$root/proc"
	mount --bind "$root/proc/sys" "$root/proc/sys"
	mount -o remount,bind,ro "$root/proc/sys"
	mount -t sysfs -o ro sysfs "$root/sys"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	mkdir -p "$root/test" "$root/source" "$root/etc/systemd" "$root/etc/fleecefs"
	for directory in dev run tmp etc/systemd etc/fleecefs; do
		mount -t tmpfs -o mode=755 fleecefs-test "$root/$directory"
	done
	mount --bind "$2" "$root/test"
	mount --bind "$top_srcdir" "$root/source"
	mknod "$root/dev/null" c 1 3
	mknod "$root/dev/zero" c 1 5
	mknod "$root/dev/urandom" c 1 9
	mknod "$root/dev/fuse" c 10 229
	mknod "$root$loop" b 7 "${loop#/dev/loop}"
	ln -s /proc/self/fd "$root/dev/fd"
	ln -s /test/console "$root/dev/console"
}

install_all () {
	local unit

	make -s -C "$top_builddir" CC=false AR=false RANLIB=false DESTDIR="$1/installed" install >/dev/null
	cp -R "$1/installed/." "$root/"
	mkdir "$root/etc/systemd/system"
	cd "$root/etc/systemd/system"
	find "$1/installed" -name 'fleecefs@.service' -exec cp {} . \;
	for unit in $units; do
		cp -L "/usr/lib/systemd/system/$unit" . || cp -L "/lib/systemd/system/$unit" .
	done
	printf '%s\n' '[Journal]' 'Storage=volatile' 'Audit=' >"$root/etc/systemd/journald.conf"
	printf '%s\n' '[Unit]' 'DefaultDependencies=no' 'Wants=systemd-journald.service' \
		'After=systemd-journald.service' >sysinit.target
	printf '%s\n' '[Unit]' 'Requires=sysinit.target' 'After=sysinit.target' >basic.target
	printf '%s\n' '[Service]' 'Type=oneshot' "Environment=loop=$loop" \
		'ExecStart=/bin/bash /source/tests/systemd.sh inside' >test.service
	printf '%s\n' '[Unit]' 'Requires=fleecefs@vm.service' 'After=fleecefs@vm.service' '[Service]' \
		'ExecStart=/bin/bash /source/tests/systemd.sh guest' >guest.service
}

boot () {
	set -e
	make_root "$@"
	install_all "$1"
	cd "$root"
	exec setpriv --bounding-set="$capabilities" env -i container=fleecefs-test PATH="$PATH" \
		SYSTEMD_UNIT_PATH=/etc/systemd/system SYSTEMD_GENERATOR_PATH=/nothing \
		chroot . "$systemd" --system --unit=test.service --log-target=console --show-status=no
}

# ---- services of it ----

# What runs on the live disk of vm, and writes to it when it is told to end.
guest () {
	exec 3<>/test/mnt/.live/vm.img
	trap 'printf "the end." >&3; exit' TERM
	: >/test/guest-runs
	sleep infinity &
	wait
}

# configure NAME LINE...: and what was there of it before is gone.
configure () {
	systemctl stop "fleecefs@$1"
	systemctl reset-failed "fleecefs@$1" 2>/dev/null
	printf '%s\n' "${@:2}" >"/etc/fleecefs/$1.conf"
}

state () {
	systemctl show -P "$2" "fleecefs@$1"
}

has_state () {
	[ "$(state "$1" "$2")" = "$3" ]
}

# start NAME FILE: it is active, and its live disks there, FILE one of them, when that returns.
start () {
	systemctl start "fleecefs@$1" || fail "$1: $(journalctl -o cat -u "fleecefs@$1")"
	has_state "$1" ActiveState active || fail "$1 is $(state "$1" ActiveState)"
	[ -f "$2" ] || fail "$1 has started, and there is no $2"
}

# stop NAME STORE
stop () {
	systemctl stop "fleecefs@$1" || fail "$1 does not stop"
	stopped "$@"
}

# stopped NAME STORE: and cleanly.
stopped () {
	await has_state "$1" ActiveState inactive || fail "$1 is $(state "$1" ActiveState)"
	has_state "$1" Result success || fail "$1: $(state "$1" Result)"
	grep -qx 'state=clean' "$2/fleecefs.ini" || fail "$1: the store is not clean"
	! grep ' fuse.fleecefs ' /proc/self/mounts || fail "$1 has stopped: the above is mounted"
}

# killed NAME FILE [all]: by SIGKILL, alone or with all that helps it; then it comes back, and FILE
# with it.
killed () {
	local pid

	pid=$(state "$1" MainPID)
	if [ "${3:-}" = all ]; then
		systemctl kill -s KILL "fleecefs@$1"
	else
		kill -9 "$pid"
	fi
	await is_back "$1" "$pid" || fail "$1 is not back: $(journalctl -o cat -u "fleecefs@$1")"
	[ -f "$2" ] || fail "$1 is back, and there is no $2"
}

# In one look: between two it may be found dead.
is_back () {
	local now

	now=$(systemctl show -p ActiveState -p MainPID "fleecefs@$1")
	grep -qx 'ActiveState=active' <<<"$now" && ! grep -qxE "MainPID=(0|$2)" <<<"$now"
}

# logged NAME LEVEL LINE
logged () {
	await has_line "$@" || fail "no '$3': $(journalctl -o cat -u "fleecefs@$1")"
}

has_line () {
	journalctl -u "fleecefs@$1" -p "$2..$2" -o cat | grep -qxF "$3"
}

# fails NAME LEVEL LINE: to start, which the journal says. Sets $restarts.
fails () {
	! systemctl start "fleecefs@$1" 2>/dev/null || fail "$1 starts"
	await has_state "$1" ActiveState failed || fail "$1 is $(state "$1" ActiveState)"
	logged "$@"
	restarts=$(state "$1" NRestarts)
}

inside () {
	cd /test || exit
	exec >output 2>&1
	trap 'echo $? >status; systemctl --no-block start poweroff.target' EXIT

	# Started, stopped, with a file open too, and started again.
	noise 1M >vm.img
	cp vm.img first
	configure vm IMAGE=/test/vm.img MOUNTPOINT=/test/mnt OPTIONS=log-level=info
	start vm mnt/.live/vm.img
	same first mnt/.live/vm.img
	mkdir mnt/monday || fail mkdir
	logged vm info "snapshot 'monday' is made"
	patch mnt/.live/vm.img 0 65536 direct
	cp mnt/.live/vm.img second
	exec 3<mnt/.live/vm.img
	stop vm vm.img.fleece
	exec 3<&-
	same second vm.img
	start vm mnt/monday/vm.img
	systemctl restart fleecefs@vm || fail 'no restart'
	frozen mnt/monday/vm.img first

	# Killed, with a file open too.
	killed vm mnt/monday/vm.img
	exec 3<mnt/.live/vm.img
	killed vm mnt/monday/vm.img
	exec 3<&-
	frozen mnt/monday/vm.img first
	same second mnt/.live/vm.img

	killed vm mnt/monday/vm.img all
	frozen mnt/monday/vm.img first

	# When a stop returns, all is closed; no process is left, so that image and store can be copied.
	pid=$(state vm MainPID)
	systemctl stop fleecefs@vm || fail 'vm does not stop'
	[ ! -e "/proc/$pid" ] || fail 'the stop does not wait'
	grep -qx 'state=clean' vm.img.fleece/fleecefs.ini || fail 'stopped, and the store is not clean'
	start vm mnt/.live/vm.img

	# Unmounted by somebody.
	fleecectl umount mnt || fail umount
	grep -qx 'state=clean' vm.img.fleece/fleecefs.ini || fail 'the unmount does not wait'
	stopped vm vm.img.fleece

	# What cannot work is tried a few times, and what is wrong as such once.
	configure wrong IMAGE=/test/gone.img MOUNTPOINT=/test/mnt
	fails wrong err "there is no image '/test/gone.img'; check the path"
	configure wrong IMAGE=/test/vm.img MOUNTPOINT=/test/mnt OPTIONS=granule=1
	fails wrong err "bad option 'granule=1': give 4k, 8k, 16k, 32k or 64k"
	[ "$restarts" = 0 ] || fail "wrong words are tried $restarts times more"

	# Several, with a blank.
	noise 64K >'a b.img'
	configure two "IMAGE='\"/test/a b.img\" other=/test/first'" MOUNTPOINT=/test/mnt \
		OPTIONS=store=/test/two,allow_other
	start two 'mnt/.live/a b.img'
	same first mnt/.live/other
	stop two two

	# A block device.
	configure device "IMAGE=$loop" MOUNTPOINT=/test/mnt OPTIONS=store=/test/device
	start device "mnt/.live/${loop#/dev/}"
	patch "mnt/.live/${loop#/dev/}" 65536 65536 direct
	cp "mnt/.live/${loop#/dev/}" written
	stop device device
	same written "$loop"

	# Over the image, which lies where only its owner may look.
	mkdir -m 700 home
	cp first home/over.img
	chown -R nobody home
	configure over IMAGE=/test/home/over.img MOUNTPOINT=/test/mnt OPTIONS=overmount,store=/test/over
	start over mnt/.live/over.img
	mkdir mnt/one
	patch home/over.img 0 65536 direct
	cp home/over.img written
	frozen mnt/one/over.img first
	killed over mnt/one/over.img
	same written home/over.img
	mountpoint -q home/over.img || fail 'not over the image after a restart'
	stop over over
	same written home/over.img

	# The end of the host, with a guest.
	systemctl start guest || fail 'the guest does not start'
	await test -e guest-runs || fail 'the guest does not run'
}

case ${1:-outside} in
outside) outside ;;
*) "$@" ;;
esac
