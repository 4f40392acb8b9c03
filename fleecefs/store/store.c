/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/store.h"

#include "base/fail.h"
#include "store/dir.h"
#include "store/layers.h"
#include "store/record.h"
#include "store/spare.h"
#include "store/store-lock.h"
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Numbers that one write of the manifest reserves. */
#define RESERVED_NUMBERS 64

void
store_await_closing (const char *path)
{
  store_lock_await (path);
}

void
store_stop_serving (Store *store)
{
  store_lock_stop_serving (store->lock_fd);
}

void
store_free (Store *store)
{
  if (store == NULL)
    return;
  store_lock_release (store->lock_fd);
  dir_close (&store->snapshots_fd);
  dir_close (&store->fd);
  manifest_free (store->manifest);
  g_clear_pointer (&store->superseded, g_array_unref);
  g_clear_pointer (&store->unremoved, g_array_unref);
  g_free (store->path);
  g_free (store->snapshots_path);
  g_free (store->boot_id);
  g_free (store->found_id);
  g_free (store);
}

const char *
store_found_id (const Store *store)
{
  return store->found_id != NULL ? store->found_id : store_id (store);
}

const char *
store_path (const Store *store)
{
  return store->path;
}

const char *
store_id (const Store *store)
{
  return store->manifest->uuid;
}

bool
store_was_clean (const Store *store)
{
  return store->was_clean;
}

bool
store_same_boot (const Store *store)
{
  return store->same_boot;
}

bool
store_host_crashed (const Store *store)
{
  return store->host_crashed;
}

bool
store_was_copied (const Store *store)
{
  return store->was_copied;
}

bool
store_was_durable (const Store *store)
{
  return store->was_durable;
}

void
store_set_durable (Store *store, bool durable)
{
  store->manifest->durable = durable;
}

const char *
store_seal (const Store *store)
{
  return store->manifest->seal;
}

void
store_set_seal (Store *store, const char *name)
{
  g_free (store->manifest->seal);
  store->manifest->seal = g_strdup (name);
}

const StoreDisk *
store_find_disk (const Store *store, const char *name)
{
  return manifest_find_disk (store->manifest->disks, name);
}

const GPtrArray *
store_disks (const Store *store)
{
  return store->manifest->disks;
}

const StoreDisk *
store_set_disk (Store *store, const char *name, const char *path, uint64_t size, int64_t mtime,
                int64_t write_time)
{
  StoreDisk *disk = manifest_find_disk (store->manifest->disks, name);
  char *old_path;

  if (disk == NULL)
    disk = manifest_add_disk (store->manifest, name);
  if (disk == NULL)
    return NULL;
  old_path = disk->path; /* path may be this string */
  disk->path = g_path_is_absolute (path) ? g_strdup (path) : g_canonicalize_filename (path, NULL);
  g_free (old_path);
  disk->size = size;
  disk->mtime = mtime;
  disk->write_time = write_time;
  return disk;
}

void
store_set_disk_marks (Store *store, const char *name, uint64_t identity, uint64_t writes)
{
  StoreDisk *disk = manifest_find_disk (store->manifest->disks, name);

  if (disk == NULL)
    return;
  disk->identity = identity;
  disk->writes = writes;
}

void
store_set_disk_inode (Store *store, const char *name, const StoreInode *inode)
{
  StoreDisk *disk = manifest_find_disk (store->manifest->disks, name);

  if (disk != NULL)
    disk->inode = *inode;
}

void
store_set_disk_marked (Store *store, const char *name, bool marked)
{
  StoreDisk *disk = manifest_find_disk (store->manifest->disks, name);

  if (disk != NULL)
    disk->marked = marked;
}

/* A layer that could not be removed has a record, which may be of a snapshot that a merge has moved
 * on. Were that removed, or another given its name, the next start would find it again in the old
 * layer, which nothing has been kept for since. */
