/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/mountpoint.h"

#include "base/fail.h"

#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

/* Of the error that a look at the mountpoint ended with. */
static bool
fail_look (GError **error, int errnum, const char *path)
{
  if (errnum == ENOENT)
    return fail (error, errnum, "there is no mountpoint '%s'; make it by mkdir", path);
  if (errnum == ENOTDIR)
    return fail (error, errnum, "the mountpoint '%s' is not a directory; give an empty one", path);
  if (errnum == ENOTCONN)
    return fail (error, errnum, "the program that served '%s' is gone; run umount '%s' first", path,
                 path);
  return fail_errno (error, errnum, "cannot look at the mountpoint '%s'", path);
}

char *
mountpoint_resolve (const char *path, GError **error)
{
  struct stat st;
  struct statfs fs;
  char *resolved;

  /* Of a mount whose program is gone the kernel may still know the attributes. */
  if (stat (path, &st) != 0 || statfs (path, &fs) != 0)
    {
      fail_look (error, errno, path);
      return NULL;
    }
  if (!S_ISDIR (st.st_mode))
    {
      fail_look (error, ENOTDIR, path);
      return NULL;
    }
  resolved = realpath (path, NULL);
  if (resolved == NULL)
    fail_look (error, errno, path);
  return resolved;
}

/* True when path is the root of a FUSE mount, not only a directory in one. */
static bool
is_fuse_root (const char *path, const struct stat *st)
{
  g_autofree char *above = g_build_filename (path, "..", NULL);
  struct statfs fs;
  struct stat st_above;

  return statfs (path, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC
         && (stat (above, &st_above) != 0 || st_above.st_dev != st->st_dev);
}

/* Sets *out to the name of something in there, or to NULL. */
static bool
find_entry (const char *path, char **out, GError **error)
{
  DIR *dir = opendir (path);
  struct dirent *entry;
  int errnum;

  if (dir == NULL)
    return fail_errno (error, errno, "cannot list the mountpoint '%s'", path);
  *out = NULL;
  while (errno = 0, *out == NULL && (entry = readdir (dir)) != NULL)
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      *out = g_strdup (entry->d_name);
  errnum = errno;
  closedir (dir);
  return errnum == 0 || fail_errno (error, errnum, "cannot list the mountpoint '%s'", path);
}

bool
mountpoint_check_free (const char *path, struct stat *out, GError **error)
{
  g_autofree char *entry = NULL;

  if (stat (path, out) != 0)
    return fail_look (error, errno, path);
  if (is_fuse_root (path, out))
    return fail (error, EBUSY, "a file system is mounted on '%s'; run umount '%s' first", path,
                 path);
  if (!find_entry (path, &entry, error))
    return false;
  if (entry == NULL)
    return true;
  return fail (error, ENOTEMPTY,
               "the mountpoint '%s' is not empty; give an empty directory, or move '%s' out of it",
               path, entry);
}
