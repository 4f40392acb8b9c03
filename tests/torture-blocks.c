/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Concurrent phases: writers, who share granules but no blocks, write versions
 * (torture-versions.h) while snapshots come and go, are read, renamed, removed and merged away.
 *
 *     writers   put versions by write, zero-range and punch; the first also resizes the disks
 *     maker     makes snapshots, checks each against the bounds, keeps a witness
 *     changer   renames and removes
 *     readers   compare snapshots with their witnesses, also after the removal
 *
 * A phase has two rounds. After each all threads are joined, the set is closed, all is
 * compared, and opened again. */
#include "base/units.h"
#include "torture-chaos.h"
#include "torture-phases.h"
#include "torture-witness.h"
#include "torture-writer.h"

#include <errno.h>
#include <string.h>

#define N_WRITERS 4
#define N_READERS 2
#define N_THREADS (N_WRITERS + N_READERS + 2)
#define N_ROUNDS 2
#define N_OPERATIONS 40000 /* of each writer in a round */

G_STATIC_ASSERT (N_WRITERS <= VERSIONS_MARKS);

typedef struct
{
  Bed *bed;
  Versions versions;
  Witnesses witnesses;
  unsigned run;          /* as in torture-writer.h */
  atomic_uint n_writers; /* that have not finished */
  atomic_uint n_names;
  int64_t deadline; /* of the round */
  Chaos chaos;
} Blocks;

typedef struct
{
  Blocks *blocks;
  pthread_t thread;
  Random random;
  unsigned index; /* of a writer */
  atomic_uint *tick;
  uint8_t *buffer; /* MIB bytes */
  Snapshot *held;  /* of a reader, with its witness */
  Witness *held_witness;
} Worker;

/* --- writers: on the engine --- */

static Disk *
disk_of (void *data, unsigned disk)
{
  const Blocks *blocks = data;

  return snapshots_disk (blocks->bed->set, disk);
}

static ssize_t
engine_read (void *data, unsigned disk, void *buffer, size_t length, uint64_t offset)
{
  return disk_read (disk_of (data, disk), buffer, length, offset);
}

static ssize_t
engine_write (void *data, unsigned disk, const void *buffer, size_t length, uint64_t offset)
{
  return disk_write (disk_of (data, disk), buffer, length, offset, IO_SYNC_NONE);
}

static int
engine_allocate (void *data, unsigned disk, int mode, uint64_t offset, uint64_t length)
{
  return disk_allocate (disk_of (data, disk), mode, offset, length);
}

static int
engine_truncate (void *data, unsigned disk, uint64_t size)
{
  return disk_truncate (disk_of (data, disk), size);
}

static int
engine_flush (void *data, unsigned disk)
{
  return disk_flush (disk_of (data, disk), false);
}

static const WriterVerbs engine = {
  .read = engine_read,
  .write = engine_write,
  .allocate = engine_allocate,
  .truncate = engine_truncate,
  .flush = engine_flush,
};

static void
run_writer (Worker *worker)
{
  Blocks *blocks = worker->blocks;
  Writer writer = {
    .versions = &blocks->versions,
    .verbs = &engine,
    .data = blocks,
    .index = worker->index,
    .n_writers = N_WRITERS,
    .run = blocks->run,
    .random = worker->random,
    .buffer = worker->buffer,
  };

  for (unsigned i = 0; i < N_OPERATIONS && g_get_monotonic_time () < blocks->deadline; i++)
    {
      writer_step (&writer);
      atomic_fetch_add (&blocks->bed->n_operations, 1);
      chaos_tick (worker->tick);
    }
  atomic_fetch_sub (&blocks->n_writers, 1);
}

static bool
is_over (Blocks *blocks)
{
  return atomic_load (&blocks->n_writers) == 0;
}

/* --- maker, changer --- */

static void
make_one (Worker *worker, VersionsMoment *low, VersionsMoment *high)
{
  Blocks *blocks = worker->blocks;
  unsigned n_name = atomic_fetch_add (&blocks->n_names, 1);
  g_autofree char *name = g_strdup_printf ("%u", n_name);
  Snapshot *snapshot = NULL;
  WitnessView view;

  versions_look (&blocks->versions, false, low);
  bed_expect (blocks->bed, "mkdir", snapshots_create (blocks->bed->set, name, &snapshot), 0);
  versions_look (&blocks->versions, true, high);
  atomic_fetch_add (&blocks->bed->n_made, 1);
  view = witness_view (blocks->bed->set, snapshot);
  witnesses_add (&blocks->witnesses, &view, n_name, low, high);
  snapshot_unref (snapshot);
}

static void compare_any (Worker *worker, uint64_t length);

