/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/seal.h"

#include "base/fail.h"
#include "base/io.h"
#include "base/trust.h"
#include "store/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WHOLE '+'
#define BROKEN '-'

struct _Seal
{
  int dir_fd;
  int fd;
  char *name;
  bool durable;
};

const char *
seal_name (const Seal *seal)
{
  return seal->name;
}

void
seal_free (Seal *seal)
{
  if (seal == NULL)
    return;
  dir_close (&seal->fd);
  dir_close (&seal->dir_fd);
  g_free (seal->name);
  g_free (seal);
}

void
seal_discard (Seal *seal)
{
  if (seal != NULL)
    unlinkat (seal->dir_fd, seal->name, 0);
  seal_free (seal);
}

static int
open_directory (const char *directory, GError **error)
{
  if (g_mkdir_with_parents (directory, 0700) != 0)
    {
      fail_errno (error, errno, "cannot create '%s'", directory);
      return -1;
    }
  return dir_open (AT_FDCWD, directory, directory, error);
}

/* Also the names of the directories that may have been made on the way. */
static bool
sync_new (const Seal *seal, const char *directory, GError **error)
{
  DIR_AUTO_FD above = openat (seal->dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int r = io_sync (seal->fd, false);

  if (r < 0)
    return fail_errno (error, -r, "cannot sync '%s/%s'", directory, seal->name);
  return dir_sync (seal->dir_fd, directory, error)
         && (above < 0 || dir_sync (above, directory, error));
}

static bool
make_file (Seal *seal, const char *directory, GError **error)
{
  char bytes[SEAL_SIZE];
  int r;

  seal->name = g_uuid_string_random ();
  seal->fd
      = openat (seal->dir_fd, seal->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (seal->fd < 0)
    return fail_errno (error, errno, "cannot create '%s/%s'", directory, seal->name);
  memset (bytes, WHOLE, sizeof bytes);
  r = flock (seal->fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
  if (r == 0)
    r = io_write_full (seal->fd, bytes, sizeof bytes, 0);
  if (r < 0)
    return fail_errno (error, -r, "cannot write '%s/%s'", directory, seal->name);
  return !seal->durable || sync_new (seal, directory, error);
}

Seal *
seal_new (const char *directory, bool durable, GError **error)
{
  Seal *seal = g_new0 (Seal, 1);

  seal->durable = durable;
  seal->fd = -1;
  seal->dir_fd = open_directory (directory, error);
  if (seal->dir_fd >= 0 && make_file (seal, directory, error))
    return seal;
  if (seal->fd >= 0)
    seal_discard (seal);
  else
    seal_free (seal);
  return NULL;
}

static int
change (Seal *seal, uint32_t number, char to)
{
  int r = io_write_full (seal->fd, &to, 1, number);

  return r == 0 && seal->durable ? io_sync (seal->fd, true) : r;
}

int
seal_break (Seal *seal, uint32_t number)
{
  return change (seal, number, BROKEN);
}

int
seal_mend (Seal *seal, uint32_t number)
{
  return change (seal, number, WHOLE);
}

/* Opens it and takes its lock; -1 on failure. */
static int
open_old (const char *directory, const char *name, GError **error)
{
  g_autofree char *path = g_build_filename (directory, name, NULL);
  DIR_AUTO_FD dir_fd = dir_open (AT_FDCWD, directory, directory, error);
  DIR_AUTO_FD fd = -1;
  struct stat st;
  int result;

  if (dir_fd < 0)
    return -1;
  fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) != 0)
    {
      fail_errno (error, errno, "cannot open '%s'", path);
      return -1;
    }
  if (!trust_check (&st, path, error))
    return -1;
  if (flock (fd, LOCK_EX | LOCK_NB) != 0)
    {
      fail_errno (error, errno, "cannot lock '%s'", path);
      return -1;
    }
  result = fd;
  fd = -1;
  return result;
}

/* Of what can be said for sure: none is there, or it is not ours. */
static char *
doubt_of (const char *directory, const char *name, const GError *error)
{
  switch (fail_code (error))
    {
    case EWOULDBLOCK:
      return g_strdup ("the store is a copy of one that is in use");
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EPERM:
    case EUCLEAN:
      return g_strdup_printf ("it was not closed, and its seal '%s/%s', which has to say that no "
                              "old block was lost, is gone",
                              directory, name);
    default:
      return NULL;
    }
}

bool
seal_ask (const char *directory, const char *name, uint32_t number, char **out_doubt,
          GError **error)
{
  g_autoptr (GError) local = NULL;
  char byte = BROKEN;
  DIR_AUTO_FD fd = -1;
  ssize_t n;

  *out_doubt = NULL;
  if (directory == NULL)
    {
      *out_doubt = g_strdup ("it was not closed, and there is no directory with its seal");
      return true;
    }
  fd = open_old (directory, name, &local);
  if (fd < 0)
    {
      *out_doubt = doubt_of (directory, name, local);
      if (*out_doubt == NULL)
        g_propagate_error (error, g_steal_pointer (&local));
      return *out_doubt != NULL;
    }
  n = io_read (fd, &byte, 1, number);
  if (n < 0)
    return fail_errno (error, (int) -n, "cannot read '%s/%s'", directory, name);
  if (n == 0 || byte != WHOLE)
    *out_doubt = g_strdup ("the seal of the store is broken: old blocks could not be kept, and the "
                           "store did not take down whose");
  return true;
}

void
seal_remove (const char *directory, const char *name)
{
  DIR_AUTO_FD fd = -1;

  if (directory == NULL)
    return;
  fd = open_old (directory, name, NULL);
  if (fd >= 0)
    {
      g_autofree char *path = g_build_filename (directory, name, NULL);

      unlink (path);
    }
}
