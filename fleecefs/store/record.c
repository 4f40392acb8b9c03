/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/record.h"

#include "base/fail.h"
#include "base/name.h"
#include "store/manifest.h"

#include <errno.h>
#include <string.h>

#define GROUP "snapshot"

/* Bytes of the reason why a snapshot is broken: what a message with a path has. */
#define REASON_MAX 4500

static void
image_free (gpointer data)
{
  StoreImage *image = data;

  g_free (image->disk);
  g_free (image->broken);
  g_free (image);
}

StoreImage *
store_image_new (const char *disk, uint64_t size, uint64_t allocated, int64_t mtime)
{
  StoreImage *image = g_new0 (StoreImage, 1);

  image->disk = g_strdup (disk);
  image->size = size;
  image->allocated = allocated;
  image->mtime = mtime;
  return image;
}

StoreRecord *
store_record_new (void)
{
  StoreRecord *record = g_new0 (StoreRecord, 1);

  record->images = g_ptr_array_new_with_free_func (image_free);
  return record;
}

void
store_record_free (StoreRecord *record)
{
  if (record == NULL)
    return;
  g_free (record->name);
  if (record->images != NULL)
    {
      /* The array may be the caller's, made without a free function. */
      g_ptr_array_set_free_func (record->images, image_free);
      g_ptr_array_unref (record->images);
    }
  g_free (record);
}

StoreRecord *
store_record_copy (const StoreRecord *record)
{
  StoreRecord *copy = store_record_new ();

  copy->layer = record->layer;
  copy->id = record->id;
  copy->name = g_strdup (record->name);
  copy->created = record->created;
  for (guint i = 0; i < record->images->len; i++)
    {
      const StoreImage *image = record->images->pdata[i];

      StoreImage *image_copy
          = store_image_new (image->disk, image->size, image->allocated, image->mtime);

      image_copy->broken = g_strdup (image->broken);
      g_ptr_array_add (copy->images, image_copy);
    }
  return copy;
}

/* The image of that disk among the first n of the record, or NULL. */
static const StoreImage *
find_image (const StoreRecord *record, guint n, const char *disk)
{
  for (guint i = 0; i < n; i++)
    {
      const StoreImage *image = record->images->pdata[i];

      if (strcmp (image->disk, disk) == 0)
        return image;
    }
  return NULL;
}

bool
record_check (const StoreRecord *record, const GPtrArray *disks, GError **error)
{
  if (record->layer == 0)
    return fail (error, EINVAL, "a layer cannot have the number 0");
  if ((record->id == 0) != (record->name == NULL))
    return fail (error, EINVAL, "the record of layer %u has an id or a name, not both",
                 record->layer);
  if (record->name != NULL && name_check_known (record->name, NULL) != 0)
    return fail (error, EINVAL, "the name of snapshot %u is not valid", record->id);
  for (guint i = 0; i < record->images->len; i++)
    {
      const StoreImage *image = record->images->pdata[i];

      if (manifest_find_disk (disks, image->disk) == NULL)
        return fail (error, EINVAL, "layer %u has an image of an unknown disk", record->layer);
      if (find_image (record, i, image->disk) != NULL)
        return fail (error, EINVAL, "layer %u has two images of '%s'", record->layer, image->disk);
      if (image->size > INT64_MAX || image->allocated > INT64_MAX)
        return fail (error, EINVAL, "the image of '%s' in layer %u is too large", image->disk,
                     record->layer);
    }
  return true;
}

/* What people are shown of a reason: one line without control characters, and not endless. */
static char *
readable_reason (const char *reason)
{
  g_autofree char *valid = g_utf8_make_valid (reason, -1);
  GString *line = g_string_new (NULL);

  for (const char *p = valid; *p != '\0' && line->len < REASON_MAX; p = g_utf8_next_char (p))
    {
      gunichar c = g_utf8_get_char (p);

      g_string_append_unichar (line, g_unichar_iscntrl (c) ? '?' : c);
    }
  return g_string_free (line, FALSE);
}

