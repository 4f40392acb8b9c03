/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mutexes, and the one list of the project's locks.
 *
 * In the order of acquisition; a thread that holds one may take only those
 * below it. No lock at all is held while a FUSE reply is sent.
 *
 *     lock                  protects                          disk I/O under it
 *     verbs                 one change of the set at a time:  manifest, overlay creation
 *       (set-private.h)     mkdir, rmdir, mv, end of a merge
 *     barrier (barrier.h)   write sections against changes    no; closed for microseconds, and
 *                           of the chains                     for the writes in flight
 *     set (set-private.h)   names, references, levels         never
 *     stripe.meta           the order of writes to one        one small write
 *       (tracker.h)         region's L2 entries on disk
 *     stripe.lock           claims, frozen reads, published   never: snapshot readers
 *       (tracker.h)         L2 entries of one region          need it
 *     tables (qcow2-map.c)  loading and creating L2 tables    reads or creates one table
 *     space (space.c)       counting what overlays take       fstat, statvfs
 *     header (overlay.c)    the header of one overlay         one small write
 *     read (overlay.c)      the question whether a write of   no; asks without waiting
 *                           one overlay failed
 *     note (disk-private.h) the note at a source              an extended attribute
 *     jobs (deadline.c)     the queue of jobs                 no
 *     job (deadline.c)      the end of one job                no
 *     journal               the records of an overlay's       a sync when it is full; only
 *       (qcow2-journal.h)     journal that are taken          durable copies need it
 *     log (qcow2-log.h)     who waits for an overlay's log    no; dropped for writes and syncs
 *     group (group-sync.h)  who syncs an overlay for whom     no; dropped for the sync
 *     cache (page-cache.c)  how many threads drop pages       never
 *     log (log-queue.c)     messages on their way to the log  never: all others may be held
 *
 * A chain swap takes all stripe.locks of a disk, in index order; nothing else
 * holds two of them.
 *
 * Lock is a pthread mutex (not a GMutex: ThreadSanitizer knows the former) with
 * clang's thread-safety attributes.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#ifdef __clang__
#define LOCK_ATTRIBUTE(x) __attribute__ ((x))
#else
#define LOCK_ATTRIBUTE(x)
#endif
#define LOCK_REQUIRES(l) LOCK_ATTRIBUTE (requires_capability (l))
#define LOCK_EXCLUDES(l) LOCK_ATTRIBUTE (locks_excluded (l))
#define LOCK_UNCHECKED LOCK_ATTRIBUTE (no_thread_safety_analysis)

typedef struct LOCK_ATTRIBUTE (capability ("mutex")) _Lock
{
  pthread_mutex_t mutex;
} Lock;

static inline void
lock_init (Lock *lock)
{
  pthread_mutex_init (&lock->mutex, NULL);
}

static inline void
lock_clear (Lock *lock)
{
  pthread_mutex_destroy (&lock->mutex);
}

static inline void
lock_acquire (Lock *lock) LOCK_ATTRIBUTE (acquire_capability (lock)) LOCK_UNCHECKED
{
  pthread_mutex_lock (&lock->mutex);
}

static inline void
lock_release (Lock *lock) LOCK_ATTRIBUTE (release_capability (lock)) LOCK_UNCHECKED
{
  pthread_mutex_unlock (&lock->mutex);
}

/* As lock_wait(), but only until that time by the condition's clock: then it returns false. */
static inline bool
lock_wait_until (Lock *lock, pthread_cond_t *condition, const struct timespec *time)
    LOCK_REQUIRES (lock) LOCK_UNCHECKED
{
  return pthread_cond_timedwait (condition, &lock->mutex, time) == 0;
}

/* Sleeps until the condition is signalled; the lock is dropped meanwhile. */
static inline void
lock_wait (Lock *lock, pthread_cond_t *condition) LOCK_REQUIRES (lock) LOCK_UNCHECKED
{
  pthread_cond_wait (condition, &lock->mutex);
}

/* So many milliseconds from now, for lock_wait_until(). */
static inline struct timespec
lock_time_in (unsigned ms)
{
  struct timespec time;
  long ns;

  clock_gettime (CLOCK_MONOTONIC, &time);
  ns = time.tv_nsec + (long) (ms % 1000) * 1000000;
  time.tv_sec += (time_t) (ms / 1000) + ns / 1000000000;
  time.tv_nsec = ns % 1000000000;
  return time;
}

/* Makes a condition that lock_wait_until() can wait for by CLOCK_MONOTONIC. */
static inline void
lock_init_timed (pthread_cond_t *condition)
{
  pthread_condattr_t attributes;

  pthread_condattr_init (&attributes);
  pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
  pthread_cond_init (condition, &attributes);
  pthread_condattr_destroy (&attributes);
}
