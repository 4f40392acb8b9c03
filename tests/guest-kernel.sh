#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
#	guest-kernel.sh DIRECTORY
#
# Puts a kernel for tests/guest.sh into DIRECTORY: vmlinuz, and the modules that it needs for a disk
# of virtio, with names that sort in the order of loading. Nothing is installed: of a package of the
# kernel (26 MiB) that apt fetches only these files stay. If they are there nothing is done.
#
# The kernel is that of Debian for virtual machines; ext4 is part of it. On other systems, or for
# another kernel, KERNEL and MODULES name a kernel and the directory of its modules.

set -eu

MODULES_NEEDED='virtio_pci virtio_blk'

[ $# = 1 ] || { echo "usage: $0 DIRECTORY" >&2; exit 2; }
[ ! -e "$1/vmlinuz" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die () {
	echo "${0##*/}: $*" >&2
	exit 1
}

fetch () {
	local package parts

	if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
		die 'no apt-get and dpkg-deb here: set KERNEL and MODULES'
	fi
	package=$(apt-cache depends "linux-image-cloud-$(dpkg --print-architecture)" 2>/dev/null |
		sed -n '0,/^ *Depends: \(linux-image-[^ ]*\).*/s//\1/p')
	[ -n "$package" ] || die 'apt knows no linux-image-cloud for this machine'
	# From Debian 14 on kernel and modules have a package each.
	parts=$(apt-cache depends "$package" |
		sed -n 's/^ *Depends: \(linux-\(binary\|modules\)-[^ ]*\).*/\1/p')
	# shellcheck disable=SC2086 # several packages
	(cd "$work" && apt-get -q download "$package" $parts >log 2>&1) || die "$(cat "$work/log")"
	for package in "$work"/*.deb; do
		dpkg-deb -x "$package" "$work/root"
	done
	KERNEL=$(find "$work/root" -name 'vmlinuz*' -type f | head -n 1)
	# Below /lib or, in newer packages, /usr/lib.
	MODULES=$(find "$work/root" -mindepth 1 -path '*/lib/modules/*' -prune | head -n 1)
}

# take NAME: the module, after those that it depends on. What is not there is part of the kernel.
take () {
	local file needed unpacked=$work/$1.ko

	[ ! -e "$unpacked" ] || return 0
	file=$(find "$MODULES" -name "$1.ko" -o -name "$1.ko.*z" -o -name "$1.ko.zst" | head -n 1)
	[ -n "$file" ] || return 0
	case $file in
	*.xz) xz -dc "$file" ;;
	*.gz) gzip -dc "$file" ;;
	*.zst) zstd -dcq "$file" ;;
	*) cat "$file" ;;
	esac >"$unpacked"
	for needed in $(tr '\0' '\n' <"$unpacked" | sed -n 's/^depends=//p' | tr ',' ' '); do
		take "$needed"
	done
	cp "$unpacked" "$work/out/$(printf '%02d' "$n_taken")-$1.ko"
	n_taken=$((n_taken + 1))
}

if [ -z "${KERNEL:-}" ] || [ -z "${MODULES:-}" ]; then
	fetch
fi
[ -d "$MODULES" ] || die "there are no modules for $KERNEL: MODULES is '$MODULES'"
mkdir "$work/out"
n_taken=0
for module in $MODULES_NEEDED; do
	take "$module"
done
# Last, for it says that all is there.
mkdir -p "$1"
cp "$work"/out/*.ko "$1" 2>/dev/null || true
cp "$KERNEL" "$1/vmlinuz.new"
mv "$1/vmlinuz.new" "$1/vmlinuz"
