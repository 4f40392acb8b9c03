/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk's file in a snapshot: read-only, immutable, cached by the kernel.
 *
 * The handle of an open holds a reference to the snapshot: a file that is open
 * stays readable after rmdir, until its last close. The handlers reply, unless said otherwise.
 */
#pragma once

#include "fs/tree.h"

/* Opens for reading; else EROFS. EIO when it is broken: so a backup leaves the file out, where
 * after a failed read some programs fill up with zeros. The page cache of earlier opens is kept; an
 * open with O_DIRECT goes by it. */
void snapshot_file_open (fuse_req_t req, const TreeNode *node, struct fuse_file_info *fi);

/* Bytes of the instant, short only at the end of the file; -EIO when the snapshot is
 * or became broken. Does not reply. The buffer has SCRATCH_SIZE bytes; NULL: -ENOMEM. */
ssize_t snapshot_file_read (void *buffer, size_t size, off_t offset,
                            const struct fuse_file_info *fi);

/* SEEK_DATA and SEEK_HOLE: an offset or -errno, and no reply. */
int64_t snapshot_file_lseek (off_t offset, int whence, const struct fuse_file_info *fi);

/* Drops the reference. */
void snapshot_file_release (fuse_req_t req, struct fuse_file_info *fi);
