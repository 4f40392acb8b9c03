/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a disk has done since it was opened. Each thread counts in cache lines of its own
 * (base/thread-slot.h), so counting costs the I/O path nothing that is shared; a sum adds them up
 * and may miss what is being counted at that moment. */
#pragma once

#include "base/thread-slot.h"

#include <stdatomic.h>
#include <stdint.h>

typedef enum
{
  COUNTER_READS, /* of the live disk */
  COUNTER_READ_BYTES,
  COUNTER_WRITES,
  COUNTER_WRITTEN_BYTES,
  COUNTER_DISCARDS, /* holes punched, ranges zeroed or allocated, resizes */
  COUNTER_FLUSHES,
  COUNTER_COPIES, /* of adjacent old blocks to an overlay */
  COUNTER_COPIED_BYTES,
  COUNTER_COPY_FAILURES,
  COUNTER_SNAPSHOT_READS,
  COUNTER_SNAPSHOT_READ_BYTES,
  COUNTER_FROZEN_READS, /* snapshot reads, by pieces, that went to the source */
  COUNTER_CLAIM_WAITS,  /* writes that waited for another's copy */
  COUNTER_MERGED_BYTES, /* moved from one overlay to another */
  COUNTER_N
} Counter;

typedef struct
{
  _Alignas(64) _Atomic uint64_t values[COUNTER_N];
} CounterSlot;

typedef struct
{
  CounterSlot slots[THREAD_SLOTS];
} Counters;

/* Counters at 0; NULL when there is no memory. */
Counters *counters_new (void);
/* Frees them. */
void counters_free (Counters *counters);

/* Adds n. */
static inline void
counters_add (Counters *counters, Counter counter, uint64_t n)
{
  atomic_fetch_add_explicit (&counters->slots[thread_slot ()].values[counter], n,
                             memory_order_relaxed);
}

/* The sum over all threads. */
uint64_t counters_sum (const Counters *counters, Counter counter);
