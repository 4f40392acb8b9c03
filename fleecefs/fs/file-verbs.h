/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of open files: each looks at the node's number and hands on to the file's
 * kind (live-file.h, snapshot-file.h, status.h). Prototypes are those of
 * struct fuse_lowlevel_ops; the user data of the session is a Verbs (verbs.h).
 */
#pragma once

#include "fs/fuse-compat.h"

/* ESTALE for a snapshot that is gone, EROFS and EPERM for writing where it is refused. */
void file_verbs_open (fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi);

/* See the file's kind. Handles are what the kind's open put into fi->fh. */
void file_verbs_read (fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                      struct fuse_file_info *fi);
void file_verbs_write (fuse_req_t req, fuse_ino_t number, const char *buffer, size_t size,
                       off_t offset, struct fuse_file_info *fi);
void file_verbs_release (fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi);
void file_verbs_fallocate (fuse_req_t req, fuse_ino_t number, int mode, off_t offset, off_t length,
                           struct fuse_file_info *fi);
void file_verbs_lseek (fuse_req_t req, fuse_ino_t number, off_t offset, int whence,
                       struct fuse_file_info *fi);

/* Syncs the source of a live file; success for files that cannot be written. */
void file_verbs_fsync (fuse_req_t req, fuse_ino_t number, int data_only, struct fuse_file_info *fi);
