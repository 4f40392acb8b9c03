/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Start and end of a set: store, images, snapshots in the order in which each needs the others, and
 * what is written down when the set goes to work and when it ends. */
#include "base/fail.h"
#include "snapshot/broken.h"
#include "snapshot/merge.h"

#include <errno.h>

static Snapshots *
set_new (const SnapshotsConfig *config, const SnapshotsImage *images, unsigned n_images)
{
  Snapshots *set = g_new0 (Snapshots, 1);

  set->granule = config->granule;
  set->max_snapshots = config->max_snapshots;
  set->durable = config->durable;
  set->run_dir = g_strdup (config->run_dir);
  set->state_dir = g_strdup (config->state_dir);
  set->n_disks = n_images;
  set->disks = g_new0 (Disk *, n_images);
  set->names = g_new0 (char *, n_images + 1);
  set->numbers = g_new0 (uint32_t, n_images);
  set->moves = g_new0 (char *, n_images);
  for (unsigned i = 0; i < n_images; i++)
    set->names[i] = g_strdup (images[i].name);
  set->barrier = barrier_new ();
  set->levels = g_ptr_array_new ();
  set->by_name = g_hash_table_new (g_str_hash, g_str_equal);
  set->by_id = g_hash_table_new (NULL, NULL);
  lock_init (&set->verbs, LOCK_VERBS);
  lock_init (&set->lock, LOCK_SET);
  lock_init_timed (&set->work);
  lock_init_timed (&set->room);
  return set;
}

static void
set_free (Snapshots *set)
{
  GHashTableIter iter;
  gpointer snapshot;

  g_hash_table_iter_init (&iter, set->by_id);
  while (g_hash_table_iter_next (&iter, NULL, &snapshot))
    snapshot_free (snapshot);
  g_hash_table_unref (set->by_id);
  g_hash_table_unref (set->by_name);
  for (unsigned i = 0; i < set->n_disks; i++)
    g_clear_pointer (&set->disks[i], disk_free);
  g_ptr_array_set_free_func (set->levels, (GDestroyNotify) level_free);
  g_ptr_array_unref (set->levels);
  space_free (set->space);
  barrier_free (set->barrier);
  pthread_cond_destroy (&set->room);
  pthread_cond_destroy (&set->work);
  lock_clear (&set->lock);
  lock_clear (&set->verbs);
  seal_free (set->seal);
  g_free (set->run_dir);
  g_free (set->state_dir);
  g_strfreev (set->names);
  g_free (set->numbers);
  for (unsigned i = 0; i < set->n_disks; i++)
    g_free (set->moves[i]);
  g_free (set->moves);
  g_free (set->disks);
  g_free (set);
}

/* --- opening --- */

static bool
open_sources (const SnapshotsImage *images, unsigned n, Source **sources, GError **error)
{
  for (unsigned i = 0; i < n; i++)
    {
      sources[i] = source_open (images[i].path, error);
      if (sources[i] == NULL)
        return false;
    }
  return true;
}

static bool
check_reserve (const Snapshots *set, GError **error)
{
  SpaceUsage usage;
  int r = space_look (set->space, &usage);

  if (r < 0)
    return fail_errno (error, -r, "cannot look at the file system of the store '%s'",
                       store_path (set->store));
  if (usage.reserve > 0 && usage.reserve >= usage.total)
    return fail (error, EINVAL,
                 "reserve is as much as the file system of the store '%s' has (%" G_GUINT64_FORMAT
                 "M); give less",
                 store_path (set->store), usage.total / MIB);
  return true;
}

/* Of a new store all images are new; nothing is made then. */
static bool
check_new (const char *store, Source *const *sources, unsigned n, GError **error)
{
  for (unsigned i = 0; i < n && !g_file_test (store, G_FILE_TEST_EXISTS); i++)
    if (!source_refuse_empty (sources[i], error))
      return false;
  return true;
}

