/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "torture-model.h"

#include "base/units.h"
#include "base/zero.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <linux/falloc.h>

#define GROWTH MIB /* how much larger than at first a disk may be */

/* --- bytes --- */

static ModelBytes *
bytes_new (const uint8_t *bytes, uint64_t size)
{
  ModelBytes *copy = g_malloc (sizeof *copy + size);

  atomic_init (&copy->refs, 1);
  copy->size = size;
  memcpy (copy->bytes, bytes, size);
  return copy;
}

static ModelBytes *
bytes_ref (ModelBytes *bytes)
{
  atomic_fetch_add (&bytes->refs, 1);
  return bytes;
}

static void
bytes_unref (ModelBytes *bytes)
{
  if (bytes != NULL && atomic_fetch_sub (&bytes->refs, 1) == 1)
    g_free (bytes);
}

static void
fill_random (Random *random, uint8_t *bytes, uint64_t length)
{
  for (uint64_t i = 0; i < length; i += 8)
    {
      uint64_t word = random_next (random);

      memcpy (bytes + i, &word, units_min (8, length - i));
    }
}

void
model_fill (Random *random, uint8_t *bytes, uint64_t length)
{
  switch (random_below (random, 8))
    {
    case 0:
      memset (bytes, 0, length);
      break;
    case 1:
      memset (bytes, (int) random_below (random, 256), length);
      break;
    case 2:
      memset (bytes, 0, length);
      bytes[random_below (random, length)] = 1; /* all zeros but one */
      break;
    case 3:
      fill_random (random, bytes, length);
      memset (bytes, 0, random_below (random, length));
      break;
    default:
      fill_random (random, bytes, length);
    }
}

/* --- live disks --- */

static void
init_disk (ModelDisk *disk, Random *random)
{
  disk->size = 3 * MIB + random_below (random, BED_IS_SLOW ? MIB : 5 * MIB);
  if (random_percent (random, 50))
    disk->size = units_round_up (disk->size, BED_BLOCK);
  disk->capacity = disk->size + GROWTH;
  disk->bytes = g_malloc0 (disk->capacity);
  for (uint64_t at = 0, n; at < disk->size; at += n)
    {
      n = units_min (1 + random_below (random, MIB), disk->size - at);
      model_fill (random, disk->bytes + at, n);
    }
}

void
model_init (Model *model, Bed *bed, Random *random)
{
  *model = (Model){ .bed = bed, .list = g_ptr_array_new () };
  lock_init (&model->lock, LOCK_TEST);
  for (unsigned d = 0; d < bed->n_disks; d++)
    {
      init_disk (&model->disks[d], random);
      bed_write_image (bed, d, model->disks[d].bytes, model->disks[d].size);
    }
}

void
model_clear (Model *model)
{
  while (model->list->len > 0)
    model_forget (model, model->list->pdata[0]);
  g_ptr_array_unref (model->list);
  for (unsigned d = 0; d < BED_MAX_DISKS; d++)
    {
      g_free (model->disks[d].bytes);
      bytes_unref (model->disks[d].last);
    }
  lock_clear (&model->lock);
}

void
model_write (ModelDisk *disk, const uint8_t *bytes, uint64_t offset, uint64_t length)
{
  memcpy (disk->bytes + offset, bytes, length);
  disk->size = units_max (disk->size, offset + length);
  disk->is_touched = true;
}

void
model_allocate (ModelDisk *disk, int mode, uint64_t offset, uint64_t length)
{
  uint64_t end = units_min (offset + length, disk->size);

  if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0 && offset < end)
    memset (disk->bytes + offset, 0, end - offset);
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0)
    disk->size = units_max (disk->size, offset + length);
  disk->is_touched = true;
}

void
model_truncate (ModelDisk *disk, uint64_t size)
{
  if (size < disk->size)
    memset (disk->bytes + size, 0, disk->size - size);
  disk->size = size;
  disk->is_touched = true;
}

/* --- frozen copies --- */

static int64_t
to_ns (struct timespec ts)
{
  return ts.tv_sec * INT64_C (1000000000) + ts.tv_nsec;
}

/* What the times promise: not touched, then equal to the last snapshot's; and the same time and
 * size in any two snapshots, then the same bytes. */
