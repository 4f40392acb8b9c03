/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/lane.h"

#include "base/lock.h"
#include "base/units.h"

#include <glib.h>
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

struct _Lane
{
  unsigned limit; /* constant */

  Lock lock; /* for all that follows; nothing else is locked under it */
  unsigned n_inside;
  uint64_t n_bytes;
  Queued *first, **end;
};

Lane *
lane_new (unsigned limit)
{
  Lane *lane = g_new0 (Lane, 1);

  lane->limit = limit;
  lane->end = &lane->first;
  lock_init (&lane->lock);
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

/* Enters if there is room, or if there is none in the queue. */
static bool
enter_at_once (Lane *lane)
{
  bool inside;

  lock_acquire (&lane->lock);
  inside = lane->n_inside < lane->limit || lane->n_bytes >= QUEUE_BYTES;
  lane->n_inside += inside;
  lock_release (&lane->lock);
  return inside;
}

/* Queues the copy, unless there is none, or by now somebody has left: then the caller is inside
 * and the copy is free. */
static bool
enter_or_queue (Lane *lane, Queued *copy)
{
  bool inside;

  lock_acquire (&lane->lock);
  inside = copy == NULL || lane->n_inside < lane->limit;
  lane->n_inside += inside;
  if (!inside)
    {
      *lane->end = copy;
      lane->end = &copy->next;
      lane->n_bytes += copy->n_bytes;
    }
  lock_release (&lane->lock);
  if (inside)
    g_free (copy);
  return inside;
}

/* The next of the queue, or NULL: the lane is left. */
static Queued *
next_or_leave (Lane *lane)
{
  Queued *next;

  lock_acquire (&lane->lock);
  next = lane->n_inside > lane->limit ? NULL : lane->first;
  if (next == NULL)
    lane->n_inside--;
  else
    {
      lane->first = next->next;
      if (lane->first == NULL)
        lane->end = &lane->first;
      lane->n_bytes -= next->n_bytes;
    }
  lock_release (&lane->lock);
  return next;
}

void
lane_run (Lane *lane, const LaneRequest *request)
{
  Queued *next;

  if (!enter_at_once (lane) && !enter_or_queue (lane, copy_request (request)))
    return;
  request->run (request);
  while ((next = next_or_leave (lane)) != NULL)
    {
      next->request.run (&next->request);
      g_free (next);
    }
}
