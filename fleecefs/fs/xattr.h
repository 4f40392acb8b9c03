/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extended attributes. They are on snapshots' directories and files, and are not listed, so that no
 * backup program copies them:
 *
 *     user.fleecefs.state           "ok", or "broken: REASON"
 *     user.fleecefs.created         the moment of the snapshot: 2026-11-22T10:00:00Z
 *     user.fleecefs.overlay-bytes   what its overlays take in the store, in bytes
 *     user.fleecefs.source-size     the size that the disk had at that moment, in bytes
 *
 * A directory answers for all disks together, a file for its own.
 *
 * The handlers exist even where they only refuse: an ENOSYS would be remembered
 * by the kernel.
 */
#pragma once

#include "fs/fuse-compat.h"

/* The value, ENODATA for any other name or node, ERANGE when it does not fit. */
void xattr_get (fuse_req_t req, fuse_ino_t number, const char *name, size_t size);

/* The empty list. */
void xattr_list (fuse_req_t req, fuse_ino_t number, size_t size);

/* Refused: EROFS in snapshots, EPERM elsewhere. */
void xattr_set (fuse_req_t req, fuse_ino_t number, const char *name, const char *value, size_t size,
                int flags);
void xattr_remove (fuse_req_t req, fuse_ino_t number, const char *name);