static void
check_times (Model *model, const ModelFrozen *frozen, unsigned d)
{
  const ModelDisk *disk = &model->disks[d];
  int64_t mtime = to_ns (frozen->mtimes[d]);

  if (disk->last != NULL && !disk->is_touched && mtime != to_ns (disk->last_mtime))
    bed_fail (model->bed, "snapshot id %u, disk %u: mtime changed, but nobody wrote", frozen->id,
              d);
  if (disk->last != NULL && mtime < to_ns (disk->last_mtime))
    bed_fail (model->bed, "snapshot id %u, disk %u: mtime went back", frozen->id, d);

  for (unsigned i = 0; i < model->list->len; i++)
    {
      const ModelFrozen *other = model->list->pdata[i];
      const ModelBytes *a = frozen->disks[d], *b = other->disks[d];

      if (a != b && a->size == b->size && mtime == to_ns (other->mtimes[d])
          && memcmp (a->bytes, b->bytes, a->size) != 0)
        bed_fail (model->bed, "snapshots id %u and %u, disk %u: same mtime and size, other bytes",
                  other->id, frozen->id, d);
    }
}

void
model_freeze (Model *model, Snapshot *snapshot, const char *name)
{
  ModelFrozen *frozen = g_new0 (ModelFrozen, 1);

  atomic_init (&frozen->refs, 1);
  atomic_init (&frozen->is_removed, false);
  frozen->name = g_strdup (name);
  frozen->id = snapshot_id (snapshot);
  frozen->created = snapshot_created (snapshot);
  for (unsigned d = 0; d < model->bed->n_disks; d++)
    {
      ModelDisk *disk = &model->disks[d];

      frozen->mtimes[d] = snapshot_mtime (snapshot, d);
      frozen->disks[d] = disk->last != NULL && !disk->is_touched
                             ? bytes_ref (disk->last)
                             : bytes_new (disk->bytes, disk->size);
      check_times (model, frozen, d);
      bytes_unref (disk->last);
      disk->last = bytes_ref (frozen->disks[d]);
      disk->last_mtime = frozen->mtimes[d];
      disk->is_touched = false;
    }
  lock_acquire (&model->lock);
  g_ptr_array_add (model->list, frozen);
  lock_release (&model->lock);
}

void
model_forget (Model *model, ModelFrozen *frozen)
{
  lock_acquire (&model->lock);
  g_ptr_array_remove (model->list, frozen);
  lock_release (&model->lock);
  model_frozen_unref (frozen);
}

ModelFrozen *
model_pick (Model *model, Random *random)
{
  ModelFrozen *frozen = NULL;

  lock_acquire (&model->lock);
  if (model->list->len > 0)
    {
      frozen = model->list->pdata[random_below (random, model->list->len)];
      atomic_fetch_add (&frozen->refs, 1);
    }
  lock_release (&model->lock);
  return frozen;
}

void
model_frozen_unref (ModelFrozen *frozen)
{
  if (atomic_fetch_sub (&frozen->refs, 1) != 1)
    return;
  for (unsigned d = 0; d < BED_MAX_DISKS; d++)
    bytes_unref (frozen->disks[d]);
  g_free (frozen->name);
  g_free (frozen);
}

static BedBytes
give_away (const uint8_t *bytes, uint64_t size)
{
  return (BedBytes){ memcpy (g_malloc (size + 1), bytes, size), size };
}

BedBytes
model_expect (void *data, uint32_t id, unsigned disk)
{
  const Model *model = data;

  if (id == 0)
    return give_away (model->disks[disk].bytes, model->disks[disk].size);
  for (unsigned i = 0; i < model->list->len; i++)
    {
      const ModelFrozen *frozen = model->list->pdata[i];
      const ModelBytes *bytes = frozen->disks[disk];

      if (frozen->id == id)
        return give_away (bytes->bytes, bytes->size);
    }
  return (BedBytes){ NULL, 0 };
}

/* --- comparison --- */

