#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A file system that fills and empties by another hand while a guest writes and snapshots come and
# go: never a wrong byte, with either policy, with limits and without, also after a new start. For
# FULL_SECONDS in all.

set -u

# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
# shellcheck source=tests/lib-data.sh
. "$top_srcdir/tests/lib-data.sh"
# shellcheck source=tests/lib-full.sh
. "$top_srcdir/tests/lib-full.sh"

need getfattr perl
need_root
private_mounts "$@"
in_memory
setup
mkdir mnt

seconds=${FULL_SECONDS:-12}
seed=${FULL_SEED:-$RANDOM}
echo "seed $seed"
for filesystem in tmpfs ext4; do
	for options in on-cbw-error=break-snapshot on-cbw-error=break-guest-write \
		on-cbw-error=break-snapshot,max-overlay=6M,reserve=1M; do
		small_mount $filesystem 24 || continue
		noise $((8 << 20)) >img
		mount_fleecefs -o "store=small/s,$options" img mnt
		policy=${options#on-cbw-error=}
		perl "$top_srcdir/tests/full-random.pl" $((seconds / 6)) "$seed" "${policy%%,*}" ||
			fail "$filesystem, $options, seed $seed"
		unmount mnt
		mount_fleecefs -o "store=small/s,$options" img mnt
		for snapshot in mnt/*/; do
			[ -d "$snapshot" ] || continue
			name=$(basename "$snapshot")
			if [ "$(state "$name")" = ok ]; then
				frozen "mnt/$name/img" "truth-$name"
			else
				[ "${policy%%,*}" = break-snapshot ] || fail "$name is $(state "$name")"
				expect_broken "$name"
			fi
		done
		rm -f truth-*
		unmount mnt
		small_umount
		seed=$((seed + 1))
	done
done
