/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening, making and unmaking a store.
 *
 * A directory is looked at twice: before the lock file is touched, so that nothing
 * is made in a directory of somebody else's, and again when the lock is held,
 * because only then it stays as it is. All checks come before the first change.
 *
 * fleecefs.ini is what makes a directory a store; it is written last at the
 * making and removed first at the unmaking. What is there without it (the lock,
 * an empty snapshots/, fleecefs.ini.new, spare) is a store that was not made to the end, and is
 * treated as an empty directory.
 */
#include "base/fail.h"
#include "base/io.h"
#include "base/trust.h"
#include "store/dir.h"
#include "store/layers.h"
#include "store/spare.h"
#include "store/store-lock.h"
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_TEMPORARY MANIFEST_FILE ".new"
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

/* An attempt that found something gone (ENOENT, ESTALE) may have lost a race with a
 * process that unmakes its store; it is begun again this often. */
#define OPEN_ATTEMPTS 16

static char *
read_boot_id (GError **error)
{
  g_autofree char *text = NULL;

  if (!g_file_get_contents (BOOT_ID_FILE, &text, NULL, NULL)
      || !g_uuid_string_is_valid (g_strchomp (text)))
    {
      fail (error, EIO, "cannot read the boot id of the host from " BOOT_ID_FILE);
      return NULL;
    }
  return g_steal_pointer (&text);
}

/* Opens the directory, or makes it. */
static bool
fail_create (GError **error, int errnum, const char *path)
{
  if (errnum == ENOENT)
    return fail (error, errnum, "cannot create the store '%s': make the directory above it first",
                 path);
  if (errnum != EACCES && errnum != EROFS)
    return fail_errno (error, errnum, "cannot create the store '%s'", path);
  return fail (error, errnum,
               "cannot create the store '%s': %s; give another place by -o store=DIR", path,
               g_strerror (errnum));
}

static bool
open_directory (Store *store, const char *path, GError **error)
{
  /* The path is resolved: a link that is here now was not there when links were looked at. */
  const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  struct stat st;
  char *absolute;

  store->fd = open (path, flags);
  if (store->fd < 0 && errno == ENOENT)
    {
      if (mkdir (path, 0700) == 0)
        store->made_directory = true;
      else if (errno != EEXIST)
        return fail_create (error, errno, path);
      store->fd = open (path, flags);
    }
  absolute = store->fd >= 0 ? realpath (path, NULL) : NULL;
  if (absolute == NULL)
    {
      int errnum = errno;

      if (store->made_directory)
        rmdir (path);
      store->made_directory = false;
      return fail_errno (error, errnum, "cannot open the store '%s'", path);
    }
  store->path = g_strdup (absolute);
  store->place = io_birth_time (store->fd);
  free (absolute);
  store->snapshots_path = g_build_filename (store->path, LAYERS_DIRECTORY, NULL);
  if (fstat (store->fd, &st) != 0)
    return fail_errno (error, errno, "cannot look at the store '%s'", path);
  return trust_check (&st, path, error);
}

