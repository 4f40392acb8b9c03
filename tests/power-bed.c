/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See power-bed.h. */
#include "power-bed.h"

#include "base/fail.h"
#include "base/units.h"
#include "snapshot/merge.h"
#include "test-util.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <linux/falloc.h>

/* --- the disks and the model --- */

static void
op_free (void *data)
{
  BedOp *op = data;

  g_free (op->bytes);
  g_free (op);
}

static void
snapshot_free (void *data)
{
  BedSnapshot *snapshot = data;

  for (unsigned i = 0; i < BED_DISKS; i++)
    g_free (snapshot->images[i]);
  g_free (snapshot->name);
  g_free (snapshot->new_name);
  g_free (snapshot);
}

static void
fill (Bed *bed, uint8_t *bytes, uint64_t length, uint64_t offset)
{
  uint64_t version = bed->version++;

  for (uint64_t at = 0; at < length; at += 8)
    {
      uint64_t word = random_mix (version, offset + at);

      memcpy (bytes + at, &word, MIN (length - at, 8));
    }
}

/* Data in every other 256 KiB. */
static void
make_disk (Bed *bed, unsigned i)
{
  const char *path = bed->images[i].path;

  test_make_file (path, bed->config.size, 0);
  bed->now[i] = g_malloc0 (BED_CAPACITY (bed));
  for (uint64_t at = 0; at < bed->config.size; at += 512 * KIB)
    {
      uint64_t length = MIN (256 * KIB, bed->config.size - at);

      fill (bed, bed->now[i] + at, length, at);
      test_poke (path, at, bed->now[i] + at, length);
    }
  bed->first[i] = power_duplicate (bed->now[i], BED_CAPACITY (bed));
  bed->sizes[i] = bed->config.size;
  bed->ops[i] = g_ptr_array_new_with_free_func (op_free);
}

Bed *
bed_new (const BedConfig *config)
{
  static const char *const names[BED_DISKS] = { "disk0.img", "disk1.img" };
  Bed *bed = g_new0 (Bed, 1);

  bed->config = *config;
  bed->first_size = config->size;
  bed->version = 1;
  pthread_mutex_init (&bed->lock, NULL);
  ck_assert_int_eq (mkdir (test_path ("live"), 0700), 0);
  for (unsigned i = 0; i < config->n_disks; i++)
    {
      g_autofree char *name = g_build_filename ("live", names[i], NULL);

      bed->images[i] = (SnapshotsImage){ names[i], test_path (name) };
      bed->sources[i] = bed->images[i].path;
      make_disk (bed, i);
    }
  bed->snapshots = g_ptr_array_new_with_free_func (snapshot_free);
  bed->sessions = g_ptr_array_new_with_free_func (g_free);
  bed->log = power_log_new (test_path ("live"), bed->sources);
  return bed;
}

void
bed_free (Bed *bed)
{
  for (unsigned i = 0; i < bed->config.n_disks; i++)
    {
      g_ptr_array_unref (bed->ops[i]);
      g_free (bed->first[i]);
      g_free (bed->now[i]);
    }
  g_ptr_array_unref (bed->snapshots);
  g_ptr_array_unref (bed->sessions);
  power_log_free (bed->log);
  pthread_mutex_destroy (&bed->lock);
  g_free (bed);
}

/* --- sessions --- */

static BedSession *
session (const Bed *bed)
{
  return bed->sessions->pdata[bed->sessions->len - 1];
}

static Snapshots *
open_set (Bed *bed, bool durable, GError **error)
{
  SnapshotsConfig config = { .store = test_path ("live/store"),
                             .granule = bed->config.granule,
                             .max_snapshots = 100,
                             .copy = bed->config.copy,
                             .on_cbw_error = bed->on_cbw_error,
                             .durable = durable };

  return snapshots_open (&config, bed->images, bed->config.n_disks, error);
}

void
bed_open (Bed *bed, bool durable)
{
  g_autoptr (GError) error = NULL;
  BedSession *now = g_new0 (BedSession, 1);

  *now = (BedSession){ .durable = durable,
                       .opened_begun = power_log_tick (bed->log),
                       .opened = POWER_NEVER,
                       .closed_begun = POWER_NEVER,
                       .closed = POWER_NEVER };
  g_ptr_array_add (bed->sessions, now);
  bed->set = open_set (bed, durable, &error);
  ck_assert_msg (bed->set != NULL, "%s", error != NULL ? error->message : "");
  ck_assert_msg (snapshots_start (bed->set, &error), "%s", error != NULL ? error->message : "");
  now->opened = power_log_mark (bed->log);
}

void
bed_open_refused (Bed *bed, bool durable, int errnum)
{
  g_autoptr (GError) error = NULL;

  ck_assert_ptr_null (open_set (bed, durable, &error));
  ck_assert_int_eq (fail_code (error), errnum);
}

void
bed_close (Bed *bed)
{
  g_autoptr (GError) error = NULL;

  session (bed)->closed_begun = power_log_tick (bed->log);
  ck_assert_msg (snapshots_close (bed->set, &error), "%s", error != NULL ? error->message : "");
  session (bed)->closed = power_log_mark (bed->log);
  bed->set = NULL;
}

