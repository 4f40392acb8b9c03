/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exact phases: one thread, the driver, performs random operations on the set and on the model
 * (torture-model.h), so every byte of every disk and snapshot is known at any moment. Readers
 * compare random ranges of random snapshots with the model's copies meanwhile, through
 * remounts, removals and the merges that follow them.
 *
 * The driver's operations depend on the seed only. */
#include "base/units.h"
#include "torture-chaos.h"
#include "torture-model.h"
#include "torture-phases.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <linux/falloc.h>

#define N_OPERATIONS 3000
#define N_READERS 2
#define MAX_KNOWN 12 /* snapshots with a name or held: memory */
#define BUFFER_SIZE (2 * MIB)

typedef struct _Exact Exact;

typedef struct
{
  Exact *exact;
  pthread_t thread;
  uint64_t seed;
  atomic_uint *tick;
} Reader;

struct _Exact
{
  Bed *bed;
  Model model;
  Random random;
  uint8_t *buffer;
  unsigned n_names;
  atomic_uint *tick;

  Chaos chaos;
  Reader readers[N_READERS];
  atomic_bool stop; /* the readers */
};

/* --- readers --- */

/* Finds the snapshot as a stranger does: by its id, and it may just be going away. */
static Snapshot *
find (Exact *exact, ModelFrozen *frozen)
{
  Snapshot *snapshot = snapshots_find_id (exact->bed->set, frozen->id);

  if (snapshot == NULL && !atomic_load (&frozen->is_removed))
    bed_fail (exact->bed, "snapshot id %u cannot be found", frozen->id);
  return snapshot;
}

static void
read_some (Exact *exact, Reader *reader, Random *random, uint8_t *buffer)
{
  ModelFrozen *frozen = model_pick (&exact->model, random);
  Snapshot *snapshot = frozen != NULL ? find (exact, frozen) : NULL;
  unsigned n = 1 + (unsigned) random_below (random, 30);

  for (unsigned i = 0; i < n && snapshot != NULL; i++)
    {
      unsigned d = (unsigned) random_below (random, exact->bed->n_disks);
      uint64_t length = 1 + random_below (random, random_percent (random, 95) ? 32 * KIB : MIB);
      uint64_t offset = random_below (random, frozen->disks[d]->size + 4 * KIB);

      model_compare_range (&exact->model, snapshot, frozen, d, offset, length, buffer);
      chaos_tick (reader->tick);
    }
  if (snapshot != NULL)
    snapshot_unref (snapshot);
  if (frozen != NULL)
    model_frozen_unref (frozen);
}

static void *
run_reader (void *data)
{
  Reader *reader = data;
  Exact *exact = reader->exact;
  Random random = { reader->seed };
  uint8_t *buffer = g_malloc (BUFFER_SIZE);

  while (!atomic_load (&exact->stop))
    {
      read_some (exact, reader, &random, buffer);
      chaos_tick (reader->tick);
    }
  chaos_leave (reader->tick);
  g_free (buffer);
  return NULL;
}

static void
start_readers (Exact *exact)
{
  chaos_start (&exact->chaos, random_next (&exact->random));
  exact->tick = chaos_join (&exact->chaos);
  atomic_store (&exact->stop, false);
  for (unsigned i = 0; i < N_READERS; i++)
    {
      Reader *reader = &exact->readers[i];

      *reader = (Reader){ .exact = exact, .seed = random_next (&exact->random) };
      reader->tick = chaos_join (&exact->chaos);
      g_assert (pthread_create (&reader->thread, NULL, run_reader, reader) == 0);
    }
}

static void
stop_readers (Exact *exact)
{
  chaos_stop (&exact->chaos);
  atomic_store (&exact->stop, true);
  for (unsigned i = 0; i < N_READERS; i++)
    pthread_join (exact->readers[i].thread, NULL);
}

/* --- operations on disks --- */

