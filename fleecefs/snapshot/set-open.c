/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Start and end of a set: images, store, the snapshots that are there. */
#include "base/fail.h"
#include "snapshot/broken.h"
#include "snapshot/merge.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C (1000000000)

/* The latest time that the write clock starts with (the year 2230): files and manifests can
 * claim any, and it has to go on from there. */
#define TIME_MAX (INT64_MAX - INT64_C (1000000000) * NS_PER_S)

static int64_t
to_ns (struct timespec ts)
{
  int64_t seconds = CLAMP (ts.tv_sec, -TIME_MAX / NS_PER_S, TIME_MAX / NS_PER_S);

  return seconds * NS_PER_S + ts.tv_nsec;
}

/* What an image looks like: to compare with what the store knows, or for the store to know. */
typedef struct
{
  uint64_t size;
  int64_t mtime;
} Look;

static bool
look_at (const Source *source, Look *out, GError **error)
{
  struct stat st;
  int r = source_stat (source, &st);

  if (r == 0)
    r = source_size (source, &out->size);
  if (r < 0)
    return fail_errno (error, -r, "cannot stat image '%s'", source_path (source));
  out->mtime = to_ns (st.st_mtim);
  return true;
}

/* Why the source is not the one that the store knows, or NULL. For a file this is what remains to
 * look at after a kill. */
static char *
find_exchange (const Store *store, const StoreDisk *known, Source *source)
{
  uint64_t identity = source_identity (source);

  if (known->identity == 0 || identity == 0 || known->identity == identity)
    return NULL;
  if (!source_is_block (source))
    return g_strdup_printf ("image '%s' is another file than the one that was mounted: a copy, or "
                            "something new in its place",
                            source_path (source));
  return store_same_boot (store)
             ? g_strdup_printf ("block device '%s' was detached and attached again, perhaps to "
                                "something else",
                                source_path (source))
             : NULL;
}

/* Why what the store says of the source after a clean close is not true any more, or NULL. A file
 * that has its size and time is the same, or a true copy: image and store may be moved together. A
 * block device's node does not tell when its blocks changed, but the kernel counts writes. */
static char *
find_change (const Store *store, const StoreDisk *known, Source *source, const Look *look)
{
  uint64_t writes;

  if (known->size != look->size)
    return g_strdup_printf ("image '%s' was resized while it was not mounted", known->path);
  if (!source_is_block (source) && known->mtime != look->mtime)
    return g_strdup_printf ("image '%s' was changed while it was not mounted", known->path);
  if (store_same_boot (store) && source_count_writes (source, &writes) && known->writes != writes)
    return g_strdup_printf ("block device '%s' was written while it was not mounted", known->path);
  return source_is_block (source) ? find_exchange (store, known, source) : NULL;
}

/* Why the snapshots of this disk cannot be right, or NULL. After a kill it is not known what size
 * and time the source had at last. */
static char *
find_damage (const Store *store, const StoreDisk *known, Source *source, const Look *look)
{
  if (known == NULL)
    return NULL;
  if (store_host_crashed (store) && !store_was_durable (store))
    return g_strdup ("the host went down while the image was mounted");
  if (source_has_note (source, store_id (store)))
    return g_strdup ("old blocks could not be kept, and the store did not take down whose");
  return store_was_clean (store) ? find_change (store, known, source, look)
                                 : find_exchange (store, known, source);
}

/* Where the disk's write clock goes on: later than any time it may have shown. */
static int64_t
first_write_time (const Store *store, const StoreDisk *known, Source *source, const Look *look)
{
  struct timespec now;
  int64_t time;

  if (known == NULL && !source_is_block (source))
    return look->mtime;
  clock_gettime (CLOCK_REALTIME, &now);
  time = to_ns (now);
  if (known == NULL)
    return time;
  if (store_was_clean (store))
    {
      g_autofree char *change = find_change (store, known, source, look);

      if (change == NULL)
        return MIN (known->write_time, TIME_MAX);
    }
  return MAX (time, MAX (MIN (known->write_time, TIME_MAX) + 1, look->mtime));
}

