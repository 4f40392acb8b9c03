/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/page-cache.h"

#include "base/lock.h"

#include <glib.h>

#define THREADS_MAX 4

struct _PageCache
{
  /* constant */
  struct fuse_session *session;
  const Tree *tree;

  Lock lock; /* for all that follows */
  pthread_cond_t changed;
  unsigned n_threads;
  unsigned n_begun; /* of them, ever */
};

typedef struct
{
  PageCache *cache;
  Snapshot *snapshot; /* a reference */
} Job;

PageCache *
page_cache_new (struct fuse_session *session, const Tree *tree)
{
  PageCache *cache = g_new0 (PageCache, 1);

  cache->session = session;
  cache->tree = tree;
  lock_init (&cache->lock, LOCK_PAGES);
  pthread_cond_init (&cache->changed, NULL);
  return cache;
}

void
page_cache_free (PageCache *cache)
{
  if (cache == NULL)
    return;
  g_assert (cache->n_threads == 0);
  pthread_cond_destroy (&cache->changed);
  lock_clear (&cache->lock);
  g_free (cache);
}

void
page_cache_drop (PageCache *cache, Snapshot *snapshot)
{
  for (unsigned i = 0; i < snapshots_n_disks (tree_set (cache->tree)); i++)
    {
      TreeNode file = { .kind = TREE_SNAPSHOT_FILE, .disk = i, .snapshot = snapshot };
      TreeNode latest = { .kind = TREE_LATEST_FILE, .disk = i, .snapshot = snapshot };

      /* ENOENT: the kernel does not know the node, so it has no pages. */
      fuse_lowlevel_notify_inval_inode (cache->session, tree_number (cache->tree, &file), 0, 0);
      fuse_lowlevel_notify_inval_inode (cache->session, tree_number (cache->tree, &latest), 0, 0);
    }
}

/* Counts a thread more, unless there are enough. */
static bool
count_in (PageCache *cache, unsigned *out_n_begun)
{
  bool in;

  lock_acquire (&cache->lock);
  in = cache->n_threads < THREADS_MAX;
  cache->n_threads += in;
  *out_n_begun = cache->n_begun;
  lock_release (&cache->lock);
  return in;
}

static void
count_out (PageCache *cache)
{
  lock_acquire (&cache->lock);
  cache->n_threads--;
  pthread_cond_broadcast (&cache->changed);
  lock_release (&cache->lock);
}

static void
tell_begun (PageCache *cache)
{
  lock_acquire (&cache->lock);
  cache->n_begun++;
  pthread_cond_broadcast (&cache->changed);
  lock_release (&cache->lock);
}

static void
await_begun (PageCache *cache, unsigned n_before)
{
  lock_acquire (&cache->lock);
  while (cache->n_begun == n_before)
    lock_wait (&cache->lock, &cache->changed);
  lock_release (&cache->lock);
}

static void
end_job (Job *job)
{
  PageCache *cache = job->cache;

  snapshot_unref (job->snapshot);
  g_free (job);
  count_out (cache);
}

static void *
run (void *data)
{
  Job *job = data;

  tell_begun (job->cache);
  page_cache_drop (job->cache, job->snapshot);
  end_job (job);
  return NULL;
}

void
page_cache_drop_aside (PageCache *cache, Snapshot *snapshot)
{
  unsigned n_begun;
  GThread *thread;
  Job *job;

  if (!count_in (cache, &n_begun))
    return;
  job = g_new (Job, 1);
  *job = (Job){ cache, snapshot_ref (snapshot) };
  thread = g_thread_try_new ("page-cache", run, job, NULL);
  if (thread == NULL)
    {
      end_job (job);
      return;
    }
  g_thread_unref (thread);
  await_begun (cache, n_begun);
}

void
page_cache_settle (PageCache *cache)
{
  lock_acquire (&cache->lock);
  while (cache->n_threads > 0)
    lock_wait (&cache->lock, &cache->changed);
  lock_release (&cache->lock);
}
