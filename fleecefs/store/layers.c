/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/layers.h"

#include "base/fail.h"
#include "base/trust.h"
#include "store/dir.h"
#include "store/record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_TEMPORARY RECORD_FILE ".new"

static LayersScan *
scan_new (void)
{
  LayersScan *scan = g_new0 (LayersScan, 1);

  scan->records = g_ptr_array_new_with_free_func ((GDestroyNotify) store_record_free);
  scan->superseded = g_array_new (FALSE, FALSE, sizeof (uint32_t));
  scan->half_made = g_array_new (FALSE, FALSE, sizeof (uint32_t));
  scan->with_temporary = g_array_new (FALSE, FALSE, sizeof (uint32_t));
  return scan;
}

void
layers_scan_free (LayersScan *scan)
{
  if (scan == NULL)
    return;
  g_clear_pointer (&scan->records, g_ptr_array_unref); /* NULL when it was taken */
  g_array_unref (scan->superseded);
  g_array_unref (scan->half_made);
  g_array_unref (scan->with_temporary);
  g_free (scan);
}

char *
layers_name (uint32_t layer)
{
  return g_strdup_printf ("%06u", layer);
}

static bool
parse_name (const char *name, const char *path, uint32_t *out_layer, GError **error)
{
  g_autofree char *canonical = NULL;
  g_autofree char *shown = NULL;
  guint64 number;

  *out_layer = 0;
  if (g_ascii_string_to_unsigned (name, 10, 1, UINT32_MAX, &number, NULL))
    {
      *out_layer = (uint32_t) number;
      canonical = layers_name (*out_layer);
    }
  if (g_strcmp0 (canonical, name) == 0)
    return true;
  shown = dir_printable (name);
  return fail (error, EUCLEAN, "'%s' is damaged: '%s' is not the number of a layer; move it away",
               path, shown);
}

int
layers_open (int dir_fd, const char *path, uint32_t layer, char **out_path, GError **error)
{
  g_autofree char *name = layers_name (layer);
  g_autofree char *layer_path = g_build_filename (path, name, NULL);
  int fd = dir_open (dir_fd, name, layer_path, error);

  if (out_path != NULL)
    *out_path = g_steal_pointer (&layer_path);
  return fd;
}