static unsigned
pick_disk (Exact *exact, Disk **out_disk, ModelDisk **out_model)
{
  unsigned d = (unsigned) random_below (&exact->random, exact->bed->n_disks);

  *out_disk = snapshots_disk (exact->bed->set, d);
  *out_model = &exact->model.disks[d];
  return d;
}

/* A range that likes borders: of sectors, granules, clusters, the end of the disk. */
static void
pick_range (Exact *exact, const ModelDisk *disk, uint64_t *out_offset, uint64_t *out_length)
{
  Random *random = &exact->random;
  uint64_t granule = exact->bed->set_config.granule;
  const uint64_t units[] = { 1, BED_BLOCK, granule, granule, 32 * granule };
  const uint64_t sizes[] = { 32, BED_BLOCK, granule, 4 * granule, 64 * granule, BUFFER_SIZE };
  uint64_t unit = units[random_below (random, G_N_ELEMENTS (units))];
  uint64_t offset = random_below (random, disk->size) / unit * unit;
  uint64_t length = 1 + random_below (random, sizes[random_below (random, G_N_ELEMENTS (sizes))]);

  if (random_percent (random, 40))
    length = units_round_up (length, unit);
  if (random_percent (random, 20))
    offset += random_below (random, 3);
  if (random_percent (random, 10))
    offset = disk->size - units_min (disk->size, random_below (random, 2 * granule));
  else if (random_percent (random, 3))
    offset = disk->size; /* only grows */
  *out_offset = units_min (offset, disk->capacity - 1);
  *out_length = units_min (units_min (length, BUFFER_SIZE), disk->capacity - *out_offset);
  if (!random_percent (random, 5) && *out_offset < disk->size) /* do not always grow */
    *out_length = units_min (*out_length, disk->size - *out_offset);
}

static void
op_write (Exact *exact)
{
  ModelDisk *model;
  Disk *disk;
  uint64_t offset, length;

  pick_disk (exact, &disk, &model);
  pick_range (exact, model, &offset, &length);
  model_fill (&exact->random, exact->buffer, length);
  bed_expect (exact->bed, "write", disk_write (disk, exact->buffer, length, offset, IO_SYNC_NONE),
              (int64_t) length);
  model_write (model, exact->buffer, offset, length);
}

static void
op_allocate (Exact *exact)
{
  static const int modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               FALLOC_FL_ZERO_RANGE,
                               FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                               FALLOC_FL_KEEP_SIZE,
                               0 };
  int mode = modes[random_below (&exact->random, G_N_ELEMENTS (modes))];
  ModelDisk *model;
  Disk *disk;
  uint64_t offset, length;

  pick_disk (exact, &disk, &model);
  pick_range (exact, model, &offset, &length);
  bed_expect (exact->bed, "allocate", disk_allocate (disk, mode, offset, length), 0);
  model_allocate (model, mode, offset, length);
}

static void
op_truncate (Exact *exact)
{
  Random *random = &exact->random;
  ModelDisk *model;
  Disk *disk;
  uint64_t size;

  pick_disk (exact, &disk, &model);
  size = random_percent (random, 50) ? model->size / 2 + random_below (random, model->size)
                                     : model->capacity - random_below (random, 3 * MIB / 2);
  if (random_percent (random, 30))
    size = units_round_up (size, exact->bed->set_config.granule);
  size = units_max (units_min (size, model->capacity), MIB);
  bed_expect (exact->bed, "truncate", disk_truncate (disk, size), 0);
  model_truncate (model, size);
}

static void
op_read_live (Exact *exact)
{
  ModelDisk *model;
  Disk *disk;
  uint64_t offset, length, expected;
  unsigned d = pick_disk (exact, &disk, &model);

  pick_range (exact, model, &offset, &length);
  expected = offset < model->size ? units_min (length, model->size - offset) : 0;
  bed_expect (exact->bed, "read", disk_read (disk, exact->buffer, length, offset),
              (int64_t) expected);
  bed_compare (exact->bed, "live", d, offset, exact->buffer, model->bytes + offset, expected);
  if (random_percent (&exact->random, 5))
    bed_expect (exact->bed, "flush", disk_flush (disk, random_percent (&exact->random, 50)), 0);
}

