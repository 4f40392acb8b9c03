/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/io.h"

#include <errno.h>
#include <unistd.h>

ssize_t
io_read (int fd, void *buffer, size_t length, uint64_t offset)
{
  size_t done = 0;

  while (done < length)
    {
      ssize_t n = pread (fd, (char *) buffer + done, length - done, (off_t) (offset + done));

      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        return -errno;
      if (n == 0)
        break;
      done += (size_t) n;
    }
  return (ssize_t) done;
}

int
io_read_full (int fd, void *buffer, size_t length, uint64_t offset)
{
  ssize_t n = io_read (fd, buffer, length, offset);

  if (n < 0)
    return (int) n;
  return (size_t) n == length ? 0 : -EIO;
}

/* Writes what it can; *out_errno is the error that stopped it, or 0. */
static size_t
write_some (int fd, const void *buffer, size_t length, uint64_t offset, int *out_errno)
{
  size_t done = 0;

  *out_errno = 0;
  while (done < length && *out_errno == 0)
    {
      ssize_t n = pwrite (fd, (const char *) buffer + done, length - done, (off_t) (offset + done));

      if (n > 0)
        done += (size_t) n;
      else if (n == 0)
        *out_errno = EIO; /* cannot happen on files and block devices; never loop on it */
      else if (errno != EINTR)
        *out_errno = errno;
    }
  return done;
}

ssize_t
io_write (int fd, const void *buffer, size_t length, uint64_t offset)
{
  int errnum;
  size_t done = write_some (fd, buffer, length, offset, &errnum);

  return done == 0 && errnum != 0 ? -errnum : (ssize_t) done;
}

int
io_write_full (int fd, const void *buffer, size_t length, uint64_t offset)
{
  int errnum;

  write_some (fd, buffer, length, offset, &errnum);
  return -errnum;
}

int
io_sync (int fd, bool data_only)
{
  while ((data_only ? fdatasync (fd) : fsync (fd)) != 0)
    if (errno != EINTR)
      return -errno;
  return 0;
}

int
io_truncate (int fd, uint64_t size)
{
  while (ftruncate (fd, (off_t) size) != 0)
    if (errno != EINTR)
      return -errno;
  return 0;
}
