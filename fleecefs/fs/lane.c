/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/lane.h"

#include "base/lock.h"
#include "base/units.h"

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* What a queue may hold, data included. */
#define QUEUE_BYTES (32 * MIB)

typedef struct _Queued Queued;

struct _Queued
{
  LaneRequest request;
  struct fuse_file_info fi;
  Queued *next;
  size_t n_bytes; /* of all this */
  char data[];
};

/* How many are in the lane and in the queue, in one word, so that none misses the other. */
#define INSIDE UINT64_C (1)
#define QUEUED (UINT64_C (1) << 32)

static uint32_t
n_inside (uint64_t state)
{
  return (uint32_t) state;
}

static uint32_t
n_queued (uint64_t state)
{
  return (uint32_t) (state >> 32);
}

struct _Lane
{
  unsigned limit; /* constant */

  atomic_uint_fast64_t state; /* the queued change under lock */

  Lock lock; /* for all that follows; nothing else is locked under it */
  uint64_t n_bytes;
  Queued *first, **end;
};

Lane *
lane_new (unsigned limit)
{
  Lane *lane = g_new0 (Lane, 1);

  lane->limit = limit;
  atomic_init (&lane->state, 0);
  lane->end = &lane->first;
  lock_init (&lane->lock, LOCK_LANE);
  return lane;
}

void
lane_free (Lane *lane)
{
  if (lane == NULL)
    return;
  g_assert (lane->first == NULL);
  lock_clear (&lane->lock);
  g_free (lane);
}

/* Enters if there is room and nobody waits for it. */
static bool
enter (Lane *lane)
{
  uint64_t state = atomic_load (&lane->state);

  while (n_queued (state) == 0 && n_inside (state) < lane->limit)
    if (atomic_compare_exchange_weak (&lane->state, &state, state + INSIDE))
      return true;
  return false;
}

bool
lane_is_idle (Lane *lane)
{
  return atomic_load (&lane->state) == 0;
}

static void
leave (Lane *lane)
{
  atomic_fetch_sub (&lane->state, INSIDE);
}

static Queued *
copy_request (const LaneRequest *request)
{
  /* Those of a request that came by io_uring stay where they are until the answer. */
  bool has_data = request->data != NULL && !fuse_compat_is_ring (request->req);
  size_t n_data = has_data ? request->size : 0;
  Queued *copy = g_try_malloc (sizeof *copy + n_data);

  if (copy == NULL)
    return NULL;
  *copy = (Queued){ .request = *request, .n_bytes = sizeof *copy + n_data };
  if (request->fi != NULL)
    {
      copy->fi = *request->fi;
      copy->request.fi = &copy->fi;
    }
  if (has_data)
    copy->request.data = memcpy (copy->data, request->data, n_data);
  return copy;
}

/* What became of a request that could not enter at once. */
typedef enum
{
  QUEUED_IT,
  ENTERED, /* somebody had left by then */
  NO_ROOM, /* in the queue either */
} Outcome;

static Outcome
queue (Lane *lane, const LaneRequest *request)
{
  Queued *copy = copy_request (request);
  Outcome outcome;

  lock_acquire (&lane->lock);
  if (enter (lane))
    outcome = ENTERED;
  else if (copy == NULL || lane->n_bytes >= QUEUE_BYTES)
    outcome = NO_ROOM;
  else
    {
      outcome = QUEUED_IT;
      *lane->end = copy;
      lane->end = &copy->next;
      lane->n_bytes += copy->n_bytes;
      atomic_fetch_add (&lane->state, QUEUED);
    }
  lock_release (&lane->lock);
  if (outcome != QUEUED_IT)
    g_free (copy);
  return outcome;
}

/* Enters with the next of the queue, if there are one and room. */
static Queued *
enter_with_next (Lane *lane)
{
  Queued *next = NULL;

  if (n_queued (atomic_load (&lane->state)) == 0)
    return NULL;
  lock_acquire (&lane->lock);
  /* While one is queued nobody else enters. */
  if (lane->first != NULL && n_inside (atomic_load (&lane->state)) < lane->limit)
    {
      next = lane->first;
      lane->first = next->next;
      if (lane->first == NULL)
        lane->end = &lane->first;
      lane->n_bytes -= next->n_bytes;
      atomic_fetch_add (&lane->state, INSIDE - QUEUED);
    }
  lock_release (&lane->lock);
  return next;
}

static void
answer (const LaneRequest *request, int64_t result)
{
  if (request->answer != NULL)
    request->answer (request, result);
}

/* Works on the request in the lane, and answers it outside. */
static void
pass (Lane *lane, const LaneRequest *request)
{
  int64_t result = request->work (request);

  leave (lane);
  answer (request, result);
}

void
lane_run (Lane *lane, const LaneRequest *request)
{
  Queued *next;

  if (!enter (lane))
    switch (queue (lane, request))
      {
      case QUEUED_IT:
        return;
      case NO_ROOM:
        answer (request, request->work (request));
        return;
      case ENTERED:
        break;
      }
  pass (lane, request);
  while ((next = enter_with_next (lane)) != NULL)
    {
      pass (lane, &next->request);
      g_free (next);
    }
}
