#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Takes one safeguard at a time out of the engine, builds test-race (or test-deadline) with that, and
# demands that it fails: a test of a race that a broken engine passes would be worth nothing.
#
# A mutant is a file and a perl expression that changes it. One that does not change its
# file, or does not compile, is a failure of this test.

# shellcheck disable=SC2016 # the dollars in the expressions are perl's

set -u

: "${CC:?}" "${TEST_COMPILE:?}" "${TEST_LIBS:?}" "${TEST_CALLS:?}"
: "${top_srcdir:?}" "${top_builddir:?}"
export CK_DEFAULT_TIMEOUT=10 CK_FORK=yes
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
n_bad=0

# The test's own files, and what they need of the linker.
declare -A files=(
    [test-race]="$top_srcdir/tests/test-race.c"
    [test-deadline]="$top_srcdir/tests/test-deadline.c $top_srcdir/tests/calls.c $TEST_CALLS"
)
program=test-race

# Builds the program with the given source in place of the library's own.
build()
{
    # The words of the commands are meant to be split.
    # shellcheck disable=SC2086
    (cd "$top_builddir" &&
        $CC $TEST_COMPILE -o "$dir/$program" ${files[$program]} "$@" $TEST_LIBS)
}

# NAME CASE FILE EXPRESSION: what is taken out, which case must notice, where, how.
mutant()
{
    perl -0pe "$4" "$top_srcdir/fleecefs/$3" >"$dir/mutant.c"
    if cmp -s "$top_srcdir/fleecefs/$3" "$dir/mutant.c"; then
        echo "FAILED: $1: the expression changes nothing in $3"
        n_bad=$((n_bad + 1))
    elif ! build "$dir/mutant.c" 2>"$dir/log"; then
        echo "FAILED: $1: does not compile"
        cat "$dir/log"
        n_bad=$((n_bad + 1))
    elif CK_RUN_CASE="$2" "$dir/$program" >"$dir/log" 2>&1; then
        echo "FAILED: $1: $2 did not notice"
        cat "$dir/log"
        n_bad=$((n_bad + 1))
    else
        echo "ok: $1: noticed by $2"
    fi
}

if ! build 2>"$dir/log" || ! "$dir/test-race" >>"$dir/log" 2>&1; then
    echo "FAILED: test-race as it is"
    cat "$dir/log"
    exit 1
fi

mutant 'no wait for frozen reads (step 5)' reader-first cow/save.c \
    's/stripe_wait_reads \([^;]*\);//'
mutant 'the wait comes before publishing (steps 4 and 5 swapped)' reader-before-publish cow/save.c \
    's/(      )(stripe_wait_reads \([^;]*\);)//; my $w = $2;
     s/(lock_acquire \(&save->stripe->lock\);\n)(  if \(r < 0\)\n    r = settle)/$1  $w\n$2/'
mutant 'a saved granule is written without a look at the readers' second-writer cow/save.c \
    's/ && atomic_load \(&save->stripe->n_reads\) == 0//'
mutant 'the claims of others are not looked at' claim cow/tracker.c \
    's/if \(claim->region == region\)/if (claim->region != region)/'
mutant 'a reader takes the chain before the lock' mkdir-while-reader-begins cow/frozen.c \
    's/  PAUSE_POINT \("reader:begin"\);/  Chain *early = chain_ref (frozen->disk->chain);\n$&/;
     s/find_layer \(frozen, frozen->disk->chain\)/find_layer (frozen, early)/'
mutant 'a reader looks up and registers in two steps' lookup-and-registration cow/frozen.c \
    's/  if \(index >= 0 &&/  lock_release (&frozen->stripe->lock);\n  PAUSE_POINT ("reader:looked-up");\n  lock_acquire (&frozen->stripe->lock);\n$&/'
mutant 'mkdir does not drain the writers' mkdir-drains cow/barrier.c \
    's/while \(\(n = count_inside \(barrier\)\) > 0\)/while (n_least == 0 \&\& (n = count_inside (barrier)) > 0)/'
mutant 'mkdir keeps all out until a copy that hangs is done' hung-copy-during-mkdir cow/barrier.c \
    's/if \(!in_time\)/if (!in_time \&\& ms == 0)/'
