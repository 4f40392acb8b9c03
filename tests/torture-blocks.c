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

#include <errno.h>
#include <string.h>

#include <linux/falloc.h>

#define N_WRITERS 4
#define N_READERS 2
#define N_THREADS (N_WRITERS + N_READERS + 2)
#define N_ROUNDS 2
#define N_OPERATIONS 40000 /* of each writer in a round */
#define MAX_RUN 64         /* blocks */

G_STATIC_ASSERT (N_WRITERS <= VERSIONS_MARKS);

typedef struct
{
  Bed *bed;
  Versions versions;
  Witnesses witnesses;
  uint64_t run; /* blocks of the main part that belong together */
  uint64_t n_runs;
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

/* --- writers --- */

typedef enum
{
  PUT_DATA,
  PUT_ZEROS, /* by write */
  PUT_ZERO_RANGE,
  PUT_PUNCH,
} Put;

/* Gives n blocks of this writer their next versions. */
static void
put (Worker *worker, unsigned d, uint64_t block, uint64_t n, Put how)
{
  Blocks *blocks = worker->blocks;
  const Versions *versions = &blocks->versions;
  const VersionsDisk *model = &versions->disks[d];
  Disk *disk = snapshots_disk (blocks->bed->set, d);
  uint32_t next[MAX_RUN];
  int64_t r, length = (int64_t) (n * BED_BLOCK);

  for (uint64_t i = 0; i < n; i++)
    {
      next[i] = versions_next (versions, d, block + i, how != PUT_DATA);
      atomic_store (&model->begun[block + i], next[i]);
      versions_fill (versions, d, block + i, next[i], worker->buffer + i * BED_BLOCK);
    }
  if (how == PUT_DATA || how == PUT_ZEROS)
    r = disk_write (disk, worker->buffer, (size_t) length, block * BED_BLOCK);
  else
    r = disk_allocate (disk,
                       FALLOC_FL_KEEP_SIZE
                           | (how == PUT_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
                       block * BED_BLOCK, (uint64_t) length);
  bed_expect (blocks->bed, "write or allocate", r,
              how == PUT_DATA || how == PUT_ZEROS ? length : 0);
  for (uint64_t i = 0; i < n; i++)
    atomic_store (&model->done[block + i], next[i]);
}

static Put
pick_put (Random *random)
{
  unsigned percent = (unsigned) random_below (random, 100);

  return percent < 70   ? PUT_DATA
         : percent < 80 ? PUT_ZEROS
         : percent < 90 ? PUT_ZERO_RANGE
                        : PUT_PUNCH;
}

/* A range of blocks of this writer, half the time among those that everybody writes often. */
static uint64_t
pick_blocks (Worker *worker, uint64_t *out_n)
{
  const Blocks *blocks = worker->blocks;
  uint64_t n_mine = blocks->n_runs / N_WRITERS;
  uint64_t among = random_percent (&worker->random, 50) ? units_min (n_mine, 16) : n_mine;
  uint64_t run = random_below (&worker->random, among) * N_WRITERS + worker->index;
  uint64_t at = random_below (&worker->random, blocks->run);

  *out_n = 1 + random_below (&worker->random, blocks->run - at);
  return VERSIONS_MARKS + run * blocks->run + at;
}

/* Reads blocks of this writer on the live disk: they are what it last wrote. */
static void
read_back (Worker *worker, unsigned d, uint64_t block, uint64_t n)
{
  const Versions *versions = &worker->blocks->versions;
  int64_t length = (int64_t) (n * BED_BLOCK);
  uint8_t expected[BED_BLOCK];

  bed_expect (versions->bed, "read",
              disk_read (snapshots_disk (versions->bed->set, d), worker->buffer, (size_t) length,
                         block * BED_BLOCK),
              length);
  for (uint64_t i = 0; i < n; i++)
    {
      versions_fill (versions, d, block + i, atomic_load (&versions->disks[d].done[block + i]),
                     expected);
      bed_compare (worker->blocks->bed, "live", d, (block + i) * BED_BLOCK,
                   worker->buffer + i * BED_BLOCK, expected, BED_BLOCK);
    }
}

/* Resizes the disk, by truncate or a write at its end. For the writer of the tail. */
static void
resize (Worker *worker, unsigned d)
{
  Blocks *blocks = worker->blocks;
  Versions *versions = &blocks->versions;
  VersionsDisk *model = &versions->disks[d];
  uint32_t index = atomic_load (&model->sizes_begun) + 1;
  uint64_t old = model->sizes[index - 1] / BED_BLOCK;
  uint64_t new = versions->n_main
                 + random_below (&worker->random, versions->n_blocks - versions->n_main + 1);

  if (index == VERSIONS_MAX_SIZES)
    return;
  model->sizes[index] = new *BED_BLOCK;
  for (uint64_t b = new; b < old; b++)
    atomic_store (&model->begun[b], versions_next (versions, d, b, true));
  atomic_store (&model->sizes_begun, index);
  if (new > old && random_percent (&worker->random, 40))
    put (worker, d, new - 1, 1, PUT_DATA);
  else
    bed_expect (blocks->bed, "truncate",
                disk_truncate (snapshots_disk (blocks->bed->set, d), new *BED_BLOCK), 0);
  atomic_store (&model->sizes_done, index);
  for (uint64_t b = new; b < old; b++)
    atomic_store (&model->done[b], atomic_load (&model->begun[b]));
}

/* Writes in the tail, inside of the size. */
static void
put_in_tail (Worker *worker, unsigned d)
{
  const Versions *versions = &worker->blocks->versions;
  const VersionsDisk *model = &versions->disks[d];
  uint64_t end = model->sizes[atomic_load (&model->sizes_done)] / BED_BLOCK;
  uint64_t block, n;

  if (end == versions->n_main)
    return;
  block = versions->n_main + random_below (&worker->random, end - versions->n_main);
  n = 1 + random_below (&worker->random, units_min (MAX_RUN, end - block));
  put (worker, d, block, n, pick_put (&worker->random));
}

/* One number to all disks, in their order. */
static void
put_marks (Worker *worker)
{
  for (unsigned d = 0; d < worker->blocks->bed->n_disks; d++)
    put (worker, d, worker->index, 1, PUT_DATA);
}

static void
write_something (Worker *worker)
{
  unsigned d = (unsigned) random_below (&worker->random, worker->blocks->bed->n_disks);
  unsigned percent = (unsigned) random_below (&worker->random, 100);
  uint64_t n, block = pick_blocks (worker, &n);

  if (percent < 15)
    put_marks (worker);
  else if (percent < 25)
    read_back (worker, d, block, n);
  else if (percent < 28 && worker->index == 0)
    resize (worker, d);
  else if (percent < 40 && worker->index == 0)
    put_in_tail (worker, d);
  else
    put (worker, d, block, n, pick_put (&worker->random));
}

static void
run_writer (Worker *worker)
{
  Blocks *blocks = worker->blocks;

  for (unsigned i = 0; i < N_OPERATIONS && g_get_monotonic_time () < blocks->deadline; i++)
    {
      write_something (worker);
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

  versions_look (&blocks->versions, false, low);
  bed_expect (blocks->bed, "mkdir", snapshots_create (blocks->bed->set, name, &snapshot), 0);
  versions_look (&blocks->versions, true, high);
  atomic_fetch_add (&blocks->bed->n_made, 1);
  witnesses_add (&blocks->witnesses, snapshot, n_name, low, high);
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
      uint64_t offset = random_percent (&worker->random, 50)
                            ? random_below (&worker->random, units_min (size, 256 * KIB))
                            : random_below (&worker->random, size);

      witness_compare_range (witness, &blocks->versions, snapshot, d, offset,
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

  if (worker->held == NULL)
    {
      g_clear_pointer (&worker->held_witness, witness_unref);
      worker->held_witness = witnesses_pick (&blocks->witnesses, &worker->random);
      worker->held = worker->held_witness != NULL ? find (blocks, worker->held_witness) : NULL;
      return;
    }
  witness_compare (worker->held_witness, &blocks->versions, worker->held, worker->buffer,
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

      if (snapshot == NULL || snapshot_id (snapshot) != witness->id)
        bed_fail (blocks->bed, "the next snapshot after id %u is id %u instead of %u", id,
                  snapshot != NULL ? snapshot_id (snapshot) : 0, witness->id);
      if (g_strcmp0 (name, expected) != 0)
        bed_fail (blocks->bed, "snapshot id %u is called '%s' instead of '%s'", witness->id, name,
                  expected);
      witness_compare (witness, &blocks->versions, snapshot, buffer, MIB);
      id = witness->id;
    }
  if (snapshots_count (blocks->bed->set) != blocks->witnesses.list->len)
    bed_fail (blocks->bed, "there are %u snapshots instead of %u",
              snapshots_count (blocks->bed->set), blocks->witnesses.list->len);
}

void
torture_blocks (Bed *bed, Random *random)
{
  static const uint64_t runs[] = { 1, 2, 5, 8, 11, MAX_RUN };
  Blocks *blocks = g_new0 (Blocks, 1);
  int64_t start = g_get_monotonic_time ();

  blocks->bed = bed;
  versions_init (&blocks->versions, bed, random);
  witnesses_init (&blocks->witnesses, &blocks->versions);
  blocks->run = runs[random_below (random, G_N_ELEMENTS (runs))];
  blocks->n_runs = (blocks->versions.n_main - VERSIONS_MARKS) / blocks->run;

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