/* --- operations on snapshots --- */

/* A random one that has a name, or NULL; the oldest and the newest more often. */
static ModelFrozen *
pick_named (Exact *exact)
{
  ModelFrozen *named[32];
  unsigned n = 0, i;

  for (i = 0; i < exact->model.list->len && n < G_N_ELEMENTS (named); i++)
    {
      ModelFrozen *frozen = exact->model.list->pdata[i];

      if (frozen->name != NULL)
        named[n++] = frozen;
    }
  if (n == 0)
    return NULL;
  i = (unsigned) random_below (&exact->random, n + 2);
  return named[i < n ? i : i == n ? 0 : n - 1];
}

static uint64_t
pick_chunk (Exact *exact)
{
  return 64 * KIB + random_below (&exact->random, BUFFER_SIZE - 64 * KIB);
}

static void
compare (Exact *exact, ModelFrozen *frozen)
{
  g_autoptr (Snapshot) snapshot = find (exact, frozen);

  model_compare (&exact->model, snapshot, frozen, exact->buffer, pick_chunk (exact));
}

static void
op_compare (Exact *exact)
{
  ModelFrozen *frozen = model_pick (&exact->model, &exact->random);

  if (frozen == NULL)
    return;
  compare (exact, frozen);
  model_frozen_unref (frozen);
}

static void
op_create (Exact *exact)
{
  unsigned n = snapshots_count (exact->bed->set);
  g_autofree char *name = g_strdup_printf ("snap %u", exact->n_names++);
  ModelFrozen *other = pick_named (exact);
  Snapshot *snapshot = NULL;
  int r;

  if (exact->model.list->len >= MAX_KNOWN)
    return;
  if (other != NULL && random_percent (&exact->random, 10))
    bed_expect (exact->bed, "mkdir of a name in use",
                snapshots_create (exact->bed->set, other->name, NULL), -EEXIST);
  r = snapshots_create (exact->bed->set, name, &snapshot);
  bed_expect (exact->bed, "mkdir", r, n == exact->bed->set_config.max_snapshots ? -EMLINK : 0);
  if (r < 0)
    return;
  atomic_fetch_add (&exact->bed->n_made, 1);
  model_freeze (&exact->model, snapshot, name);
  snapshot_unref (snapshot);
}

static void
op_remove (Exact *exact)
{
  ModelFrozen *frozen = pick_named (exact);

  if (frozen == NULL)
    return;
  compare (exact, frozen);
  if (random_percent (&exact->random, 30) && frozen->held == NULL)
    frozen->held = find (exact, frozen);
  atomic_store (&frozen->is_removed, frozen->held == NULL);
  bed_expect (exact->bed, "rmdir", snapshots_remove (exact->bed->set, frozen->name), 0);
  bed_expect (exact->bed, "rmdir again", snapshots_remove (exact->bed->set, frozen->name), -ENOENT);
  g_clear_pointer (&frozen->name, g_free);
  if (frozen->held == NULL)
    model_forget (&exact->model, frozen);
}

/* Lets one go that was held; without a name that is its end. */
static void
release (Exact *exact, ModelFrozen *frozen)
{
  model_compare (&exact->model, frozen->held, frozen, exact->buffer, pick_chunk (exact));
  atomic_store (&frozen->is_removed, frozen->name == NULL);
  g_clear_pointer (&frozen->held, snapshot_unref);
  if (frozen->name == NULL)
    model_forget (&exact->model, frozen);
}

static void
op_hold_or_release (Exact *exact)
{
  ModelFrozen *frozen = model_pick (&exact->model, &exact->random);

  if (frozen == NULL)
    return;
  if (frozen->held != NULL)
    release (exact, frozen);
  else
    frozen->held = find (exact, frozen);
  model_frozen_unref (frozen);
}

