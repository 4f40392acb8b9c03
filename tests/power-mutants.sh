#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Takes one rule of what has to be on disk before what out of the library at a time, builds
# test-power (or test-group-sync, or test-log) with that, and demands that it fails. As mutants.sh, but it takes longer: `make power-mutants`.

# shellcheck disable=SC2016 # the dollars in the expressions are perl's

set -u

: "${CC:?}" "${TEST_COMPILE:?}" "${TEST_LIBS:?}" "${TEST_CALLS:?}"
: "${top_srcdir:?}" "${top_builddir:?}"
export CK_DEFAULT_TIMEOUT=600 CK_FORK=yes POWER_DEEP=2 POWER_STATES=${POWER_STATES:-60}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
n_bad=0

# The test's own files are compiled once. The words of the commands are meant to be split.
# shellcheck disable=SC2086
for file in test-power test-group-sync test-log power-bed power-check power-crash power-log calls; do
    (cd "$top_builddir" && $CC $TEST_COMPILE -c -o "$dir/$file.o" "$top_srcdir/tests/$file.c") ||
        exit 1
done

declare -A objects=(
    [test-power]="$dir/test-power.o $dir/power-bed.o $dir/power-check.o $dir/power-crash.o $dir/power-log.o"
    [test-group-sync]="$dir/test-group-sync.o"
    [test-log]="$dir/test-log.o"
)
program=test-power

# Builds the program with the given source in place of the library's own.
build()
{
    # shellcheck disable=SC2086
    (cd "$top_builddir" &&
        $CC $TEST_COMPILE -o "$dir/$program" ${objects[$program]} "$dir/calls.o" "$@" \
            $TEST_CALLS $TEST_LIBS)
}

# NAME CASES FILE EXPRESSION: what is taken out, which cases must notice (one of them, words), where,
# how. POWER_MUTANTS=EXPRESSION takes only those with such a name.
mutant()
{
    local case

    [[ $1 =~ ${POWER_MUTANTS:-.} ]] || return
    perl -0pe "$4" "$top_srcdir/fleecefs/$3" >"$dir/mutant.c"
    if cmp -s "$top_srcdir/fleecefs/$3" "$dir/mutant.c"; then
        echo "FAILED: $1: the expression changes nothing in $3"
        n_bad=$((n_bad + 1))
        return
    fi
    if ! build "$dir/mutant.c" 2>"$dir/log"; then
        echo "FAILED: $1: does not compile"
        cat "$dir/log"
        n_bad=$((n_bad + 1))
        return
    fi
    # Which states of a crash are tried is a matter of chance; some mutants show in few of them.
    for case in $2 $2 $2 $2 $2 $2 $2 $2; do
        if ! CK_RUN_CASE="$case" "$dir/$program" >"$dir/log" 2>&1; then
            echo "ok: $1: noticed by $case:$(grep -o 'F:.*' "$dir/log" | head -n 1 | cut -d: -f5- |
                cut -c1-90)"
            return
        fi
    done
    echo "FAILED: $1: nobody noticed: $2"
    n_bad=$((n_bad + 1))
}

mutant 'a record counts without its bytes' journal-first-writes overlay/qcow2-replay.c \
    's/ \|\| \(r == 0 && found != check\)//'
mutant 'the guest does not wait for the journal' journal-first-writes overlay/qcow2-journal.c \
    's/(QCOW2_JOURNAL_RECORD\);\n)  if \(r == 0\)\n    r = group_sync \(journal->sync\);\n/$1/'
early='copy_record (save->disk, stripe, to, save->region, &kept.data, &kept.zero);'
mutant 'the entry does not wait for the journal' journal-first-writes cow/save.c \
    "s/(?=      r = keep \\(save)/$early/"
mutant 'the entry does not wait for the log' first-writes cow/save.c "s/(?=      r = keep \\(save)/$early/"
early=${early/record/publish}
mutant 'others see the entry before it is on disk' journal-second-writer cow/save.c \
    "s/(?=      r = keep \\(save)/$early/"
mutant 'others see the entry before it is in the log' second-writer cow/save.c \
    "s/(?=      r = keep \\(save)/$early/"
mutant 'others see a run of holes before it is on disk' cut-hole cow/zero-run.c \
    's/r = overlay_settle \(run->to\);/r = 0;/'
