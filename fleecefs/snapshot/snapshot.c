/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One snapshot: what it is, who refers to it, what it reads. */
#include "base/units.h"
#include "snapshot/set-private.h"

#include <errno.h>
#include <string.h>

Snapshot *
snapshot_new (Snapshots *set, Level *level, const StoreRecord *record, unsigned n_refs)
{
  Snapshot *snapshot = g_malloc0 (sizeof *snapshot + set->n_disks * sizeof snapshot->images[0]);

  snapshot->set = set;
  snapshot->id = record->id;
  snapshot->created = record->created;
  snapshot->name = g_strdup (record->name);
  snapshot->n_refs = n_refs;
  snapshot->level = level;
  for (unsigned i = 0; i < record->images->len; i++)
    {
      const StoreImage *image = record->images->pdata[i];

      for (unsigned d = 0; d < set->n_disks; d++)
        if (strcmp (set->names[d], image->disk) == 0)
          {
            snapshot->images[d].present = true;
            snapshot->images[d].size = image->size;
            snapshot->images[d].allocated = image->allocated;
            snapshot->images[d].mtime = image->mtime;
            snapshot->images[d].broken_before = g_strdup (image->broken);
          }
    }

  lock_acquire (&set->lock);
  level->is_fresh = false;
  level->snapshot = snapshot;
  g_hash_table_insert (set->by_name, snapshot->name, snapshot);
  g_hash_table_insert (set->by_id, GUINT_TO_POINTER (snapshot->id), snapshot);
  lock_release (&set->lock);
  return snapshot;
}

void
snapshot_free (Snapshot *snapshot)
{
  for (unsigned i = 0; i < snapshot->set->n_disks; i++)
    g_free (snapshot->images[i].broken_before);
  g_free (snapshot->name);
  g_free (snapshot);
}

Snapshot *
snapshot_ref (Snapshot *snapshot)
{
  lock_acquire (&snapshot->set->lock);
  snapshot->n_refs++;
  lock_release (&snapshot->set->lock);
  return snapshot;
}

void
snapshot_unref (Snapshot *snapshot)
{
  Snapshots *set = snapshot->set;
  bool last;

  lock_acquire (&set->lock);
  last = --snapshot->n_refs == 0;
  if (last)
    {
      g_hash_table_remove (set->by_id, GUINT_TO_POINTER (snapshot->id));
      snapshot->level->snapshot = NULL;
      set->something_died = true;
      pthread_cond_signal (&set->work);
    }
  lock_release (&set->lock);
  if (last)
    snapshot_free (snapshot);
}

bool
snapshot_is_in_use (Snapshot *snapshot)
{
  bool in_use;

  lock_acquire (&snapshot->set->lock);
  in_use = snapshot->n_refs > (snapshot->name != NULL ? 2 : 1);
  lock_release (&snapshot->set->lock);
  return in_use;
}

uint32_t
snapshot_id (const Snapshot *snapshot)
{
  return snapshot->id;
}

char *
snapshot_dup_name (Snapshot *snapshot)
{
  char *name;

  lock_acquire (&snapshot->set->lock);
  name = g_strdup (snapshot->name);
  lock_release (&snapshot->set->lock);
  return name;
}

struct timespec
snapshot_created (const Snapshot *snapshot)
{
  return units_timespec (snapshot->created);
}

bool
snapshot_has_disk (const Snapshot *snapshot, unsigned disk)
{
  return snapshot->images[disk].present;
}

uint64_t
snapshot_size (const Snapshot *snapshot, unsigned disk)
{
  return snapshot->images[disk].size;
}

uint64_t
snapshot_allocated (const Snapshot *snapshot, unsigned disk)
{
  return snapshot->images[disk].allocated;
}

struct timespec
snapshot_mtime (const Snapshot *snapshot, unsigned disk)
{
  return units_timespec (snapshot->images[disk].mtime);
}

static Layer *
ref_layer (Snapshot *snapshot, unsigned disk)
{
  Layer *layer;

  lock_acquire (&snapshot->set->lock);
  layer = layer_ref (snapshot->level->layers[disk]);
  lock_release (&snapshot->set->lock);
  return layer;
}

char *
snapshot_dup_disk_broken (Snapshot *snapshot, unsigned disk)
{
  g_autoptr (Layer) layer = ref_layer (snapshot, disk);

  if (!layer_is_broken (layer))
    return NULL;
  return snapshot->images[disk].broken_before != NULL
             ? g_strdup (snapshot->images[disk].broken_before)
             : layer_dup_fault (layer);
}

uint64_t
snapshot_kept (Snapshot *snapshot, unsigned disk)
{
  g_autoptr (Layer) layer = ref_layer (snapshot, disk);

  return layer->overlay != NULL ? overlay_allocated (layer->overlay) : 0;
}

void
snapshot_add_reason (const Snapshots *set, unsigned disk, const char *reason, GString *text)
{
  if (reason != NULL)
    g_string_append_printf (text, "%sdisk '%s': %s", text->len > 0 ? "; " : "", set->names[disk],
                            reason);
}

char *
snapshot_dup_broken (Snapshot *snapshot)
{
  Snapshots *set = snapshot->set;
  g_autoptr (GString) text = g_string_new (NULL);

  for (unsigned i = 0; i < set->n_disks; i++)
    {
      g_autofree char *reason
          = snapshot_has_disk (snapshot, i) ? snapshot_dup_disk_broken (snapshot, i) : NULL;

      snapshot_add_reason (set, i, reason, text);
    }
  return text->len > 0 ? g_string_free (g_steal_pointer (&text), FALSE) : NULL;
}

/* When a merge has just put another layer in the place of ours, the level that we
 * find next has it: merge.c changes the level first and the chain second. */
ssize_t
snapshot_read (Snapshot *snapshot, unsigned disk, void *buffer, size_t length, uint64_t offset)
{
  ssize_t r;

  do
    {
      g_autoptr (Layer) layer = ref_layer (snapshot, disk);

      r = disk_read_frozen (snapshot->set->disks[disk], layer, buffer, length, offset);
    }
  while (r == DISK_LAYER_GONE);
  return r;
}

int64_t
snapshot_seek (Snapshot *snapshot, unsigned disk, uint64_t offset, int whence)
{
  int64_t r;

  do
    {
      g_autoptr (Layer) layer = ref_layer (snapshot, disk);

      r = disk_seek_frozen (snapshot->set->disks[disk], layer, offset, whence);
    }
  while (r == DISK_LAYER_GONE);
  return r;
}