static void
op_rename (Exact *exact)
{
  Snapshots *set = exact->bed->set;
  ModelFrozen *from = pick_named (exact), *to = pick_named (exact);
  g_autofree char *name = g_strdup_printf ("moved %u", exact->n_names++);

  bed_expect (exact->bed, "mv of nothing", snapshots_rename (set, name, "x"), -ENOENT);
  if (from == NULL)
    return;
  bed_expect (exact->bed, "mv to a name in use", snapshots_rename (set, from->name, to->name),
              -EEXIST);
  bed_expect (exact->bed, "mv", snapshots_rename (set, from->name, name), 0);
  g_free (from->name);
  from->name = g_steal_pointer (&name);
}

/* --- remount --- */

/* The set lists what the model has, and all is right. */
static void
compare_all (Exact *exact)
{
  uint32_t id = 0;

  for (unsigned i = 0; i < exact->model.list->len; i++)
    {
      ModelFrozen *frozen = exact->model.list->pdata[i];

      if (frozen->name != NULL)
        {
          g_autoptr (Snapshot) snapshot = snapshots_next (exact->bed->set, id);

          if (snapshot == NULL || snapshot_id (snapshot) != frozen->id)
            bed_fail (exact->bed, "the next snapshot after id %u is id %u instead of %u", id,
                      snapshot != NULL ? snapshot_id (snapshot) : 0, frozen->id);
          id = frozen->id;
        }
      compare (exact, frozen);
    }
  if (snapshots_next (exact->bed->set, id) != NULL)
    bed_fail (exact->bed, "there is a snapshot too many");
}

/* No file is open: the held ones are released, and those without a name forgotten. */
static void
end_all (Exact *exact, bool with_overlays)
{
  stop_readers (exact);
  for (unsigned i = exact->model.list->len; i-- > 0;)
    {
      ModelFrozen *frozen = exact->model.list->pdata[i];

      if (frozen->held != NULL)
        release (exact, frozen);
    }
  bed_close (exact->bed, with_overlays, model_expect, &exact->model);
}

static void
op_remount (Exact *exact)
{
  end_all (exact, random_percent (&exact->random, 10));
  bed_open (exact->bed);
  compare_all (exact);
  start_readers (exact);
}

/* --- the driver --- */

typedef struct
{
  void (*run) (Exact *exact);
  unsigned weight;
} Operation;

static const Operation operations[] = {
  { op_write, 480 },  { op_allocate, 150 },       { op_truncate, 30 }, { op_read_live, 120 },
  { op_compare, 25 }, { op_create, 70 },          { op_remove, 45 },   { op_rename, 15 },
  { op_remount, 8 },  { op_hold_or_release, 25 },
};

static void
run_one (Exact *exact)
{
  unsigned sum = 0;
  uint64_t at;

  atomic_fetch_add (&exact->bed->n_operations, 1);
  for (unsigned i = 0; i < G_N_ELEMENTS (operations); i++)
    sum += operations[i].weight;
  at = random_below (&exact->random, sum);
  for (unsigned i = 0; i < G_N_ELEMENTS (operations); i++)
    {
      if (at < operations[i].weight)
        {
          operations[i].run (exact);
          break;
        }
      at -= operations[i].weight;
    }
  chaos_tick (exact->tick);
}

void
torture_exact (Bed *bed, Random *random)
{
  unsigned n = bed->config.n_operations != 0 ? bed->config.n_operations : N_OPERATIONS;
  Exact *exact = g_new0 (Exact, 1);

  exact->bed = bed;
  exact->random = *random;
  exact->buffer = g_malloc (BUFFER_SIZE);
  model_init (&exact->model, bed, &exact->random);
  bed_open (bed);
  start_readers (exact);
  for (unsigned i = 0; i < n && !bed_is_late (bed); i++)
    run_one (exact);
  compare_all (exact);
  end_all (exact, true);
  model_clear (&exact->model);
  g_free (exact->buffer);
  g_free (exact);
}