/* The disk as it is now, for the next start. */
static void
note_disk (Store *store, const char *name, const Source *source, const Look *look,
           int64_t write_time)
{
  uint64_t writes = 0;

  source_count_writes (source, &writes);
  store_set_disk (store, name, source_path (source), look->size, look->mtime, write_time);
  store_set_disk_marks (store, name, source_identity (source), writes);
}

/* --- levels --- */

static int
find_disk (const Snapshots *set, const char *name)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    if (strcmp (set->names[i], name) == 0)
      return (int) i;
  return -1;
}

/* Is it an error of the moment? It says nothing of what is in the overlay. */
static bool
is_passing (int errnum)
{
  return errnum == EBUSY || errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM
         || errnum == ENOLCK;
}

/* Opens one overlay of a level. One that cannot be opened is a broken layer: *out_damage says why,
 * or stays NULL. Fails when the next start may find it right. */
static bool
open_layer (Snapshots *set, const StoreRecord *record, const StoreImage *image, Layer **out_layer,
            char **out_damage, GError **error)
{
  g_autofree char *name = store_overlay_name (image->disk);
  g_autoptr (GError) local = NULL;
  Overlay *overlay = NULL;
  int dir_fd = store_open_layer (set->store, record->layer, &local);

  if (dir_fd >= 0)
    {
      overlay = overlay_open (dir_fd, name, image->size, set->granule, &local);
      if (overlay != NULL)
        overlay_set_space (overlay, set->space);
      close (dir_fd);
    }
  if (overlay == NULL && is_passing (fail_code (local)))
    {
      g_autofree char *path = store_layer_path (set->store, record->layer);

      return fail (error, fail_code (local), "cannot open the overlays in '%s': %s", path,
                   local->message);
    }
  if (overlay == NULL)
    *out_damage = g_strdup (local->message);
  *out_layer = layer_new (overlay, image->size, record->layer);
  return true;
}

/* Breaks a level's snapshot, if it is not broken yet. */
static void
break_one (Level *level, unsigned disk, const char *damage)
{
  if (level->layers[disk] == NULL || layer_is_broken (level->layers[disk]))
    return;
  layer_break (level->layers[disk], LAYER_BROKEN_BEFORE, 0);
  if (level->snapshot != NULL && level->snapshot->images[disk].broken_before == NULL)
    level->snapshot->images[disk].broken_before = g_strdup (damage);
}

/* Breaks the snapshots of the levels up to this one: they read through it. */
static void
break_levels (Snapshots *set, unsigned n_levels, unsigned disk, const char *damage)
{
  for (unsigned i = 0; i < n_levels; i++)
    break_one (set->levels->pdata[i], disk, damage);
}

/* damages: what is known of each disk's snapshots already, or NULL; it is why an overlay may be
 * damaged, too. */
static bool
open_level (Snapshots *set, const StoreRecord *record, char *const *damages, GError **error)
{
  Level *level = level_new (record->layer, set->n_disks);

  g_ptr_array_add (set->levels, level);
  if (record->name != NULL)
    snapshot_new (set, level, record, 1);
  for (unsigned i = 0; i < record->images->len; i++)
    {
      const StoreImage *image = record->images->pdata[i];
      g_autofree char *damage = NULL;
      int disk = find_disk (set, image->disk);

      if (disk < 0)
        return fail (error, EINVAL,
                     "the store '%s' has snapshots of a disk '%s' that was not given; give it too",
                     store_path (set->store), image->disk);
      if (!open_layer (set, record, image, &level->layers[disk], &damage, error))
        return false;
      if (image->broken != NULL)
        {
          layer_break (level->layers[disk], LAYER_BROKEN_BEFORE, 0);
          level->n_broken_written = ++level->n_broken_logged;
        }
      else if (level->layers[disk]->overlay != NULL
               && overlay_is_marked_broken (level->layers[disk]->overlay))
        break_one (level, (unsigned) disk, "old blocks could not be kept while it was mounted");
      if (damage != NULL)
        break_levels (set, set->levels->len, (unsigned) disk,
                      damages[disk] != NULL ? damages[disk] : damage);
    }
  return true;
}

