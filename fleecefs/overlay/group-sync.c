/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/group-sync.h"

#include "base/io.h"
#include "base/pause.h"

void
group_sync_init (GroupSync *group, int fd)
{
  *group = (GroupSync){ .fd = fd };
  lock_init (&group->lock, LOCK_GROUP);
  pthread_cond_init (&group->ended, NULL);
}

void
group_sync_clear (GroupSync *group)
{
  pthread_cond_destroy (&group->ended);
  lock_clear (&group->lock);
}

int
group_sync_error (GroupSync *group)
{
  return group->error;
}

void
group_sync_fail (GroupSync *group, int error)
{
  int none = 0;

  atomic_compare_exchange_strong (&group->error, &none, error);
}

/* For the caller and all who wait; the lock is dropped meanwhile. */
static void
run (GroupSync *group) LOCK_REQUIRES (&group->lock)
{
  int r;

  group->running = true;
  group->n_begun++;
  lock_release (&group->lock);
  PAUSE_POINT ("sync:begun");
  r = io_sync (group->fd, true);
  lock_acquire (&group->lock);
  group_sync_fail (group, r);
  group->running = false;
  group->n_ended = group->n_begun;
  pthread_cond_broadcast (&group->ended);
}

int
group_sync (GroupSync *group)
{
  uint64_t mine;
  int r;

  lock_acquire (&group->lock);
  mine = group->n_begun + 1;
  while (group->n_ended < mine && group->error == 0)
    if (group->running)
      {
        PAUSE_POINT ("sync:wait");
        lock_wait (&group->lock, &group->ended);
      }
    else
      run (group);
  r = group->error;
  lock_release (&group->lock);
  return r;
}
