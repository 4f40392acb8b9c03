/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cow/barrier.h"

#include "base/lock.h"
#include "base/pause.h"
#include "base/thread-slot.h"
#include "base/trace.h"
#include "base/units.h"

#include <glib.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define N_SLOTS 16
#define CACHE_LINE 64

/* The first try to close lasts that long, each next one twice as long up to BARRIER_HOLD_MS;
 * between two of them all go in for so many times as long as they were kept out. */
#define FIRST_TRY_MS (BARRIER_HOLD_MS / 8)
#define REST 4
/* A try in which sections do end lasts as long after each end, but so many times that in all: else
 * a closer would never come in where sections last longer and there are many. */
#define PATIENCE 4

typedef struct
{
  _Alignas(CACHE_LINE) atomic_uint n_inside;
} Slot;

struct _Barrier
{
  Slot slots[N_SLOTS];
  atomic_bool closed;

  Lock closer_lock;   /* held from close to open */
  Lock lock;          /* for the conditions; closed changes under it */
  unsigned n_waiting; /* for the opening; under lock */
  uint64_t n_waits;   /* since the start; under lock */
  pthread_cond_t left;
  pthread_cond_t opened;
  pthread_cond_t admitted; /* nobody waits any more */
};

Barrier *
barrier_new (void)
{
  Barrier *barrier = aligned_alloc (CACHE_LINE, units_round_up (sizeof *barrier, CACHE_LINE));

  g_assert (barrier != NULL);
  for (unsigned i = 0; i < N_SLOTS; i++)
    atomic_init (&barrier->slots[i].n_inside, 0);
  atomic_init (&barrier->closed, false);
  lock_init (&barrier->closer_lock, LOCK_CLOSER);
  lock_init (&barrier->lock, LOCK_BARRIER);
  lock_init_timed (&barrier->left);
  pthread_cond_init (&barrier->opened, NULL);
  pthread_cond_init (&barrier->admitted, NULL);
  barrier->n_waiting = 0;
  barrier->n_waits = 0;
  return barrier;
}

void
barrier_free (Barrier *barrier)
{
  pthread_cond_destroy (&barrier->admitted);
  pthread_cond_destroy (&barrier->opened);
  pthread_cond_destroy (&barrier->left);
  lock_clear (&barrier->lock);
  lock_clear (&barrier->closer_lock);
  free (barrier);
}

static void
leave (Barrier *barrier, unsigned slot)
{
  atomic_fetch_sub (&barrier->slots[slot].n_inside, 1);
  if (atomic_load (&barrier->closed))
    {
      lock_acquire (&barrier->lock);
      pthread_cond_broadcast (&barrier->left);
      lock_release (&barrier->lock);
    }
}

/* Enters under the lock: the next closer waits until all that were kept out are inside, so the
 * barrier cannot be closed again before they are. */
static void
enter_waiting (Barrier *barrier, unsigned slot)
{
  lock_acquire (&barrier->lock);
  PAUSE_POINT ("barrier:blocked");
  barrier->n_waiting++;
  barrier->n_waits++;
  while (atomic_load (&barrier->closed))
    lock_wait (&barrier->lock, &barrier->opened);
  atomic_fetch_add (&barrier->slots[slot].n_inside, 1);
  if (--barrier->n_waiting == 0)
    pthread_cond_signal (&barrier->admitted);
  lock_release (&barrier->lock);
}

/* Sequential consistency is what makes this right: a section adds itself and then
 * looks at closed; a closer sets closed and then looks at the counters. At least
 * one of the two sees the other. */
unsigned
barrier_enter (Barrier *barrier)
{
  unsigned slot = thread_slot () % N_SLOTS;

  atomic_fetch_add (&barrier->slots[slot].n_inside, 1);
  if (atomic_load (&barrier->closed))
    {
      leave (barrier, slot);
      enter_waiting (barrier, slot);
    }
  lock_order_take (LOCK_SECTION, false);
  return slot;
}

void
barrier_leave (Barrier *barrier, unsigned slot)
{
  lock_order_drop (LOCK_SECTION);
  leave (barrier, slot);
}

uint64_t
barrier_n_waits (Barrier *barrier)
{
  uint64_t n;

  lock_acquire (&barrier->lock);
  n = barrier->n_waits;
  lock_release (&barrier->lock);
  return n;
}

/* For 0 each counter needs to be seen at zero once: who comes later sees closed. */
static unsigned
count_inside (Barrier *barrier)
{
  unsigned n = 0;

  for (unsigned i = 0; i < N_SLOTS; i++)
    n += atomic_load (&barrier->slots[i].n_inside);
  return n;
}

static struct timespec
earlier (struct timespec a, struct timespec b)
{
  return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec) ? a : b;
}

static void
let_in (Barrier *barrier) LOCK_REQUIRES (&barrier->lock)
{
  atomic_store (&barrier->closed, false);
  trace_barrier_open ();
  pthread_cond_broadcast (&barrier->opened);
}

/* Closes it if all are outside within so many milliseconds, or go out one by one. */
static bool
try_to_close (Barrier *barrier, unsigned ms) LOCK_REQUIRES (&barrier->lock)
{
  struct timespec end, last;
  unsigned n, n_least = UINT_MAX;
  bool in_time = true;

  while (barrier->n_waiting > 0)
    lock_wait (&barrier->lock, &barrier->admitted);
  end = lock_time_in (ms);
  last = lock_time_in (ms * PATIENCE);
  trace_barrier_close ();
  atomic_store (&barrier->closed, true);
  while ((n = count_inside (barrier)) > 0)
    {
      if (n < n_least)
        {
          n_least = n;
          end = earlier (lock_time_in (ms), last);
          in_time = true;
        }
      PAUSE_POINT ("barrier:closing");
      if (!in_time)
        {
          let_in (barrier);
          return false;
        }
      in_time = lock_wait_until (&barrier->lock, &barrier->left, &end);
    }
  return true;
}

/* Nobody signals this while the barrier is open. */
static void
rest (Barrier *barrier, unsigned ms) LOCK_REQUIRES (&barrier->lock)
{
  const struct timespec end = lock_time_in (ms);

  while (lock_wait_until (&barrier->lock, &barrier->left, &end))
    ;
}

void
barrier_close (Barrier *barrier) LOCK_UNCHECKED
{
  unsigned ms = FIRST_TRY_MS;

  lock_acquire (&barrier->closer_lock);
  lock_acquire (&barrier->lock);
  while (!try_to_close (barrier, ms))
    {
      rest (barrier, ms * REST);
      if (ms < BARRIER_HOLD_MS)
        ms *= 2;
    }
  trace_barrier_closed ();
  lock_release (&barrier->lock);
}

void
barrier_open (Barrier *barrier) LOCK_UNCHECKED
{
  lock_acquire (&barrier->lock);
  let_in (barrier);
  lock_release (&barrier->lock);
  lock_release (&barrier->closer_lock);
}
