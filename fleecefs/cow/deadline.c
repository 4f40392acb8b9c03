/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cbw-timeout: a guest's write waits only so long for its copies.
 *
 * A system call that hangs cannot be called back. So the copies of one write are a job for another
 * thread, and the guest's thread waits for the job or for the deadline. A job that is late goes on,
 * and keeps its claims, as long as its system call does, but it is in no write section any more:
 * the chain may have changed. Then it claims nothing more; and a merge, which changes overlays,
 * waits for it (disk_has_late_copies()). What it still saves does no harm: either the guest's write
 * was refused and the old blocks are old blocks; or every layer that would find them in the job's
 * overlay is broken by then.
 *
 * Writes that need no copy are no jobs.
 */
#include "base/pause.h"
#include "cow/disk-private.h"

#include <errno.h>

/* Jobs at a time; others wait for a thread. */
#define N_THREADS 16

typedef struct _Job Job;

struct _Job
{
  /* constant */
  Disk *disk;
  Chain *chain; /* a reference */
  uint64_t offset, end;
  bool is_mark; /* write down what is broken; else save */
  bool noted;   /* of a mark: it has a note at the image */

  atomic_uint refs;
  Lock lock;
  pthread_cond_t ended;
  bool is_done, is_late; /* under lock */
  int result;            /* under lock */

  Job *next; /* in the queue; under its lock */
};

/* A queue, and the threads that work on it. */
struct _DiskJobs
{
  Lock lock; /* for all that follows */
  pthread_cond_t changed;
  Job *first, **end;
  bool stop; /* when the queue is empty */
  pthread_t threads[N_THREADS];
  unsigned n_threads;
};

static Job *
job_new (Disk *disk, Chain *chain, uint64_t offset, uint64_t end)
{
  Job *job = g_new0 (Job, 1);

  job->disk = disk;
  job->chain = chain_ref (chain);
  job->offset = offset;
  job->end = end;
  atomic_init (&job->refs, 2); /* the thread that waits and the one that works */
  lock_init (&job->lock, LOCK_JOB);
  lock_init_timed (&job->ended);
  return job;
}

static void
job_unref (Job *job)
{
  if (atomic_fetch_sub (&job->refs, 1) != 1)
    return;
  chain_unref (job->chain);
  pthread_cond_destroy (&job->ended);
  lock_clear (&job->lock);
  g_free (job);
}

static int
save_unless_late (Job *job)
{
  bool late;

  lock_acquire (&job->lock);
  late = job->is_late;
  lock_release (&job->lock);
  return late ? 0 : save_range (job->disk, job->chain, job->offset, job->end);
}

/* The overlays take the mark, perhaps only now: then the note at the image has done its work. */
static int
mark (Job *job)
{
  int r = chain_record_break (job->chain);

  if (r == 0 && job->noted)
    note_clear (job->disk);
  return r;
}

static void
work (Job *job)
{
  int r = job->is_mark ? mark (job) : save_unless_late (job);

  lock_acquire (&job->lock);
  job->result = r;
  job->is_done = true;
  if (job->is_late)
    atomic_fetch_sub (&job->disk->n_late, 1);
  pthread_cond_signal (&job->ended);
  lock_release (&job->lock);
  job_unref (job);
}

/* The next job, or NULL: stop. */
static Job *
next_job (DiskJobs *jobs)
{
  Job *job;

  lock_acquire (&jobs->lock);
  while (jobs->first == NULL && !jobs->stop)
    lock_wait (&jobs->lock, &jobs->changed);
  job = jobs->first;
  if (job != NULL)
    jobs->first = job->next;
  if (jobs->first == NULL)
    jobs->end = &jobs->first;
  lock_release (&jobs->lock);
  return job;
}

static void *
serve (void *data)
{
  Job *job;

  while ((job = next_job (data)) != NULL)
    work (job);
  return NULL;
}

static DiskJobs *
jobs_new (void)
{
  DiskJobs *jobs = g_new0 (DiskJobs, 1);

  lock_init (&jobs->lock, LOCK_JOBS);
  pthread_cond_init (&jobs->changed, NULL);
  jobs->end = &jobs->first;
  while (jobs->n_threads < N_THREADS
         && pthread_create (&jobs->threads[jobs->n_threads], NULL, serve, jobs) == 0)
    jobs->n_threads++;
  if (jobs->n_threads == 0)
    g_warning ("cannot start threads for copies: cbw-timeout has no effect");
  return jobs;
}

/* The threads start with the first job, for a set is opened before the daemon forks. */
static void
push (Job *job)
{
  Disk *disk = job->disk;
  DiskJobs *jobs;

  lock_acquire (&disk->note_lock);
  if (disk->jobs == NULL)
    disk->jobs = jobs_new ();
  jobs = disk->jobs;
  lock_release (&disk->note_lock);
  if (jobs->n_threads == 0)
    {
      work (job);
      return;
    }
  lock_acquire (&jobs->lock);
  *jobs->end = job;
  jobs->end = &job->next;
  pthread_cond_signal (&jobs->changed);
  lock_release (&jobs->lock);
}

/* A job that writes down what is broken: the caller's reference. */
static Job *
push_mark (Disk *disk, Chain *chain, bool noted)
{
  Job *job = job_new (disk, chain, 0, 0);

  job->is_mark = true;
  job->noted = noted;
  push (job);
  return job;
}