/* Is it a file of ours, or gone meanwhile? */
static bool
check_file (int layer_fd, const char *layer_path, const char *name, GError **error)
{
  g_autofree char *shown = dir_printable (name);
  g_autofree char *path = g_build_filename (layer_path, shown, NULL);
  struct stat st;

  if (fstatat (layer_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
    return errno == ENOENT || fail_errno (error, errno, "cannot look at '%s'", path);
  if (!S_ISREG (st.st_mode))
    return fail (error, EUCLEAN, "'%s' is damaged: it is not a regular file; move it away", path);
  return trust_check (&st, path, error);
}

/* The names in a layer; NULL and *error if anything is not a file of ours. */
static GPtrArray *
list_files (int layer_fd, const char *layer_path, GError **error)
{
  g_autoptr (GPtrArray) names = dir_list (layer_fd, layer_path, error);

  for (guint i = 0; names != NULL && i < names->len; i++)
    if (!check_file (layer_fd, layer_path, names->pdata[i], error))
      return NULL;
  return g_steal_pointer (&names);
}

bool
layers_remove (int dir_fd, const char *path, uint32_t layer, GError **error)
{
  g_autofree char *name = layers_name (layer);
  g_autofree char *layer_path = NULL;
  g_autoptr (GError) local = NULL;
  g_autoptr (GPtrArray) names = NULL;
  DIR_AUTO_FD fd = layers_open (dir_fd, path, layer, &layer_path, &local);

  if (fd < 0 && fail_code (local) == ENOENT)
    return true;
  if (fd < 0)
    {
      g_propagate_error (error, g_steal_pointer (&local));
      return false;
    }
  names = list_files (fd, layer_path, error);
  if (names == NULL || !dir_unlink (fd, RECORD_FILE, layer_path, error)
      || !dir_sync (fd, layer_path, error))
    return false;
  for (guint i = 0; i < names->len; i++)
    if (!dir_unlink (fd, names->pdata[i], layer_path, error))
      return false;
  if (unlinkat (dir_fd, name, AT_REMOVEDIR) != 0)
    return fail_errno (error, errno, "cannot remove '%s'", layer_path);
  return true;
}

bool
layers_remove_record (int dir_fd, const char *path, uint32_t layer, GError **error)
{
  g_autofree char *layer_path = NULL;
  g_autoptr (GError) local = NULL;
  DIR_AUTO_FD fd = layers_open (dir_fd, path, layer, &layer_path, &local);

  if (fd < 0 && fail_code (local) == ENOENT)
    return true;
  if (fd >= 0)
    return dir_unlink (fd, RECORD_FILE, layer_path, error) && dir_sync (fd, layer_path, error);
  g_propagate_error (error, g_steal_pointer (&local));
  return false;
}

/* Reads one layer into the scan. */
static bool
scan_layer (LayersScan *scan, int dir_fd, const char *path, uint32_t layer, const GPtrArray *disks,
            GError **error)
{
  g_autofree char *layer_path = NULL;
  g_autoptr (GError) local = NULL;
  g_autoptr (GPtrArray) names = NULL;
  g_autoptr (StoreRecord) record = NULL;
  DIR_AUTO_FD fd = -1;
  DirKind kind;

  fd = layers_open (dir_fd, path, layer, &layer_path, error);
  names = fd >= 0 ? list_files (fd, layer_path, error) : NULL;
  if (names == NULL || !dir_kind (fd, RECORD_TEMPORARY, layer_path, &kind, error))
    return false;
  record = record_load (fd, layer_path, layer, disks, &local);
  if (record != NULL)
    {
      scan->greatest = MAX (scan->greatest, MAX (layer, record->id));
      g_ptr_array_add (scan->records, g_steal_pointer (&record));
      if (kind == DIR_FILE)
        g_array_append_val (scan->with_temporary, layer);
      return true;
    }
  if (fail_code (local) != ENOENT)
    {
      g_propagate_error (error, g_steal_pointer (&local));
      return false;
    }
  scan->greatest = MAX (scan->greatest, layer);
  g_array_append_val (scan->half_made, layer);
  return true;
}

static int
compare_layers (gconstpointer a, gconstpointer b)
{
  const StoreRecord *x = *(const StoreRecord *const *) a;
  const StoreRecord *y = *(const StoreRecord *const *) b;

  return x->layer < y->layer ? -1 : x->layer > y->layer;
}

/* Takes the older one of two layers with the same snapshot out of the records.
 *
 * That is what a merge leaves that was interrupted between the record of the newer
 * layer, which is complete then, and the removal of the older one. A merge is of
 * neighbours, and a snapshot keeps the moment of its freeze: anything else is not from a merge, and
 * nothing says which of the two is right. */
static bool
drop_superseded (LayersScan *scan, const char *path, GError **error)
{
  uint32_t dropped = 0;

  for (guint i = 0; i + 1 < scan->records->len;)
    {
      const StoreRecord *older = scan->records->pdata[i];
      const StoreRecord *newer = scan->records->pdata[i + 1];

      if (older->id == 0 || older->id != newer->id)
        {
          i++;
          continue;
        }
      if (older->created != newer->created || older->id == dropped)
        return fail (error, EUCLEAN, "'%s' is damaged: layers %u and %u are both snapshot %u", path,
                     older->layer, newer->layer, older->id);
      dropped = older->id;
      g_array_append_val (scan->superseded, older->layer);
      g_ptr_array_remove_index (scan->records, i);
    }
  return true;
}

static bool
check_unique (const LayersScan *scan, const char *path, GError **error)
{
  g_autoptr (GHashTable) names = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr (GHashTable) ids = g_hash_table_new (NULL, NULL);

  for (guint i = 0; i < scan->records->len; i++)
    {
      const StoreRecord *record = scan->records->pdata[i];

      if (record->id == 0)
        continue;
      if (!g_hash_table_add (ids, GUINT_TO_POINTER (record->id)))
        return fail (error, EUCLEAN,
                     "'%s' is damaged: layer %u and an older one are both snapshot %u", path,
                     record->layer, record->id);
      if (!g_hash_table_add (names, record->name))
        return fail (error, EUCLEAN, "'%s' is damaged: two snapshots have the name '%s'", path,
                     record->name);
    }
  return true;
}

LayersScan *
layers_scan (int dir_fd, const char *path, const GPtrArray *disks, GError **error)
{
  g_autoptr (LayersScan) scan = scan_new ();
  g_autoptr (GPtrArray) names = dir_list (dir_fd, path, error);

  if (names == NULL)
    return NULL;
  for (guint i = 0; i < names->len; i++)
    {
      uint32_t layer;

      if (!parse_name (names->pdata[i], path, &layer, error)
          || !scan_layer (scan, dir_fd, path, layer, disks, error))
        return NULL;
    }
  g_ptr_array_sort (scan->records, compare_layers);
  if (!drop_superseded (scan, path, error) || !check_unique (scan, path, error))
    return NULL;
  return g_steal_pointer (&scan);
}

bool
layers_remove_leftovers (int dir_fd, const char *path, const LayersScan *scan, GError **error)
{
  for (guint i = 0; i < scan->half_made->len; i++)
    if (!layers_remove (dir_fd, path, g_array_index (scan->half_made, uint32_t, i), error))
      return false;
  for (guint i = 0; i < scan->with_temporary->len; i++)
    {
      g_autofree char *layer_path = NULL;
      DIR_AUTO_FD fd = layers_open (dir_fd, path, g_array_index (scan->with_temporary, uint32_t, i),
                                    &layer_path, error);

      if (fd < 0 || !dir_unlink (fd, RECORD_TEMPORARY, layer_path, error))
        return false;
    }
  return true;
}