mutant 'the journal is not read' journal-first-writes overlay/qcow2-used.c \
    's/r == 0 && map->header.journaled/0/'
mutant 'a journal ends before the tables are on disk' lost-entry overlay/qcow2-replay.c \
    's/return r == 0 \? group_sync \(map->sync\) : r;/return r;/'
mutant 'after a kill the tables do not wait for bytes of the journal' killed-copy \
    overlay/overlay.c 's/header.journaled && !settle_file/false \&\& !settle_file/'
POWER_STATES=400 mutant 'a full journal does not wait for the tables' full-journal overlay/qcow2-journal.c \
    's/r = group_sync \(journal->sync\);(\n        if \(r == 0\)\n          journal->next)/r = journal->fd < 0 ? -1 : 0;$1/'
POWER_STATES=400 mutant 'a merge overwrites what only the journal has' journal-overwriting-merge snapshot/merge.c \
    's/r = merge->up \? overlay_renew \(dead->overlay\) : 0;/r = 0;/'
mutant 'the log is not read' first-writes overlay/qcow2-replay.c 's/if \(log.size == 0\)/if (true)/'
mutant 'the guest does not wait for the log' first-writes overlay/qcow2-log.c \
    's/r = await_disk \(log, log->next, batch->end\);/r = 0;/'
mutant 'the log gives back only bytes whose entry is lost' first-writes overlay/qcow2-replay.c \
    's/(?=  r = qcow2_log_place)/  if ((change->data & ~saved (entry)) == 0)\n    return 0;\n/'
mutant 'the log ends before what is made of it is on disk' lost-place overlay/qcow2-replay.c \
    's/return r == 0 \? group_sync \(map->sync\) : r;/return r;/'
mutant 'a change in the log counts without its bytes' first-writes overlay/qcow2-log.c \
    's/ \|\| crc64 \(0, bytes, n\) != check//'
mutant 'a lap does not wait for the places' 'full-log writers' overlay/qcow2-log.c \
    's/  r = group_sync \(log->sync\);\n/  r = 0;\n/'
mutant 'changes are written behind a lap that is not on disk' full-log overlay/qcow2-log.c \
    's/ \? await_disk \(log, 0, RECORD\) : r;/ ? 0 : r;/'
mutant 'a new lap keeps the number of the one before' log-merge overlay/qcow2-log.c \
    's/new_lap \(record\);/(qcow2_journal_encode_lap (log->lap, record), log->lap);/'
mutant 'a merge overwrites what the log has' log-merge snapshot/merge.c \
    's/overlay_renew/overlay_settle/'
mutant 'the log is given up before its bytes are in their place on disk' 'new-room first-writes' \
    overlay/qcow2-map.c 's/r = group_sync \(map->sync\);(?=\n  if \(r == 0\)\n    give_up_log)/r = 0;/'
mutant 'the log relies on a table that is not on disk' first-writes overlay/qcow2-tables.c \
    's/if \(r == 0 && map->durable\) (?=\/\* the log)/if (0) /'
mutant 'the log relies on an end of the file that is not on disk' new-room overlay/qcow2-tables.c \
    's/if \(map->durable\)\n/if (0)\n/'
mutant 'the log is used for a place that the file does not reach' no-room overlay/qcow2-map.c \
    's/<(?= map->durable_end)/!=/'
# Of the many ways in which the changes before L1's entry can be lost only one shows.
POWER_STATES=400 mutant 'an L2 table is not on disk before L1 refers to it' no-room overlay/qcow2-tables.c \
    's/if \(r == 0 && map->durable && offset[^\n]*/if (0)/'
mutant 'mkdir does not sync the images' unflushed snapshot/freeze.c \
    's/\(set->durable && !set_sync_sources \(set, error\)\)/0/g'
mutant 'mkdir syncs the images before the freeze only' before-freeze snapshot/freeze.c \
    's/\(set->durable && !set_sync_sources \(set, error\)\)\n/0\n/'
mutant 'new overlays are not durable' first-writes snapshot/freeze.c \
    's/set->durable \? overlay_make_durable \(overlay\) : 0/0/'
mutant 'a level goes before what a merge copied is on disk' 'small-merge merge-down' snapshot/merge.c \
    's/return r == 0 \? overlay_settle \([^;]*;/return r;/'
POWER_STATES=400 mutant 'in a merge entries do not wait for bytes' small-merge cow/transfer.c \
    's/n > 0 \? overlay_settle \(to\) : 0/0/'
