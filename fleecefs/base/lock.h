/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mutexes, and the one list of the project's locks.
 *
 * The list is LockClass, in the order of acquisition: a thread that holds a lock may take only
 * those below it. The test build and the builds with sanitizers check that at every acquisition
 * (lock.c), and abort where it does not hold; they also check that no I/O function of base/io.h is
 * called under a lock that forbids disk I/O, and that no lock is held while a FUSE reply is sent.
 *
 * A chain swap takes all stripe locks of a disk, in index order (lock_acquire_next()); nothing else
 * holds two locks of one class.
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

/* What each protects, and the disk I/O that happens under it. Those marked "no I/O" are needed by
 * who must never wait for a disk. */
typedef enum
{
  LOCK_VERBS,  /* snapshots: one change of the set at a time (mkdir, rmdir, mv, the end of a merge);
                  manifest, overlays are made */
  LOCK_CLOSER, /* barrier.c: who closes the barrier, held while it is closed; as a rule none */
  LOCK_SECTION, /* barrier.h: not a mutex but a write section, the barrier's shared side; all that a
                   guest's write needs */
  LOCK_BARRIER, /* barrier.c: its conditions; no I/O */
  LOCK_SET,     /* snapshots: names, references, levels; no I/O */
  LOCK_ENTRIES, /* tracker.h: the order of writes to one region's L2 entries; writes of entries */
  LOCK_STRIPE,  /* tracker.h: claims, frozen reads, published entries of one region; no I/O */
  LOCK_NOTE, /* disk-private.h: the note at a source; an extended attribute or a byte of the seal, a
                sync */
  LOCK_HEADER,   /* overlay.c: the header of one overlay; writes it, begins its journal and log,
                    syncs */
  LOCK_TABLES,   /* qcow2-map.c: loading and making L2 tables, and room in the file; reads, writes,
                    resizes, syncs */
  LOCK_JOURNAL,  /* qcow2-journal.c: which records are taken; a sync when they are used up */
  LOCK_DATA_LOG, /* qcow2-log.c: who waits for an overlay's log; dropped for writes and syncs */
  LOCK_ERRORS,   /* overlay.c: the question whether a write failed; asks without waiting */
  LOCK_GROUP,    /* group-sync.c: who syncs an overlay for whom; dropped for the sync */
  LOCK_SPACE,    /* space.c: counting what overlays take; fstat, statvfs */
  LOCK_JOBS,     /* deadline.c: the queue of jobs; no I/O */
  LOCK_JOB,      /* deadline.c: the end of one job; no I/O */
  LOCK_LANE,     /* fs/lane.c: a lane's queue; no I/O */
  LOCK_PAGES,    /* fs/page-dropper.c: whose pages are to be dropped; no I/O */
  LOCK_MESSAGES, /* fs/log-queue.c: messages on their way to the log; no I/O: all others may be held
                  */
  LOCK_TEST,     /* of the tests */
  LOCK_N_CLASSES
} LockClass;

typedef struct LOCK_ATTRIBUTE (capability ("mutex")) _Lock
{
  pthread_mutex_t mutex;
#ifdef FLEECE_LOCK_ORDER
  LockClass class;
#endif
} Lock;

#ifdef FLEECE_LOCK_ORDER
/* This thread is about to take a lock of the class, or has released it. next: one more of the class
 * that it took last may be taken. */
void lock_order_take (LockClass class, bool next);
void lock_order_drop (LockClass class);
/* Aborts when this thread holds a lock under which there is no disk I/O, or any lock at all. */
void lock_order_check_io (void);
void lock_order_check_none (void);
#else
static inline void
lock_order_take (LockClass class, bool next)
{
}

static inline void
lock_order_drop (LockClass class)
{
}

static inline void
lock_order_check_io (void)
{
}

static inline void
lock_order_check_none (void)
{
}
#endif

static inline void
lock_init (Lock *lock, LockClass class)
{
  pthread_mutex_init (&lock->mutex, NULL);
#ifdef FLEECE_LOCK_ORDER
  lock->class = class;
#endif
}

static inline void
lock_take_in_order (Lock *lock, bool next)
{
#ifdef FLEECE_LOCK_ORDER
  lock_order_take (lock->class, next);
#endif
}

static inline void
lock_clear (Lock *lock)
{
  pthread_mutex_destroy (&lock->mutex);
}

static inline void
lock_acquire (Lock *lock) LOCK_ATTRIBUTE (acquire_capability (lock)) LOCK_UNCHECKED
{
  lock_take_in_order (lock, false);
  pthread_mutex_lock (&lock->mutex);
}

/* As lock_acquire(), by a thread that may hold others of the class: the caller takes them in one
 * order. */
static inline void
lock_acquire_next (Lock *lock) LOCK_ATTRIBUTE (acquire_capability (lock)) LOCK_UNCHECKED
{
  lock_take_in_order (lock, true);
  pthread_mutex_lock (&lock->mutex);
}

static inline void
lock_release (Lock *lock) LOCK_ATTRIBUTE (release_capability (lock)) LOCK_UNCHECKED
{
  pthread_mutex_unlock (&lock->mutex);
#ifdef FLEECE_LOCK_ORDER
  lock_order_drop (lock->class);
#endif
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
