/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/io.h"

#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define IO_PARTS_MAX 128 /* in one call */

ssize_t
io_read (int fd, void *buffer, size_t length, uint64_t offset)
{
  size_t done = 0;

  lock_order_check_io ();
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

/* As pwrite(2). A kernel, or a file system, that cannot write a part to disk by itself gets the
 * whole file synced. */
static ssize_t
write_once (int fd, const void *buffer, size_t length, uint64_t offset, IoSync sync)
{
  ssize_t n;
  int r = 0;

#ifdef RWF_DSYNC
  const struct iovec part = { (void *) buffer, length };

  if (sync != IO_SYNC_NONE)
    {
      n = pwritev2 (fd, &part, 1, (off_t) offset, sync == IO_SYNC_ALL ? RWF_SYNC : RWF_DSYNC);
      if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
        return n;
    }
#endif
  n = pwrite (fd, buffer, length, (off_t) offset);
  if (n > 0 && sync != IO_SYNC_NONE)
    r = io_sync (fd, sync == IO_SYNC_DATA);
  if (r == 0)
    return n;
  errno = -r;
  return -1;
}

/* Writes what it can; *out_errno is the error that stopped it, or 0. */
static size_t
write_some (int fd, const void *buffer, size_t length, uint64_t offset, IoSync sync, int *out_errno)
{
  size_t done = 0;

  lock_order_check_io ();
  *out_errno = 0;
  while (done < length && *out_errno == 0)
    {
      ssize_t n = write_once (fd, (const char *) buffer + done, length - done, offset + done, sync);

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
io_write_sync (int fd, const void *buffer, size_t length, uint64_t offset, IoSync sync)
{
  int errnum;
  size_t done = write_some (fd, buffer, length, offset, sync, &errnum);

  return done == 0 && errnum != 0 ? -errnum : (ssize_t) done;
}

ssize_t
io_write (int fd, const void *buffer, size_t length, uint64_t offset)
{
  return io_write_sync (fd, buffer, length, offset, IO_SYNC_NONE);
}

int
io_write_full (int fd, const void *buffer, size_t length, uint64_t offset)
{
  int errnum;

  write_some (fd, buffer, length, offset, IO_SYNC_NONE, &errnum);
  return -errnum;
}

/* The parts behind the first `done` bytes of them. */
static int
parts_left (const struct iovec *parts, int n, size_t done, struct iovec *out)
{
  int n_left = 0;

  for (int i = 0; i < n; i++)
    {
      size_t skip = done < parts[i].iov_len ? done : parts[i].iov_len;

      done -= skip;
      if (skip < parts[i].iov_len && n_left < IO_PARTS_MAX)
        out[n_left++]
            = (struct iovec){ (char *) parts[i].iov_base + skip, parts[i].iov_len - skip };
    }
  return n_left;
}

int
io_write_parts (int fd, const struct iovec *parts, int n, uint64_t offset)
{
  struct iovec left[IO_PARTS_MAX];
  size_t done = 0;
  int n_left;

  lock_order_check_io ();
  while ((n_left = parts_left (parts, n, done, left)) > 0)
    {
      ssize_t r = pwritev (fd, left, n_left, (off_t) (offset + done));

      if (r > 0)
        done += (size_t) r;
      else if (r == 0)
        return -EIO;
      else if (errno != EINTR)
        return -errno;
    }
  return 0;
}

/* Waiting for a range that has no pages: what is left of it is the look at the error. (At a larger
 * offset 32-bit kernels do not look.) Where the call cannot be made there is no answer. */
int
io_write_back_error (int fd)
{
  if (sync_file_range (fd, INT64_C (1) << 43, 1, SYNC_FILE_RANGE_WAIT_BEFORE) == 0
      || errno == ENOSYS || errno == EPERM || errno == EINVAL || errno == ESPIPE)
    return 0;
  return -errno;
}

uint64_t
io_birth_time (int fd)
{
  struct statx st;

  if (statx (fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) != 0 || (st.stx_mask & STATX_BTIME) == 0)
    return 0;
  return (uint64_t) st.stx_btime.tv_sec * UINT64_C (1000000000) + st.stx_btime.tv_nsec;
}

int
io_sync (int fd, bool data_only)
{
  lock_order_check_io ();
  while ((data_only ? fdatasync (fd) : fsync (fd)) != 0)
    if (errno != EINTR)
      return -errno;
  return 0;
}

int
io_truncate (int fd, uint64_t size)
{
  lock_order_check_io ();
  while (ftruncate (fd, (off_t) size) != 0)
    if (errno != EINTR)
      return -errno;
  return 0;
}