static void
run_maker (Worker *worker)
{
  Blocks *blocks = worker->blocks;
  VersionsMoment low = versions_moment_new (&blocks->versions);
  VersionsMoment high = versions_moment_new (&blocks->versions);

  while (!is_over (blocks))
    {
      if (witnesses_count (&blocks->witnesses) < blocks->bed->set_config.max_snapshots)
        make_one (worker, &low, &high);
      else
        compare_any (worker, 256 * KIB);
      chaos_tick (worker->tick);
    }
  versions_moment_clear (&low);
  versions_moment_clear (&high);
}

static void
remove_one (Blocks *blocks, Witness *witness)
{
  g_autofree char *name = g_strdup_printf ("%u", atomic_load (&witness->n_name));

  atomic_store (&witness->is_removed, true);
  bed_expect (blocks->bed, "rmdir", snapshots_remove (blocks->bed->set, name), 0);
  witnesses_remove (&blocks->witnesses, witness);
}

static void
rename_one (Blocks *blocks, Witness *witness, Witness *other)
{
  unsigned n_name = atomic_fetch_add (&blocks->n_names, 1);
  g_autofree char *from = g_strdup_printf ("%u", atomic_load (&witness->n_name));
  g_autofree char *taken = g_strdup_printf ("%u", atomic_load (&other->n_name));
  g_autofree char *to = g_strdup_printf ("%u", n_name);

  bed_expect (blocks->bed, "mv to a name in use", snapshots_rename (blocks->bed->set, from, taken),
              -EEXIST);
  bed_expect (blocks->bed, "mv", snapshots_rename (blocks->bed->set, from, to), 0);
  atomic_store (&witness->n_name, n_name);
}

/* Waits, comparing, until there are as many snapshots as may be, then removes some or all of them
 * in a row; so all numbers of snapshots occur. Now and then it renames or removes in between. */
static void
run_changer (Worker *worker)
{
  Blocks *blocks = worker->blocks;
  unsigned max = blocks->bed->set_config.max_snapshots;
  unsigned goal = max; /* max: let them grow */

  while (!is_over (blocks))
    {
      Witness *witness = witnesses_pick (&blocks->witnesses, &worker->random);
      Witness *other = witnesses_pick (&blocks->witnesses, &worker->random);
      unsigned n = witnesses_count (&blocks->witnesses);

      if (goal == max && n == max)
        goal = (unsigned) random_below (&worker->random, max);
      else if (n <= goal)
        goal = max;
      if (witness != NULL && (goal < max || random_percent (&worker->random, 1)))
        remove_one (blocks, witness);
      else if (witness != NULL && random_percent (&worker->random, 1))
        rename_one (blocks, witness, other);
      else
        compare_any (worker, 64 * KIB);
      g_clear_pointer (&witness, witness_unref);
      g_clear_pointer (&other, witness_unref);
      chaos_tick (worker->tick);
    }
}

/* --- readers --- */

static Snapshot *
find (Blocks *blocks, Witness *witness)
{
  Snapshot *snapshot = snapshots_find_id (blocks->bed->set, witness->id);

  if (snapshot == NULL && !atomic_load (&witness->is_removed))
    bed_fail (blocks->bed, "snapshot id %u cannot be found", witness->id);
  return snapshot;
}

/* Compares a range of at most length bytes of any snapshot. */
static void
compare_any (Worker *worker, uint64_t length)
{
  Blocks *blocks = worker->blocks;
  Witness *witness = witnesses_pick (&blocks->witnesses, &worker->random);
  Snapshot *snapshot = witness != NULL ? find (blocks, witness) : NULL;

  if (snapshot != NULL)
    {
      unsigned d = (unsigned) random_below (&worker->random, blocks->bed->n_disks);
      uint64_t size = witness->sizes[d];
      WitnessView view = witness_view (blocks->bed->set, snapshot);
      uint64_t offset = random_percent (&worker->random, 50)
                            ? random_below (&worker->random, units_min (size, 256 * KIB))
                            : random_below (&worker->random, size);

      witness_compare_range (witness, &blocks->versions, &view, d, offset,
                             1 + random_below (&worker->random, length), worker->buffer);
      snapshot_unref (snapshot);
    }
  g_clear_pointer (&witness, witness_unref);
}

/* An open file: kept for a while, then compared as a whole and closed. */
static void
hold_or_release (Worker *worker)
{
  Blocks *blocks = worker->blocks;
  WitnessView view;

  if (worker->held == NULL)
    {
      g_clear_pointer (&worker->held_witness, witness_unref);
      worker->held_witness = witnesses_pick (&blocks->witnesses, &worker->random);
      worker->held = worker->held_witness != NULL ? find (blocks, worker->held_witness) : NULL;
      return;
    }
  view = witness_view (blocks->bed->set, worker->held);
  witness_compare (worker->held_witness, &blocks->versions, &view, worker->buffer,
                   64 * KIB + random_below (&worker->random, MIB - 64 * KIB));
  g_clear_pointer (&worker->held, snapshot_unref);
  g_clear_pointer (&worker->held_witness, witness_unref);
}