static bool
open_store (Snapshots *set, const SnapshotsConfig *config, Source *const *sources, GError **error)
{
  g_autofree char *beside = g_strconcat (source_path (sources[0]), ".fleece", NULL);

  if (config->store == NULL && set->n_disks > 1)
    return fail (error, EINVAL, "several images need a store; say where with -o store=DIR");
  if (config->store == NULL && source_is_block (sources[0]))
    return fail (error, EINVAL, "a block device needs a store; say where with -o store=DIR");
  if (!check_new (config->store != NULL ? config->store : beside, sources, set->n_disks, error))
    return false;
  set->store = store_open (config->store != NULL ? config->store : beside, &set->granule, error);
  if (set->store == NULL)
    return false;
  set->space = space_new (store_path (set->store), config->max_overlay, config->reserve);
  if (set->space == NULL)
    return fail_errno (error, errno, "cannot open the store '%s'", store_path (set->store));
  return check_reserve (set, error);
}

/* Everything after the images are open and owned; takes them over. */
static bool
open_rest (Snapshots *set, const SnapshotsConfig *config, Source **sources, GError **error)
{
  g_autofree char **damage_of = g_new0 (char *, set->n_disks + 1);
  g_autofree char **right_of = g_new0 (char *, set->n_disks + 1);
  bool ok = open_store (set, config, sources, error)
            && set_open_disks (set, config, sources, damage_of, right_of, error)
            && set_open_levels (set, damage_of, right_of, error)
            && (config->new_store || set_check_marks (set, error));

  for (unsigned i = 0; i < set->n_disks; i++)
    {
      g_free (damage_of[i]);
      g_free (right_of[i]);
    }
  if (!ok)
    return false;
  set_advance_clocks (set);
  lock_acquire (&set->verbs);
  set_swap_chains (set);
  lock_release (&set->verbs);
  return store_was_clean (set->store) || set_check_tails (set, error);
}

Snapshots *
snapshots_open (const SnapshotsConfig *config, const SnapshotsImage *images, unsigned n_images,
                GError **error)
{
  g_autofree Source **sources = g_new0 (Source *, n_images);
  Snapshots *set = set_new (config, images, n_images);
  bool ok;

  if (config->store != NULL)
    store_await_closing (config->store); /* its owner also has the images */
  ok = open_sources (images, n_images, sources, error) && open_rest (set, config, sources, error);
  for (unsigned i = 0; i < n_images; i++)
    source_close (sources[i]);
  if (ok)
    return set;
  snapshots_abandon (set);
  return NULL;
}

void
snapshots_set_broken_func (Snapshots *set, SnapshotsBrokenFunc func, void *data)
{
  set->on_broken = func;
  set->on_broken_data = data;
}

/* --- going to work --- */

/* What is there may be of a time when it was not kept durable. */
static bool
make_durable (Snapshots *set, GError **error)
{
  for (unsigned i = 0; i < set->levels->len; i++)
    for (unsigned d = 0; d < set->n_disks; d++)
      {
        const Level *level = set->levels->pdata[i];
        int r = level->layers[d] != NULL && level->layers[d]->overlay != NULL
                    ? overlay_make_durable (level->layers[d]->overlay)
                    : 0;

        if (r < 0)
          return fail_errno (error, -r, "cannot sync an overlay of level %u", level->number);
      }
  return true;
}

bool
set_marks_are_written (const Snapshots *set)
{
  for (unsigned i = 0; i < set->levels->len; i++)
    for (unsigned d = 0; d < set->n_disks; d++)
      {
        const Level *level = set->levels->pdata[i];
        Layer *layer = level->layers[d];

        if (layer != NULL && layer->overlay != NULL && layer_is_broken (layer)
            && !overlay_is_marked_broken (layer->overlay))
          return false;
      }
  return true;
}

/* Is there a record or a mark of each break? Where there is neither the next start would not find
 * it again: the manifest is about to say what the images are now. */
static bool
check_breaks_are_written (Snapshots *set, GError **error) LOCK_REQUIRES (&set->verbs)
{
  bool written = true;

  for (unsigned i = 0; i < set->levels->len; i++)
    {
      const Level *level = set->levels->pdata[i];

      written = written && level->n_broken_written == level_n_broken (level);
    }
  return written || set_marks_are_written (set)
         || fail (
             error, EIO,
             "cannot write to the store '%s' that snapshots are broken; see what the log says of "
             "it, or take another store",
             store_path (set->store));
}

