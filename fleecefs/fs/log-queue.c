/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/log-queue.h"

#include "base/lock.h"

#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#define NAME "fleecefs-log" /* of at most 15 bytes */

typedef struct _Entry Entry;

/* A message, or the place of lost ones. */
struct _Entry
{
  Entry *next;
  size_t size;     /* in bytes, all of it */
  unsigned n_lost; /* 0: none, it is a message */
  int level;
  char line[];
};

struct _LogQueue
{
  LogQueueFunc write; /* constant */
  pthread_t thread;   /* constant */

  Lock lock; /* for all that follows */
  pthread_cond_t changed, written;
  Entry *first, *last;
  size_t bytes; /* what the entries take, with the one that is being written */
  bool stop;
};

static void
append (LogQueue *queue, unsigned n_lost, int level, const char *line) LOCK_REQUIRES (&queue->lock)
{
  size_t length = strlen (line), size = sizeof (Entry) + length + 1;
  Entry *entry = g_malloc (size);

  *entry = (Entry){ .size = size, .n_lost = n_lost, .level = level };
  memcpy (entry->line, line, length + 1);
  if (queue->last != NULL)
    queue->last->next = entry;
  else
    queue->first = entry;
  queue->last = entry;
  queue->bytes += size;
  pthread_cond_signal (&queue->changed);
}

void
log_queue_push (LogQueue *queue, int level, const char *line)
{
  size_t size = sizeof (Entry) + strlen (line) + 1;

  lock_acquire (&queue->lock);
  if (queue->bytes + size <= LOG_QUEUE_BYTES)
    append (queue, 0, level, line);
  else if (queue->last == NULL || queue->last->n_lost == 0)
    append (queue, 1, level, "");
  else
    {
      queue->last->n_lost++;
      queue->last->level = MIN (queue->last->level, level);
    }
  lock_release (&queue->lock);
}

/* The next entry, which is the caller's and counts on; NULL: stop. */
static Entry *
take (LogQueue *queue)
{
  Entry *entry;

  lock_acquire (&queue->lock);
  while (queue->first == NULL && !queue->stop)
    lock_wait (&queue->lock, &queue->changed);
  entry = queue->first;
  if (entry != NULL)
    queue->first = entry->next;
  if (queue->first == NULL)
    queue->last = NULL;
  lock_release (&queue->lock);
  return entry;
}

static void
drop (LogQueue *queue, Entry *entry)
{
  lock_acquire (&queue->lock);
  queue->bytes -= entry->size;
  if (queue->bytes == 0)
    pthread_cond_broadcast (&queue->written);
  lock_release (&queue->lock);
  g_free (entry);
}

static void *
work (void *data)
{
  LogQueue *queue = data;
  Entry *entry;

  prctl (PR_SET_NAME, NAME, 0, 0, 0);
  while ((entry = take (queue)) != NULL)
    {
      g_autofree char *lost = NULL;

      if (entry->n_lost > 0)
        lost = g_strdup_printf ("%u message%s lost here: the log was not read in time",
                                entry->n_lost, entry->n_lost == 1 ? " was" : "s were");
      queue->write (entry->level, lost != NULL ? lost : entry->line);
      drop (queue, entry);
    }
  return NULL;
}

static void
destroy (LogQueue *queue)
{
  pthread_cond_destroy (&queue->changed);
  pthread_cond_destroy (&queue->written);
  lock_clear (&queue->lock);
  g_free (queue);
}

LogQueue *
log_queue_new (LogQueueFunc write)
{
  LogQueue *queue = g_new0 (LogQueue, 1);
  sigset_t all, old;
  bool ok;

  queue->write = write;
  lock_init (&queue->lock, LOCK_MESSAGES);
  pthread_cond_init (&queue->changed, NULL);
  lock_init_timed (&queue->written);
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  ok = pthread_create (&queue->thread, NULL, work, queue) == 0;
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (ok)
    return queue;
  destroy (queue);
  return NULL;
}

bool
log_queue_flush (LogQueue *queue, unsigned ms)
{
  const struct timespec deadline = lock_time_in (ms);
  bool in_time = true;

  lock_acquire (&queue->lock);
  while (in_time && queue->bytes > 0)
    in_time = lock_wait_until (&queue->lock, &queue->written, &deadline);
  in_time = queue->bytes == 0;
  lock_release (&queue->lock);
  return in_time;
}

void
log_queue_free (LogQueue *queue)
{
  lock_acquire (&queue->lock);
  queue->stop = true;
  pthread_cond_signal (&queue->changed);
  lock_release (&queue->lock);
  pthread_join (queue->thread, NULL);
  destroy (queue);
}