/* The newest overlay of a disk is the one that will be changed. All of it is read now, so that no
 * guest's write has to wait for that, or to find it damaged. */
static void
load_newest (Snapshots *set, unsigned disk)
{
  for (unsigned i = set->levels->len; i-- > 0;)
    {
      const Layer *layer = ((const Level *) set->levels->pdata[i])->layers[disk];
      int r = layer != NULL && layer->overlay != NULL ? overlay_load (layer->overlay) : 0;

      if (r < 0)
        {
          g_autofree char *name = store_overlay_name (set->names[disk]);
          g_autofree char *damage = g_strdup_printf ("cannot read the tables of overlay '%s': %s",
                                                     name, g_strerror (-r));

          break_levels (set, i + 1, disk, damage);
        }
      if (layer != NULL)
        return;
    }
}

static bool
open_levels (Snapshots *set, char *const *damages, GError **error)
{
  g_autoptr (GPtrArray) records = store_read_records (set->store, error);

  if (records == NULL)
    return false;
  for (unsigned i = 0; i < records->len; i++)
    if (!open_level (set, records->pdata[i], damages, error))
      return false;
  for (unsigned d = 0; d < set->n_disks; d++)
    {
      load_newest (set, d);
      if (damages[d] != NULL)
        break_levels (set, set->levels->len, d, damages[d]);
    }
  return true;
}

/* --- the set --- */

static Snapshots *
set_new (const SnapshotsConfig *config, const SnapshotsImage *images, unsigned n_images)
{
  Snapshots *set = g_new0 (Snapshots, 1);

  set->granule = config->granule;
  set->max_snapshots = config->max_snapshots;
  set->durable = config->durable;
  set->n_disks = n_images;
  set->disks = g_new0 (Disk *, n_images);
  set->names = g_new0 (char *, n_images + 1);
  set->numbers = g_new0 (uint32_t, n_images);
  for (unsigned i = 0; i < n_images; i++)
    set->names[i] = g_strdup (images[i].name);
  set->barrier = barrier_new ();
  set->levels = g_ptr_array_new ();
  set->by_name = g_hash_table_new (g_str_hash, g_str_equal);
  set->by_id = g_hash_table_new (NULL, NULL);
  lock_init (&set->verbs);
  lock_init (&set->lock);
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
  g_strfreev (set->names);
  g_free (set->numbers);
  g_free (set->disks);
  g_free (set);
}

/* Makes a disk of the source, which is taken over then. *out_damage: why its snapshots cannot be
 * right, or NULL. */
static bool
open_disk (Snapshots *set, const SnapshotsConfig *config, unsigned i, Source **source,
           char **out_damage, GError **error)
{
  const StoreDisk *known = store_find_disk (set->store, set->names[i]);
  DiskConfig disk_config = {
    .barrier = set->barrier,
    .granule = set->granule,
    .copy = config->copy,
    .on_cbw_error = config->on_cbw_error,
    .cbw_timeout = config->cbw_timeout,
    .durable = config->durable,
    .store_id = store_id (set->store),
    .on_break = broken_leave_note,
    .on_break_data = set,
  };
  Look look;

  if (!look_at (*source, &look, error))
    return false;
  *out_damage = find_damage (set->store, known, *source, &look);
  disk_config.write_time = first_write_time (set->store, known, *source, &look);
  note_disk (set->store, set->names[i], *source, &look, disk_config.write_time);
  known = store_find_disk (set->store, set->names[i]);
  if (known == NULL)
    return fail (error, ENOSPC, "the store '%s' has no number left for a disk '%s'",
                 store_path (set->store), set->names[i]);
  set->numbers[i] = known->number;
  set->disks[i] = disk_new (g_steal_pointer (source), &disk_config);
  return true;
}

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

