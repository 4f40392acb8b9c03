/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/keyfile.h"

#include "base/fail.h"
#include "base/io.h"
#include "base/trust.h"
#include "store/dir.h"
#include "store/spare.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* More than 4095 disks with the longest paths need. */
#define SIZE_LIMIT (64 << 20)
#define LINES_LIMIT 65536 /* a line takes a few hundred bytes of memory */

#define LAST_LINE "[end]\n"

Keyfile *
keyfile_new (const char *path)
{
  Keyfile *file = g_new0 (Keyfile, 1);

  file->keys = g_key_file_new ();
  file->path = g_strdup (path);
  return file;
}

void
keyfile_free (Keyfile *file)
{
  if (file == NULL)
    return;
  g_key_file_free (file->keys);
  g_free (file->path);
  g_free (file);
}

static int
open_regular (int dir_fd, const char *name, const char *path, struct stat *st, GError **error)
{
  /* O_NONBLOCK: a FIFO in the place of the file must not hold us. */
  DIR_AUTO_FD fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  int result = -1;

  if (fd < 0 && errno == ELOOP)
    fail (error, EUCLEAN, "'%s' is damaged: it is a symbolic link", path);
  else if (fd < 0)
    fail_errno (error, errno, "cannot open '%s'", path);
  else if (fstat (fd, st) != 0)
    fail_errno (error, errno, "cannot look at '%s'", path);
  else if (!S_ISREG (st->st_mode))
    fail (error, EUCLEAN, "'%s' is damaged: it is not a regular file", path);
  else if (st->st_size > SIZE_LIMIT)
    fail (error, EUCLEAN, "'%s' is damaged: it is larger than %d bytes", path, SIZE_LIMIT);
  else if (trust_check (st, path, error))
    {
      result = fd;
      fd = -1;
    }
  return result;
}

/* The contents with a NUL added; *out_length does not count that. */
static char *
read_text (int dir_fd, const char *name, const char *path, size_t *out_length, GError **error)
{
  g_autofree char *text = NULL;
  DIR_AUTO_FD fd = -1;
  struct stat st;
  ssize_t length;

  fd = open_regular (dir_fd, name, path, &st, error);
  if (fd < 0)
    return NULL;
  text = g_malloc ((size_t) st.st_size + 1);
  length = io_read (fd, text, (size_t) st.st_size, 0);
  if (length < 0)
    {
      fail_errno (error, (int) -length, "cannot read '%s'", path);
      return NULL;
    }
  text[length] = '\0';
  *out_length = (size_t) length;
  return g_steal_pointer (&text);
}

static size_t
count_lines (const char *text)
{
  size_t n = 0;

  while ((text = strchr (text, '\n')) != NULL)
    text++, n++;
  return n;
}

/* The number of lines that open a group, counted as GKeyFile's parser sees lines. */
static size_t
count_group_lines (const char *text)
{
  size_t n = 0;

  while (*text != '\0')
    {
      text += strspn (text, " \t\r\v\f");
      n += *text == '[';
      text += strcspn (text, "\n");
      text += *text == '\n';
    }
  return n;
}

/* The whole file. What was the spare gets a line of spaces before the last one, up to the size that
 * every spare has, so that no space has to be given back. */
static char *
whole_text (const char *keys, bool is_spare)
{
  size_t length = strlen (keys) + strlen ("\n" LAST_LINE);
  size_t missing = is_spare && length < SPARE_SIZE_LEAST ? SPARE_SIZE_LEAST - length : 0;

  return g_strdup_printf ("%s%*s%s" LAST_LINE, keys, (int) missing, "", is_spare ? "\n" : "");
}

/* Takes away what whole_text() added, so that what a save adds to the end is before it again. */
static bool
take_last_line (char *text, size_t *length)
{
  size_t end;

  if (!g_str_has_suffix (text, "\n" LAST_LINE))
    return false;
  *length -= strlen (LAST_LINE);
  end = *length - 1;
  while (end > 0 && text[end - 1] == ' ')
    end--;
  if (end > 0 && text[end - 1] == '\n')
    *length = end;
  text[*length] = '\0';
  return true;
}

Keyfile *
keyfile_load (int dir_fd, const char *name, const char *path, GError **error)
{
  g_autoptr (Keyfile) file = keyfile_new (path);
  g_autofree char *text = NULL;
  g_auto (GStrv) groups = NULL;
  size_t length, n_groups;

  text = read_text (dir_fd, name, path, &length, error);
  if (text == NULL)
    return NULL;
  if (strlen (text) == length)
    file->has_end = take_last_line (text, &length);
  if (count_lines (text) > LINES_LIMIT)
    {
      fail (error, EUCLEAN, "'%s' is damaged: it has over %d lines", path, LINES_LIMIT);
      return NULL;
    }
  if (strlen (text) != length
      || !g_key_file_load_from_data (file->keys, text, length, G_KEY_FILE_KEEP_COMMENTS, NULL))
    {
      fail (error, EUCLEAN, "'%s' is damaged: it is not a list of groups and keys", path);
      return NULL;
    }
  groups = g_key_file_get_groups (file->keys, &n_groups);
  if (count_group_lines (text) != n_groups)
    {
      fail (error, EUCLEAN, "'%s' is damaged: a group is there twice", path);
      return NULL;
    }
  return g_steal_pointer (&file);
}

