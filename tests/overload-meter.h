/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the overload test measures: waits, and what the daemon takes.
 *
 * Waits are counted in buckets whose bounds are a sixteenth apart, so a percentile is right to
 * 7 percent and the worst is exact. A Waits belongs to one thread; waits_add() is for the sum.
 */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

#define WAITS_BUCKETS (64 * 16)

typedef struct
{
  uint64_t n;
  uint64_t worst; /* ns */
  uint32_t buckets[WAITS_BUCKETS];
} Waits;

/* Now, ns; for waits_note(). */
uint64_t waits_now (void);
/* One that began at that time and ends now. */
void waits_note (Waits *waits, uint64_t begin);
/* Adds those of another thread. */
void waits_add (Waits *sum, const Waits *waits);
/* The wait that share (0 to 1) of all do not exceed, ns. */
uint64_t waits_percentile (const Waits *waits, double share);

/* The most that was seen of a process. */
typedef struct
{
  unsigned threads;
  unsigned descriptors;
  unsigned layers;     /* of the store */
  uint64_t memory_kib; /* VmHWM */
} Usage;

/* Looks at the process and the store's snapshots/ and raises the figures. */
void usage_look (Usage *usage, pid_t pid, const char *store);
