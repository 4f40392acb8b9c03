#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
#	in-uml.sh v1|v2 COMMAND...
#
# Runs a command as root in a kernel of its own, User Mode Linux: for tests that need capabilities or
# a version of cgroups that this host has not. It sees the files of the host, as they are; $TMPDIR is
# a disk of its own. The status is that of the command.
#
# LINUX_UML is the kernel, by default linux.uml (Debian: user-mode-linux); its modules lie in
# ../lib/uml/modules. Not part of make check.

set -eu

if [ "${1:-}" != inside ]; then
	linux=$(command -v "${LINUX_UML:-linux.uml}") || { echo 'skipped: no linux.uml'; exit 77; }
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	truncate -s 6G "$work/disk"
	cat >"$work/init" <<-END
		#!/bin/bash
		cd $(printf %q "$PWD")
		exec $(printf '%q ' "$(realpath "$0")" inside "$work" "$(dirname "$linux")/.." "$@")
	END
	chmod +x "$work/init"
	# con0: what the command prints. The kernel says nothing but errors.
	"$linux" mem=1500M root=/dev/root rootfstype=hostfs rw init="$work/init" ubda="$work/disk" \
		con=null con0=fd:0,fd:1 quiet </dev/null
	exit "$(cat "$work/status" 2>/dev/null || echo 1)"
fi

work=$2 prefix=$3 version=$4
shift 4
status=1
trap 'echo "$status" >"$work/status"; poweroff -f' EXIT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 none /sys/fs/cgroup
if [ "$version" = v1 ]; then
	mkdir /sys/fs/cgroup/memory
	mount -t cgroup -o memory none /sys/fs/cgroup/memory
else
	mount -t cgroup2 none /sys/fs/cgroup
	echo +memory +io >/sys/fs/cgroup/cgroup.subtree_control
fi
for module in fs/fuse/fuse drivers/block/loop; do
	# finit_module(2); insmod(8) need not be there.
	perl -e 'open my $f, "<", $ARGV[0] or exit; syscall 313, fileno $f, my $no = "", 0' \
		"$(echo "$prefix"/lib/uml/modules/*/kernel/$module.ko)"
done
mkfs.ext4 -q -F /dev/ubda
mount -t tmpfs none /mnt
mkdir /mnt/tmp
mount /dev/ubda /mnt/tmp
export TMPDIR=/mnt/tmp
status=0
"$@" </dev/null || status=$?
