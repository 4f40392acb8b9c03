/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store, on manifest files made of the input.
 *
 * The input is text: fleecefs.ini, then up to three snapshot.ini (layers 1 to 3), with a form
 * feed between two of them. The last line, [end], is added to each unless it begins with '!',
 * which is taken away.
 *
 * The store is opened and its records are read. Either there is a clear error, or: names are names,
 * and numbers in their limits; all of it can be written again, and reads the same then. */
#include "base/fail.h"
#include "base/name.h"
#include "fuzz.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYERS 3

static int
make_directory (int dir_fd, const char *name)
{
  int fd;

  fuzz_check (mkdirat (dir_fd, name, 0700) == 0 || errno == EEXIST);
  fd = openat (dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  fuzz_check (fd >= 0);
  return fd;
}

static void
write_file (int dir_fd, const char *name, const char *bytes, size_t length)
{
  bool bare = length > 0 && bytes[0] == '!';
  int fd = openat (dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  fuzz_check (fd >= 0);
  fuzz_check (write (fd, bytes + bare, length - bare) == (ssize_t) (length - bare));
  if (!bare)
    fuzz_check (write (fd, "\n[end]\n", 7) == 7);
  close (fd);
}

/* Removes what an earlier input has left of a layer. */
static void
clear_layer (int layer_fd)
{
  unlinkat (layer_fd, "snapshot.ini", 0);
  unlinkat (layer_fd, "snapshot.ini.new", 0);
}

static void
make_store (int dir_fd, const char *text, size_t size)
{
  int store_fd = make_directory (dir_fd, "s");
  int snapshots_fd = make_directory (store_fd, "snapshots");

  if (size == 0)
    text = ""; /* not NULL */
  for (unsigned i = 0; i <= LAYERS; i++)
    {
      g_autofree char *name = g_strdup_printf ("%06u", i);
      const char *end = size > 0 ? memchr (text, '\f', size) : NULL;
      size_t length = end != NULL ? (size_t) (end - text) : size;

      if (i == 0)
        write_file (store_fd, "fleecefs.ini", text, length);
      else
        {
          int layer_fd = make_directory (snapshots_fd, name);

          clear_layer (layer_fd);
          if (length > 0)
            write_file (layer_fd, "snapshot.ini", text, length);
          close (layer_fd);
        }
      text += length;
      size -= length;
      if (size > 0)
        text++, size--; /* the form feed */
    }
  close (snapshots_fd);
  close (store_fd);
}

static void
check_disks (const Store *store)
{
  const GPtrArray *disks = store_disks (store);

  for (guint i = 0; i < disks->len; i++)
    {
      const StoreDisk *disk = disks->pdata[i];

      fuzz_check (name_check_known (disk->name, NULL) == 0);
      fuzz_check (disk->path[0] == '/');
      fuzz_check (disk->number >= 1 && disk->number <= 4095 && disk->size <= INT64_MAX);
      fuzz_check (store_find_disk (store, disk->name) == disk); /* no two of a name */
    }
}

static void
check_records (const Store *store, const GPtrArray *records)
{
  for (guint i = 0; i < records->len; i++)
    {
      const StoreRecord *record = records->pdata[i];

      fuzz_check ((record->id == 0) == (record->name == NULL));
      fuzz_check (record->name == NULL || name_check_known (record->name, NULL) == 0);
      for (guint j = 0; j < i; j++)
        {
          const StoreRecord *other = records->pdata[j];

          fuzz_check (other->layer < record->layer);
          fuzz_check (record->id == 0 || other->id != record->id);
          fuzz_check (record->name == NULL || g_strcmp0 (record->name, other->name) != 0);
        }
      for (guint j = 0; j < record->images->len; j++)
        {
          const StoreImage *image = record->images->pdata[j];

          fuzz_check (store_find_disk (store, image->disk) != NULL && image->size <= INT64_MAX);
          for (const char *p = image->broken; p != NULL && *p != '\0'; p++)
            fuzz_check (!g_ascii_iscntrl (*p));
        }
    }
}

static char *
describe (const GPtrArray *records)
{
  GString *text = g_string_new (NULL);

  for (guint i = 0; i < records->len; i++)
    {
      const StoreRecord *record = records->pdata[i];

      g_string_append_printf (text, "%u %u %s %" G_GINT64_FORMAT "\n", record->layer, record->id,
                              record->name != NULL ? record->name : "-", (gint64) record->created);
      for (guint j = 0; j < record->images->len; j++)
        {
          const StoreImage *image = record->images->pdata[j];

          g_string_append_printf (
              text, " %s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GINT64_FORMAT " %s\n",
              image->disk, (guint64) image->size, (guint64) image->allocated, (gint64) image->mtime,
              image->broken != NULL ? image->broken : "-");
        }
    }
  return g_string_free (text, FALSE);
}

/* Opens it, reads it, writes all of it again. Returns what it is, or NULL with a clear error. */
static char *
use_store (const char *path, bool must)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) records = NULL;
  uint64_t granule = 0;
  Store *store = store_open (path, &granule, &error);
  char *what = NULL;
  uint32_t number;

  fuzz_check (!must || store != NULL);
  if (store == NULL)
    {
      fuzz_check_error (error, "'");
      return NULL;
    }
  fuzz_check (granule >= 4096 && granule <= 65536 && (granule & (granule - 1)) == 0);
  check_disks (store);
  records = store_read_records (store, &error);
  fuzz_check (records != NULL); /* what was opened was checked */
  check_records (store, records);
  what = describe (records);
  for (guint i = 0; i < records->len; i++)
    fuzz_check (store_write_record (store, records->pdata[i], false, NULL));
  fuzz_check (store_mark_open (store, &error));
  number = store_next_number (store, &error);
  fuzz_check (number != 0 || fail_code (error) == EOVERFLOW);
  for (guint i = 0; i < records->len; i++)
    fuzz_check (number == 0 || number > ((StoreRecord *) records->pdata[i])->layer);
  fuzz_check (store_mark_clean (store, NULL));
  store_free (store);
  return what;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  const char *directory;
  int dir_fd = fuzz_directory (&directory), lowest = fuzz_lowest_free ();
  g_autofree char *path = g_build_filename (directory, "s", NULL);
  g_autofree char *what = NULL;

  make_store (dir_fd, (const char *) data, size);
  what = use_store (path, false);
  if (what != NULL)
    {
      g_autofree char *again = use_store (path, true);

      fuzz_check (strcmp (what, again) == 0);
    }
  fuzz_check (fuzz_lowest_free () == lowest);
  return 0;
}
