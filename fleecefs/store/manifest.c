/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/manifest.h"

#include "base/fail.h"
#include "base/name.h"

#include <errno.h>
#include <string.h>

#define GROUP "fleecefs"
#define DISK_PREFIX "disk "

/* What g_uri_escape_string() leaves as it is besides letters, digits and "-._~":
 * all other printable ASCII but '%', so that most paths look like themselves. */
#define PATH_PLAIN "/ !\"#$&'()*+,:;<=>?@[\\]^`{|}"

static void
disk_free (gpointer data)
{
  StoreDisk *disk = data;

  g_free (disk->name);
  g_free (disk->path);
  g_free (disk);
}

Manifest *
manifest_new (const char *store_path, uint64_t granule, const char *boot_id)
{
  Manifest *manifest = g_new0 (Manifest, 1);
  g_autofree char *path = g_build_filename (store_path, MANIFEST_FILE, NULL);

  manifest->file = keyfile_new (path);
  manifest->uuid = g_uuid_string_random ();
  manifest->boot_id = g_strdup (boot_id);
  manifest->granule = granule;
  manifest->next_number = 1;
  manifest->disks = g_ptr_array_new_with_free_func (disk_free);
  return manifest;
}

void
manifest_free (Manifest *manifest)
{
  if (manifest == NULL)
    return;
  keyfile_free (manifest->file);
  g_free (manifest->uuid);
  g_free (manifest->boot_id);
  g_free (manifest->seal);
  g_ptr_array_unref (manifest->disks);
  g_free (manifest);
}

bool
manifest_granule_is_valid (uint64_t granule)
{
  return granule >= MANIFEST_GRANULE_MIN && granule <= MANIFEST_GRANULE_MAX
         && (granule & (granule - 1)) == 0;
}

char *
manifest_disk_group (uint32_t number)
{
  return g_strdup_printf (DISK_PREFIX "%u", number);
}

bool
manifest_parse_disk_group (const Keyfile *file, const char *group, uint32_t *out_number,
                           GError **error)
{
  g_autofree char *canonical = NULL;
  guint64 number;

  *out_number = 0;
  if (!g_str_has_prefix (group, DISK_PREFIX))
    return true;
  if (g_ascii_string_to_unsigned (group + strlen (DISK_PREFIX), 10, 1, MANIFEST_DISKS_MAX, &number,
                                  NULL))
    {
      canonical = manifest_disk_group ((uint32_t) number);
      *out_number = (uint32_t) number;
    }
  /* "disk 01" would be a second disk 1. */
  return g_strcmp0 (canonical, group) == 0
         || fail (error, EUCLEAN,
                  "'%s' is damaged: the group of a disk is not [disk N] with N from 1 to %d",
                  file->path, MANIFEST_DISKS_MAX);
}

char *
manifest_get_name (const Keyfile *file, const char *group, GError **error)
{
  g_autofree char *name = keyfile_get_text (file, group, "name", error);

  if (name != NULL && name_check_known (name, NULL) != 0)
    {
      keyfile_fail_value (file, group, "name",
                          "a name (1 to 200 bytes of UTF-8, no '/', no control characters, no "
                          "leading dot)",
                          error);
      return NULL;
    }
  return g_steal_pointer (&name);
}

StoreDisk *
manifest_find_disk (const GPtrArray *disks, const char *name)
{
  for (guint i = 0; i < disks->len; i++)
    {
      StoreDisk *disk = disks->pdata[i];

      if (strcmp (disk->name, name) == 0)
        return disk;
    }
  return NULL;
}

StoreDisk *
manifest_find_number (const GPtrArray *disks, uint32_t number)
{
  for (guint i = 0; i < disks->len; i++)
    {
      StoreDisk *disk = disks->pdata[i];

      if (disk->number == number)
        return disk;
    }
  return NULL;
}

StoreDisk *
manifest_add_disk (Manifest *manifest, const char *name)
{
  StoreDisk *disk;
  uint32_t last = 0;

  for (guint i = 0; i < manifest->disks->len; i++)
    last = MAX (last, ((StoreDisk *) manifest->disks->pdata[i])->number);
  if (last >= MANIFEST_DISKS_MAX || name_check (name, NULL) != 0)
    return NULL;
  disk = g_new0 (StoreDisk, 1);
  disk->name = g_strdup (name);
  disk->number = last + 1;
  g_ptr_array_add (manifest->disks, disk);
  return disk;
}

static char *
get_path (const Keyfile *file, const char *group, GError **error)
{
  g_autofree char *text = keyfile_get_text (file, group, "path", error);
  g_autofree char *path = NULL;

  if (text == NULL)
    return NULL;
  path = g_uri_unescape_string (text, NULL);
  if (path == NULL || path[0] != '/')
    {
      keyfile_fail_value (file, group, "path", "an absolute path", error);
      return NULL;
    }
  return g_steal_pointer (&path);
}

