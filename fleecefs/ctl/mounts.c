/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/mounts.h"

#include "base/fail.h"
#include "base/mount-table.h"
#include "ctl/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

gboolean
mounts_is_ours (const MountEntry *entry)
{
  return strcmp (entry->type, "fuse.fleecefs") == 0;
}

/* All of its file system, not a part by itself. */
static gboolean
is_whole (const MountEntry *entry)
{
  return strcmp (entry->root, "/") == 0;
}

GPtrArray *
mounts_all (GError **error)
{
  g_autoptr (GPtrArray) mounts = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GPtrArray) table = mount_table_read (error);

  if (table == NULL)
    return NULL;
  for (guint i = 0; i < table->len; i++)
    {
      const MountEntry *entry = table->pdata[i];

      /* A later mount on the same directory hides it. */
      if (mounts_is_ours (entry) && is_whole (entry)
          && mount_table_top (table, entry->point) == entry)
        g_ptr_array_add (mounts, g_strdup (entry->point));
    }
  return g_steal_pointer (&mounts);
}

static gboolean
is_in (const char *path, const char *directory)
{
  gsize length = strlen (directory);

  if (strcmp (directory, "/") == 0)
    return TRUE;
  return strncmp (path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* The mount that the path, absolute and resolved, is in, or NULL. */
static const MountEntry *
find_mount (const GPtrArray *table, const char *path)
{
  const MountEntry *best = NULL;

  for (guint i = 0; i < table->len; i++)
    {
      const MountEntry *entry = table->pdata[i];

      if (is_in (path, entry->point)
          && (best == NULL || strlen (entry->point) >= strlen (best->point)))
        best = entry;
    }
  return best;
}

static GString *
resolve (const char *path, GError **error)
{
  char *real = realpath (path, NULL);
  GString *text = real != NULL ? g_string_new (real) : NULL;

  if (real == NULL)
    fail_errno (error, errno, "cannot look at '%s'", path);
  free (real);
  return text;
}

char *
mounts_of (const char *path, GError **error)
{
  g_autoptr (GString) real = answer_get (resolve, path, error);
  g_autoptr (GPtrArray) table = NULL;
  const MountEntry *mount = NULL, *whole = NULL;

  if (real == NULL)
    return NULL;
  table = mount_table_read (error);
  if (table != NULL)
    mount = find_mount (table, real->str);
  if (table != NULL && mount == NULL)
    fail (error, ENOENT, "'%s' is in no mount", path);
  if (mount == NULL)
    return NULL;
  if (mounts_is_ours (mount) && !is_whole (mount))
    whole = mount_table_whole (table, mount->device);
  return g_strdup (whole != NULL ? whole->point : mount->point);
}

/* Its last part as it is, and what is above it resolved; NULL without such a part. */
static char *
resolve_above (const char *path)
{
  g_autofree char *name = g_path_get_basename (path);
  g_autofree char *above = g_path_get_dirname (path);
  g_autoptr (GString) real = NULL;

  if (strcmp (name, ".") == 0 || strcmp (name, "..") == 0 || strcmp (name, "/") == 0)
    return NULL;
  real = answer_get (resolve, above, NULL);
  return real != NULL ? g_build_filename (real->str, name, NULL) : NULL;
}

char *
mounts_point (const char *path, GError **error)
{
  g_autofree char *point = resolve_above (path);
  g_autoptr (GPtrArray) table = mount_table_read (error);
  g_autoptr (GString) real = NULL;

  if (table == NULL)
    return NULL;
  if (point != NULL && mount_table_top (table, point) != NULL)
    return g_steal_pointer (&point);
  real = answer_get (resolve, path, error);
  if (real == NULL)
    return NULL;
  if (mount_table_top (table, real->str) != NULL)
    return g_strdup (real->str);
  fail (error, EINVAL, "nothing is mounted on '%s'", path);
  return NULL;
}
