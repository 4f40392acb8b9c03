/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/space.h"

#include "base/lock.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct _Space
{
  /* constant */
  int dir_fd;
  uint64_t max_overlay, reserve;

  _Atomic uint64_t grant;     /* bytes that can be taken without a look */
  _Atomic uint64_t in_flight; /* taken, perhaps not allocated yet */
  _Atomic uint64_t twice;     /* see space_add_twice() */

  Lock lock;   /* one look at a time */
  GArray *fds; /* int; under lock */
};

Space *
space_new (const char *directory, uint64_t max_overlay, uint64_t reserve)
{
  int fd = open (directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  Space *space;

  if (fd < 0)
    return NULL;
  space = g_new0 (Space, 1);
  space->dir_fd = fd;
  space->max_overlay = max_overlay;
  space->reserve = reserve;
  space->fds = g_array_new (false, false, sizeof (int));
  lock_init (&space->lock, LOCK_SPACE);
  return space;
}

void
space_free (Space *space)
{
  if (space == NULL)
    return;
  close (space->dir_fd);
  g_array_unref (space->fds);
  lock_clear (&space->lock);
  g_free (space);
}

void
space_add (Space *space, int fd)
{
  lock_acquire (&space->lock);
  g_array_append_val (space->fds, fd);
  lock_release (&space->lock);
}

void
space_remove (Space *space, int fd)
{
  lock_acquire (&space->lock);
  for (guint i = 0; i < space->fds->len; i++)
    if (g_array_index (space->fds, int, i) == fd)
      {
        g_array_remove_index_fast (space->fds, i);
        break;
      }
  lock_release (&space->lock);
}

static uint64_t
count_kept (const Space *space) LOCK_REQUIRES (&space->lock)
{
  uint64_t sum = 0;
  struct stat st;

  for (guint i = 0; i < space->fds->len; i++)
    if (fstat (g_array_index (space->fds, int, i), &st) == 0)
      sum += (uint64_t) st.st_blocks * 512;
  return sum;
}

static uint64_t
minus (uint64_t a, uint64_t b)
{
  return a > b ? a - b : 0;
}

/* Makes the grant anew. Returns 0 when it has that many bytes.
 *
 * The old grant is withdrawn first, so that all that was taken is in flight or allocated;
 * and what is in flight is counted first, so that it counts twice rather than not at all. */
static int
look_again (Space *space, uint64_t bytes) LOCK_REQUIRES (&space->lock)
{
  const uint64_t most = units_max (SPACE_GRANT, bytes);
  uint64_t in_flight, room = UINT64_MAX, free = UINT64_MAX;
  struct statvfs fs;

  atomic_store (&space->grant, 0);
  in_flight = atomic_load (&space->in_flight);
  if (space->max_overlay > 0)
    {
      uint64_t kept = count_kept (space);

      kept = minus (kept, atomic_load (&space->twice));
      room = minus (minus (space->max_overlay, kept), in_flight);
    }
  if (space->reserve > 0 && fstatvfs (space->dir_fd, &fs) == 0)
    free = minus (minus (fs.f_bavail * fs.f_frsize, space->reserve), in_flight);
  atomic_store (&space->grant, units_min (most, units_min (room, free)));
  if (room < bytes)
    return -SPACE_MAX_OVERLAY;
  return free < bytes ? -SPACE_RESERVE : 0;
}

static bool
take_granted (Space *space, uint64_t bytes)
{
  uint64_t grant = atomic_load (&space->grant);

  atomic_fetch_add (&space->in_flight, bytes);
  while (grant >= bytes)
    if (atomic_compare_exchange_weak (&space->grant, &grant, grant - bytes))
      return true;
  atomic_fetch_sub (&space->in_flight, bytes);
  return false;
}

int
space_take (Space *space, uint64_t bytes)
{
  int r = 0;

  if (space == NULL || (space->max_overlay == 0 && space->reserve == 0))
    return 0;
  while (r == 0 && !take_granted (space, bytes))
    {
      lock_acquire (&space->lock);
      if (atomic_load (&space->grant) < bytes)
        r = look_again (space, bytes);
      lock_release (&space->lock);
    }
  return r;
}

void
space_done (Space *space, uint64_t bytes)
{
  if (space != NULL && (space->max_overlay > 0 || space->reserve > 0))
    atomic_fetch_sub (&space->in_flight, bytes);
}

void
space_add_twice (Space *space, uint64_t bytes)
{
  if (space != NULL)
    atomic_fetch_add (&space->twice, bytes);
}

void
space_end_twice (Space *space)
{
  atomic_store (&space->twice, 0);
}

int
space_look (Space *space, SpaceUsage *out)
{
  struct statvfs fs;

  if (fstatvfs (space->dir_fd, &fs) != 0)
    return -errno;
  *out = (SpaceUsage){
    .max_overlay = space->max_overlay,
    .reserve = space->reserve,
    .free = fs.f_bavail * fs.f_frsize,
    .total = (fs.f_blocks - fs.f_bfree + fs.f_bavail) * fs.f_frsize,
  };
  lock_acquire (&space->lock);
  out->kept = count_kept (space);
  atomic_store (&space->grant, 0); /* the next writer shall see what has changed, too */
  lock_release (&space->lock);
  return 0;
}

static unsigned
percent_of (uint64_t part, uint64_t whole)
{
  if (whole == 0 || part >= whole)
    return 100;
  return (unsigned) ((double) part * 100 / (double) whole);
}

unsigned
space_percent (const SpaceUsage *usage, bool *out_is_overlay)
{
  unsigned of_fs
      = percent_of (minus (usage->total, usage->free), minus (usage->total, usage->reserve));
  unsigned of_overlay = usage->max_overlay == 0 ? 0 : percent_of (usage->kept, usage->max_overlay);

  *out_is_overlay = of_overlay > of_fs;
  return *out_is_overlay ? of_overlay : of_fs;
}

unsigned
space_alarm (unsigned before, unsigned percent)
{
  static const unsigned levels[] = { 95, 80 };

  for (unsigned i = 0; i < G_N_ELEMENTS (levels); i++)
    if (percent >= levels[i] || (before >= levels[i] && percent + 5 >= levels[i]))
      return levels[i];
  return 0;
}

int
space_errno (int result)
{
  return result == -SPACE_MAX_OVERLAY || result == -SPACE_RESERVE ? -ENOSPC : result;
}

const char *
space_strerror (int errnum)
{
  switch (errnum)
    {
    case ENOSPC:
      return "its file system is full";
    case EDQUOT:
      return "the quota in its file system is used up";
    case SPACE_MAX_OVERLAY:
      return "the overlays take all that max-overlay allows";
    case SPACE_RESERVE:
      return "its file system has no more free than reserve asks for";
    default:
      return g_strerror (errnum);
    }
}