static bool
remove_records (Store *store, GError **error)
{
  while (store->unremoved != NULL && store->unremoved->len > 0)
    if (layers_remove_record (store->snapshots_fd, store->snapshots_path,
                              g_array_index (store->unremoved, uint32_t, 0), error))
      g_array_remove_index_fast (store->unremoved, 0);
    else
      return false;
  return true;
}

/* Fails when memory and disk may differ: a change on top of that could make two of one name. */
static bool
check_sure (Store *store, GError **error)
{
  if (store->is_unsure)
    return fail (error, ENOTRECOVERABLE,
                 "the store '%s' takes no changes after an error; unmount and mount again",
                 store->path);
  return remove_records (store, error);
}

/* Passes on the error of a write of the manifest. */
static bool
note_failure (Store *store, GError *local, GError **error)
{
  if (fail_code (local) == ENOTRECOVERABLE)
    store->is_unsure = true;
  g_propagate_error (error, local);
  return false;
}

/* Writes the manifest with another state; in memory it stays as it was on failure. */
static bool
save_state (Store *store, bool open, const char *boot_id, uint64_t next_number, bool use_spare,
            GError **error)
{
  Manifest *manifest = store->manifest;
  Manifest old = *manifest;
  GError *local = NULL;

  /* A layer that was removed must not come back: its overlays may never have been on disk. */
  if (!check_sure (store, error) || !dir_sync (store->snapshots_fd, store->snapshots_path, error))
    return false;
  manifest->open = open;
  manifest->boot_id = g_strdup (boot_id);
  manifest->next_number = next_number;
  if (manifest_save (manifest, store->fd, use_spare, &local))
    {
      spare_keep (store->fd);
      g_free (old.boot_id);
      return true;
    }
  g_free (manifest->boot_id);
  *manifest = old;
  return note_failure (store, local, error);
}

/* A bound for next-number that leaves numbers to give without another write. */
static uint64_t
reserve (const Store *store)
{
  return MIN (store->next + RESERVED_NUMBERS, MANIFEST_NUMBER_END);
}

bool
store_mark_open (Store *store, GError **error)
{
  store->manifest->place = store->place;
  return save_state (store, true, store->boot_id, reserve (store), true, error);
}

bool
store_mark_clean (Store *store, GError **error)
{
  return save_state (store, false, store->boot_id, store->next, true, error);
}

uint32_t
store_next_number (Store *store, GError **error)
{
  const Manifest *manifest = store->manifest;

  if (store->next >= MANIFEST_NUMBER_END)
    {
      fail (error, EOVERFLOW, "the store '%s' has no number left for a snapshot", store->path);
      return 0;
    }
  /* The state stays what it is: a crash that nobody has dealt with is not forgotten here. */
  if (store->next >= manifest->next_number
      && !save_state (store, manifest->open, manifest->boot_id, reserve (store), false, error))
    return 0;
  return (uint32_t) store->next++;
}

bool
store_create_layer (Store *store, uint32_t layer, GError **error)
{
  g_autofree char *name = layers_name (layer);

  if (layer == 0)
    return fail (error, EINVAL, "a layer cannot have the number 0");
  if (!check_sure (store, error))
    return false;
  if (mkdirat (store->snapshots_fd, name, 0700) == 0)
    return true;
  return fail_errno (error, errno, "cannot create '%s/%s'", store->snapshots_path, name);
}

int
store_open_layer (Store *store, uint32_t layer, GError **error)
{
  return layers_open (store->snapshots_fd, store->snapshots_path, layer, NULL, error);
}

char *
store_layer_path (const Store *store, uint32_t layer)
{
  g_autofree char *name = layers_name (layer);

  return g_build_filename (store->snapshots_path, name, NULL);
}

char *
store_overlay_name (const char *disk)
{
  return g_strconcat (disk, ".qcow2", NULL);
}

char *
store_overlay_reference (uint32_t layer, const char *disk)
{
  g_autofree char *directory = layers_name (layer);
  g_autofree char *name = store_overlay_name (disk);

  return g_build_filename ("..", directory, name, NULL);
}

