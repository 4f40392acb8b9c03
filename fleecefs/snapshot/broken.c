/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot/broken.h"

#include "base/pause.h"

void
broken_leave_note (void *data)
{
  Snapshots *set = data;

  lock_acquire (&set->lock);
  set->something_broke = true;
  pthread_cond_signal (&set->work);
  lock_release (&set->lock);
}

bool
broken_has_note (Snapshots *set)
{
  bool broke;

  lock_acquire (&set->lock);
  broke = set->something_broke;
  lock_release (&set->lock);
  return broke;
}

/* The level's snapshot as a reference, also one that has lost its name and is still open. */
static Snapshot *
ref_snapshot (Snapshots *set, const Level *level)
{
  Snapshot *snapshot;

  lock_acquire (&set->lock);
  snapshot = level->snapshot;
  if (snapshot != NULL)
    snapshot->n_refs++;
  lock_release (&set->lock);
  return snapshot;
}

/* Returns true when the store has it. */
static bool
write_level (Snapshots *set, Level *level, unsigned n_broken) LOCK_REQUIRES (&set->verbs)
{
  g_autoptr (StoreRecord) record = set_record (set, level);
  g_autofree char *broken = NULL;
  g_autoptr (Snapshot) snapshot = NULL;
  g_autoptr (GError) error = NULL;

  for (unsigned d = 0; d < set->n_disks; d++) /* in place, for the record may not fit */
    if (level->layers[d] != NULL)
      layer_record_break (level->layers[d]);
  if (record->name == NULL) /* there is nothing of a snapshot to write */
    return true;
  snapshot = ref_snapshot (set, level);
  broken = snapshot_dup_broken (snapshot);
  if (level->n_broken_logged < n_broken)
    g_warning ("snapshot '%s' is broken: %s", record->name, broken);
  level->n_broken_logged = n_broken;
  if (store_write_record (set->store, record, true, &error))
    return true;
  g_warning ("%s", error->message);
  return false;
}

GPtrArray *
broken_write_down (Snapshots *set)
{
  GPtrArray *broken = g_ptr_array_new_with_free_func ((GDestroyNotify) snapshot_unref);

  for (unsigned i = 0; i < set->levels->len; i++)
    {
      Level *level = set->levels->pdata[i];
      unsigned n_broken = level_n_broken (level);
      Snapshot *snapshot;

      if (level->n_broken_written == n_broken)
        continue;
      if (write_level (set, level, n_broken))
        level->n_broken_written = n_broken;
      snapshot = ref_snapshot (set, level);
      if (snapshot != NULL)
        g_ptr_array_add (broken, snapshot);
    }
  return broken;
}

void
broken_tell (Snapshots *set)
{
  g_autoptr (GPtrArray) broken = NULL;

  PAUSE_POINT ("broken:tell");
  lock_acquire (&set->lock);
  set->something_broke = false; /* before the look: what breaks from here on leaves another */
  lock_release (&set->lock);
  lock_acquire (&set->verbs);
  broken = broken_write_down (set);
  if (broken->len > 0)
    set_swap_chains (set);
  lock_release (&set->verbs);
  for (unsigned i = 0; set->on_broken != NULL && i < broken->len; i++)
    set->on_broken (broken->pdata[i], set->on_broken_data);
}
