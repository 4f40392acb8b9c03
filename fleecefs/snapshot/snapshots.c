/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fail.h"
#include "base/pause.h"
#include "snapshot/set-private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_S INT64_C (1000000000)
/* How often mkdir prepares anew because a disk was resized meanwhile, before it does so
 * with the barrier closed. */
#define PREPARE_TRIES 3

static struct timespec
to_timespec (int64_t ns)
{
  return (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

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
  return store_statvfs (set->store, out);
}

/* --- names and references --- */

static int
check_name (const char *name)
{
  if (name[0] == '\0' || name[0] == '.' || strchr (name, '/') != NULL)
    return -EINVAL;
  if (strlen (name) > SNAPSHOTS_NAME_MAX)
    return -ENAMETOOLONG;
  if (!g_utf8_validate (name, -1, NULL))
    return -EILSEQ;
  for (const char *p = name; *p != '\0'; p = g_utf8_next_char (p))
    if (g_unichar_iscntrl (g_utf8_get_char (p)))
      return -EILSEQ;
  return 0;
}

Snapshot *
snapshot_new (Snapshots *set, Level *level, const StoreRecord *record, unsigned n_refs)
{
  Snapshot *snapshot = g_malloc0 (sizeof *snapshot + set->n_disks * sizeof snapshot->images[0]);

  snapshot->set = set;
  snapshot->id = record->id;
  snapshot->created = record->created;
  snapshot->broken_before = g_strdup (record->broken);
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
            snapshot->images[d].mtime = image->mtime;
          }
    }

  lock_acquire (&set->lock);
  level->snapshot = snapshot;
  g_hash_table_insert (set->by_name, snapshot->name, snapshot);
  g_hash_table_insert (set->by_id, GUINT_TO_POINTER (snapshot->id), snapshot);
  lock_release (&set->lock);
  return snapshot;
}

static Snapshot *
ref_locked (Snapshot *snapshot) LOCK_REQUIRES (&snapshot->set->lock)
{
  if (snapshot != NULL)
    snapshot->n_refs++;
  return snapshot;
}

Snapshot *
snapshot_ref (Snapshot *snapshot) LOCK_UNCHECKED
{
  lock_acquire (&snapshot->set->lock);
  ref_locked (snapshot);
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
    {
      g_free (snapshot->broken_before);
      g_free (snapshot);
    }
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
  return to_timespec (snapshot->created);
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

struct timespec
snapshot_mtime (const Snapshot *snapshot, unsigned disk)
{
  return to_timespec (snapshot->images[disk].mtime);
}

/* --- reading --- */

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
snapshot_dup_broken (Snapshot *snapshot)
{
  Snapshots *set = snapshot->set;

  for (unsigned i = 0; i < set->n_disks; i++)
    {
      g_autoptr (Layer) layer = NULL;
      g_autofree char *fault = NULL;

      if (!snapshot->images[i].present)
        continue;
      layer = ref_layer (snapshot, i);
      fault = layer_dup_fault (layer);
      if (fault != NULL)
        return snapshot->broken_before != NULL
                   ? g_strdup (snapshot->broken_before)
                   : g_strdup_printf ("disk '%s': %s", set->names[i], fault);
    }
  return NULL;
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
  while (r == -ESTALE);
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
  while (r == -ESTALE);
  return r;
}

/* --- the set's levels --- */

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
      g_ptr_array_add (
          record->images,
          store_image_new (set->names[i], level->layers[i]->size,
                           level->snapshot != NULL ? level->snapshot->images[i].mtime : 0));
  lock_release (&set->lock);
  if (snapshot != NULL) /* stays, for it can lose its name only under verbs */
    record->broken = snapshot_dup_broken (snapshot);
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

static Chain **
build_chains (Snapshots *set, const Level *fresh)
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
  g_autofree Chain **chains = build_chains (set, NULL);

  barrier_close (set->barrier);
  for (unsigned i = 0; i < set->n_disks; i++)
    disk_set_chain (set->disks[i], chains[i]);
  barrier_open (set->barrier);
}

void
set_note_break (void *data)
{
  Snapshots *set = data;

  lock_acquire (&set->lock);
  set->something_broke = true;
  pthread_cond_signal (&set->work);
  lock_release (&set->lock);
}

/* --- mkdir --- */

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
      uint64_t size = source_size (source);
      Overlay *overlay;

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
        level->layers[i] = layer_new (overlay, size, level->number);
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

