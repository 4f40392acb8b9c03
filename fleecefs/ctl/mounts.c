/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/mounts.h"

#include "base/fail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOUNTINFO "/proc/self/mountinfo"
#define TYPE "fuse.fleecefs"

/* Fields of a line. After them come optional ones, a "-", and the type. */
enum
{
  FIELD_ROOT = 3,
  FIELD_MOUNTPOINT = 4,
  FIELD_OPTIONAL = 6,
};

/* One line: a new string, and whether a whole fleecefs is mounted there (not a part of it, as a
 * bind mount of one file is). NULL when the line is not understood. */
static char *
parse_line (const char *line, gboolean *out_is_ours)
{
  g_auto (GStrv) fields = g_strsplit (line, " ", -1);
  guint n = g_strv_length (fields), dash = FIELD_OPTIONAL;

  while (dash < n && strcmp (fields[dash], "-") != 0)
    dash++;
  if (dash + 1 >= n)
    return NULL;
  *out_is_ours = strcmp (fields[dash + 1], TYPE) == 0 && strcmp (fields[FIELD_ROOT], "/") == 0;
  return g_strcompress (fields[FIELD_MOUNTPOINT]); /* \040 for a space, and so on */
}

static GStrv
read_lines (GError **error)
{
  g_autofree char *text = NULL;

  return g_file_get_contents (MOUNTINFO, &text, NULL, error) ? g_strsplit (text, "\n", -1) : NULL;
}

GPtrArray *
mounts_all (GError **error)
{
  g_autoptr (GPtrArray) mounts = g_ptr_array_new_with_free_func (g_free);
  g_auto (GStrv) lines = read_lines (error);

  if (lines == NULL)
    return NULL;
  for (char **line = lines; *line != NULL; line++)
    {
      gboolean is_ours;
      char *mountpoint = parse_line (*line, &is_ours);
      guint index;

      if (mountpoint == NULL)
        continue;
      /* A later mount on the same directory hides the one before. */
      if (g_ptr_array_find_with_equal_func (mounts, mountpoint, g_str_equal, &index))
        g_ptr_array_remove_index (mounts, index);
      if (is_ours)
        g_ptr_array_add (mounts, mountpoint);
      else
        g_free (mountpoint);
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

char *
mounts_of (const char *path, GError **error)
{
  g_auto (GStrv) lines = NULL;
  g_autofree char *best = NULL;
  char *real = realpath (path, NULL);

  if (real == NULL)
    {
      fail_errno (error, errno, "cannot look at '%s'", path);
      return NULL;
    }
  lines = read_lines (error);
  for (char **line = lines; line != NULL && *line != NULL; line++)
    {
      gboolean is_ours;
      g_autofree char *mountpoint = parse_line (*line, &is_ours);

      if (mountpoint != NULL && is_in (real, mountpoint)
          && (best == NULL || strlen (mountpoint) > strlen (best)))
        {
          g_free (best);
          best = g_steal_pointer (&mountpoint);
        }
    }
  free (real);
  if (best == NULL && lines != NULL)
    fail (error, ENOENT, "'%s' is in no mount", path);
  return g_steal_pointer (&best);
}
