/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mkdir: everything is prepared first, so that what has to be done in the instant itself, with
 * the barrier closed, is a matter of microseconds. */
#include "base/fail.h"
#include "base/pause.h"
#include "snapshot/set-private.h"

#include <errno.h>
#include <unistd.h>

/* How often the preparation is done anew because a disk was resized meanwhile, before it is done
 * with the barrier closed. */
#define PREPARE_TRIES 3

/* Bytes that an overlay takes with its first old block. */
#define EMPTY_OVERLAY (32 * KIB)

/* The overlays of a new level, for disks of their size now. On failure some are there. */
static bool
create_overlays (Snapshots *set, Level *level, GError **error)
{
  int dir_fd = store_open_layer (set->store, level->number, error);
  bool ok = dir_fd >= 0;

  for (unsigned i = 0; i < set->n_disks && ok; i++)
    {
      Source *source = disk_source (set->disks[i]);
      g_autofree char *name = store_overlay_name (set->names[i]);
      Overlay *overlay;
      uint64_t size;
      int r = source_size (source, &size);

      if (r < 0)
        {
          ok = fail_errno (error, -r, "cannot stat image '%s'", source_path (source));
          break;
        }
      if (level->layers[i] != NULL && level->layers[i]->size == size)
        continue;
      g_clear_pointer (&level->layers[i], layer_unref);
      if (unlinkat (dir_fd, name, 0) != 0 && errno != ENOENT)
        ok = fail_errno (error, errno, "cannot remove overlay '%s'", name);
      overlay = ok ? overlay_create (dir_fd, name, size, set->granule, source_path (source), "raw",
                                     error)
                   : NULL;
      ok = overlay != NULL;
      if (ok)
        {
          overlay_set_space (overlay, set->space);
          level->layers[i] = layer_new (overlay, size, level->number);
          r = set->durable ? overlay_make_durable (overlay) : 0;
          ok = r == 0 || fail_errno (error, -r, "cannot sync overlay '%s'", name);
        }
    }
  if (dir_fd >= 0)
    close (dir_fd);
  return ok;
}

/* Names the overlays of the level as the backing files of those before, or, to undo it, the
 * sources again. Reading through an empty overlay is reading the source. */
static bool
link_overlays (Snapshots *set, bool undo, GError **error) LOCK_REQUIRES (&set->verbs)
{
  unsigned newest = set->levels->len - 1;
  bool ok = true;

  for (unsigned d = 0; d < set->n_disks; d++)
    for (unsigned i = newest; i-- > 0;)
      {
        const Level *level = set->levels->pdata[i];
        g_autofree char *name = NULL;
        const char *format;
        int r;

        if (level->layers[d] == NULL || level->layers[d]->overlay == NULL)
          continue;
        name = set_backing (set, undo ? newest : i, d, &format);
        r = overlay_set_backing (level->layers[d]->overlay, name, format);
        if (r < 0 && ok)
          ok = fail_errno (error, -r, "cannot write the header of an overlay of level %u",
                           level->number);
        break;
      }
  return ok;
}

/* Makes the level's overlays for the disks as they are, and its record, which has no
 * name yet: if we are killed after the freeze and before the record is complete, older
 * snapshots still find what guests had overwritten. */
static bool
prepare_level (Snapshots *set, Level *level, GError **error) LOCK_REQUIRES (&set->verbs)
{
  g_autoptr (StoreRecord) record = NULL;

  /* When it is done anew, a kill must leave neither overlays that name one which is being replaced,
   * nor a record with overlays of another size. */
  if (!link_overlays (set, true, error) || !store_remove_record (set->store, level->number, error)
      || !create_overlays (set, level, error))
    return false;
  record = set_record (set, level);
  return store_write_record (set->store, record, true, error) && link_overlays (set, false, error);
}

/* With the barrier closed: looks at the sources. *out_same: they have the size for which the level
 * was prepared. allocated: what they take within that; a file system may have made room beyond the
 * end, which is no data of the snapshot. */
static bool
measure (Snapshots *set, const Level *level, uint64_t *allocated, bool *out_same, GError **error)
{
  *out_same = true;
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      const Source *source = disk_source (set->disks[i]);
      uint64_t size;
      int r = source_size (source, &size);

      if (r == 0)
        r = source_allocated (source, &allocated[i]);
      if (r < 0)
        return fail_errno (error, -r, "cannot stat image '%s'", source_path (source));
      *out_same = *out_same && size == level->layers[i]->size;
      allocated[i] = units_min (allocated[i], units_round_up (size, 4 * KIB));
    }
  return true;
}