static bool
sizes_are_right (Snapshots *set, const Level *level)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    if (level->layers[i]->size != source_size (disk_source (set->disks[i])))
      return false;
  return true;
}

/* Makes the level's overlays for the disks as they are, and its record, which has no
 * name yet: if we are killed after the freeze and before the record is complete, older
 * snapshots still find what guests had overwritten. */
static bool
prepare_level (Snapshots *set, Level *level, GError **error) LOCK_REQUIRES (&set->verbs)
{
  g_autoptr (StoreRecord) record = NULL;

  if (!create_overlays (set, level, error))
    return false;
  record = set_record (set, level);
  return store_write_record (set->store, record, true, error) && link_overlays (set, false, error);
}

/* With the barrier closed: the instant. Looks at clocks and changes pointers. */
static void
take_effect (Snapshots *set, Level *level, Chain **chains, StoreRecord *record)
{
  record->created = g_get_real_time () * 1000;
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      g_ptr_array_add (record->images, store_image_new (set->names[i], level->layers[i]->size,
                                                        disk_freeze_clock (set->disks[i])));
      disk_set_chain (set->disks[i], chains[i]);
    }
}

/* Prepares, closes the barrier, and lets the level take effect. When a disk was
 * resized in between it prepares anew, at last with the barrier closed. */
static bool
freeze (Snapshots *set, Level *level, StoreRecord *record, GError **error)
    LOCK_REQUIRES (&set->verbs)
{
  bool ok = true, done = false;

  for (unsigned try = 0; ok && !done; try++)
    {
      bool inside = try == PREPARE_TRIES;
      g_autofree Chain **chains = NULL;

      ok = inside || prepare_level (set, level, error);
      if (!ok)
        break;
      if (!inside)
        chains = build_chains (set, level);

      barrier_close (set->barrier);
      PAUSE_POINT ("mkdir:closed");
      if (inside)
        {
          ok = prepare_level (set, level, error);
          chains = build_chains (set, level);
        }
      done = ok && sizes_are_right (set, level);
      if (done)
        take_effect (set, level, chains, record);
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

static Snapshot *
create_snapshot (Snapshots *set, const char *name, GError **error) LOCK_REQUIRES (&set->verbs)
{
  g_autoptr (StoreRecord) record = g_new0 (StoreRecord, 1);
  Snapshot *snapshot;
  Level *level;

  record->images = g_ptr_array_new ();
  record->id = record->layer = store_next_number (set->store, error);
  if (record->id == 0 || !store_create_layer (set->store, record->layer, error))
    return NULL;
  record->name = g_strdup (name);

  level = level_new (record->layer, set->n_disks);
  lock_acquire (&set->lock);
  g_ptr_array_add (set->levels, level);
  lock_release (&set->lock);
  if (!freeze (set, level, record, error))
    {
      undo_level (set, level);
      return NULL;
    }

  snapshot = snapshot_new (set, level, record, 2);
  if (!store_write_record (set->store, record, true, error))
    {
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

int
snapshots_create (Snapshots *set, const char *name, Snapshot **out)
{
  g_autoptr (GError) error = NULL;
  Snapshot *snapshot = NULL;
  int r = check_name (name);

  if (r < 0)
    return r;
  lock_acquire (&set->verbs);
  lock_acquire (&set->lock);
  if (g_hash_table_contains (set->by_name, name))
    r = -EEXIST;
  else if (g_hash_table_size (set->by_name) >= set->max_snapshots)
    r = -EMLINK;
  lock_release (&set->lock);
  if (r == 0)
    {
      snapshot = create_snapshot (set, name, &error);
      if (snapshot == NULL)
        r = -fail_code (error);
    }
  lock_release (&set->verbs);

  if (error != NULL)
    g_warning ("no snapshot '%s': %s", name, error->message);
  if (out != NULL)
    *out = snapshot;
  else if (snapshot != NULL)
    snapshot_unref (snapshot);
  return r;
}

/* --- rmdir and mv --- */

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
  return -fail_code (error);
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
  if (snapshot != NULL)
    snapshot_unref (snapshot);
  return r;
}

int
snapshots_rename (Snapshots *set, const char *from, const char *to)
{
  g_autoptr (Snapshot) taken = NULL;
  g_autoptr (Snapshot) snapshot = NULL;
  int r = check_name (to);

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
  return r;
}
