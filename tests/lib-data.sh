# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of data share, on top of lib.sh, which is sourced first.

# in_memory: before setup; the files of the test are in memory if they can be.
in_memory () {
	if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then
		export TMPDIR=/dev/shm
	fi
}

# noise BYTES: bytes that nothing compresses and no other call repeats.
noise () {
	head -c "$1" /dev/urandom
}

# frozen FILE TRUTH: the file of a snapshot has the bytes of TRUTH, both as the daemon reads them
# now and as the kernel's page cache has them.
frozen () {
	dd if="$1" iflag=direct bs=256k status=none | cmp - "$2" || fail "$1 is not $2"
	same "$1" "$2"
}

# patch FILE OFFSET BYTES [FLAG]: new noise at an offset, by one write. FLAG: direct, ...
patch () {
	noise "$3" | dd of="$1" bs="$3" seek="$2" iflag=fullblock oflag="seek_bytes${4:+,$4}" \
		conv=notrunc status=none || fail "cannot write $3 bytes to $1 at $2"
}

# await COMMAND...: until the command succeeds; false after $PATIENCE seconds. For what gives no
# sign when it happens.
await () {
	local end=$((SECONDS + PATIENCE))

	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.02
	done
}

# number_of STORE SNAPSHOT: the number of the directory in STORE/snapshots.
number_of () {
	local record

	record=$(grep -lx "name=$2" "$1"/snapshots/*/snapshot.ini)
	record=${record%/snapshot.ini}
	[ -n "$record" ] || fail "no snapshot $2 in $1"
	echo "${record##*/}"
}

# await_layers STORE N: until background merges have left N layers in the store.
await_layers () {
	await has_layers "$@" || fail "after $PATIENCE s the store has not $2 layers:" "$1"/snapshots/*
}

has_layers () {
	local layers=("$1"/snapshots/*/)

	[ -d "${layers[0]}" ] || layers=()
	[ ${#layers[@]} = "$2" ]
}

# store_kib STORE: what the old blocks take.
store_kib () {
	local kib

	kib=$(du -sk "$1/snapshots") || fail "du of $1"
	echo "${kib%%[!0-9]*}"
}

# sum FILE: the checksum alone.
sum () {
	local line

	line=$(sha256sum <"$1") || return
	echo "${line%% *}"
}