/* With the barrier closed: the instant. Looks at clocks and changes pointers. */
static void
take_effect (Snapshots *set, Level *level, Chain **chains, const uint64_t *allocated,
             StoreRecord *record)
{
  record->created = g_get_real_time () * 1000;
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      g_ptr_array_add (record->images,
                       store_image_new (set->names[i], level->layers[i]->size, allocated[i],
                                        disk_freeze_clock (set->disks[i])));
      disk_set_chain (set->disks[i], chains[i]);
      PAUSE_POINT ("mkdir:disk-frozen");
    }
}

/* Prepares, closes the barrier, and lets the level take effect. When a disk was
 * resized in between it prepares anew, at last with the barrier closed. */
static bool
freeze (Snapshots *set, Level *level, StoreRecord *record, GError **error)
    LOCK_REQUIRES (&set->verbs)
{
  g_autofree uint64_t *allocated = g_new0 (uint64_t, set->n_disks);
  bool ok = true, done = false;

  for (unsigned try = 0; ok && !done; try++)
    {
      bool inside = try == PREPARE_TRIES;
      g_autofree Chain **chains = NULL;

      ok = inside || prepare_level (set, level, error);
      if (!ok)
        break;
      if (!inside)
        chains = set_build_chains (set, level);

      barrier_close (set->barrier);
      PAUSE_POINT ("mkdir:closed");
      if (inside)
        {
          ok = prepare_level (set, level, error);
          chains = set_build_chains (set, level);
        }
      ok = ok && measure (set, level, allocated, &done, error);
      done = ok && done;
      if (done)
        take_effect (set, level, chains, allocated, record);
      barrier_open (set->barrier);

      for (unsigned i = 0; !done && i < set->n_disks; i++)
        chain_unref (chains[i]);
    }
  return ok;
}

/* Takes back a level that never took effect. */
static void
undo_level (Snapshots *set, Level *level) LOCK_REQUIRES (&set->verbs)
{
  g_autoptr (GError) error = NULL;

  if (!link_overlays (set, true, &error) && error != NULL)
    g_warning ("%s", error->message);
  g_clear_error (&error);
  lock_acquire (&set->lock);
  g_ptr_array_remove_index (set->levels, set->levels->len - 1);
  lock_release (&set->lock);
  if (!store_remove_layer (set->store, level->number, &error))
    g_warning ("%s", error->message);
  level_free (level);
}

/* Is there room for the overlays of another level, within the limits of ours? What the file
 * system says comes out when they are made. */
static bool
check_space (Snapshots *set, GError **error)
{
  uint64_t bytes = set->n_disks * EMPTY_OVERLAY;
  int r = space_take (set->space, bytes);

  if (r < 0)
    return fail (error, -space_errno (r), "there is no room for its overlays in the store: %s",
                 space_strerror (-r));
  space_done (set->space, bytes);
  return true;
}

/* The record of a snapshot that failed may be there all the same, and the next start would find it.
 * Nobody saves for it from here on. */
static void
disown (Snapshots *set, const Level *level)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    disk_break (set->disks[i], level->layers[i], LAYER_WRITE_FAILED, 0);
}

Snapshot *
set_create_snapshot (Snapshots *set, const char *name, GError **error)
{
  g_autoptr (StoreRecord) record = g_new0 (StoreRecord, 1);
  Snapshot *snapshot;
  Level *level;

  record->images = g_ptr_array_new ();
  if (!check_space (set, error))
    return NULL;
  record->id = record->layer = store_next_number (set->store, error);
  if (record->id == 0 || !store_create_layer (set->store, record->layer, error))
    return NULL;
  record->name = g_strdup (name);

  level = level_new (record->layer, set->n_disks);
  level->is_fresh = true;
  lock_acquire (&set->lock);
  g_ptr_array_add (set->levels, level);
  lock_release (&set->lock);
  /* The second sync is of the writes between the first one and the freeze. */
  if ((set->durable && !set_sync_sources (set, error)) || !freeze (set, level, record, error))
    {
      undo_level (set, level);
      return NULL;
    }

  snapshot = snapshot_new (set, level, record, 2);
  if ((set->durable && !set_sync_sources (set, error))
      || !store_write_record (set->store, record, true, error))
    {
      if (fail_code (*error) == ENOTRECOVERABLE)
        disown (set, level);
      /* Guests may already have written; the level stays for older ones, without a name. */
      lock_acquire (&set->lock);
      g_hash_table_remove (set->by_name, name);
      g_clear_pointer (&snapshot->name, g_free);
      lock_release (&set->lock);
      snapshot_unref (snapshot);
      snapshot_unref (snapshot);
      return NULL;
    }
  return snapshot;
}
