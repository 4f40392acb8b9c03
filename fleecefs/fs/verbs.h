/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of the tree: the table of FUSE handlers, and those of names and
 * attributes (design.md, section 1). Open files are in file-verbs.h, readdir in
 * listing.h, extended attributes in xattr.h.
 *
 * Verbs that the file system does not have (create, unlink, link, ...) have handlers
 * that say why not. Left out on purpose: forget (tree.h), flush (nothing to do at a
 * close; the kernel then stops asking), locks (the kernel does them alone).
 */
#pragma once

#include "fs/lane.h"
#include "fs/page-cache.h"
#include "fs/tree.h"

/* The user data of the session. Filled in before the first request is read. */
typedef struct
{
  Tree *tree;
  unsigned threads;  /* of the loop */
  unsigned max_read; /* of the mount option, 0: none; init must say the same */
  int expects_ring;  /* atomic; see ring.h */
  Lane *copies;      /* writes that have to copy first */
  Lane *frozen;      /* reads and seeks of snapshots */
  Lane *looks;       /* what asks the store's file system, for status, sizes, free space */
  PageCache *page_cache;
} Verbs;

/* The handlers, for fuse_session_new() with a Verbs as user data. */
extern const struct fuse_lowlevel_ops verbs_operations;

/* The tree of the request's session. */
Tree *verbs_tree (fuse_req_t req);

/* Answers the request in the lane of looks, by request->run. */
void verbs_look (const LaneRequest *request);