void
model_compare_range (Model *model, Snapshot *snapshot, const ModelFrozen *frozen, unsigned disk,
                     uint64_t offset, uint64_t length, uint8_t *buffer)
{
  const ModelBytes *bytes = frozen->disks[disk];
  uint64_t expected = offset < bytes->size ? units_min (length, bytes->size - offset) : 0;
  ssize_t got = snapshot_read (snapshot, disk, buffer, length, offset);
  char what[64];

  g_snprintf (what, sizeof what, "snapshot id %u", frozen->id);
  if (got != (ssize_t) expected)
    {
      g_autofree char *broken = snapshot_dup_broken (snapshot);

      bed_fail (model->bed,
                "%s, disk %u, offset %" PRIu64 ": read of %" PRIu64 " gave %zd instead of %" PRIu64
                "; broken: %s",
                what, disk, offset, length, got, expected, broken != NULL ? broken : "no");
    }
  bed_compare (model->bed, what, disk, offset, buffer, bytes->bytes + offset, expected);
}

static void
compare_attributes (Model *model, Snapshot *snapshot, const ModelFrozen *frozen)
{
  const Bed *bed = model->bed;
  g_autofree char *name = snapshot_dup_name (snapshot);
  g_autofree char *broken = snapshot_dup_broken (snapshot);

  if (broken != NULL)
    bed_fail (bed, "snapshot id %u is broken: %s", frozen->id, broken);
  if (snapshot_id (snapshot) != frozen->id)
    bed_fail (bed, "snapshot id %u has become id %u", frozen->id, snapshot_id (snapshot));
  if (g_strcmp0 (name, frozen->name) != 0)
    bed_fail (bed, "snapshot id %u is called '%s' instead of '%s'", frozen->id, name, frozen->name);
  if (to_ns (snapshot_created (snapshot)) != to_ns (frozen->created))
    bed_fail (bed, "snapshot id %u: the time of its making changed", frozen->id);
  for (unsigned d = 0; d < bed->n_disks; d++)
    {
      if (!snapshot_has_disk (snapshot, d))
        bed_fail (bed, "snapshot id %u lacks disk %u", frozen->id, d);
      if (snapshot_size (snapshot, d) != frozen->disks[d]->size)
        bed_fail (bed, "snapshot id %u, disk %u: size %" PRIu64 " instead of %" PRIu64, frozen->id,
                  d, snapshot_size (snapshot, d), frozen->disks[d]->size);
      if (to_ns (snapshot_mtime (snapshot, d)) != to_ns (frozen->mtimes[d]))
        bed_fail (bed, "snapshot id %u, disk %u: its mtime changed", frozen->id, d);
    }
}

/* What seek calls a hole reads as zeros. */
static void
compare_holes (Model *model, Snapshot *snapshot, const ModelFrozen *frozen, unsigned d)
{
  const ModelBytes *bytes = frozen->disks[d];
  int64_t size = (int64_t) bytes->size, data, hole;

  for (int64_t at = 0; at < size; at = hole)
    {
      data = snapshot_seek (snapshot, d, (uint64_t) at, SEEK_DATA);
      if (data == -ENXIO)
        data = size;
      if (data < at || data > size)
        bed_fail (model->bed, "snapshot id %u, disk %u: SEEK_DATA from %" PRIi64 " gives %" PRIi64,
                  frozen->id, d, at, data);
      if (!zero_check (bytes->bytes + at, (size_t) (data - at)))
        bed_fail (model->bed,
                  "snapshot id %u, disk %u: SEEK_DATA passes over data between %" PRIi64
                  " and %" PRIi64,
                  frozen->id, d, at, data);
      if (data == size)
        return;
      hole = snapshot_seek (snapshot, d, (uint64_t) data, SEEK_HOLE);
      if (hole <= data || hole > size)
        bed_fail (model->bed, "snapshot id %u, disk %u: SEEK_HOLE from %" PRIi64 " gives %" PRIi64,
                  frozen->id, d, data, hole);
    }
}

void
model_compare (Model *model, Snapshot *snapshot, const ModelFrozen *frozen, uint8_t *buffer,
               uint64_t length)
{
  compare_attributes (model, snapshot, frozen);
  for (unsigned d = 0; d < model->bed->n_disks; d++)
    {
      for (uint64_t at = 0; at <= frozen->disks[d]->size; at += length)
        model_compare_range (model, snapshot, frozen, d, at, length, buffer);
      compare_holes (model, snapshot, frozen, d);
    }
}
