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
 *     there is room, and nobody waits for it   the thread that the request came on enters, works
 *                                              on it, leaves, and answers it
 *     otherwise                                the request is copied and queued, and the thread
 *                                              goes back to the loop
 *     a request was answered                   its thread enters with the next of the queue
 *
 * A thread leaves before it answers, for an answer waits for no disk, but wakes the caller, who
 * often takes the processor from it: a lane would be full of threads that have nothing to do there.
 *
 * So requests of a lane are begun in the order in which they came. None is forgotten: it was
 * queued when the lane was full, or behind another, and each of those inside looks at the queue
 * when it has answered; when the loop has joined its threads the queue is empty. The queue's memory
 * is limited too; a request that finds no room, also no memory, is worked on at once, outside.
 *
 * Making, dropping and renaming snapshots need no lane: the kernel holds the lock of the directory
 * during each, so there is one of them at a time.
 */
#pragma once

#include "fs/fuse-compat.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct _Lane Lane;
typedef struct _LaneRequest LaneRequest;

/* A request: what its handler was called with, as far as its kind needs it. */
struct _LaneRequest
{
  int64_t (*work) (const LaneRequest *request);                /* all that may wait for a disk */
  void (*answer) (const LaneRequest *request, int64_t result); /* of work; NULL: it has answered */
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

/* Is nobody in it? For the moment. */
bool lane_is_idle (Lane *lane);

/* Answers the request, now or later. What it points to is copied if need be. Blocks for as long
 * as work() and answer() do, and for what is in the queue then. */
void lane_run (Lane *lane, const LaneRequest *request);