static void
run_reader (Worker *worker)
{
  while (!is_over (worker->blocks))
    {
      if (random_percent (&worker->random, 4))
        hold_or_release (worker);
      else
        compare_any (worker, random_percent (&worker->random, 90) ? 32 * KIB : 512 * KIB);
      chaos_tick (worker->tick);
    }
  if (worker->held != NULL)
    hold_or_release (worker);
  g_clear_pointer (&worker->held_witness, witness_unref);
}

/* --- rounds --- */

static void *
run_worker (void *data)
{
  Worker *worker = data;

  worker->buffer = g_malloc (MIB);
  if (worker->index < N_WRITERS)
    run_writer (worker);
  else if (worker->index == N_WRITERS)
    run_maker (worker);
  else if (worker->index == N_WRITERS + 1)
    run_changer (worker);
  else
    run_reader (worker);
  g_free (worker->buffer);
  chaos_leave (worker->tick);
  return NULL;
}

static void
run_round (Blocks *blocks, Random *random)
{
  Worker workers[N_THREADS] = { 0 };

  atomic_store (&blocks->n_writers, N_WRITERS);
  chaos_start (&blocks->chaos, random_next (random));
  for (unsigned i = 0; i < N_THREADS; i++)
    {
      workers[i] = (Worker){ .blocks = blocks, .index = i, .random = { random_next (random) } };
      workers[i].tick = chaos_join (&blocks->chaos);
    }
  for (unsigned i = 0; i < N_THREADS; i++)
    g_assert (pthread_create (&workers[i].thread, NULL, run_worker, &workers[i]) == 0);
  for (unsigned i = 0; i < N_THREADS; i++)
    pthread_join (workers[i].thread, NULL);
  chaos_stop (&blocks->chaos);
}

/* The set has the snapshots that the witnesses are of, and all are right. */
static void
compare_all (Blocks *blocks)
{
  g_autofree uint8_t *buffer = g_malloc (MIB);
  uint32_t id = 0;

  for (unsigned i = 0; i < blocks->witnesses.list->len; i++)
    {
      const Witness *witness = blocks->witnesses.list->pdata[i];
      g_autoptr (Snapshot) snapshot = snapshots_next (blocks->bed->set, id);
      g_autofree char *name = snapshot != NULL ? snapshot_dup_name (snapshot) : NULL;
      g_autofree char *expected = g_strdup_printf ("%u", atomic_load (&witness->n_name));
      WitnessView view;

      if (snapshot == NULL || snapshot_id (snapshot) != witness->id)
        bed_fail (blocks->bed, "the next snapshot after id %u is id %u instead of %u", id,
                  snapshot != NULL ? snapshot_id (snapshot) : 0, witness->id);
      if (g_strcmp0 (name, expected) != 0)
        bed_fail (blocks->bed, "snapshot id %u is called '%s' instead of '%s'", witness->id, name,
                  expected);
      view = witness_view (blocks->bed->set, snapshot);
      witness_compare (witness, &blocks->versions, &view, buffer, MIB);
      id = witness->id;
    }
  if (snapshots_count (blocks->bed->set) != blocks->witnesses.list->len)
    bed_fail (blocks->bed, "there are %u snapshots instead of %u",
              snapshots_count (blocks->bed->set), blocks->witnesses.list->len);
}

void
torture_blocks (Bed *bed, Random *random)
{
  Blocks *blocks = g_new0 (Blocks, 1);
  int64_t start = g_get_monotonic_time ();

  blocks->bed = bed;
  versions_init (&blocks->versions, bed, random, VERSIONS_LIKE_OTHERS);
  witnesses_init (&blocks->witnesses, &blocks->versions);
  blocks->run = writer_pick_run (random);

  bed_open (bed);
  for (unsigned i = 0; i < N_ROUNDS; i++)
    {
      blocks->deadline = start + (bed->config.deadline - start) * (i + 1) / N_ROUNDS;
      run_round (blocks, random);
      compare_all (blocks);
      bed_close (bed, true, witnesses_expect, &blocks->witnesses);
      bed_open (bed);
      compare_all (blocks);
    }
  bed_close (bed, false, witnesses_expect, &blocks->witnesses);
  witnesses_clear (&blocks->witnesses);
  versions_clear (&blocks->versions);
  g_free (blocks);
}
