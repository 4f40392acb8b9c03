#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Hostile files: the harnesses of tests/fuzz on their corpus, as built with everything else; then,
# where clang has libFuzzer, on new inputs under the address and undefined behaviour sanitizers, for
# FUZZ_SECONDS, all at once. What libFuzzer finds stays in $FUZZ_DIR, if that is given: the inputs
# that reach new code in corpus-*, those that fail beside them. `make fuzz` does that for an hour.

set -u
: "${top_srcdir:?}" "${top_builddir:?}"
seconds=${FUZZ_SECONDS:-12}
harnesses='qcow2 store'
fuzz=$top_srcdir/tests/fuzz

fail () {
	echo "FAIL: $*"
	exit 1
}

[ -x "$top_builddir/tests/fuzz/replay-qcow2" ] || {
	echo 'skipped: the harnesses are not built (configure found no libcheck)'
	exit 77
}
for harness in $harnesses; do
	"$top_builddir/tests/fuzz/replay-$harness" "$fuzz/corpus-$harness" || fail "the corpus of $harness"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/fleecefs-fuzz-build.XXXXXX") || exit 1
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
found=${FUZZ_DIR:-$work}
sanitize='-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all'

# shellcheck disable=SC2086 # several flags
echo 'int LLVMFuzzerTestOneInput (const char *p, long n) { return p == 0 && n > 0; }' |
	clang $sanitize -x c - -o "$work/probe" 2>/dev/null
if ! [ -x "$work/probe" ] || ! "$work/probe" -runs=1 2>/dev/null; then
	echo 'skipped: new inputs, for there is no clang with libFuzzer (the corpus passed)'
	exit 77
fi

# build HARNESS LAYER...
build () {
	local sources=() layer

	for layer in "${@:2}"; do
		sources+=("$top_srcdir/fleecefs/$layer"/*.c)
	done
	# shellcheck disable=SC2086,SC2046 # several flags
	clang -std=gnu11 -g -O1 $sanitize -include "$top_builddir/config.h" -I"$top_srcdir/fleecefs" \
		-I"$fuzz" "$fuzz/fuzz-$1.c" "$fuzz/fuzz.c" "${sources[@]}" -pthread \
		$(pkg-config --cflags --libs glib-2.0) -o "$work/fuzz-$1" || fail "cannot build $1"
}

build qcow2 base overlay &
build store base store || exit 1
wait $! || exit 1

# run HARNESS: what it said goes to $work/HARNESS.log
run () {
	local options=()

	[ ! -e "$fuzz/$1.dict" ] || options+=("-dict=$fuzz/$1.dict")
	mkdir -p "$found/corpus-$1"
	# Old inputs that take longer than timeout, or more memory, are failures too.
	"$work/fuzz-$1" "${options[@]}" -max_total_time="$seconds" -max_len=4096 -timeout=60 \
		-rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$found/$1-" "$found/corpus-$1" "$fuzz/corpus-$1" >"$work/$1.log" 2>&1
}

declare -A jobs
for harness in $harnesses; do
	run "$harness" &
	jobs[$harness]=$!
done
for harness in $harnesses; do
	wait "${jobs[$harness]}"
	status=$?
	[ "$status" = 0 ] || { tail -n 60 "$work/$harness.log"; fail "$harness: status $status"; }
	grep -E 'cov: ' "$work/$harness.log" | tail -n 1
	grep -E '^Done|^stat::(number|peak)' "$work/$harness.log"
done
