#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The unit of systemd is in order, is hardened, and gives the service no view of its own of the file
# system, in which nobody would see the mount. What it runs first takes away a dead mount and no
# other; what it runs then takes what an environment file may say.

set -u
# shellcheck source=lib.sh source-path=SCRIPTDIR
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need systemd-analyze
need_root
private_mounts "$@"
setup

sed "s|@bindir@/fleecefs|$FLEECEFS|; s|@bindir@/fleecectl|$FLEECECTL|" "$top_srcdir/fleecefs/fleecefs.service.in" \
	>fleecefs@vm.service
! grep '@[a-z]*@' fleecefs@vm.service || fail 'not all is filled in'

# Other units of this host may have faults of their own.
systemd-analyze --man=no verify "$tmp/fleecefs@vm.service" >output 2>&1
grep fleecefs output && fail 'systemd-analyze verify finds the above'

! grep -E '^(Protect(System|Home|KernelTunables|KernelModules|KernelLogs|ControlGroups|Proc)|Private(Tmp|Devices|Mounts|Network)|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec|Bind|BindReadOnly)Paths|TemporaryFileSystem|MountFlags|Root(Directory|Image)|ProcSubset|DynamicUser)=' \
	fleecefs@vm.service || fail 'with that the mount is seen by nobody'
systemd-analyze security --offline=yes --threshold=50 "$tmp/fleecefs@vm.service" >output 2>&1 ||
	fail "systemd-analyze security: $(tail -n 3 output)"

# What ExecStartPre= and ExecStopPost= do.
grep -E '^Exec(StartPre|StopPost)=' fleecefs@vm.service | cut -d= -f2- | sort -u >commands
[ "$(wc -l <commands)" = 1 ] || fail "not one command: $(cat commands)"
mkdir m
head -c 64K /dev/urandom >'a b.img'
cp 'a b.img' c.img
clean () {
	MOUNTPOINT=$tmp/m sh -c "$(cat commands)" || fail "ExecStartPre: status $?"
}
clean
mount_fleecefs c.img m
clean
same c.img m/.live/c.img
kill -9 "$(daemon_pid m)"
await_daemon m
clean
[ -z "$(mounts_here)" ] || fail 'the dead mount is left'

# OPTIONS that are not there are an empty word.
mount_fleecefs -o '' c.img m
same c.img m/.live/c.img
unmount m
mount_fleecefs -o store=s 'a b.img' other=c.img m
same c.img m/.live/other
unmount m
