/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/dir.h"

#include "base/fail.h"
#include "base/io.h"
#include "base/trust.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void
dir_close (int *fd)
{
  int saved = errno;

  if (*fd >= 0)
    close (*fd);
  *fd = -1;
  errno = saved;
}

static bool
check_trust (int fd, const char *path, GError **error)
{
  struct stat st;

  if (fstat (fd, &st) != 0)
    return fail_errno (error, errno, "cannot look at '%s'", path);
  return trust_check (&st, path, error);
}

int
dir_open (int dir_fd, const char *name, const char *path, GError **error)
{
  int fd = openat (dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

  if (fd >= 0 && !check_trust (fd, path, error))
    dir_close (&fd);
  else if (fd >= 0)
    return fd;
  else if (errno == ENOTDIR || errno == ELOOP)
    fail (error, EUCLEAN, "'%s' is damaged: it is not a directory", path);
  else
    fail_errno (error, errno, "cannot open '%s'", path);
  return -1;
}

bool
dir_kind (int dir_fd, const char *name, const char *path, DirKind *out_kind, GError **error)
{
  struct stat st;

  if (fstatat (dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
    {
      g_autofree char *shown = NULL;
      int errnum = errno;

      *out_kind = DIR_MISSING;
      if (errnum == ENOENT)
        return true;
      shown = dir_printable (name);
      return fail_errno (error, errnum, "cannot look at '%s/%s'", path, shown);
    }
  *out_kind = S_ISREG (st.st_mode) ? DIR_FILE : S_ISDIR (st.st_mode) ? DIR_DIRECTORY : DIR_OTHER;
  return true;
}

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

/* Adds the names of the stream; 0 or the errno value of readdir(). */
static int
read_names (DIR *stream, GPtrArray *names)
{
  const struct dirent *entry;

  while (errno = 0, (entry = readdir (stream)) != NULL)
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      g_ptr_array_add (names, g_strdup (entry->d_name));
  return errno;
}

GPtrArray *
dir_list (int dir_fd, const char *path, GError **error)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  DIR_AUTO_FD fd = -1;
  DIR *stream;
  int errnum;

  /* A new description: the read position of dir_fd is shared with its duplicates. */
  fd = openat (dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  stream = fd >= 0 ? fdopendir (fd) : NULL;
  if (stream == NULL)
    {
      fail_errno (error, errno, "cannot read the directory '%s'", path);
      return NULL;
    }
  fd = -1; /* the stream's now */
  errnum = read_names (stream, names);
  closedir (stream);
  if (errnum != 0)
    {
      fail_errno (error, errnum, "cannot read the directory '%s'", path);
      return NULL;
    }
  g_ptr_array_sort (names, compare_names);
  return g_steal_pointer (&names);
}

bool
dir_unlink (int dir_fd, const char *name, const char *path, GError **error)
{
  g_autofree char *shown = NULL;
  int errnum;

  if (unlinkat (dir_fd, name, 0) == 0 || errno == ENOENT)
    return true;
  errnum = errno;
  shown = dir_printable (name);
  return fail_errno (error, errnum, "cannot remove '%s/%s'", path, shown);
}

bool
dir_sync (int dir_fd, const char *path, GError **error)
{
  /* EINVAL: a file system that has no sync of directories and needs none. */
  int r = io_sync (dir_fd, false);

  if (r == 0 || r == -EINVAL)
    return true;
  return fail_errno (error, -r, "cannot sync '%s'", path);
}

char *
dir_printable (const char *name)
{
  return g_strescape (name, NULL);
}
