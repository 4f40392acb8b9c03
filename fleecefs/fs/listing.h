/* SPDX-License-Identifier: GPL-2.0-or-later */
/* readdir. Offsets given to the kernel are positions of the tree plus two, for "."
 * and "..": at the root they follow from snapshot ids, so a listing goes on rightly
 * while snapshots come and go. Names of the file system's own are not listed. */
#pragma once

#include "fs/fuse-compat.h"

/* The readdir handler. */
void listing_read (fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                   struct fuse_file_info *fi);