/* Stores made before there was this key have marked nothing. */
static bool
load_marked (const Keyfile *file, const char *group, bool *out, GError **error)
{
  uint64_t marked = 0;

  if (keyfile_has (file, group, "marked")
      && !keyfile_get_unsigned (file, group, "marked", 0, 1, &marked, error))
    return false;
  *out = marked != 0;
  return true;
}

/* Stores made before there were these keys know none. */
static bool
load_inode (const Keyfile *file, const char *group, StoreInode *out, GError **error)
{
  if (!keyfile_has (file, group, "inode"))
    return true;
  return keyfile_get_unsigned (file, group, "inode", 0, UINT64_MAX, &out->number, error)
         && keyfile_get_signed (file, group, "ctime", &out->ctime, error)
         && keyfile_get_unsigned (file, group, "mode", 0, UINT32_MAX, &out->mode, error)
         && keyfile_get_unsigned (file, group, "uid", 0, UINT32_MAX, &out->uid, error)
         && keyfile_get_unsigned (file, group, "gid", 0, UINT32_MAX, &out->gid, error)
         && keyfile_get_unsigned (file, group, "links", 0, UINT64_MAX, &out->n_links, error);
}

/* Reads the group of a disk into the manifest. */
static bool
load_disk (Manifest *manifest, const char *group, uint32_t number, GError **error)
{
  const Keyfile *file = manifest->file;
  StoreDisk *disk = g_new0 (StoreDisk, 1);
  bool again;

  disk->number = number;
  disk->name = manifest_get_name (file, group, error);
  again = disk->name != NULL && manifest_find_disk (manifest->disks, disk->name) != NULL;
  g_ptr_array_add (manifest->disks, disk);
  if (disk->name == NULL)
    return false;
  if (again)
    return keyfile_fail_value (file, group, "name", "different from those of the other disks",
                               error);
  disk->path = get_path (file, group, error);
  return disk->path != NULL
         && keyfile_get_unsigned (file, group, "size", 0, INT64_MAX, &disk->size, error)
         && keyfile_get_signed (file, group, "mtime", &disk->mtime, error)
         && keyfile_get_signed (file, group, "write-time", &disk->write_time, error)
         && (!keyfile_has (file, group, "identity")
             || keyfile_get_unsigned (file, group, "identity", 0, UINT64_MAX, &disk->identity,
                                      error))
         && (!keyfile_has (file, group, "writes")
             || keyfile_get_unsigned (file, group, "writes", 0, UINT64_MAX, &disk->writes, error))
         && load_inode (file, group, &disk->inode, error)
         && load_marked (file, group, &disk->marked, error);
}

static bool
load_disks (Manifest *manifest, GError **error)
{
  g_auto (GStrv) groups = g_key_file_get_groups (manifest->file->keys, NULL);

  for (char **group = groups; *group != NULL; group++)
    {
      uint32_t number;

      if (!manifest_parse_disk_group (manifest->file, *group, &number, error))
        return false;
      if (number != 0 && !load_disk (manifest, *group, number, error))
        return false;
    }
  return true;
}

static char *
get_uuid (const Keyfile *file, const char *key, GError **error)
{
  g_autofree char *uuid = keyfile_get_text (file, GROUP, key, error);

  if (uuid != NULL && !g_uuid_string_is_valid (uuid))
    {
      keyfile_fail_value (file, GROUP, key, "a UUID", error);
      return NULL;
    }
  return g_steal_pointer (&uuid);
}

static bool
load_state (Manifest *manifest, GError **error)
{
  g_autofree char *state = keyfile_get_text (manifest->file, GROUP, "state", error);

  if (state == NULL)
    return false;
  manifest->open = strcmp (state, "open") == 0;
  return manifest->open || strcmp (state, "clean") == 0
         || keyfile_fail_value (manifest->file, GROUP, "state", "'clean' or 'open'", error);
}

/* Stores made before there was this key have none: process. */
static bool
load_durability (Manifest *manifest, GError **error)
{
  g_autofree char *text = NULL;

  if (!keyfile_has (manifest->file, GROUP, "durability"))
    return true;
  text = keyfile_get_text (manifest->file, GROUP, "durability", error);
  if (text == NULL)
    return false;
  manifest->durable = strcmp (text, "power") == 0;
  return manifest->durable || strcmp (text, "process") == 0
         || keyfile_fail_value (manifest->file, GROUP, "durability", "'process' or 'power'", error);
}

