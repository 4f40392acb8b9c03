/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/page-cache.h"

#include "fs/page-dropper.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The process takes in what it is told whatever the kernel does, unless it is stopped. */
#define PATIENCE_MSEC 10000

struct _PageCache
{
  const Tree *tree; /* constant */
  int socket;       /* constant; -1: there is no process */
  int ended;        /* atomic */
  int lost;         /* atomic: the process is gone, or does not hear */
};

PageCache *
page_cache_new (const Tree *tree, int device)
{
  PageCache *cache = g_new0 (PageCache, 1);

  cache->tree = tree;
  cache->socket = device < 0 ? -1 : page_dropper_start (device);
  if (device >= 0 && cache->socket < 0)
    g_info ("snapshots are read without the page cache, for nobody could drop it: %s",
            g_strerror (errno));
  return cache;
}

void
page_cache_free (PageCache *cache)
{
  if (cache == NULL)
    return;
  if (cache->socket >= 0)
    close (cache->socket);
  g_free (cache);
}

void
page_cache_end (PageCache *cache)
{
  if (cache == NULL || cache->socket < 0)
    return;
  g_atomic_int_set (&cache->ended, true);
  shutdown (cache->socket, SHUT_RDWR);
}

bool
page_cache_is_kept (PageCache *cache)
{
  return cache->socket >= 0 && !g_atomic_int_get (&cache->lost);
}

/* Sends it within so many milliseconds. Returns 0 or -errno. */
static int
send_number (const PageCache *cache, uint64_t number, int patience)
{
  struct pollfd polled = { .fd = cache->socket, .events = POLLOUT };

  while (send (cache->socket, &number, sizeof number, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
    if (errno != EINTR && (errno != EAGAIN || patience == 0 || poll (&polled, 1, patience) == 0))
      return -errno;
  return 0;
}

/* Returns 0 or -errno. */
static int
send_all (const PageCache *cache, Snapshot *snapshot, int patience)
{
  int result = 0;

  for (unsigned i = 0; result == 0 && i < snapshots_n_disks (tree_set (cache->tree)); i++)
    {
      const TreeNode file = { .kind = TREE_SNAPSHOT_FILE, .disk = i, .snapshot = snapshot };
      const TreeNode latest = { .kind = TREE_LATEST_FILE, .disk = i, .snapshot = snapshot };

      result = send_number (cache, tree_number (cache->tree, &file), patience);
      if (result == 0)
        result = send_number (cache, tree_number (cache->tree, &latest), patience);
    }
  return result;
}

void
page_cache_drop (PageCache *cache, Snapshot *snapshot)
{
  int result;

  if (!page_cache_is_kept (cache))
    return;
  result = send_all (cache, snapshot, PATIENCE_MSEC);
  if (result == 0 || g_atomic_int_get (&cache->ended)
      || !g_atomic_int_compare_and_exchange (&cache->lost, false, true))
    return;
  g_warning ("the process that drops cached pages is %s: what programs have read of broken "
             "snapshots may stay in memory, and snapshots are cached no more",
             result == -EAGAIN ? "stopped" : "gone");
}

void
page_cache_drop_if_idle (PageCache *cache, Snapshot *snapshot)
{
  if (page_cache_is_kept (cache))
    send_all (cache, snapshot, 0);
}