mutant 'a start does not sync the overlays of a session before' process-then-power \
    overlay/overlay.c \
    's/(qcow2_map_make_durable \(overlay->map\);\n  return ).*?;/$1 0;/'
mutant 'a start does not sync the images' process-then-power snapshot/set-marks.c \
    's/ \|\| set->durable//'
# Often the record has it before the crash; so it is given three tries.
mutant 'the mark of a break does not wait for the disk' 'break-mark break-mark break-mark' overlay/overlay.c \
    's/(header\.broken = true;\n      r = write_header \(overlay\);\n)      if \(r == 0\)\n        r = overlay_settle \(overlay\);\n/$1/'
mutant 'refcounts are not on disk when the header says clean' 'holes remounts' overlay/overlay.c \
    's/(qcow2_map_finish \(overlay->map\);\n\n)  if \(r == 0\)\n    r = overlay_sync \(overlay\);\n/$1/'
mutant 'a clean header is not on disk when the store says clean' first-writes overlay/overlay.c \
    's/(r = mark \(overlay, false\);\n  )return r == 0 \? overlay_sync \(overlay\) : r;/$1return r;/'
mutant 'a backing file name is not on disk when the store says clean' relink overlay/overlay.c \
    's/else if \(r == 0 && overlay->header_written\)/else if (0)/'
mutant 'the images are not on disk when the store says clean' first-writes snapshot/set-images.c \
    's/int r = disk_flush \(set->disks\[i\], false\)/int r = 0/'
mutant 'their times are not on disk when the store says clean' first-writes snapshot/set-images.c \
    's/disk_flush \(set->disks\[i\], false\)/disk_flush (set->disks[i], true)/'
mutant 'a removed layer comes back' 'power-then-process sizes' store/store.c \
    's/ \|\| !dir_sync \(store->snapshots_fd, store->snapshots_path, error\)\)/)/'
mutant 'a record is not on disk when it gets its name' first-writes store/keyfile.c \
    's/durable \? io_sync \(fd, false\) : 0/0/'
mutant 'the name of a record is not on disk' first-writes store/keyfile.c \
    's/if \(!durable \|\| dir_sync \([^\n]*/if (1)/'
mutant 'a record that was the spare is not on disk when the spare is made anew' full-store \
    store/keyfile.c 's/if \(durable && !dir_sync [^\n]*\n    return note_put_back/if (0)\n    return note_put_back/'
mutant 'the name of a layer is not on disk' first-writes store/store.c \
    's/fd < 0 \|\| \(durable && !dir_sync [^)]*\)\)/fd < 0/'
mutant 'the mark of an image is not on disk when the store says open' first-writes \
    snapshot/set-marks.c 's/ \|\| set->durable//'
mutant 'a start does not say that the host must not crash' process snapshot/set-open.c \
    's/ok = ok && set_mark_open \(set, error\);//'

program=test-group-sync
mutant 'a sync that runs already is taken for a later one' group-sync overlay/group-sync.c \
    's/mine = group->n_begun \+ 1/mine = group->n_begun + !group->running/'
mutant 'an error is forgotten' group-sync overlay/group-sync.c \
    's/  group_sync_fail \(group, r\);/  group->error = r;/; s/ && group->error == 0//'

program=test-log
mutant 'a lap does not wait for who writes to a place' full overlay/qcow2-log.c \
    's/while \(log->n_open > 0\)/while (false)/'
mutant 'an error of a write to the log is that of one copy only' full overlay/qcow2-log.c \
    's/  if \(r < 0\)\n    group_sync_fail \(log->sync, r\);\n//'
mutant 'the log goes on after a sync that failed' full overlay/qcow2-log.c \
    's/r = group_sync_error \(log->sync\);/r = 0;/'
mutant 'bytes are read that may be in the log only' full overlay/overlay.c \
    's/group_sync_error \(&overlay->sync\) != 0/false/'
mutant 'a lap keeps the number of the one before' lost overlay/qcow2-log.c \
    's/new_lap \(record\);/(qcow2_journal_encode_lap (log->lap, record), log->lap);/'
mutant 'who comes while another writes does not share' many overlay/qcow2-log.c \
    's/n < 2 \* BATCH_MAX/n < 1/'

[ "$n_bad" -eq 0 ]
