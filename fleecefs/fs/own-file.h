/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files of .fleecefs: texts that tell how it is. The text is made when the file is opened, and
 * that open keeps it: what is read in pieces still belongs together. */
#pragma once

#include "fs/tree.h"

/* The name in .fleecefs. */
const char *own_file_name (TreeOwn own);
/* The file of that name; false when there is none. */
bool own_file_find (const char *name, TreeOwn *out);

/* The text as it is now. */
GString *own_file_text (const Tree *tree, TreeOwn own);

/* The handlers of the files; they reply. Opening for writing is refused with EPERM. */
void own_file_open (fuse_req_t req, const Tree *tree, TreeOwn own, struct fuse_file_info *fi);
void own_file_read (fuse_req_t req, size_t size, off_t offset, struct fuse_file_info *fi);
void own_file_release (fuse_req_t req, struct fuse_file_info *fi);
