/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cow/counters.h"

#include <stdlib.h>
#include <string.h>

Counters *
counters_new (void)
{
  Counters *counters = aligned_alloc (_Alignof(Counters), sizeof *counters);

  if (counters != NULL)
    memset (counters, 0, sizeof *counters);
  return counters;
}

void
counters_free (Counters *counters)
{
  free (counters);
}

uint64_t
counters_sum (const Counters *counters, Counter counter)
{
  uint64_t sum = 0;

  for (unsigned i = 0; i < THREAD_SLOTS; i++)
    sum += atomic_load_explicit (&counters->slots[i].values[counter], memory_order_relaxed);
  return sum;
}
