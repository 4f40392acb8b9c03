/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The levels of a set as the store and the disks see them: records, backing files, chains. */
#include "base/fail.h"
#include "snapshot/set-private.h"

#include <string.h>

static void
note_broken (Snapshots *set, Snapshot *snapshot, StoreRecord *record)
{
  for (unsigned d = 0, i = 0; d < set->n_disks && i < record->images->len; d++)
    {
      StoreImage *image = record->images->pdata[i];

      if (strcmp (image->disk, set->names[d]) != 0)
        continue; /* the disk came later */
      image->broken = snapshot_dup_disk_broken (snapshot, d);
      i++;
    }
}

StoreRecord *
set_record (Snapshots *set, const Level *level)
{
  StoreRecord *record = g_new0 (StoreRecord, 1);
  Snapshot *snapshot = NULL;

  record->layer = level->number;
  record->images = g_ptr_array_new ();
  lock_acquire (&set->lock);
  if (level->snapshot != NULL && level->snapshot->name != NULL)
    {
      snapshot = level->snapshot;
      record->id = snapshot->id;
      record->name = g_strdup (snapshot->name);
      record->created = snapshot->created;
    }
  for (unsigned i = 0; i < set->n_disks; i++)
    if (level->layers[i] != NULL)
      {
        StoreImage *image = store_image_new (set->names[i], level->layers[i]->size, 0, 0);

        if (level->snapshot != NULL)
          {
            image->allocated = level->snapshot->images[i].allocated;
            image->mtime = level->snapshot->images[i].mtime;
          }
        g_ptr_array_add (record->images, image);
      }
  lock_release (&set->lock);
  if (snapshot != NULL) /* stays, for it can lose its name only under verbs */
    note_broken (set, snapshot, record);
  return record;
}

char *
set_backing (Snapshots *set, unsigned level_index, unsigned disk, const char **out_format)
{
  for (unsigned i = level_index + 1; i < set->levels->len; i++)
    {
      const Level *level = set->levels->pdata[i];

      if (level->layers[disk] != NULL && level->layers[disk]->overlay != NULL)
        {
          *out_format = "qcow2";
          return store_overlay_reference (level->number, set->names[disk]);
        }
    }
  *out_format = "raw";
  return g_strdup (source_path (disk_source (set->disks[disk])));
}

bool
set_sync_sources (Snapshots *set, GError **error)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      int r = disk_flush (set->disks[i], true);

      if (r < 0)
        return fail_errno (error, -r, "cannot sync image '%s'",
                           source_path (disk_source (set->disks[i])));
    }
  return true;
}

bool
set_relink (Snapshots *set, unsigned level_index, GError **error)
{
  const Level *level = set->levels->pdata[level_index];

  for (unsigned d = 0; d < set->n_disks; d++)
    {
      const char *format;
      g_autofree char *name = set_backing (set, level_index, d, &format);
      int r;

      if (level->layers[d] == NULL || level->layers[d]->overlay == NULL)
        continue;
      r = overlay_set_backing (level->layers[d]->overlay, name, format);
      if (r < 0)
        return fail_errno (error, -r, "cannot write the header of an overlay of level %u",
                           level->number);
    }
  return true;
}

Chain **
set_build_chains (Snapshots *set, const Level *fresh)
{
  Chain **chains = g_new (Chain *, set->n_disks);
  const Level *into = set->merging_into;

  lock_acquire (&set->lock);
  for (unsigned i = 0; i < set->n_disks; i++)
    chains[i] = level_build_chain (set->levels, i, into, fresh);
  lock_release (&set->lock);
  return chains;
}

void
set_swap_chains (Snapshots *set)
{
  g_autofree Chain **chains = set_build_chains (set, NULL);

  barrier_close (set->barrier);
  for (unsigned i = 0; i < set->n_disks; i++)
    disk_set_chain (set->disks[i], chains[i]);
  barrier_open (set->barrier);
}