void
bed_kill (Bed *bed)
{
  session (bed)->killed = true;
  merge_stop (bed->set);
  snapshots_abandon (bed->set); /* closes and writes nothing, for the store has snapshots */
  bed->set = NULL;
}

/* --- the guest --- */

/* What an op does to a disk in memory. */
static void
apply (const Bed *bed, unsigned disk, const BedOp *op)
{
  uint8_t *now = bed->now[disk];

  if (op->kind == BED_WRITE)
    memcpy (now + op->offset, op->bytes, op->length);
  else if (op->kind == BED_ZERO)
    memset (now + op->offset, 0, op->length);
  else if (op->kind == BED_RESIZE && op->offset < BED_CAPACITY (bed))
    memset (now + op->offset, 0, BED_CAPACITY (bed) - op->offset);
}

static BedOp *
begin_op (Bed *bed, unsigned disk, int kind, uint64_t offset, uint64_t length)
{
  BedOp *op = g_new0 (BedOp, 1);

  ck_assert_uint_le (offset + length, BED_CAPACITY (bed));
  pthread_mutex_lock (&bed->lock);
  op->begun = power_log_tick (bed->log);
  op->ended = POWER_NEVER;
  op->kind = kind;
  op->offset = offset;
  op->length = length;
  if (kind == BED_WRITE)
    {
      op->bytes = g_malloc (length);
      fill (bed, op->bytes, length, offset);
    }
  g_ptr_array_add (bed->ops[disk], op);
  pthread_mutex_unlock (&bed->lock);
  return op;
}

static void
end_op (Bed *bed, unsigned disk, BedOp *op)
{
  pthread_mutex_lock (&bed->lock);
  op->ended = power_log_tick (bed->log);
  apply (bed, disk, op);
  if (op->kind == BED_RESIZE)
    bed->sizes[disk] = op->offset;
  else if (op->kind == BED_WRITE)
    bed->sizes[disk] = MAX (bed->sizes[disk], op->offset + op->length);
  pthread_mutex_unlock (&bed->lock);
}

static void
write_op (Bed *bed, unsigned disk, BedOp *op)
{
  ck_assert_int_eq (
      disk_write (snapshots_disk (bed->set, disk), op->bytes, op->length, op->offset, IO_SYNC_NONE),
      op->length);
  end_op (bed, disk, op);
}

void
bed_write (Bed *bed, unsigned disk, uint64_t offset, uint64_t length)
{
  write_op (bed, disk, begin_op (bed, disk, BED_WRITE, offset, length));
}

void
bed_write_refused (Bed *bed, unsigned disk, uint64_t offset, uint64_t length)
{
  g_autofree uint8_t *bytes = g_malloc (length);

  fill (bed, bytes, length, offset);
  ck_assert_int_lt (
      disk_write (snapshots_disk (bed->set, disk), bytes, length, offset, IO_SYNC_NONE), 0);
}

void
bed_write_zeros (Bed *bed, unsigned disk, uint64_t offset, uint64_t length)
{
  BedOp *op = begin_op (bed, disk, BED_WRITE, offset, length);

  memset (op->bytes, 0, length);
  write_op (bed, disk, op);
}

void
bed_zero (Bed *bed, unsigned disk, uint64_t offset, uint64_t length)
{
  BedOp *op = begin_op (bed, disk, BED_ZERO, offset, length);

  ck_assert_int_eq (disk_allocate (snapshots_disk (bed->set, disk),
                                   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length),
                    0);
  end_op (bed, disk, op);
}

void
bed_resize (Bed *bed, unsigned disk, uint64_t size)
{
  BedOp *op = begin_op (bed, disk, BED_RESIZE, size, 0);

  ck_assert_int_eq (disk_truncate (snapshots_disk (bed->set, disk), size), 0);
  end_op (bed, disk, op);
}

void
bed_flush (Bed *bed, unsigned disk)
{
  BedOp *op = begin_op (bed, disk, BED_FLUSH, 0, 0);

  ck_assert_int_eq (disk_flush (snapshots_disk (bed->set, disk), true), 0);
  end_op (bed, disk, op);
  power_log_mark (bed->log);
}

/* --- verbs --- */

void
bed_frozen (Bed *bed)
{
  BedSnapshot *snapshot;

  pthread_mutex_lock (&bed->lock);
  snapshot = g_steal_pointer (&bed->making);
  for (unsigned i = 0; snapshot != NULL && i < bed->config.n_disks; i++)
    {
      snapshot->images[i] = power_duplicate (bed->now[i], bed->sizes[i]);
      snapshot->sizes[i] = bed->sizes[i];
    }
  pthread_mutex_unlock (&bed->lock);
}