/* Notes at the sources have told what they had to tell. */
static void
clear_notes (Snapshots *set)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);
      bool has_note;
      int r = source_has_note (source, store_id (set->store), &has_note);

      if (r == 0 && has_note)
        r = source_clear_note (source);
      if (r < 0)
        g_warning ("cannot take the attribute user.fleecefs.unsaved from '%s': %s",
                   source_path (source), g_strerror (-r));
    }
}

/* A merge that was killed may have left overlays whose backing file is of a layer that counts no
 * more. It is removed when none is left, so that at any moment they are chains for QEMU. */
static bool
finish_merges (Snapshots *set, GError **error) LOCK_REQUIRES (&set->verbs)
{
  for (unsigned i = 0; i < set->levels->len; i++)
    if (!set_relink (set, i, error))
      return false;
  return store_remove_superseded (set->store, error);
}

bool
snapshots_start (Snapshots *set, GError **error)
{
  bool ok;

  /* First what has been found broken, then "open": were it the other way round, a
   * kill in between would make us forget that an image had been changed. */
  lock_acquire (&set->verbs);
  g_ptr_array_unref (broken_write_down (set));
  ok = check_breaks_are_written (set, error) && finish_merges (set, error)
       && (!set->durable || make_durable (set, error));
  store_set_durable (set->store, set->durable);
  ok = ok && set_mark_open (set, error);
  if (ok && set_marks_are_written (set))
    clear_notes (set);
  lock_release (&set->verbs);
  if (ok)
    merge_start (set);
  return ok;
}

void
snapshots_abandon (Snapshots *set)
{
  Store *store = set->store;

  set_free (set);
  if (store != NULL)
    store_discard_new (store);
}

/* --- the end --- */

/* The manifest may have taken what the overlays did not at that moment. */
static bool
write_marks (Snapshots *set)
{
  for (unsigned i = 0; i < set->levels->len; i++)
    for (unsigned d = 0; d < set->n_disks; d++)
      {
        const Level *level = set->levels->pdata[i];

        if (level->layers[d] != NULL)
          layer_record_break (level->layers[d]);
      }
  return set_marks_are_written (set);
}

static bool
close_overlays (Snapshots *set, GError **error) LOCK_REQUIRES (&set->verbs)
{
  bool ok = true;

  for (unsigned d = 0; d < set->n_disks; d++)
    for (unsigned i = 0; i < set->levels->len; i++)
      {
        Level *level = set->levels->pdata[i];
        g_autofree char *backing = NULL;
        const char *format;
        Overlay *overlay;

        if (level->layers[d] == NULL || level->layers[d]->overlay == NULL)
          continue;
        backing = set_backing (set, i, d, &format);
        overlay = layer_steal_overlay (level->layers[d]);
        if (!overlay_close (overlay, backing, format, ok ? error : NULL))
          ok = false;
      }
  return ok;
}

bool
snapshots_close (Snapshots *set, GError **error)
{
  Store *store = set->store;
  g_autoptr (GError) local = NULL;
  bool ok, marked;

  store_stop_serving (store);
  merge_stop (set);
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      disk_settle (set->disks[i]);
      disk_sync_saved (set->disks[i]);
    }
  lock_acquire (&set->verbs);
  g_ptr_array_unref (broken_write_down (set));
  marked = write_marks (set);
  ok = close_overlays (set, error);
  if (ok && !marked)
    ok = check_breaks_are_written (set, error);
  if (ok && marked) /* and on disk: notes of what broke, of a moment when that failed, are done */
    clear_notes (set);
  ok = set_record_disks (set, ok ? error : NULL) && ok;
  lock_release (&set->verbs);

  if (ok)
    ok = set_mark_clean (set, error);
  if (ok && set->levels->len > 0 && !set_record_inodes (set, &local))
    g_warning ("%s; the next start knows the images by size and mtime alone", local->message);
  set_free (set);
  store_free (store);
  return ok;
}
