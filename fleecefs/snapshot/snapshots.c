/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of the set, and how its snapshots are found. */
#include "base/errno-map.h"
#include "base/fail.h"
#include "base/name.h"
#include "snapshot/merge.h"
#include "snapshot/set-private.h"

#include <errno.h>

unsigned
snapshots_n_disks (const Snapshots *set)
{
  return set->n_disks;
}

Disk *
snapshots_disk (const Snapshots *set, unsigned disk)
{
  return set->disks[disk];
}

const char *
snapshots_disk_name (const Snapshots *set, unsigned disk)
{
  return set->names[disk];
}

uint32_t
snapshots_disk_number (const Snapshots *set, unsigned disk)
{
  return set->numbers[disk];
}

const char *
snapshots_store_path (const Snapshots *set)
{
  return store_path (set->store);
}

int
snapshots_statvfs (const Snapshots *set, struct statvfs *out)
{
  return (int) errno_map (ERRNO_OF_VERB, store_statvfs (set->store, out));
}

int
snapshots_space (const Snapshots *set, SpaceUsage *out)
{
  return space_look (set->space, out);
}

static Snapshot *
ref_locked (Snapshot *snapshot) LOCK_REQUIRES (&snapshot->set->lock)
{
  if (snapshot != NULL)
    snapshot->n_refs++;
  return snapshot;
}

Snapshot *
snapshots_find (Snapshots *set, const char *name) LOCK_UNCHECKED
{
  Snapshot *snapshot;

  lock_acquire (&set->lock);
  snapshot = ref_locked (g_hash_table_lookup (set->by_name, name));
  lock_release (&set->lock);
  return snapshot;
}

Snapshot *
snapshots_find_id (Snapshots *set, uint32_t id) LOCK_UNCHECKED
{
  Snapshot *snapshot;

  lock_acquire (&set->lock);
  snapshot = ref_locked (g_hash_table_lookup (set->by_id, GUINT_TO_POINTER (id)));
  lock_release (&set->lock);
  return snapshot;
}

Snapshot *
snapshots_latest (Snapshots *set) LOCK_UNCHECKED
{
  Snapshot *latest = NULL;

  lock_acquire (&set->lock);
  for (unsigned i = set->levels->len; i-- > 0 && latest == NULL;)
    {
      const Level *level = set->levels->pdata[i];

      if (level->snapshot != NULL && level->snapshot->name != NULL)
        latest = ref_locked (level->snapshot);
    }
  lock_release (&set->lock);
  return latest;
}

Snapshot *
snapshots_next (Snapshots *set, uint32_t id) LOCK_UNCHECKED
{
  Snapshot *next = NULL;
  GHashTableIter iter;
  gpointer value;

  lock_acquire (&set->lock);
  g_hash_table_iter_init (&iter, set->by_name);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Snapshot *snapshot = value;

      if (snapshot->id > id && (next == NULL || snapshot->id < next->id))
        next = snapshot;
    }
  ref_locked (next);
  lock_release (&set->lock);
  return next;
}

unsigned
snapshots_count (Snapshots *set)
{
  unsigned n;

  lock_acquire (&set->lock);
  n = g_hash_table_size (set->by_name);
  lock_release (&set->lock);
  return n;
}

static int
result_of (const GError *error)
{
  return (int) errno_map (ERRNO_OF_VERB, -(int64_t) fail_code (error));
}

int
snapshots_create (Snapshots *set, const char *name, Snapshot **out)
{
  g_autoptr (GError) error = NULL;
  Snapshot *snapshot = NULL;
  int room, r = name_check (name, NULL);

  if (r < 0)
    return r;
  room = merge_make_room (set);
  lock_acquire (&set->verbs);
  lock_acquire (&set->lock);
  if (g_hash_table_contains (set->by_name, name))
    r = -EEXIST;
  else if (g_hash_table_size (set->by_name) >= set->max_snapshots)
    r = -EMLINK;
  else
    r = room;
  lock_release (&set->lock);
  if (r == 0)
    {
      snapshot = set_create_snapshot (set, name, &error);
      if (snapshot == NULL)
        r = result_of (error);
    }
  lock_release (&set->verbs);

  if (error != NULL)
    {
      g_autofree char *loss = store_find_loss (set->store);

      g_warning ("no snapshot '%s': %s", name, loss != NULL ? loss : error->message);
    }
  else if (r == 0)
    g_info ("snapshot '%s' is made", name);
  if (out != NULL)
    *out = snapshot;
  else if (snapshot != NULL)
    snapshot_unref (snapshot);
  return r;
}

/* Gives the snapshot the name, or none, in the store. */
static int
write_name (Snapshots *set, Snapshot *snapshot, const char *name) LOCK_REQUIRES (&set->verbs)
{
  g_autoptr (StoreRecord) record = set_record (set, snapshot->level);
  g_autoptr (GError) error = NULL;

  g_free (record->name);
  record->name = g_strdup (name);
  if (name == NULL)
    record->id = 0;
  if (store_write_record (set->store, record, true, &error))
    return 0;
  g_warning ("%s", error->message);
  return result_of (error);
}

int
snapshots_remove (Snapshots *set, const char *name)
{
  Snapshot *snapshot;
  int r = -ENOENT;

  lock_acquire (&set->verbs);
  snapshot = snapshots_find (set, name);
  if (snapshot != NULL)
    r = write_name (set, snapshot, NULL);
  if (r == 0)
    {
      lock_acquire (&set->lock);
      g_hash_table_remove (set->by_name, name);
      g_clear_pointer (&snapshot->name, g_free);
      lock_release (&set->lock);
      snapshot_unref (snapshot); /* the name's */
    }
  lock_release (&set->verbs);
  if (r == 0)
    g_info ("snapshot '%s' is removed", name);
  if (snapshot != NULL)
    snapshot_unref (snapshot);
  return r;
}

int
snapshots_rename (Snapshots *set, const char *from, const char *to)
{
  g_autoptr (Snapshot) taken = NULL;
  g_autoptr (Snapshot) snapshot = NULL;
  int r = name_check (to, NULL);

  if (r < 0)
    return r;
  lock_acquire (&set->verbs);
  snapshot = snapshots_find (set, from);
  taken = snapshots_find (set, to);
  r = snapshot == NULL ? -ENOENT : taken != NULL ? -EEXIST : write_name (set, snapshot, to);
  if (r == 0)
    {
      lock_acquire (&set->lock);
      g_hash_table_remove (set->by_name, from);
      g_free (snapshot->name);
      snapshot->name = g_strdup (to);
      g_hash_table_insert (set->by_name, snapshot->name, snapshot);
      lock_release (&set->lock);
    }
  lock_release (&set->verbs);
  if (r == 0)
    g_info ("snapshot '%s' is now called '%s'", from, to);
  return r;
}
