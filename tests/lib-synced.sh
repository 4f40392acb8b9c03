# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests share that make snapshots while tests/synced-load.sh works on a file system, on top
# of lib.sh and lib-data.sh, which are sourced first. What it reports is in the file report.

# How many rounds are to be between two snapshots.
ROUNDS=${ROUNDS:-4}

declare -A before=() after=() # of a snapshot, as synced-check.pl wants them

# The last round that was reported.
n_synced () {
	local line=

	line=$(sed -n 's/.*load: synced \([0-9]*\) .*/\1/p' report | tail -n 1)
	echo "${line:-0}"
}

synced_at_least () {
	[ "$(n_synced)" -ge "$1" ] || grep -q 'load: failed' report
}

# await_rounds N: until the load has done N rounds more.
await_rounds () {
	await synced_at_least $(($(n_synced) + $1)) || fail "the load stands still: $(tail -n 5 report)"
	! grep 'load: failed' report || fail 'the load got an error'
}

# snapshot_in_flight NAME: while the load goes on.
snapshot_in_flight () {
	await_rounds "$ROUNDS"
	before[$1]=$(n_synced)
	mkdir "mnt/$1" || fail "mkdir of $1"
	after[$1]=$(n_synced)
}

# stays FILE COPY: a file of a snapshot is what the copy was, not only in the page cache.
stays () {
	dd if="$1" iflag=direct bs=1M status=none | cmp - "$2" || fail "$1 is not what it was"
}

# holds BEFORE AFTER DIRECTORY...: all that was synced, nothing that came later.
holds () {
	"$top_srcdir/tests/synced-check.pl" report "$@"
}

# check_checks DIRECTORY...: what is true of the end of the load, in DIRECTORY, is not true of the
# snapshots 1 and 5: the check would see if they were not what they should be.
check_checks () {
	local last

	last=$(n_synced)
	holds "$last" "$last" "$@" || fail 'the end of the load is not there'
	! holds "${before[1]}" "${after[1]}" "$@" >output || fail 'the end is taken for the beginning'
	! holds $((last + 2)) $((last + 2)) "$@" >output || fail 'a round that is missing is not noticed'
}
