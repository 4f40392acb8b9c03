# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of a full store share, on top of lib.sh and lib-data.sh, which are sourced first.
# shellcheck disable=SC2154 # base and loop are of lib.sh

state () {
	getfattr -n user.fleecefs.state --only-values "mnt/$1" 2>/dev/null
}

# expect_broken SNAPSHOT [REGEX]: it says so, with a reason that matches, and gives no byte.
expect_broken () {
	[[ $(state "$1") =~ ^broken:.*${2:-} ]] || fail "$1 is '$(state "$1")', not broken: ${2:-}"
	if cat "mnt/$1/img" >"$base/output" 2>/dev/null || [ -s "$base/output" ]; then
		fail "$1 is broken and gives $(wc -c <"$base/output") bytes"
	fi
}

# expect_ok SNAPSHOT TRUTH
expect_ok () {
	[ "$(state "$1")" = ok ] || fail "$1 is '$(state "$1")'"
	frozen "mnt/$1/img" "$2"
}

# small_mount FILESYSTEM [MIB]: mounts a new one on small, which fleecefs is to fill; skips what is
# not to be had by returning false.
small_mount () {
	local mib=${2:-24}

	mkdir -p small
	case $1 in
	tmpfs)
		mount -t tmpfs -o size="${mib}m,nr_inodes=1000" small small
		return
		;;
	xfs*) mib=$((mib < 300 ? 300 : mib)) ;; # mkfs.xfs makes none that is smaller
	btrfs) mib=$((mib < 128 ? 128 : mib)) ;;
	esac
	command -v "mkfs.${1%-*}" >/dev/null || return
	rm -f small.fs
	truncate -s "${mib}M" small.fs
	case $1 in
	ext4) mkfs.ext4 -q -F -m 0 small.fs ;;
	xfs-parent) mkfs.xfs -q -n parent=1 small.fs ;; # from xfsprogs 6.13 on
	*) "mkfs.$1" -q small.fs ;;
	esac >"$base/mkfs" 2>&1 || return
	loop_device small.fs
	mount "$loop" small 2>/dev/null
}

small_umount () {
	umount small || fail 'the store is busy'
	if [ -e small.fs ]; then
		losetup -d "$loop"
		rm small.fs
	fi
}

# fill: until there is no block left and, where their number is limited, no inode.
fill () {
	local i

	sync -f small
	dd if=/dev/zero of=small/full bs=1M status=none 2>/dev/null
	dd if=/dev/zero of=small/full2 bs=4k status=none 2>/dev/null
	sync -f small
	dd if=/dev/zero of=small/full3 bs=4k status=none 2>/dev/null
	mkdir -p small/names 2>/dev/null
	for ((i = 0; i < 100000; i++)); do
		: 2>/dev/null >"small/names/$i" || break
	done
	if : 2>/dev/null >small/names/one-more; then
		rm small/names/one-more
	fi
}

unfill () {
	rm -rf small/full small/full2 small/full3 small/names
	sync -f small
}

# live OFFSET BYTES: a write of the guest that must succeed.
live () {
	patch mnt/.live/img "$1" "$2" direct
}

# live_fails OFFSET BYTES WHY: one that must not, with the text of that errno value.
live_fails () {
	if noise "$2" | dd of=mnt/.live/img bs="$2" seek="$1" iflag=fullblock \
		oflag=seek_bytes,direct conv=notrunc status=none 2>"$base/errors"; then
		fail "a write of $2 bytes at $1 succeeds"
	fi
	grep -q "$3" "$base/errors" || fail "a write fails with $(cat "$base/errors"), not $3"
}
