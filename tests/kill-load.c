/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kill-load.h"

#include "base/units.h"

#include <errno.h>

#define N_THREADS (LOAD_N_WRITERS + LOAD_N_READERS + 1)
#define N_MOVING 0 /* in place of a name that is just being changed */

typedef struct
{
  Load *load;
  Random random;
  unsigned index;
  uint8_t *buffer; /* MIB bytes */
} Worker;

void
load_init (Load *load, Mount *mount, Versions *versions, Witnesses *witnesses, Random *random)
{
  *load = (Load){ .mount = mount, .versions = versions, .witnesses = witnesses };
  load->run = writer_pick_run (random);
  load->pending.verb = LOAD_N_EVENTS;
  load->low = versions_moment_new (versions);
  load->high = versions_moment_new (versions);
  for (unsigned i = 0; i < LOAD_N_EVENTS; i++)
    atomic_init (&load->usual[i], 1000);
  sem_init (&load->reached, 0, 0);
}

void
load_clear (Load *load)
{
  g_clear_pointer (&load->pending.witness, witness_unref);
  versions_moment_clear (&load->low);
  versions_moment_clear (&load->high);
  sem_destroy (&load->reached);
}

static bool
has_ended (const Load *load)
{
  return atomic_load (&load->mount->has_ended);
}

/* Is r, of a verb, 0? False when the mount has ended. */
static bool
expect_done (const Load *load, const char *what, int r)
{
  if (r != 0 && has_ended (load))
    return false;
  bed_expect (load->mount->bed, what, r, 0);
  return true;
}

static void
note (Load *load, LoadEvent event)
{
  if (atomic_load (&load->awaited) == (int) event && atomic_fetch_sub (&load->n_awaited, 1) == 1)
    sem_post (&load->reached);
}

static void
note_time (Load *load, LoadEvent verb, int64_t begin)
{
  int64_t took = g_get_monotonic_time () - begin;

  atomic_store (&load->usual[verb], (atomic_load (&load->usual[verb]) + took) / 2);
}

/* --- writers --- */

static Writer
writer_of (Load *load, unsigned index, Random random, uint8_t *buffer)
{
  return (Writer){
    .versions = load->versions,
    .verbs = &mount_verbs,
    .data = load->mount,
    .has_ended = &load->mount->has_ended,
    .index = index,
    .n_writers = LOAD_N_WRITERS,
    .run = load->run,
    .random = random,
    .buffer = buffer,
  };
}

static void
run_writer (Worker *worker)
{
  Writer writer = writer_of (worker->load, worker->index, worker->random, worker->buffer);

  while (writer_step (&writer))
    {
      atomic_fetch_add (&worker->load->mount->bed->n_operations, 1);
      note (worker->load, LOAD_WRITTEN);
    }
}

void
load_level_marks (Load *load)
{
  uint8_t buffer[WRITER_BUFFER];

  for (unsigned i = 0; i < LOAD_N_WRITERS; i++)
    {
      Writer writer = writer_of (load, i, (Random){ 0 }, buffer);

      writer_level_marks (&writer);
    }
}

/* --- verbs --- */

bool
load_make (Load *load)
{
  unsigned n_name = ++load->n_names;
  bool done;
  View view;
  int64_t begin;

  load->pending = (LoadPending){ .verb = LOAD_MKDIR, .n_name = n_name };
  versions_look (load->versions, false, &load->low);
  note (load, LOAD_MKDIR);
  begin = g_get_monotonic_time ();
  if (!expect_done (load, "mkdir", view_make (load->mount, n_name)))
    return false;
  note_time (load, LOAD_MKDIR, begin);
  versions_look (load->versions, true, &load->high);
  load->pending.has_returned = true;
  atomic_fetch_add (&load->mount->bed->n_made, 1);

  if (!expect_done (load, "open", view_open (load->mount, n_name, true, &view)))
    return false;
  done = witnesses_add (load->witnesses, &view.view, n_name, &load->low, &load->high);
  view_close (&view);
  if (done)
    load->pending.verb = LOAD_N_EVENTS;
  return done;
}

static bool
remove_one (Load *load, Witness *witness)
{
  unsigned n_name = atomic_load (&witness->n_name);
  int64_t begin;

  load->pending = (LoadPending){ .verb = LOAD_RMDIR, .n_name = n_name, .witness = witness };
  atomic_store (&witness->is_removed, true);
  note (load, LOAD_RMDIR);
  begin = g_get_monotonic_time ();
  if (!expect_done (load, "rmdir", view_remove (load->mount, n_name)))
    return false;
  note_time (load, LOAD_RMDIR, begin);
  load->pending = (LoadPending){ .verb = LOAD_N_EVENTS };
  witnesses_remove (load->witnesses, witness);
  witness_unref (witness);
  note (load, LOAD_REMOVED);
  return true;
}