static Keyfile *
to_keys (const StoreRecord *record, const char *path, const GPtrArray *disks)
{
  Keyfile *file = keyfile_new (path);
  GKeyFile *keys = file->keys;

  if (record->name != NULL)
    {
      g_key_file_set_uint64 (keys, GROUP, "id", record->id);
      g_key_file_set_string (keys, GROUP, "name", record->name);
    }
  g_key_file_set_int64 (keys, GROUP, "created", record->created);
  for (guint i = 0; i < record->images->len; i++)
    {
      const StoreImage *image = record->images->pdata[i];
      const StoreDisk *disk = manifest_find_disk (disks, image->disk);
      g_autofree char *group = manifest_disk_group (disk->number);

      g_key_file_set_string (keys, group, "name", image->disk);
      g_key_file_set_uint64 (keys, group, "size", image->size);
      g_key_file_set_uint64 (keys, group, "allocated", image->allocated);
      g_key_file_set_int64 (keys, group, "mtime", image->mtime);
      if (image->broken != NULL)
        {
          g_autofree char *broken = readable_reason (image->broken);

          g_key_file_set_string (keys, group, "broken", broken);
        }
    }
  return file;
}

bool
record_save (const StoreRecord *record, int layer_fd, const char *layer_path,
             const GPtrArray *disks, bool durable, int spare_fd, GError **error)
{
  g_autofree char *path = g_build_filename (layer_path, RECORD_FILE, NULL);
  g_autoptr (Keyfile) file = to_keys (record, path, disks);

  return keyfile_save (file, layer_fd, RECORD_FILE, durable, spare_fd, error);
}

static bool
load_image (StoreRecord *record, const Keyfile *file, const char *group, uint32_t number,
            const GPtrArray *disks, GError **error)
{
  const StoreDisk *disk = manifest_find_number (disks, number);
  g_autofree char *name = manifest_get_name (file, group, error);
  StoreImage *image;

  if (name == NULL)
    return false;
  /* Names are unique among the disks, so this also refuses a second image of a disk. */
  if (disk == NULL || strcmp (disk->name, name) != 0)
    return fail (error, EUCLEAN,
                 "'%s' is damaged: disk %u, '%s', is not in the store's " MANIFEST_FILE, file->path,
                 number, name);
  image = store_image_new (name, 0, 0, 0);
  g_ptr_array_add (record->images, image);
  if (keyfile_has (file, group, "broken"))
    {
      g_autofree char *reason = keyfile_get_text (file, group, "broken", error);

      if (reason == NULL)
        return false;
      image->broken = readable_reason (reason);
    }
  return keyfile_get_unsigned (file, group, "size", 0, INT64_MAX, &image->size, error)
         && keyfile_get_unsigned (file, group, "allocated", 0, INT64_MAX, &image->allocated, error)
         && keyfile_get_signed (file, group, "mtime", &image->mtime, error);
}

static bool
load_images (StoreRecord *record, const Keyfile *file, const GPtrArray *disks, GError **error)
{
  g_auto (GStrv) groups = g_key_file_get_groups (file->keys, NULL);

  for (char **group = groups; *group != NULL; group++)
    {
      uint32_t number;

      if (!manifest_parse_disk_group (file, *group, &number, error))
        return false;
      if (number != 0 && !load_image (record, file, *group, number, disks, error))
        return false;
    }
  return true;
}

static bool
load_snapshot (StoreRecord *record, const Keyfile *file, GError **error)
{
  uint64_t id = 0;

  /* Either key asks for the other. */
  if (keyfile_has (file, GROUP, "id") || keyfile_has (file, GROUP, "name"))
    {
      if (!keyfile_get_unsigned (file, GROUP, "id", 1, UINT32_MAX, &id, error))
        return false;
      record->id = (uint32_t) id;
      record->name = manifest_get_name (file, GROUP, error);
      if (record->name == NULL)
        return false;
    }
  return keyfile_get_signed (file, GROUP, "created", &record->created, error);
}

StoreRecord *
record_load (int layer_fd, const char *layer_path, uint32_t layer, const GPtrArray *disks,
             GError **error)
{
  g_autofree char *path = g_build_filename (layer_path, RECORD_FILE, NULL);
  g_autoptr (Keyfile) file = keyfile_load (layer_fd, RECORD_FILE, path, error);
  g_autoptr (StoreRecord) record = NULL;

  if (file == NULL || !keyfile_check_end (file, error))
    return NULL;
  record = store_record_new ();
  record->layer = layer;
  if (!load_snapshot (record, file, error) || !load_images (record, file, disks, error))
    return NULL;
  return g_steal_pointer (&record);
}
