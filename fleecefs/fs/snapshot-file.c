/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/snapshot-file.h"

#include "base/scratch.h"
#include "fs/reply.h"
#include "fs/verbs.h"

#include <unistd.h>

typedef struct
{
  Snapshot *snapshot;
  unsigned disk;
} Handle;

static Handle *
handle_of (const struct fuse_file_info *fi)
{
  return (Handle *) (uintptr_t) fi->fh;
}

static void
handle_free (Handle *handle)
{
  snapshot_unref (handle->snapshot);
  g_free (handle);
}

static bool
is_broken (const TreeNode *node)
{
  g_autofree char *reason = snapshot_dup_disk_broken (node->snapshot, node->disk);

  return reason != NULL;
}

void
snapshot_file_open (fuse_req_t req, const TreeNode *node, struct fuse_file_info *fi)
{
  const Verbs *verbs = fuse_req_userdata (req);
  Handle *handle;

  if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC) != 0)
    {
      reply_result (req, -EROFS);
      return;
    }
  if (is_broken (node))
    {
      reply_result (req, -EIO);
      return;
    }
  handle = g_try_new (Handle, 1);
  if (handle == NULL)
    {
      reply_result (req, -ENOMEM);
      return;
    }
  *handle = (Handle){ .snapshot = snapshot_ref (node->snapshot), .disk = node->disk };
  fi->fh = (uintptr_t) handle;
  /* With O_DIRECT it is the kernel's shorter way to the same. */
  fi->direct_io = (fi->flags & O_DIRECT) != 0 || !page_cache_is_kept (verbs->page_cache);
  fi->keep_cache = 1;                /* when it breaks, session_drop_pages() */
  if (fuse_reply_open (req, fi) < 0) /* then no release will come */
    handle_free (handle);
}

ssize_t
snapshot_file_read (void *buffer, size_t size, off_t offset, const struct fuse_file_info *fi)
{
  const Handle *handle = handle_of (fi);

  /* The kernel takes a short reply to a cached read for the end of the file and fills
   * up with zeros. So a request that is too large (init asked for none) must fail. */
  if (size > SCRATCH_SIZE || offset < 0)
    return -EIO;
  if (buffer == NULL)
    return -ENOMEM;
  return snapshot_read (handle->snapshot, handle->disk, buffer, size, (uint64_t) offset);
}

int64_t
snapshot_file_lseek (off_t offset, int whence, const struct fuse_file_info *fi)
{
  const Handle *handle = handle_of (fi);

  if (whence != SEEK_DATA && whence != SEEK_HOLE)
    return -EINVAL;
  if (offset < 0)
    return -ENXIO;
  return snapshot_seek (handle->snapshot, handle->disk, (uint64_t) offset, whence);
}

void
snapshot_file_release (fuse_req_t req, struct fuse_file_info *fi)
{
  handle_free (handle_of (fi));
  reply_result (req, 0);
}