void
disk_settle (Disk *disk)
{
  DiskJobs *jobs = g_steal_pointer (&disk->jobs);

  atomic_store (&disk->is_settling, true);
  if (jobs == NULL)
    return;
  lock_acquire (&jobs->lock);
  jobs->stop = true;
  pthread_cond_broadcast (&jobs->changed);
  lock_release (&jobs->lock);
  for (unsigned i = 0; i < jobs->n_threads; i++)
    pthread_join (jobs->threads[i], NULL);
  pthread_cond_destroy (&jobs->changed);
  lock_clear (&jobs->lock);
  g_free (jobs);
}

bool
disk_has_late_copies (Disk *disk)
{
  return atomic_load (&disk->n_late) > 0;
}

/* Waits for the job, at most for so many seconds. True when it is done. */
static bool
await (Job *job, unsigned seconds)
{
  const struct timespec deadline = lock_time_in (seconds * 1000);
  bool done;

  lock_acquire (&job->lock);
  PAUSE_POINT ("deadline:wait");
  while (!job->is_done && !job->is_late)
    job->is_late = !lock_wait_until (&job->lock, &job->ended, &deadline);
  done = job->is_done;
  if (!done)
    atomic_fetch_add (&job->disk->n_late, 1); /* before the writer leaves its section */
  lock_release (&job->lock);
  return done;
}

/* The job hangs, or could not write down what it broke: breaks every layer that cannot be shown to
 * have the granules of the range. Returns true when there is any that is not given up; *out_broke:
 * one was intact before. Tables that are not in memory count as empty. */
static bool
break_range (Disk *disk, Chain *chain, uint64_t offset, uint64_t end, bool *out_broke)
{
  bool needed = false;

  *out_broke = false;
  while (offset < end)
    {
      Piece piece = geometry_piece (&disk->geometry, offset, end);
      Stripe *stripe = tracker_stripe (disk->tracker, piece.region);
      GranuleSet range = granule_set_range (piece.first, piece.n), need = range;

      lock_acquire (&stripe->lock);
      chain_subtract_saved (chain, &disk->geometry, piece.region, &need);
      chain_subtract_unneeded (chain, &disk->geometry, piece.region, &need);
      needed = !granule_set_is_empty (&need) || needed;
      if (chain_break (chain, &disk->geometry, piece.region, &need, 0, LAYER_TIMED_OUT, 0))
        *out_broke = true;
      /* What is saved may still be read at the source by who began before. */
      stripe_wait_reads (stripe, piece.region, &range);
      lock_release (&stripe->lock);
      offset += piece.length;
    }
  return needed;
}

/* Has all that is broken its mark, within a second? *job is the one that is at it, and begun anew
 * when the store has refused it. */
static bool
marks_come (Disk *disk, Chain *chain, Job **job)
{
  const struct timespec end = lock_time_in (NOTE_RETRY_MS);
  bool marked, refused;

  if (*job == NULL)
    *job = push_mark (disk, chain, false);
  lock_acquire (&(*job)->lock);
  while (!(*job)->is_done && lock_wait_until (&(*job)->lock, &(*job)->ended, &end))
    ;
  refused = (*job)->is_done && (*job)->result < 0;
  marked = (*job)->is_done && !refused;
  lock_release (&(*job)->lock);
  if (refused)
    {
      g_clear_pointer (job, job_unref);
      g_usleep (NOTE_RETRY_MS * 1000);
    }
  return marked;
}

/* There is no place for a note: the guest has to wait until there is, or the store answers. *noted:
 * there is. -EIO: the process ends. */
static int
wait_for_place (Disk *disk, Chain *chain, bool *noted)
{
  Job *job = NULL;
  bool marked = false;

  note_hold (disk);
  while (!*noted && !marked && !note_is_ending (disk))
    {
      marked = marks_come (disk, chain, &job);
      *noted = !marked && note_set (disk) == 0;
    }
  note_let_go (disk);
  g_clear_pointer (&job, job_unref);
  return *noted || marked ? 0 : -EIO;
}

/* The store does not answer, so it cannot be told now what is broken. The mark comes last: it takes
 * the note away again. Returns 0, or -EIO when the write must not be made. */
static int
write_down (Disk *disk, Chain *chain)
{
  bool noted = note_set (disk) == 0;
  int r = noted ? 0 : wait_for_place (disk, chain, &noted);

  if (noted)
    {
      chain_give_up (chain);
      job_unref (push_mark (disk, chain, true));
    }
  return r;
}

/* The job is done: is nothing left that has to be saved, or broken and that written down? */
static bool
is_settled (Job *job)
{
  return job->result < 0 || job->disk->on_cbw_error == DISK_CBW_BREAK_GUEST_WRITE
         || save_is_needless (job->disk, job->chain, job->offset, job->end);
}

int
save_in_time (Disk *disk, Chain *chain, uint64_t offset, uint64_t end)
{
  bool broke;
  Job *job;
  int r;

  if (disk->cbw_timeout == 0)
    return save_range (disk, chain, offset, end);
  if (save_is_needless (disk, chain, offset, end))
    return 0;
  end = save_limit (chain, end);
  job = job_new (disk, chain, offset, end);
  push (job);
  if (await (job, disk->cbw_timeout) && is_settled (job))
    r = job->result;
  else if (disk->on_cbw_error == DISK_CBW_BREAK_GUEST_WRITE)
    r = -ETIMEDOUT;
  else
    {
      r = 0;
      if (break_range (disk, chain, offset, end, &broke))
        {
          PAUSE_POINT ("deadline:broke");
          r = write_down (disk, chain);
        }
      if (broke)
        disk->on_break (disk->on_break_data);
    }
  job_unref (job);
  return r;
}
