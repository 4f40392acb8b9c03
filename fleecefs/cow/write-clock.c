/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cow/write-clock.h"

#include <time.h>

void
write_clock_init (WriteClock *clock, int64_t last)
{
  atomic_init (&clock->last, last);
  atomic_init (&clock->floor, last + 1);
}

void
write_clock_tick (WriteClock *clock)
{
  struct timespec ts;
  int64_t now, floor, last;

  clock_gettime (CLOCK_REALTIME_COARSE, &ts);
  now = ts.tv_sec * INT64_C (1000000000) + ts.tv_nsec;
  floor = atomic_load_explicit (&clock->floor, memory_order_relaxed);
  if (now < floor)
    now = floor;

  /* Mostly equal within a tick of the clock: then the line is not written. */
  last = atomic_load_explicit (&clock->last, memory_order_relaxed);
  while (last < now
         && !atomic_compare_exchange_weak_explicit (&clock->last, &last, now, memory_order_relaxed,
                                                    memory_order_relaxed))
    ;
}

int64_t
write_clock_last (const WriteClock *clock)
{
  return atomic_load_explicit (&clock->last, memory_order_relaxed);
}

int64_t
write_clock_freeze (WriteClock *clock)
{
  int64_t last = write_clock_last (clock);

  atomic_store_explicit (&clock->floor, last + 1, memory_order_relaxed);
  return last;
}
