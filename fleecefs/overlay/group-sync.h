/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One fdatasync() for many writers.
 *
 * A sync under way may have begun before a caller's write, so it does not count for
 * that caller: the next one does. Whoever finds none under way runs it, for all who
 * wait. So a thread waits for two syncs at most, and the disk makes no more of them than
 * when there is one writer.
 *
 * After an error nobody can say what is on disk: the kernel forgets the failed pages, and the
 * next fdatasync() would succeed. So the first error stays.
 */
#pragma once

#include "base/lock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct
{
  int fd; /* constant */
  Lock lock;
  pthread_cond_t ended;
  bool running;              /* under lock; so are the others */
  uint64_t n_begun, n_ended; /* syncs */
  atomic_int error;          /* 0 or -errno; read by anybody */
} GroupSync;

/* For the file behind fd, which stays the caller's. */
void group_sync_init (GroupSync *group, int fd);
/* Nobody is in it. */
void group_sync_clear (GroupSync *group);

/* On return 0, what was written to the file before the call is on disk. Blocks. -errno: it may
 * not be, now and ever after. */
int group_sync (GroupSync *group);

/* The error that stays, or 0: of the syncs that have ended, and of others' writes through to the
 * disk, which must tell what they got. */
int group_sync_error (GroupSync *group);
void group_sync_fail (GroupSync *group, int error);
