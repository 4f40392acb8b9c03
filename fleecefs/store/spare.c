/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/spare.h"

#include "base/io.h"
#include "store/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SIZE (64 << 10)    /* a manifest of some hundred disks */
#define SIZE_XFS (2 << 20) /* more than a rename reserves, also when a part cannot be had again */

/* How much there should be in this file system. */
static int
wanted_size (int dir_fd)
{
  struct statfs st;

  return fstatfs (dir_fd, &st) == 0 && st.f_type == XFS_SUPER_MAGIC ? SIZE_XFS : SIZE;
}

/* Is it a file that we made? */
static bool
is_own (const struct stat *st)
{
  return S_ISREG (st->st_mode) && st->st_nlink == 1 && st->st_uid == geteuid ()
         && st->st_size <= SIZE_XFS;
}

static bool
has_space (const struct stat *st, int size)
{
  return st->st_blocks * 512 >= size;
}

/* Returns 0, -EOPNOTSUPP where the file system takes no space in advance, or another -errno. */
static int
allocate (int fd, int mode, int offset, int length)
{
  int r;

  do
    r = fallocate (fd, mode, offset, length) == 0 ? 0 : -errno;
  while (r == -EINTR);
  return r == -ENOSYS ? -EOPNOTSUPP : r;
}

int
spare_prepare (int fd)
{
  int r = allocate (fd, FALLOC_FL_KEEP_SIZE, 0, SPARE_SIZE_LEAST);

  return r == -ENOSPC || r == -EDQUOT ? r : 0;
}

/* Zeros where the file system takes no space in advance. */
static int
take_range (int fd, int offset, int length)
{
  static const uint8_t zeros[4096];
  int r = allocate (fd, 0, offset, length);

  if (r != -EOPNOTSUPP)
    return r;
  r = 0;
  for (int at = 0; at < length && r == 0; at += (int) sizeof zeros)
    r = io_write_full (fd, zeros, sizeof zeros, (uint64_t) (offset + at));
  return r;
}

/* As much as there is. */
static void
take_space (int fd, int size)
{
  int at = 0, step = size;

  while (at < size && step >= SPARE_SIZE_LEAST)
    {
      if (take_range (fd, at, MIN (step, size - at)) == 0)
        at += step;
      else
        step /= 2;
    }
}

bool
spare_keep (int dir_fd)
{
  int size = wanted_size (dir_fd);
  DIR_AUTO_FD fd = -1;
  struct stat st;

  if (fstatat (dir_fd, SPARE_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0)
    {
      if (is_own (&st) && has_space (&st, size))
        return true;
      if (is_own (&st))
        fd = openat (dir_fd, SPARE_FILE, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
      else
        unlinkat (dir_fd, SPARE_FILE, 0);
    }
  if (fd < 0)
    fd = openat (dir_fd, SPARE_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return false;
  take_space (fd, size);
  if (fstat (fd, &st) == 0 && has_space (&st, SPARE_SIZE_LEAST) && io_sync (fd, false) == 0)
    return true;
  unlinkat (dir_fd, SPARE_FILE, 0);
  return false;
}

int
spare_lend (int dir_fd, int to_dir_fd, const char *name)
{
  DIR_AUTO_FD fd = openat (dir_fd, SPARE_FILE, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct stat st;
  int result;

  if (fd < 0 || fstat (fd, &st) != 0 || !is_own (&st) || !has_space (&st, SPARE_SIZE_LEAST)
      || renameat (dir_fd, SPARE_FILE, to_dir_fd, name) != 0)
    return -1;
  result = fd;
  fd = -1;
  return result;
}

void
spare_return (int dir_fd, int from_dir_fd, const char *name)
{
  if (renameat (from_dir_fd, name, dir_fd, SPARE_FILE) != 0)
    unlinkat (from_dir_fd, name, 0);
}

bool
spare_give_back (int dir_fd)
{
  DIR_AUTO_FD fd = openat (dir_fd, SPARE_FILE, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct stat st;

  return fd >= 0 && fstat (fd, &st) == 0 && is_own (&st) && has_space (&st, SPARE_SIZE_LEAST)
         && io_truncate (fd, 0) == 0;
}