static bool
load_keys (Manifest *manifest, GError **error)
{
  const Keyfile *file = manifest->file;

  manifest->uuid = get_uuid (file, "uuid", error);
  if (manifest->uuid == NULL)
    return false;
  manifest->boot_id = get_uuid (file, "boot-id", error);
  if (manifest->boot_id == NULL || !load_state (manifest, error)
      || !load_durability (manifest, error))
    return false;
  if (!keyfile_get_unsigned (file, GROUP, "granule", MANIFEST_GRANULE_MIN, MANIFEST_GRANULE_MAX,
                             &manifest->granule, error))
    return false;
  if (!manifest_granule_is_valid (manifest->granule))
    return keyfile_fail_value (file, GROUP, "granule", "a power of two", error);
  if (keyfile_has (file, GROUP, "seal"))
    {
      manifest->seal = get_uuid (file, "seal", error);
      if (manifest->seal == NULL)
        return false;
    }
  return keyfile_get_unsigned (file, GROUP, "next-number", 1, MANIFEST_NUMBER_END,
                               &manifest->next_number, error)
         && (!keyfile_has (file, GROUP, "place")
             || keyfile_get_unsigned (file, GROUP, "place", 0, UINT64_MAX, &manifest->place,
                                      error));
}

Manifest *
manifest_load (int store_fd, const char *store_path, GError **error)
{
  g_autoptr (Manifest) manifest = g_new0 (Manifest, 1);
  g_autofree char *path = g_build_filename (store_path, MANIFEST_FILE, NULL);
  uint64_t format;

  manifest->disks = g_ptr_array_new_with_free_func (disk_free);
  manifest->file = keyfile_load (store_fd, MANIFEST_FILE, path, error);
  if (manifest->file == NULL
      || !keyfile_get_unsigned (manifest->file, GROUP, "format", 1, UINT32_MAX, &format, error))
    return NULL;
  /* Before any other key: a newer format may have none of them. */
  if (format > MANIFEST_FORMAT)
    {
      fail (error, ENOTSUP,
            "the store '%s' was made by a newer fleecefs (format %u); use that version", store_path,
            (unsigned) format);
      return NULL;
    }
  if (!keyfile_check_end (manifest->file, error) || !load_keys (manifest, error)
      || !load_disks (manifest, error))
    return NULL;
  return g_steal_pointer (&manifest);
}

static void
store_disk_keys (GKeyFile *keys, const StoreDisk *disk)
{
  g_autofree char *group = manifest_disk_group (disk->number);
  g_autofree char *path = g_uri_escape_string (disk->path, PATH_PLAIN, TRUE);

  g_key_file_set_string (keys, group, "name", disk->name);
  g_key_file_set_string (keys, group, "path", path);
  g_key_file_set_uint64 (keys, group, "size", disk->size);
  g_key_file_set_int64 (keys, group, "mtime", disk->mtime);
  g_key_file_set_int64 (keys, group, "write-time", disk->write_time);
  g_key_file_set_uint64 (keys, group, "identity", disk->identity);
  g_key_file_set_uint64 (keys, group, "writes", disk->writes);
  g_key_file_set_uint64 (keys, group, "inode", disk->inode.number);
  g_key_file_set_int64 (keys, group, "ctime", disk->inode.ctime);
  g_key_file_set_uint64 (keys, group, "mode", disk->inode.mode);
  g_key_file_set_uint64 (keys, group, "uid", disk->inode.uid);
  g_key_file_set_uint64 (keys, group, "gid", disk->inode.gid);
  g_key_file_set_uint64 (keys, group, "links", disk->inode.n_links);
  g_key_file_set_uint64 (keys, group, "marked", disk->marked);
}

bool
manifest_save (Manifest *manifest, int store_fd, bool use_spare, GError **error)
{
  GKeyFile *keys = manifest->file->keys;

  g_key_file_set_integer (keys, GROUP, "format", MANIFEST_FORMAT);
  g_key_file_set_string (keys, GROUP, "uuid", manifest->uuid);
  g_key_file_set_string (keys, GROUP, "state", manifest->open ? "open" : "clean");
  g_key_file_set_string (keys, GROUP, "boot-id", manifest->boot_id);
  g_key_file_set_string (keys, GROUP, "durability", manifest->durable ? "power" : "process");
  g_key_file_set_uint64 (keys, GROUP, "granule", manifest->granule);
  g_key_file_set_uint64 (keys, GROUP, "next-number", manifest->next_number);
  g_key_file_set_uint64 (keys, GROUP, "place", manifest->place);
  if (manifest->seal != NULL)
    g_key_file_set_string (keys, GROUP, "seal", manifest->seal);
  else
    g_key_file_remove_key (keys, GROUP, "seal", NULL);
  for (guint i = 0; i < manifest->disks->len; i++)
    store_disk_keys (keys, manifest->disks->pdata[i]);
  return keyfile_save (manifest->file, store_fd, MANIFEST_FILE, true, use_spare ? store_fd : -1,
                       error);
}
