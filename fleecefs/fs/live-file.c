/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/live-file.h"

#include "base/errno-map.h"
#include "base/scratch.h"
#include "fs/reply.h"

#include <fcntl.h>
#include <glib.h>
#include <unistd.h>

void
live_file_open (fuse_req_t req, struct fuse_file_info *fi)
{
  fi->fh = (uint64_t) (fi->flags & O_SYNC); /* fallocate tells no flags */
  fuse_compat_reply_open_live (req, fi);    /* nothing to undo if it is not taken */
}

void
live_file_read (fuse_req_t req, Disk *disk, size_t size, off_t offset)
{
  void *buffer = scratch_get (SCRATCH_REPLY);

  if (buffer == NULL || offset < 0)
    reply_result (req, buffer == NULL ? -ENOMEM : -EINVAL);
  else
    reply_bytes (req, buffer,
                 errno_map (ERRNO_OF_LIVE,
                            disk_read (disk, buffer, MIN (size, SCRATCH_SIZE), (uint64_t) offset)));
}

/* O_SYNC has the bit of O_DSYNC, too. */
static IoSync
sync_of (int flags)
{
  if ((flags & O_SYNC) == O_SYNC)
    return IO_SYNC_ALL;
  return (flags & O_DSYNC) != 0 ? IO_SYNC_DATA : IO_SYNC_NONE;
}

ssize_t
live_file_write (Disk *disk, const char *buffer, size_t size, off_t offset,
                 const struct fuse_file_info *fi)
{
  return offset < 0 ? -EINVAL
                    : disk_write (disk, buffer, size, (uint64_t) offset, sync_of (fi->flags));
}

ssize_t
live_file_write_saved (Disk *disk, const char *buffer, size_t size, off_t offset,
                       const struct fuse_file_info *fi)
{
  return offset < 0 ? -EINVAL
                    : disk_write_saved (disk, buffer, size, (uint64_t) offset, sync_of (fi->flags));
}

/* The end of what was done to the image. */
static void
reply_image (fuse_req_t req, int result)
{
  reply_result (req, (int) errno_map (ERRNO_OF_LIVE, result));
}

void
live_file_fsync (fuse_req_t req, Disk *disk, bool data_only)
{
  reply_image (req, disk_flush (disk, data_only));
}

void
live_file_fallocate (fuse_req_t req, Disk *disk, int mode, off_t offset, off_t length,
                     const struct fuse_file_info *fi)
{
  IoSync sync = sync_of ((int) fi->fh);
  int result;

  if (offset < 0 || length <= 0)
    result = -EINVAL;
  else
    result = disk_allocate (disk, mode, (uint64_t) offset, (uint64_t) length);
  if (result == 0 && sync != IO_SYNC_NONE)
    result = disk_flush (disk, sync == IO_SYNC_DATA);
  reply_image (req, result);
}

static int64_t
seek (Source *source, uint64_t offset, SourceExtent wanted)
{
  uint64_t size, at;
  int r = source_size (source, &size);

  if (r < 0)
    return r;
  at = offset < size ? source_find (source, offset, wanted) : size;
  if (offset >= size || (at >= size && wanted == SOURCE_DATA))
    return -ENXIO;
  return (int64_t) MIN (at, size); /* the end counts as a hole */
}

void
live_file_lseek (fuse_req_t req, Disk *disk, off_t offset, int whence)
{
  if (whence != SEEK_DATA && whence != SEEK_HOLE)
    reply_result (req, -EINVAL);
  else if (offset < 0)
    reply_result (req, -ENXIO);
  else
    reply_offset (
        req, errno_map (ERRNO_OF_LIVE, seek (disk_source (disk), (uint64_t) offset,
                                             whence == SEEK_DATA ? SOURCE_DATA : SOURCE_HOLE)));
}

int
live_file_set (Disk *disk, const struct stat *wanted, int to_set)
{
  if (to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
    return -EPERM;
  if (to_set & FUSE_SET_ATTR_SIZE) /* the kernel may add the times that truncate(2) sets */
    return wanted->st_size < 0
               ? -EINVAL
               : (int) errno_map (ERRNO_OF_LIVE, disk_truncate (disk, (uint64_t) wanted->st_size));
  if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME))
    return -EPERM;
  return 0;
}
