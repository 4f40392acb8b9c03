/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store that somebody deletes or moves away while it is served: what is open can still be read,
 * and no start will find it again. */
#include "snapshot/set-private.h"

/* A file that a level has in the store. */
typedef struct
{
  uint32_t level;
  int disk; /* whose overlay; -1: the record */
} LevelFile;

/* Of all levels, the newest first. */
static GArray *
list_files (Snapshots *set)
{
  GArray *files = g_array_new (FALSE, FALSE, sizeof (LevelFile));

  lock_acquire (&set->lock);
  for (unsigned i = set->levels->len; i-- > 0;)
    {
      const Level *level = set->levels->pdata[i];
      LevelFile file = { level->number, -1 };

      if (level->is_fresh)
        continue;
      g_array_append_val (files, file);
      for (unsigned d = 0; d < set->n_disks; d++)
        if (level->layers[d] != NULL && level->layers[d]->overlay != NULL)
          {
            file.disk = (int) d;
            g_array_append_val (files, file);
          }
    }
  lock_release (&set->lock);
  return files;
}

/* Else it is a merge that has removed it. */
static bool
is_level (Snapshots *set, uint32_t number)
{
  bool found = false;

  lock_acquire (&set->lock);
  for (unsigned i = 0; i < set->levels->len && !found; i++)
    found = ((const Level *) set->levels->pdata[i])->number == number;
  lock_release (&set->lock);
  return found;
}

static char *
find_lost_file (Snapshots *set, uint32_t *out_level)
{
  g_autoptr (GArray) files = list_files (set);

  for (unsigned i = 0; i < files->len; i++)
    {
      const LevelFile *file = &g_array_index (files, LevelFile, i);
      const char *disk = file->disk < 0 ? NULL : set->names[file->disk];
      char *loss = store_find_lost_file (set->store, file->level, disk);

      if (loss != NULL && is_level (set, file->level))
        {
          *out_level = file->level;
          return loss;
        }
      g_free (loss);
    }
  return NULL;
}

static void
tell (Snapshots *set, const char *loss)
{
  if (loss == NULL)
    atomic_store (&set->loss_is_told, false);
  else if (!atomic_exchange (&set->loss_is_told, true))
    g_warning ("%s; copy what can still be read of its snapshots before fleecefs ends", loss);
}

char *
set_find_loss (Snapshots *set)
{
  char *loss = store_find_loss (set->store);

  if (loss != NULL)
    tell (set, loss);
  return loss;
}

char *
snapshots_find_loss (Snapshots *set, uint32_t *out_level)
{
  char *loss = set_find_loss (set);

  *out_level = UINT32_MAX;
  if (loss != NULL)
    return loss;
  loss = find_lost_file (set, out_level);
  tell (set, loss);
  return loss;
}

char *
snapshot_dup_lost (Snapshot *snapshot)
{
  uint32_t newest, level;
  char *loss = snapshots_find_loss (snapshot->set, &newest);

  lock_acquire (&snapshot->set->lock);
  level = snapshot->level->number;
  lock_release (&snapshot->set->lock);
  if (loss != NULL && level > newest)
    g_clear_pointer (&loss, g_free);
  return loss;
}
