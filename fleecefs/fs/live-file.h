/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The live file: what the guest has open. Reads and writes go to the disk (cow/disk.h)
 * and never through the kernel's page cache, so that a freeze misses nothing.
 *
 * The handlers reply, unless said otherwise. The node's number says which disk; the handle has the
 * O_SYNC and O_DSYNC of the open file.
 */
#pragma once

#include "cow/disk.h"
#include "fs/fuse-compat.h"

/* Opens, always for direct I/O and parallel writes. */
void live_file_open (fuse_req_t req, struct fuse_file_info *fi);

/* read, write: short only at the end of the disk, or after an error that came when
 * some bytes were done. Direct I/O shows a short count to the caller. */
void live_file_read (fuse_req_t req, Disk *disk, size_t size, off_t offset);
/* Does not reply: returns what was written, or -errno. fi->flags: the file's, and of O_SYNC and
 * O_DSYNC the call's as well (RWF_SYNC, RWF_DSYNC, a mount with sync). With these it is on disk. */
ssize_t live_file_write (Disk *disk, const char *buffer, size_t size, off_t offset,
                         const struct fuse_file_info *fi);

/* The same for a write that has nothing to copy or to wait for; else -EAGAIN, with nothing
 * written. */
ssize_t live_file_write_saved (Disk *disk, const char *buffer, size_t size, off_t offset,
                               const struct fuse_file_info *fi);

/* fsync and fdatasync. */
void live_file_fsync (fuse_req_t req, Disk *disk, bool data_only);

/* fallocate: grow, punch, zero; old bytes are preserved first. Of a file that is open with O_SYNC
 * or O_DSYNC it is on disk then, as in other file systems. */
void live_file_fallocate (fuse_req_t req, Disk *disk, int mode, off_t offset, off_t length,
                          const struct fuse_file_info *fi);

/* SEEK_DATA and SEEK_HOLE, as the source has them. */
void live_file_lseek (fuse_req_t req, Disk *disk, off_t offset, int whence);

/* truncate; every other attribute is the image's: -EPERM. Returns 0 or -errno and
 * does not reply: the caller sends the new attributes. */
int live_file_set (Disk *disk, const struct stat *wanted, int to_set);
