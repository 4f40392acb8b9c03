#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Checks the model of the copy-before-write protocol, model/cow.pml, with spin:
# the protocol holds in every state, and each mutation of it is refuted.

set -u

read -ra cc <<<"${CC:-cc}"

# spin runs gcc as its preprocessor.
for tool in spin gcc "${cc[0]}"; do
    command -v "$tool" >/dev/null || { echo "skip: $tool is not installed"; exit 77; }
done

model=$(cd "$(dirname "$0")/model" && pwd)/cow.pml || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1

# search MACRO...: search the model's states; pan's report goes to ./out.  No
# exit status is trusted: spin's and pan's mean little.
search() {
    rm -f -- pan* *.trail out
    if ! { spin -a "$@" "$model" && "${cc[@]}" -O1 -w -DSAFETY -DMEMLIM=2000 -o pan pan.c; } >log 2>&1; then
        cat log
    fi
    ./pan -m100000 >out 2>&1
}

# Whether the last search visited every state and every statement.
complete() {
    grep -q '^Full statespace search for:' out &&
        ! grep -Eq 'too small|not completed|out of memory|memory limit|truncated' out &&
        ! grep -Eq '\([1-9][0-9]* of [0-9]+ states\)' out
}

surprise() {
    echo "FAIL: $1"
    cat out
    failed=1
}

# holds NAME MACRO...: the protocol keeps its promises.
holds() {
    local name=$1
    shift
    search "$@"
    if complete && grep -q 'errors: 0$' out; then
        echo "ok: $name: $(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out) states"
    else
        surprise "$name: does not hold, or the search was not complete"
    fi
}

# refuted MUTATION MACRO...: an assertion fails.
refuted() {
    local name=$1
    shift
    search "-D$name" "$@"
    if grep -q 'assertion violated' out && grep -q 'errors: 1$' out; then
        echo "ok: $name refuted"
    else
        surprise "$name: not refuted"
    fi
}

failed=0
few=(-DREADERS=1 -DWRITES=1)
small_merge=(-DMERGE -DREADERS=1 -DGRANULES=1)
two_disks=(-DTWO_DISKS -DREADERS=1 -DSNAPSHOTS=1)

holds "base"
holds "base, three snapshots" -DSNAPSHOTS=3 -DREADERS=1
holds "base, three writers" -DWRITERS=3 "${few[@]}"
holds "merge" -DMERGE -DSNAPSHOTS=3 "${few[@]}"
holds "merge, all snapshots deleted" "${small_merge[@]}" -DSNAPSHOTS=3 -DRMDIRS=3
holds "two disks" "${two_disks[@]}"
holds "two disks, two snapshots" -DTWO_DISKS "${few[@]}"

for mutation in NO_WAIT WAIT_BEFORE_PUBLISH PUBLISH_BEFORE_PERSIST STALE_CHAIN NO_DRAIN; do
    refuted "$mutation" -DREADERS=1
done
for mutation in MERGE_NO_DRAIN KEEP_RECEIVER SAVED_IN_NEWEST NO_PIN; do
    refuted "$mutation" "${small_merge[@]}"
done
refuted SPLIT_FREEZE "${two_disks[@]}"

exit "$failed"
