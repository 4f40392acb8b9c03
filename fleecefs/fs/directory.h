/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names: what a lookup finds and what a listing shows.
 *
 * The root finds the named snapshots and the file system's own names, and lists only
 * the snapshots, so that a copy of the mount never takes the moving disk along.
 * .live and the snapshots have a file for each disk; .latest has those of the newest
 * snapshot, none while there is none.
 *
 * A name of a request is looked up in the set and never becomes a part of a path: in the store a
 * snapshot is a number, its name a value in a file there, and an overlay is called after its disk,
 * by the name on the command line. base/name.h keeps slashes and leading dots out of all of them.
 */
#pragma once

#include "fs/tree.h"

/* The node of that name in a directory. "." is the node itself, and may be a file: so the kernel
 * finds what a file handle (NFS) is of; ".." is the directory above. Returns 0, -ENOENT, -ESTALE or
 * -ENOTDIR. */
int directory_lookup (const Tree *tree, fuse_ino_t parent, const char *name, TreeNode *out);

/* The next node that is listed in a directory. *position is 0 at the start and is moved
 * past the node; it stays right while the set changes. *out_name is a new string.
 * Returns false at the end. */
bool directory_next (const Tree *tree, const TreeNode *directory, uint64_t *position, TreeNode *out,
                     char **out_name);

/* True for the names at the root that are the file system's own. */
bool directory_is_own_name (const char *name);