static bool
rename_one (Load *load, Witness *witness)
{
  unsigned n_name = atomic_load (&witness->n_name), n_to = ++load->n_names;
  int64_t begin;

  load->pending
      = (LoadPending){ .verb = LOAD_RENAME, .n_name = n_name, .n_to = n_to, .witness = witness };
  atomic_store (&witness->n_name, N_MOVING);
  note (load, LOAD_RENAME);
  begin = g_get_monotonic_time ();
  if (!expect_done (load, "rename", view_rename (load->mount, n_name, n_to)))
    return false;
  note_time (load, LOAD_RENAME, begin);
  load->pending = (LoadPending){ .verb = LOAD_N_EVENTS };
  atomic_store (&witness->n_name, n_to);
  witness_unref (witness);
  return true;
}

static void
run_verbs (Worker *worker)
{
  Load *load = worker->load;
  unsigned max = load->mount->bed->set_config.max_snapshots;
  bool going = true;

  while (going)
    {
      unsigned n = witnesses_count (load->witnesses);
      unsigned percent = (unsigned) random_below (&worker->random, 100);

      if (n < 2 || (n < max && percent < 45))
        going = load_make (load);
      else if (n == max || percent < 80)
        going = remove_one (load, witnesses_pick (load->witnesses, &worker->random));
      else
        going = rename_one (load, witnesses_pick (load->witnesses, &worker->random));
    }
}

/* --- readers --- */

/* Compares some ranges of a snapshot. False when the mount has ended. */
static bool
compare_some (Worker *worker, const Witness *witness, const WitnessView *view)
{
  const Load *load = worker->load;
  bool done = true;

  for (unsigned i = 0; i < 8 && done; i++)
    {
      unsigned d = (unsigned) random_below (&worker->random, load->mount->bed->n_disks);

      done = witness_compare_range (witness, load->versions, view, d,
                                    random_below (&worker->random, witness->sizes[d]),
                                    1 + random_below (&worker->random, 64 * KIB), worker->buffer);
    }
  return done;
}

static bool
read_one (Worker *worker)
{
  const Load *load = worker->load;
  Witness *witness = witnesses_pick (load->witnesses, &worker->random);
  unsigned n_name = witness != NULL ? atomic_load (&witness->n_name) : N_MOVING;
  bool done = true;
  View view;
  int r;

  if (n_name != N_MOVING)
    {
      r = view_open (load->mount, n_name, random_percent (&worker->random, 50), &view);
      if (r == 0)
        {
          done = compare_some (worker, witness, &view.view);
          view_close (&view);
        }
      else if (has_ended (load))
        done = false;
      else if (!atomic_load (&witness->is_removed) && atomic_load (&witness->n_name) == n_name)
        bed_expect (load->mount->bed, "open of a snapshot", r, 0);
    }
  g_clear_pointer (&witness, witness_unref);
  return done && !has_ended (load);
}

/* --- all --- */

static void *
run_worker (void *data)
{
  Worker *worker = data;

  worker->buffer = g_malloc (MIB);
  if (worker->index < LOAD_N_WRITERS)
    run_writer (worker);
  else if (worker->index == LOAD_N_WRITERS)
    run_verbs (worker);
  else
    while (read_one (worker))
      continue;
  g_free (worker->buffer);
  return NULL;
}

void
load_start (Load *load, Random *random, LoadEvent event, unsigned n)
{
  Worker *workers = g_new0 (Worker, N_THREADS);

  atomic_store (&load->n_awaited, (int) n);
  atomic_store (&load->awaited, (int) event);
  for (unsigned i = 0; i < N_THREADS; i++)
    {
      workers[i] = (Worker){ .load = load, .index = i, .random = { random_next (random) } };
      g_assert (pthread_create (&load->threads[i], NULL, run_worker, &workers[i]) == 0);
    }
  load->workers = workers;
  while (sem_wait (&load->reached) != 0)
    continue;
}

void
load_join (Load *load)
{
  for (unsigned i = 0; i < N_THREADS; i++)
    pthread_join (load->threads[i], NULL);
  g_clear_pointer (&load->workers, g_free);
  if (load->pending.verb == LOAD_MKDIR && !load->pending.has_returned)
    versions_look (load->versions, true, &load->high);
}
