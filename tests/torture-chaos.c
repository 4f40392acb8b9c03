/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "torture-chaos.h"

#include "base/pause.h"

#include <glib.h>
#include <limits.h>
#include <sched.h>

#define MAX_HOLD_US 3000

/* Points where a thread holds no lock, and that the set's own thread does not pass. */
static const char *const points[] = { "reader:registered", "reader:read",          "writer:copied",
                                      "writer:published",  "writer:before-source", "mkdir:closed" };

atomic_uint *
chaos_join (Chaos *chaos)
{
  unsigned i = atomic_fetch_add (&chaos->n_threads, 1);

  g_assert (i < CHAOS_MAX_THREADS);
  return &chaos->ticks[i];
}

void
chaos_tick (atomic_uint *tick)
{
  atomic_fetch_add (tick, 1);
}

void
chaos_leave (atomic_uint *tick)
{
  atomic_store (tick, UINT_MAX);
}

#ifdef FLEECE_PAUSE_POINTS
static unsigned
sum_ticks (Chaos *chaos)
{
  unsigned sum = 0;

  for (unsigned i = 0; i < CHAOS_MAX_THREADS; i++)
    sum += atomic_load (&chaos->ticks[i]);
  return sum;
}

static void
hold (Chaos *chaos)
{
  const char *point = points[random_below (&chaos->random, G_N_ELEMENTS (points))];
  int64_t until = g_get_monotonic_time () + (int64_t) random_below (&chaos->random, MAX_HOLD_US);
  unsigned enough = sum_ticks (chaos) + (unsigned) random_below (&chaos->random, 100);

  pause_arm (point);
  while ((int) (sum_ticks (chaos) - enough) < 0 && g_get_monotonic_time () < until)
    sched_yield ();
  pause_release (point);
}

/* Whoever was held has left the point when everybody has done something since: two ticks, for the
 * first could be that of an operation that was over. */
static void
wait_for_all (Chaos *chaos)
{
  for (unsigned i = 0; i < atomic_load (&chaos->n_threads); i++)
    {
      unsigned start = atomic_load (&chaos->ticks[i]), now = start;

      while (now != UINT_MAX && now - start < 2 && !atomic_load (&chaos->stop))
        {
          sched_yield ();
          now = atomic_load (&chaos->ticks[i]);
        }
    }
}

static void *
run (void *data)
{
  Chaos *chaos = data;

  while (!atomic_load (&chaos->stop))
    {
      hold (chaos);
      wait_for_all (chaos);
    }
  return NULL;
}
#else
static void *
run (void *data)
{
  (void) data;
  return NULL;
}
#endif

void
chaos_start (Chaos *chaos, uint64_t seed)
{
  chaos->random.state = seed;
  atomic_init (&chaos->stop, false);
  atomic_init (&chaos->n_threads, 0);
  for (unsigned i = 0; i < CHAOS_MAX_THREADS; i++)
    atomic_init (&chaos->ticks[i], 0);
  g_assert (pthread_create (&chaos->thread, NULL, run, chaos) == 0);
}

void
chaos_stop (Chaos *chaos)
{
  atomic_store (&chaos->stop, true);
  pthread_join (chaos->thread, NULL);
}
