/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attributes of nodes, and how long the kernel may keep them.
 *
 * A disk's files have owner and mode of the image; in snapshots without the write
 * bits. All else belongs to the user who mounts. Times: of a live file those of
 * the last write (write-clock.h), of a frozen file those of the last write before
 * the freeze, of a snapshot's directory that of the freeze.
 *
 * What cannot change, or only by a verb that the kernel itself sends, is kept for
 * a day. Never kept: the attributes of a live file, and the name of a file in .latest,
 * which leads to another node after the next mkdir.
 */
#pragma once

#include "fs/tree.h"

/* Number, attributes and times to keep them. Returns 0 or -errno (the image cannot be
 * looked at); then *out is of no use. */
int entry_fill (const Tree *tree, const TreeNode *node, struct fuse_entry_param *out);