bool
keyfile_check_end (const Keyfile *file, GError **error)
{
  return file->has_end
         || fail (error, EUCLEAN, "'%s' is damaged: it was cut, its last line is not [end]",
                  file->path);
}

/* The temporary file, new or out of the spare. */
static int
open_temporary (const Keyfile *file, int dir_fd, const char *temporary, int spare_fd,
                GError **error)
{
  int fd;

  if (unlinkat (dir_fd, temporary, 0) != 0 && errno != ENOENT)
    {
      fail_errno (error, errno, "cannot remove the old '%s.new'", file->path);
      return -1;
    }
  fd = spare_fd >= 0
           ? spare_lend (spare_fd, dir_fd, temporary)
           : openat (dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    fail_errno (error, spare_fd >= 0 ? ENOSPC : errno, "cannot create '%s.new'", file->path);
  return fd;
}

/* Writes the temporary file; it may be there in part after a failure. */
static bool
write_temporary (const Keyfile *file, const char *text, int dir_fd, const char *temporary,
                 bool durable, int spare_fd, GError **error)
{
  DIR_AUTO_FD fd = -1;
  int result;

  fd = open_temporary (file, dir_fd, temporary, spare_fd, error);
  if (fd < 0)
    return false;
  result = spare_fd >= 0 ? 0 : spare_prepare (fd);
  if (result == 0)
    result = io_write_full (fd, text, strlen (text), 0);
  if (result == 0 && spare_fd >= 0)
    result = io_truncate (fd, strlen (text));
  if (result != 0)
    return fail_errno (error, -result, "cannot write '%s.new'", file->path);
  result = durable ? io_sync (fd, false) : 0;
  if (result != 0)
    return fail_errno (error, -result, "cannot sync '%s.new'", file->path);
  /* Network file systems report a full disk or quota only here. */
  result = close (fd);
  fd = -1;
  if (result != 0 && errno != EINTR)
    return fail_errno (error, errno, "cannot write '%s.new'", file->path);
  return true;
}

/* After a put_back(): *error says what failed before. Who asked for the new file will be told
 * that nothing has changed, so nothing may have: what the next start reads would otherwise be what
 * nobody was promised. Returns false. */
static bool
note_put_back (const Keyfile *file, bool ok, GError **error)
{
  if (ok)
    return false;
  g_clear_error (error);
  return fail (error, ENOTRECOVERABLE,
               "cannot sync '%s', nor put back what it was; mount again to see what it is",
               file->path);
}

/* The sync after a replacement has failed: has the old text, NULL if there was no file, in its
 * place again. */
static bool
put_back (const Keyfile *file, const char *old_text, int dir_fd, const char *temporary,
          const char *name)
{
  if (old_text == NULL)
    return unlinkat (dir_fd, name, 0) == 0;
  return write_temporary (file, old_text, dir_fd, temporary, false, -1, NULL)
         && renameat (dir_fd, temporary, dir_fd, name) == 0;
}

/* Replaces the file by the temporary one, which was the spare. The old file becomes the next spare,
 * so that there always is one, however full the file system. */
static bool
replace_by_spare (const Keyfile *file, int dir_fd, const char *temporary, const char *name,
                  bool durable, int spare_fd, GError **error)
{
  bool kept = renameat2 (dir_fd, temporary, dir_fd, name, RENAME_EXCHANGE) == 0;

  if (!kept && renameat (dir_fd, temporary, dir_fd, name) != 0)
    {
      fail_errno (error, errno, "cannot replace '%s'", file->path);
      unlinkat (dir_fd, temporary, 0);
      return false;
    }
  /* Before the old one is written to again. */
  if (durable && !dir_sync (dir_fd, file->path, error))
    return note_put_back (file, kept && renameat (dir_fd, temporary, dir_fd, name) == 0, error);
  if (kept)
    spare_return (spare_fd, dir_fd, temporary);
  return true;
}

static bool
is_full (int errno_value)
{
  return errno_value == ENOSPC || errno_value == EDQUOT;
}

/* Replaces the file by the temporary one. */
static bool
replace (const Keyfile *file, int dir_fd, const char *temporary, const char *name, int spare_fd,
         GError **error)
{
  int result = renameat (dir_fd, temporary, dir_fd, name) == 0 ? 0 : errno;

  if (spare_fd >= 0 && is_full (result) && spare_give_back (spare_fd))
    result = renameat (dir_fd, temporary, dir_fd, name) == 0 ? 0 : errno;
  return result == 0 || fail_errno (error, result, "cannot replace '%s'", file->path);
}

/* What the file holds now; *out is NULL when there is none. */
static bool
read_old (const Keyfile *file, int dir_fd, const char *name, char **out, GError **error)
{
  g_autoptr (GError) local = NULL;
  size_t length;

  *out = read_text (dir_fd, name, file->path, &length, &local);
  if (*out != NULL || fail_code (local) == ENOENT)
    return true;
  g_propagate_error (error, g_steal_pointer (&local));
  return false;
}

bool
keyfile_save (const Keyfile *file, int dir_fd, const char *name, bool durable, int spare_fd,
              GError **error)
{
  g_autofree char *temporary = g_strconcat (name, ".new", NULL);
  g_autofree char *keys = g_key_file_to_data (file->keys, NULL, NULL);
  g_autofree char *text = whole_text (keys, false);
  g_autofree char *old_text = NULL;
  g_autoptr (GError) local = NULL;
  bool ok;

  if (durable && !read_old (file, dir_fd, name, &old_text, error))
    return false;
  ok = write_temporary (file, text, dir_fd, temporary, durable, -1, &local);
  if (!ok && spare_fd >= 0 && is_full (fail_code (local)))
    {
      g_autofree char *spare_text = whole_text (keys, true);

      if (write_temporary (file, spare_text, dir_fd, temporary, durable, spare_fd, NULL))
        return replace_by_spare (file, dir_fd, temporary, name, durable, spare_fd, error);
      if (spare_give_back (spare_fd))
        {
          g_clear_error (&local);
          ok = write_temporary (file, text, dir_fd, temporary, durable, -1, &local);
        }
    }
  if (!ok || !replace (file, dir_fd, temporary, name, spare_fd, &local))
    {
      g_propagate_error (error, g_steal_pointer (&local));
      unlinkat (dir_fd, temporary, 0);
      if (spare_fd >= 0)
        spare_keep (spare_fd);
      return false;
    }
  if (!durable || dir_sync (dir_fd, file->path, &local))
    return true;
  note_put_back (file, put_back (file, old_text, dir_fd, temporary, name), &local);
  g_propagate_error (error, g_steal_pointer (&local));
  return false;
}

bool
keyfile_has (const Keyfile *file, const char *group, const char *key)
{
  return g_key_file_has_key (file->keys, group, key, NULL);
}

static bool
require (const Keyfile *file, const char *group, const char *key, GError **error)
{
  return keyfile_has (file, group, key)
         || fail (error, EUCLEAN, "'%s' is damaged: it has no key '%s' in [%s]", file->path, key,
                  group);
}

bool
keyfile_fail_value (const Keyfile *file, const char *group, const char *key, const char *expected,
                    GError **error)
{
  return fail (error, EUCLEAN, "'%s' is damaged: key '%s' in [%s] is not %s", file->path, key,
               group, expected);
}

bool
keyfile_get_unsigned (const Keyfile *file, const char *group, const char *key, uint64_t min,
                      uint64_t max, uint64_t *out, GError **error)
{
  g_autofree char *value = NULL;
  g_autofree char *expected = NULL;
  guint64 number;

  if (!require (file, group, key, error))
    return false;
  value = g_key_file_get_value (file->keys, group, key, NULL);
  if (value != NULL && g_ascii_string_to_unsigned (value, 10, min, max, &number, NULL))
    {
      *out = number;
      return true;
    }
  expected = g_strdup_printf ("a number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
                              (guint64) min, (guint64) max);
  return keyfile_fail_value (file, group, key, expected, error);
}

bool
keyfile_get_signed (const Keyfile *file, const char *group, const char *key, int64_t *out,
                    GError **error)
{
  g_autofree char *value = NULL;
  gint64 number;

  if (!require (file, group, key, error))
    return false;
  value = g_key_file_get_value (file->keys, group, key, NULL);
  if (value == NULL || !g_ascii_string_to_signed (value, 10, G_MININT64, G_MAXINT64, &number, NULL))
    return keyfile_fail_value (file, group, key, "a number of 64 bits", error);
  *out = number;
  return true;
}

char *
keyfile_get_text (const Keyfile *file, const char *group, const char *key, GError **error)
{
  g_autofree char *value = NULL;
  g_autoptr (GError) local = NULL;

  if (!require (file, group, key, error))
    return NULL;
  /* A wrong escape is an error and there is a value all the same. */
  value = g_key_file_get_string (file->keys, group, key, &local);
  if (local == NULL)
    return g_steal_pointer (&value);
  keyfile_fail_value (file, group, key, "UTF-8 text", error);
  return NULL;
}
