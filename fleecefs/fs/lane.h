/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lanes: how many of the threads requests of one kind may hold at a time.
 *
 * All requests share the threads of the loop, and a request that waits for a disk holds one. The
 * store's disk can be slower than the guest's, or hang: then reads of snapshots, and writes that
 * have to copy old blocks first, would soon hold all threads, and a guest's read, or a write of
 * what is saved long since, would wait for a disk that it does not need. So these two kinds have
 * a lane each, with a limit; and one has what only asks how full the store is, which a file system
 * over a network may leave unanswered:
 *
 *     in the lane < limit     the request is worked on by the thread that it came on
 *     otherwise               it is copied and queued, and the thread goes back to the loop
 *     a request is done       its thread takes the next from the queue before it leaves
 *
 * So requests of a lane are served in the order in which they came, and while one waits in the
 * queue as many threads as the limit says are in the lane: none is forgotten, and when the loop
 * has joined its threads the queue is empty. The queue's memory is limited too; a request that
 * finds no room, also no memory, is worked on at once, beyond the limit.
 *
 * Making, dropping and renaming snapshots need no lane: the kernel holds the lock of the directory
 * during each, so there is one of them at a time.
 */
#pragma once

#include "fs/fuse-compat.h"

#include <stddef.h>

typedef struct _Lane Lane;
typedef struct _LaneRequest LaneRequest;

/* A request: what its handler was called with, as far as its kind needs it. */
struct _LaneRequest
{
  void (*run) (const LaneRequest *request); /* answers it */
  fuse_req_t req;
  fuse_ino_t number;
  struct fuse_file_info *fi; /* may be NULL */
  size_t size;
  off_t offset;
  int whence;
  int mask;         /* of access */
  unsigned what;    /* a TreeOwn, or the index of an extended attribute */
  const char *data; /* size bytes, or NULL */
};

/* A lane of limit threads, at least 1. */
Lane *lane_new (unsigned limit);
/* Frees it; nobody is in it. NULL is allowed. */
void lane_free (Lane *lane);

/* Answers the request, now or later. What it points to is copied if need be. Blocks for as long
 * as run() does, and for what is in the queue then. */
void lane_run (Lane *lane, const LaneRequest *request);