static bool
open_store (Snapshots *set, const SnapshotsConfig *config, Source *const *sources, GError **error)
{
  g_autofree char *beside = g_strconcat (source_path (sources[0]), ".fleece", NULL);

  if (config->store == NULL && set->n_disks > 1)
    return fail (error, EINVAL, "several images need a store; say where with -o store=DIR");
  if (config->store == NULL && source_is_block (sources[0]))
    return fail (error, EINVAL, "a block device needs a store; say where with -o store=DIR");
  set->store = store_open (config->store != NULL ? config->store : beside, &set->granule, error);
  if (set->store == NULL)
    return false;
  set->space = space_new (store_path (set->store), config->max_overlay, config->reserve);
  if (set->space == NULL)
    return fail_errno (error, errno, "cannot open the store '%s'", store_path (set->store));
  return check_reserve (set, error);
}

/* After a kill somebody may have cut the images off. */
static bool
check_tails (Snapshots *set, GError **error)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      int r = disk_check_tail (set->disks[i]);

      if (r < 0)
        return fail_errno (error, -r, "cannot stat image '%s'",
                           source_path (disk_source (set->disks[i])));
    }
  return true;
}

/* Everything after the images are open and owned; takes them over. */
static bool
open_rest (Snapshots *set, const SnapshotsConfig *config, Source **sources, GError **error)
{
  g_autofree char **damage_of = g_new0 (char *, set->n_disks + 1);
  bool ok = open_store (set, config, sources, error);

  for (unsigned i = 0; i < set->n_disks && ok; i++)
    ok = open_disk (set, config, i, &sources[i], &damage_of[i], error);
  ok = ok && open_levels (set, damage_of, error);
  for (unsigned i = 0; i < set->n_disks; i++)
    g_free (damage_of[i]);
  if (!ok)
    return false;
  lock_acquire (&set->verbs);
  set_swap_chains (set);
  lock_release (&set->verbs);
  return store_was_clean (set->store) || check_tails (set, error);
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
  return set_sync_sources (set, error);
}

/* Do the overlays say of all that is broken that it is? */
static bool
marks_are_written (const Snapshots *set)
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

/* Notes at the sources have told what they had to tell. */
static void
clear_notes (Snapshots *set)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);

      if (source_has_note (source, store_id (set->store)) && source_clear_note (source) != 0)
        g_warning ("cannot take the attribute user.fleecefs.unsaved from '%s'",
                   source_path (source));
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
  ok = finish_merges (set, error) && (!set->durable || make_durable (set, error));
  store_set_durable (set->store, set->durable);
  ok = ok && store_mark_open (set->store, error);
  if (ok && marks_are_written (set))
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

/* The sources are on disk, and what they look like then is what the next start expects. */
static bool
record_disks (Snapshots *set, GError **error)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);
      int r = disk_flush (set->disks[i], false);
      Look look;

      if (r < 0)
        return fail_errno (error, -r, "cannot sync image '%s'", source_path (source));
      if (!look_at (source, &look, error))
        return false;
      note_disk (set->store, set->names[i], source, &look, to_ns (disk_write_time (set->disks[i])));
    }
  return true;
}

bool
snapshots_close (Snapshots *set, GError **error)
{
  Store *store = set->store;
  bool ok;

  store_stop_serving (store);
  merge_stop (set);
  for (unsigned i = 0; i < set->n_disks; i++)
    disk_settle (set->disks[i]);
  lock_acquire (&set->verbs);
  g_ptr_array_unref (broken_write_down (set));
  ok = close_overlays (set, error);
  ok = record_disks (set, ok ? error : NULL) && ok;
  lock_release (&set->verbs);

  set_free (set);
  if (ok)
    ok = store_mark_clean (store, error);
  store_free (store);
  return ok;
}
