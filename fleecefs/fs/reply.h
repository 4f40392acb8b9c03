/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one place that turns -errno into a FUSE reply.
 *
 * A handler replies exactly once, last, and with no lock held: after the reply, and even
 * before the call returns, the request, the handle and the node may be gone; so no bytes
 * of the handle's may be sent, only the thread's own. Results come as in the rest of
 * the program: 0 or a count, or -errno. All of these return 0, or -errno when
 * the kernel did not take the reply (the caller was interrupted); only an open
 * has to look at that, because then no release will follow.
 */
#pragma once

#include "base/errno-map.h"
#include "base/lock.h"
#include "fs/fuse-compat.h"

#include <errno.h>
#include <stdint.h>
#include <sys/types.h>

/* The errno of a reply, which is one that the kernel takes. Handlers map what came from below
 * (errno-map.h). */
static inline int
reply_errno (int64_t result)
{
  return (int) -errno_map (ERRNO_OF_REPLY, result);
}

/* Done (0) or refused (-errno). */
static inline int
reply_result (fuse_req_t req, int result)
{
  lock_order_check_none ();
  return fuse_reply_err (req, reply_errno (result));
}

/* result bytes of buffer, or -errno. */
static inline int
reply_bytes (fuse_req_t req, const void *buffer, ssize_t result)
{
  lock_order_check_none ();
  return result < 0 ? fuse_reply_err (req, reply_errno (result))
                    : fuse_reply_buf (req, buffer, (size_t) result);
}

/* The number of bytes written, or -errno. */
static inline int
reply_written (fuse_req_t req, ssize_t result)
{
  lock_order_check_none ();
  return result < 0 ? fuse_reply_err (req, reply_errno (result))
                    : fuse_reply_write (req, (size_t) result);
}

/* An offset found by lseek, or -errno. */
static inline int
reply_offset (fuse_req_t req, int64_t result)
{
  lock_order_check_none ();
  return result < 0 ? fuse_reply_err (req, reply_errno (result)) : fuse_reply_lseek (req, result);
}

/* The entry if result is 0, or -errno. */
static inline int
reply_entry (fuse_req_t req, int result, const struct fuse_entry_param *entry)
{
  lock_order_check_none ();
  return result < 0 ? fuse_reply_err (req, reply_errno (result)) : fuse_reply_entry (req, entry);
}

/* The attributes of entry if result is 0, or -errno. */
static inline int
reply_attributes (fuse_req_t req, int result, const struct fuse_entry_param *entry)
{
  lock_order_check_none ();
  return result < 0 ? fuse_reply_err (req, reply_errno (result))
                    : fuse_reply_attr (req, &entry->attr, entry->attr_timeout);
}
