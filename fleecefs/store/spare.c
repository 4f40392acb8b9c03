/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/spare.h"

#include "base/io.h"
#include "store/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A manifest of some hundred disks; and one of a few, for want of more. */
static const int sizes[] = { 64 << 10, 4 << 10 };

/* Is it one that we made, with its space? */
static bool
is_spare (const struct stat *st)
{
  return S_ISREG (st->st_mode) && st->st_nlink == 1 && st->st_uid == geteuid ()
         && st->st_blocks * 512 >= sizes[1] && st->st_size <= sizes[0];
}

/* Zeros where the file system takes no space in advance. */
static int
take_space (int fd, int size)
{
  static const uint8_t zeros[4096];
  int r;

  do
    r = fallocate (fd, 0, 0, size) == 0 ? 0 : -errno;
  while (r == -EINTR);
  if (r != -EOPNOTSUPP && r != -ENOSYS)
    return r;
  r = 0;
  for (int at = 0; at < size && r == 0; at += (int) sizeof zeros)
    r = io_write_full (fd, zeros, sizeof zeros, (uint64_t) at);
  return r;
}

/* Of what was a file of the manifest before. */
static void
enlarge (int dir_fd)
{
  DIR_AUTO_FD fd = openat (dir_fd, SPARE_FILE, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

  if (fd >= 0)
    take_space (fd, sizes[0]);
}

bool
spare_keep (int dir_fd)
{
  DIR_AUTO_FD fd = -1;
  struct stat st;

  if (fstatat (dir_fd, SPARE_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0)
    {
      if (is_spare (&st))
        {
          if (st.st_blocks * 512 < sizes[0])
            enlarge (dir_fd);
          return true;
        }
      unlinkat (dir_fd, SPARE_FILE, 0);
    }
  fd = openat (dir_fd, SPARE_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  for (unsigned i = 0; fd >= 0 && i < sizeof sizes / sizeof sizes[0]; i++)
    {
      if (take_space (fd, sizes[i]) == 0 && io_sync (fd, false) == 0)
        return true;
      if (io_truncate (fd, 0) != 0)
        break;
    }
  if (fd >= 0)
    unlinkat (dir_fd, SPARE_FILE, 0);
  return false;
}

int
spare_lend (int dir_fd, int to_dir_fd, const char *name)
{
  DIR_AUTO_FD fd = openat (dir_fd, SPARE_FILE, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct stat st;
  int result;

  if (fd < 0 || fstat (fd, &st) != 0 || !is_spare (&st)
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
