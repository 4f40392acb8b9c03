/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Errors that came from below, as callers of the file system may see them.
 *
 * The images, the store and the file systems that they are on fail with any errno. Many would say
 * something untrue of the file that the caller has open: ENOENT of a deleted store is not a missing
 * snapshot, ENOSPC is no error of a read, ENOTCONN would mean that fleecefs is dead, and ENOSYS
 * the kernel remembers for ever. So each kind of caller gets the errors that the manual promises,
 * and EIO for the rest. What fleecefs itself refuses (EEXIST, EROFS, ...) does not come here.
 *
 *     of                  passes                                                  else
 *     ERRNO_OF_VERB       EDQUOT EFBIG EMFILE ENFILE ENOMEM ENOSPC EROFS          EIO
 *     ERRNO_OF_LIVE       EDQUOT EFBIG EINVAL ENOMEM ENOSPC ENXIO EOPNOTSUPP      EIO
 *                         EPERM EROFS ETIMEDOUT
 *     ERRNO_OF_SNAPSHOT   EINVAL ENOMEM ENXIO                                     EIO
 *     ERRNO_OF_REPLY      all below 512 but EAGAIN, EINTR and ENOSYS              EIO; ENOSYS:
 *                                                                                 EOPNOTSUPP
 */
#pragma once

#include <stdint.h>

typedef enum
{
  ERRNO_OF_VERB,     /* mkdir, rmdir, mv, statfs: an error of the store */
  ERRNO_OF_LIVE,     /* what a guest does: an error of the image */
  ERRNO_OF_SNAPSHOT, /* reading and seeking in a snapshot: an error of either */
  ERRNO_OF_REPLY, /* any answer to the kernel: it knows no errno from 512 on, and would wait on */
} ErrnoOf;

/* A result that is negative is -errno, and mapped; else it is returned as it is. */
int64_t errno_map (ErrnoOf of, int64_t result);