/* *out: the entry is one that the making of a store leaves when it is interrupted. */
static bool
is_leftover (const Store *store, const char *name, bool *out, GError **error)
{
  g_autoptr (GPtrArray) layers = NULL;
  DIR_AUTO_FD fd = -1;
  struct stat st;

  *out = false;
  if (fstatat (store->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
    return fail_errno (error, errno, "cannot look into '%s'", store->path);
  if (strcmp (name, STORE_LOCK_FILE) == 0)
    *out = S_ISREG (st.st_mode) && st.st_size == 0;
  else if (strcmp (name, MANIFEST_TEMPORARY) == 0 || strcmp (name, SPARE_FILE) == 0)
    *out = S_ISREG (st.st_mode);
  else if (strcmp (name, LAYERS_DIRECTORY) == 0 && S_ISDIR (st.st_mode))
    {
      fd = dir_open (store->fd, name, store->snapshots_path, error);
      layers = fd >= 0 ? dir_list (fd, store->snapshots_path, error) : NULL;
      if (layers == NULL)
        return false;
      *out = layers->len == 0;
    }
  return true;
}

/* May the directory, which has no manifest, become a store? */
static bool
check_vacant (const Store *store, const char *path, GError **error)
{
  g_autoptr (GPtrArray) names = dir_list (store->fd, store->path, error);
  bool leftover;

  if (names == NULL)
    return false;
  for (guint i = 0; i < names->len; i++)
    {
      const char *name = names->pdata[i];

      if (strcmp (name, MANIFEST_FILE) == 0)
        return fail (error, ESTALE, "the store '%s' is being made by another process", path);
      if (!is_leftover (store, name, &leftover, error))
        return false;
      if (!leftover)
        return fail (error, EINVAL,
                     "'%s' is not a fleecefs store: it has no " MANIFEST_FILE
                     "; give another directory with -o store=DIR",
                     path);
    }
  return true;
}

/* Loads the manifest, or leaves it NULL when the directory may become a store. */
static bool
look (Store *store, const char *path, GError **error)
{
  g_autoptr (GError) local = NULL;

  g_clear_pointer (&store->manifest, manifest_free);
  store->manifest = manifest_load (store->fd, store->path, &local);
  if (store->manifest != NULL)
    return true;
  if (fail_code (local) == ENOENT)
    return check_vacant (store, path, error);
  g_propagate_error (error, g_steal_pointer (&local));
  return false;
}

static bool
create (Store *store, uint64_t granule, GError **error)
{
  DIR_AUTO_FD parent = -1;

  store->is_new = true;
  store->was_clean = true;
  store->next = 1;
  /* One that the user made may be open to others. */
  if (!store->made_directory && fchmod (store->fd, 0700) != 0)
    return fail_errno (error, errno, "cannot set the mode of '%s'", store->path);
  if (mkdirat (store->fd, LAYERS_DIRECTORY, 0700) != 0 && errno != EEXIST)
    return fail_errno (error, errno, "cannot create '%s'", store->snapshots_path);
  store->snapshots_fd = dir_open (store->fd, LAYERS_DIRECTORY, store->snapshots_path, error);
  if (store->snapshots_fd < 0)
    return false;
  store->manifest = manifest_new (store->path, granule, store->boot_id);
  if (!manifest_save (store->manifest, store->fd, false, error))
    return false;
  spare_keep (store->fd);
  if (!store->made_directory)
    return true;
  /* A parent that may be searched but not read cannot be synced by us. */
  parent = openat (store->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return parent < 0 || dir_sync (parent, store->path, error);
}

static bool
check_granule (const Store *store, const LayersScan *scan, uint64_t granule, GError **error)
{
  uint64_t own = store->manifest->granule;

  if (granule == 0 || granule == own || scan->records->len == 0)
    return true;
  return fail (error, EINVAL,
               "the snapshots in the store '%s' have granule %uk, not %uk; use -o granule=%uk",
               store->path, (unsigned) (own / 1024), (unsigned) (granule / 1024),
               (unsigned) (own / 1024));
}

/* Checks all of a store that was there before, then cleans up in it. */
static bool
adopt (Store *store, uint64_t granule, GError **error)
{
  Manifest *manifest = store->manifest;
  g_autoptr (LayersScan) scan = NULL;
  DirKind kind;

  store->was_clean = !manifest->open;
  store->was_durable = manifest->durable;
  store->same_boot = strcmp (manifest->boot_id, store->boot_id) == 0;
  store->host_crashed = manifest->open && !store->same_boot;
  if (manifest->place != 0 && store->place != 0 && manifest->place != store->place)
    {
      store->was_copied = manifest->open;
      store->found_id = manifest->uuid;
      manifest->uuid = g_uuid_string_random ();
    }
  if (!dir_kind (store->fd, LAYERS_DIRECTORY, store->path, &kind, error))
    return false;
  if (kind == DIR_MISSING)
    return fail (error, EUCLEAN,
                 "the store '%s' is damaged: it has no directory '" LAYERS_DIRECTORY "'",
                 store->path);
  store->snapshots_fd = dir_open (store->fd, LAYERS_DIRECTORY, store->snapshots_path, error);
  if (store->snapshots_fd < 0)
    return false;
  scan = layers_scan (store->snapshots_fd, store->snapshots_path, manifest->disks, error);
  if (scan == NULL || !check_granule (store, scan, granule, error)
      || !dir_kind (store->fd, MANIFEST_TEMPORARY, store->path, &kind, error))
    return false;
  if (kind == DIR_DIRECTORY || kind == DIR_OTHER)
    return fail (error, EUCLEAN, "'%s/" MANIFEST_TEMPORARY "' is damaged: it is not a regular file",
                 store->path);

  store->next = MAX (manifest->next_number, (uint64_t) scan->greatest + 1);
  if (granule != 0)
    manifest->granule = granule;
  return dir_unlink (store->fd, MANIFEST_TEMPORARY, store->path, error)
         && layers_remove_leftovers (store->snapshots_fd, store->snapshots_path, scan, error);
}

/* Removes what this process made, newest first; the locks are held if they were taken. */
static void
unmake (Store *store)
{
  if (store->is_new)
    {
      unlinkat (store->fd, MANIFEST_FILE, 0);
      unlinkat (store->fd, MANIFEST_TEMPORARY, 0);
      unlinkat (store->fd, SPARE_FILE, 0);
      unlinkat (store->fd, LAYERS_DIRECTORY, AT_REMOVEDIR);
    }
  if (store->is_new || store->made_lock)
    unlinkat (store->fd, STORE_LOCK_FILE, 0);
  /* Fails, as it must, if another process has begun to make a store in it. */
  if (store->made_directory)
    rmdir (store->path);
}

static bool
has_layers (const Store *store)
{
  g_autoptr (GPtrArray) names = NULL;

  if (store->snapshots_fd < 0)
    return false;
  names = dir_list (store->snapshots_fd, store->snapshots_path, NULL);
  return names == NULL || names->len > 0;
}

void
store_discard_new (Store *store)
{
  if (store != NULL && store->is_new && !has_layers (store))
    unmake (store);
  store_free (store);
}

static bool
open_steps (Store *store, const char *path, uint64_t granule, GError **error)
{
  if (!open_directory (store, path, error) || !look (store, path, error))
    return false;
  store->lock_fd = store_lock_take (store->fd, path, &store->made_lock, error);
  if (store->lock_fd < 0)
    {
      store->made_lock = false; /* another has it by now */
      return false;
    }
  if (!look (store, path, error))
    return false;
  if (store->manifest != NULL)
    return adopt (store, granule, error);
  return create (store, granule != 0 ? granule : MANIFEST_GRANULE_MIN, error);
}

static Store *
open_once (const char *path, uint64_t granule, const char *boot_id, GError **error)
{
  Store *store = g_new0 (Store, 1);

  store->fd = store->snapshots_fd = store->lock_fd = -1;
  store->boot_id = g_strdup (boot_id);
  if (open_steps (store, path, granule, error))
    return store;
  unmake (store);
  store_free (store);
  return NULL;
}

Store *
store_open (const char *path, uint64_t *granule, GError **error)
{
  g_autofree char *boot_id = read_boot_id (error);
  Store *store = NULL;

  if (boot_id == NULL)
    return NULL;
  if (*granule != 0 && !manifest_granule_is_valid (*granule))
    {
      fail (error, EINVAL, "the granule must be a power of two from 4k to 64k");
      return NULL;
    }
  for (int attempt = 1; store == NULL && attempt <= OPEN_ATTEMPTS; attempt++)
    {
      g_autoptr (GError) local = NULL;

      store = open_once (path, *granule, boot_id, &local);
      if (store == NULL
          && ((fail_code (local) != ESTALE && fail_code (local) != ENOENT)
              || attempt == OPEN_ATTEMPTS))
        {
          g_propagate_error (error, g_steal_pointer (&local));
          return NULL;
        }
    }
  *granule = store->manifest->granule;
  return store;
}
