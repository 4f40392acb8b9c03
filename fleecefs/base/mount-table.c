/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mount-table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

static void
entry_free (void *data)
{
  MountEntry *entry = data;

  g_free (entry->root);
  g_free (entry->point);
  g_free (entry->type);
  g_free (entry);
}

/* Of the options of a file system. */
static uid_t
parse_owner (const char *options)
{
  g_auto (GStrv) words = g_strsplit (options, ",", -1);

  for (char **word = words; *word != NULL; word++)
    if (g_str_has_prefix (*word, "user_id="))
      return (uid_t) strtoul (*word + strlen ("user_id="), NULL, 10);
  return 0;
}

/* "36 35 98:0 /root /point options [optional...] - type source options"; NULL for anything else. */
static MountEntry *
parse_line (const char *line)
{
  g_auto (GStrv) words = g_strsplit (line, " ", -1);
  unsigned n = g_strv_length (words), separator = 6;
  unsigned long major, minor;
  MountEntry *entry;
  char *end;

  while (separator < n && strcmp (words[separator], "-") != 0)
    separator++;
  if (separator + 1 >= n)
    return NULL;
  major = strtoul (words[2], &end, 10);
  minor = *end == ':' ? strtoul (end + 1, NULL, 10) : 0;
  entry = g_new0 (MountEntry, 1);
  entry->device = makedev ((unsigned) major, (unsigned) minor);
  entry->root = g_strcompress (words[3]); /* blanks and the like are octal numbers */
  entry->point = g_strcompress (words[4]);
  entry->type = g_strdup (words[separator + 1]);
  entry->owner = separator + 3 < n ? parse_owner (words[separator + 3]) : 0;
  return entry;
}

GPtrArray *
mount_table_read (GError **error)
{
  GPtrArray *table;
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;

  if (!g_file_get_contents (MOUNT_TABLE_FILE, &text, NULL, error))
    return NULL;
  table = g_ptr_array_new_with_free_func (entry_free);
  lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line != NULL; line++)
    {
      MountEntry *entry = parse_line (*line);

      if (entry != NULL)
        g_ptr_array_add (table, entry);
    }
  return table;
}

const MountEntry *
mount_table_top (const GPtrArray *table, const char *path)
{
  for (guint i = table->len; i-- > 0;)
    {
      const MountEntry *entry = table->pdata[i];

      if (strcmp (entry->point, path) == 0)
        return entry;
    }
  return NULL;
}

const MountEntry *
mount_table_whole (const GPtrArray *table, dev_t device)
{
  for (guint i = 0; i < table->len; i++)
    {
      const MountEntry *entry = table->pdata[i];

      if (entry->device == device && strcmp (entry->root, "/") == 0)
        return entry;
    }
  return NULL;
}