mutant 'the barrier holds up nobody' write-during-mkdir cow/barrier.c \
    's/if \(atomic_load \(&barrier->closed\)\)(\n    \{\n      leave)/if (0)$1/'
mutant 'each disk is frozen at an instant of its own' disks-freeze-as-one snapshot/freeze.c \
    's/PAUSE_POINT \("mkdir:disk-frozen"\);/barrier_open (set->barrier);\n$&\nbarrier_close (set->barrier);/'
mutant 'copies go on into the level that a merge takes away' write-at-the-end-of-a-merge \
    snapshot/merge.c 's/set->merging_into = [^;]*\? older : NULL;/set->merging_into = NULL;/'
mutant 'a merge does not drain the writers' merge-waits snapshot/set-chains.c \
    's/(set_swap_chains \(Snapshots \*set\)\n.*?)  barrier_close \(set->barrier\);(.*?)  barrier_open \(set->barrier\);/$1$2/s'
mutant 'a frozen read does not look again whether its snapshot is broken' break-while-reading \
    cow/frozen.c 's/if \(r == 0 && layer_is_broken \(frozen->layer\)\)/if (0)/'
mutant 'a seek asks the source after its lookup' seek cow/seek.c \
    's/r = ask_source \(seek, \*granule\);.*?\n/{ r = ask_source (seek, *granule); if (r == 0) r = step_at_source (seek, granule, &run); }\n/'
mutant 'a seek keeps the chain that it had before it asked the source' seek cow/seek.c \
    's/return take_chain \(seek\);/return 0;/'
mutant 'a seek does not look again whether its snapshot is broken' seek cow/seek.c \
    's/if \(layer_is_broken \(seek->layer\)\)/if (0)/'
mutant 'a copy that failed breaks nothing' break-before-the-write cow/save.c \
    's/if \(chain_break \([^;]*?\)\)\n/if (fault == LAYER_INTACT \&\& r == 0)\n/'
mutant 'a break does not stand in the overlay when the guest writes' break-before-the-write \
    cow/note.c 's/int r = chain_record_break \(chain\);/int r = 0;/'
mutant 'a write relies on a break that is not written down' break-by-another-write cow/chain.c \
    's/if \(!layer_is_given_up \(chain->layers\[chain->wanted\]\)\)/if (!layer_is_broken (chain->layers[chain->wanted]))/'
mutant 'a discard looks for holes outside of its section' hole-and-mkdir cow/range.c \
    's/(uint64_t start = \*offset;)(.*?)slot = barrier_enter \(disk->barrier\);\n  r = save_data \([^;]*;/$1$2r = save_data (disk, offset, end, STEP);\n  slot = barrier_enter (disk->barrier);/s'
mutant 'a long discard is one section' mkdir-during-a-long-discard cow/range.c \
    's/save_data \(disk, offset, end, STEP\)/save_data (disk, offset, end, UINT64_MAX)/'
mutant 'a run of holes does not wait for its readers' shrink-of-a-large-hole cow/zero-run.c \
    's/stripe_wait_reads \([^;]*\);//'
mutant 'a break is told after the merge' break-during-a-merge snapshot/merge.c \
    's/if \(broken_has_note \(merge->set\)\)/if (0)/'

program=test-deadline
if ! build 2>"$dir/log" || ! "$dir/$program" >>"$dir/log" 2>&1; then
    echo "FAILED: test-deadline as it is"
    cat "$dir/log"
    exit 1
fi
if grep -q '^skipped' "$dir/log"; then
    cat "$dir/log"
else
    mutant "a mark takes back another's note" note cow/deadline.c \
        's/r == 0 && job->noted/r == 0/'
    mutant 'a note that could not be left counts' note cow/note.c \
        's/if \(r == 0\)\n    (disk->n_notes\+\+;)/$1/'
fi
mutant 'a merge does not wait for late copies' late snapshot/merge.c \
    's/if \(disk_has_late_copies \(.*?\)\)\n/if (merge == NULL)\n/'

[ "$n_bad" -eq 0 ]