void
bed_mkdir (Bed *bed, const char *name)
{
  BedSnapshot *snapshot = g_new0 (BedSnapshot, 1);

  *snapshot = (BedSnapshot){ .name = g_strdup (name),
                             .made_begun = power_log_tick (bed->log),
                             .made = POWER_NEVER,
                             .renamed_begun = POWER_NEVER,
                             .renamed = POWER_NEVER,
                             .removed_begun = POWER_NEVER,
                             .removed = POWER_NEVER };
  g_ptr_array_add (bed->snapshots, snapshot);
  bed->making = snapshot;
  ck_assert_int_eq (snapshots_create (bed->set, name, NULL), 0);
  snapshot->made = power_log_mark (bed->log);
  bed_frozen (bed);
}

static BedSnapshot *
find (const Bed *bed, const char *name)
{
  for (guint i = 0; i < bed->snapshots->len; i++)
    {
      BedSnapshot *snapshot = bed->snapshots->pdata[i];

      if (g_strcmp0 (snapshot->new_name != NULL ? snapshot->new_name : snapshot->name, name) == 0)
        return snapshot;
    }
  ck_abort_msg ("no snapshot '%s'", name);
}

void
bed_rmdir (Bed *bed, const char *name)
{
  BedSnapshot *snapshot = find (bed, name);

  snapshot->removed_begun = power_log_tick (bed->log);
  ck_assert_int_eq (snapshots_remove (bed->set, name), 0);
  snapshot->removed = power_log_mark (bed->log);
}

void
bed_rename (Bed *bed, const char *from, const char *to)
{
  BedSnapshot *snapshot = find (bed, from);

  ck_assert_ptr_null (snapshot->new_name);
  snapshot->renamed_begun = power_log_tick (bed->log);
  ck_assert_int_eq (snapshots_rename (bed->set, from, to), 0);
  snapshot->renamed = power_log_mark (bed->log);
  snapshot->new_name = g_strdup (to);
}

/* --- crashes --- */

/* Of a moment with no more states than that all are tried, where there is time. */
#define WHOLE_LIMIT 1024

typedef struct
{
  Bed *bed;
  unsigned deep_every; /* see BedEffort */
  unsigned n_states;
  uint64_t moment;
} Trial;

static int
remove_one (const char *path, G_GNUC_UNUSED const struct stat *st, G_GNUC_UNUSED int type,
            G_GNUC_UNUSED struct FTW *where)
{
  return remove (path);
}

static void
try_state (Trial *trial, PowerChoices *choices)
{
  const char *path = test_path ("crash");

  PowerDepth depth = POWER_CLOSE;

  trial->n_states++;
  if (trial->n_states % trial->deep_every == 0)
    depth = trial->n_states / trial->deep_every % 2 == 0 ? POWER_WRITE : POWER_REOPEN;
  power_crash (trial->bed->log, trial->moment, choices, path);
  power_check (trial->bed, trial->moment, path, depth);
  ck_assert_int_eq (nftw (path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void
try_all (Trial *trial)
{
  g_autoptr (PowerChoices) choices = power_choices_all ();

  do
    try_state (trial, choices);
  while (power_choices_next (choices));
}

static void
try_some (Trial *trial, unsigned n_random, uint64_t seed)
{
  g_autoptr (PowerChoices) extreme = power_choices_extreme ((unsigned) (seed % POWER_EXTREMES));

  try_state (trial, extreme);
  for (unsigned i = 0; i < n_random; i++)
    {
      g_autoptr (PowerChoices) choices = power_choices_random (random_mix (seed, i));

      try_state (trial, choices);
    }
}

static uint64_t
number_from (const char *variable, uint64_t otherwise)
{
  const char *text = g_getenv (variable);

  return text == NULL || *text == '\0' ? otherwise : g_ascii_strtoull (text, NULL, 0);
}

void
power_try (Bed *bed, const char *name, const BedEffort *effort)
{
  uint64_t seed = number_from ("POWER_SEED", g_random_int ());
  unsigned n_random = (unsigned) number_from ("POWER_STATES", effort->n_random);
  unsigned whole_limit
      = g_getenv ("POWER_STATES") != NULL ? MIN (n_random, WHOLE_LIMIT) : effort->whole_limit;
  Trial trial
      = { .bed = bed, .deep_every = (unsigned) number_from ("POWER_DEEP", effort->deep_every) };
  const GArray *moments;
  unsigned n_crashes = 0, n_whole = 0, step;

  power_log_stop (bed->log);
  moments = power_log_moments (bed->log);
  step = MAX (1, moments->len / MAX (1, n_random)); /* few states: of few moments */
  printf ("power: %s: seed %" PRIu64 "\n", name, seed);
  fflush (stdout);
  for (guint i = 0; i < moments->len; i++)
    {
      trial.moment = g_array_index (moments, uint64_t, i);
      if (power_count (bed->log, trial.moment, whole_limit) <= whole_limit)
        {
          try_all (&trial);
          n_whole++;
        }
      else if ((i + seed) % step == 0)
        try_some (&trial, MAX (1, n_random / moments->len), random_mix (seed, i));
      else
        continue;
      n_crashes++;
    }
  printf ("power: %s: %u crashes, %u of them with all states, %u states\n", name, n_crashes,
          n_whole, trial.n_states);
}