bool
store_write_record (Store *store, const StoreRecord *record, bool durable, GError **error)
{
  const GPtrArray *disks = store->manifest->disks;
  g_autofree char *layer_path = NULL;
  DIR_AUTO_FD fd = -1;
  GError *local = NULL;
  bool replaces;

  if (!record_check (record, disks, error) || !check_sure (store, error))
    return false;
  fd = layers_open (store->snapshots_fd, store->snapshots_path, record->layer, &layer_path, error);
  /* The directory first: a record that can be found after a loss of power must have a way to it. */
  if (fd < 0 || (durable && !dir_sync (store->snapshots_fd, store->snapshots_path, error)))
    return false;
  /* The spare is for what gives back as much: not for a new snapshot. */
  replaces = faccessat (fd, RECORD_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  if (!record_save (record, fd, layer_path, disks, durable, replaces ? store->fd : -1, &local))
    return note_failure (store, local, error);
  spare_keep (store->fd);
  return true;
}

void
store_keep_spare (Store *store)
{
  spare_keep (store->fd);
}

GPtrArray *
store_read_records (Store *store, GError **error)
{
  g_autoptr (LayersScan) scan
      = layers_scan (store->snapshots_fd, store->snapshots_path, store->manifest->disks, error);

  if (scan == NULL)
    return NULL;
  g_clear_pointer (&store->superseded, g_array_unref);
  store->superseded = g_array_ref (scan->superseded);
  return g_steal_pointer (&scan->records);
}

bool
store_remove_superseded (Store *store, GError **error)
{
  for (guint i = 0; store->superseded != NULL && i < store->superseded->len; i++)
    if (!layers_remove (store->snapshots_fd, store->snapshots_path,
                        g_array_index (store->superseded, uint32_t, i), error))
      return false;
  g_clear_pointer (&store->superseded, g_array_unref);
  return true;
}

bool
store_remove_layer (Store *store, uint32_t layer, GError **error)
{
  if (layers_remove (store->snapshots_fd, store->snapshots_path, layer, error))
    return true;
  if (store->unremoved == NULL)
    store->unremoved = g_array_new (FALSE, FALSE, sizeof (uint32_t));
  g_array_append_val (store->unremoved, layer);
  return false;
}

bool
store_remove_record (Store *store, uint32_t layer, GError **error)
{
  DIR_AUTO_FD fd = store_open_layer (store, layer, error);

  if (fd < 0)
    return false;
  if (unlinkat (fd, RECORD_FILE, 0) == 0 || errno == ENOENT)
    return true;
  return fail_errno (error, errno, "cannot remove '" RECORD_FILE "' of layer %u in '%s'", layer,
                     store->snapshots_path);
}

char *
store_find_loss (const Store *store)
{
  struct stat ours, named;

  if (fstat (store->fd, &ours) != 0)
    return NULL;
  if (ours.st_nlink == 0)
    return g_strdup_printf ("the store '%s' was deleted", store->path);
  if (stat (store->path, &named) != 0 ? errno == ENOENT || errno == ENOTDIR
                                      : named.st_dev != ours.st_dev || named.st_ino != ours.st_ino)
    return g_strdup_printf ("the store is not at '%s' any more", store->path);
  if (faccessat (store->fd, MANIFEST_FILE, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
    return g_strdup_printf ("'%s/" MANIFEST_FILE "' was deleted", store->path);
  return NULL;
}

char *
store_find_lost_file (const Store *store, uint32_t layer, const char *disk)
{
  g_autofree char *directory = layers_name (layer);
  g_autofree char *name = disk != NULL ? store_overlay_name (disk) : g_strdup (RECORD_FILE);
  g_autofree char *path = g_build_filename (directory, name, NULL);

  if (faccessat (store->snapshots_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
    return NULL;
  return g_strdup_printf ("'%s/%s' was deleted", store->snapshots_path, path);
}

int
store_statvfs (const Store *store, struct statvfs *out)
{
  return fstatvfs (store->fd, out) == 0 ? 0 : -errno;
}
