/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/file-verbs.h"

#include "base/errno-map.h"
#include "base/scratch.h"
#include "fs/live-file.h"
#include "fs/own-file.h"
#include "fs/reply.h"
#include "fs/snapshot-file.h"
#include "fs/verbs.h"

static int64_t
open_own (const LaneRequest *request)
{
  own_file_open (request->req, verbs_tree (request->req), (TreeOwn) request->what, request->fi);
  return 0;
}

void
file_verbs_open (fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
  Tree *tree = verbs_tree (req);
  g_auto (TreeNode) node = { .kind = TREE_ROOT };
  int result = tree_find (tree, number, &node);

  if (result < 0)
    {
      reply_result (req, result);
      return;
    }
  switch (node.kind)
    {
    case TREE_LIVE_FILE:
      live_file_open (req, fi);
      return;
    case TREE_SNAPSHOT_FILE:
    case TREE_LATEST_FILE:
      snapshot_file_open (req, &node, fi);
      return;
    case TREE_OWN_FILE:
      verbs_look (&(LaneRequest){ .work = open_own, .req = req, .what = node.own, .fi = fi });
      return;
    case TREE_ROOT:
    case TREE_LIVE_DIR:
    case TREE_LATEST_DIR:
    case TREE_OWN_DIR:
    case TREE_SNAPSHOT_DIR:
      break;
    }
  reply_result (req, -EISDIR);
}

static const Verbs *
verbs_of (fuse_req_t req)
{
  return fuse_req_userdata (req);
}

static int64_t
read_frozen (const LaneRequest *request)
{
  return errno_map (ERRNO_OF_SNAPSHOT,
                    snapshot_file_read (scratch_get (SCRATCH_REPLY), request->size, request->offset,
                                        request->fi));
}

static void
answer_read (const LaneRequest *request, int64_t result)
{
  reply_bytes (request->req, scratch_get (SCRATCH_REPLY), result);
}

static int64_t
seek_frozen (const LaneRequest *request)
{
  return errno_map (ERRNO_OF_SNAPSHOT,
                    snapshot_file_lseek (request->offset, request->whence, request->fi));
}

static void
answer_seek (const LaneRequest *request, int64_t result)
{
  reply_offset (request->req, result);
}

static int64_t
write_live (const LaneRequest *request)
{
  return live_file_write (tree_live_disk (verbs_tree (request->req), request->number),
                          request->data, request->size, request->offset, request->fi);
}

static void
answer_write (const LaneRequest *request, int64_t result)
{
  reply_written (request->req, errno_map (ERRNO_OF_LIVE, result));
}

void
file_verbs_read (fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
                 struct fuse_file_info *fi)
{
  Disk *disk = tree_live_disk (verbs_tree (req), number);

  if (disk != NULL)
    live_file_read (req, disk, size, offset);
  else if (tree_is_frozen (number))
    lane_run (verbs_of (req)->frozen, &(LaneRequest){ .work = read_frozen,
                                                      .answer = answer_read,
                                                      .req = req,
                                                      .size = size,
                                                      .offset = offset,
                                                      .fi = fi });
  else
    own_file_read (req, size, offset, fi);
}

void
file_verbs_write (fuse_req_t req, fuse_ino_t number, const char *buffer, size_t size, off_t offset,
                  struct fuse_file_info *fi)
{
  Disk *disk = tree_live_disk (verbs_tree (req), number);
  ssize_t result = disk != NULL ? live_file_write_saved (disk, buffer, size, offset, fi) : 0;

  if (disk == NULL)
    reply_written (req, tree_refusal (number));
  else if (result != -EAGAIN)
    reply_written (req, errno_map (ERRNO_OF_LIVE, result));
  else
    lane_run (verbs_of (req)->copies, &(LaneRequest){ .work = write_live,
                                                      .answer = answer_write,
                                                      .req = req,
                                                      .number = number,
                                                      .data = buffer,
                                                      .size = size,
                                                      .offset = offset,
                                                      .fi = fi });
}

void
file_verbs_release (fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
  if (tree_live_disk (verbs_tree (req), number) != NULL)
    reply_result (req, 0);
  else if (tree_is_frozen (number))
    snapshot_file_release (req, fi);
  else
    own_file_release (req, fi);
}

void
file_verbs_fsync (fuse_req_t req, fuse_ino_t number, int data_only, struct fuse_file_info *fi)
{
  Disk *disk = tree_live_disk (verbs_tree (req), number);

  (void) fi;
  if (disk != NULL)
    live_file_fsync (req, disk, data_only != 0);
  else
    reply_result (req, 0);
}

void
file_verbs_fallocate (fuse_req_t req, fuse_ino_t number, int mode, off_t offset, off_t length,
                      struct fuse_file_info *fi)
{
  Disk *disk = tree_live_disk (verbs_tree (req), number);

  if (disk != NULL)
    live_file_fallocate (req, disk, mode, offset, length, fi);
  else
    reply_result (req, tree_refusal (number));
}

void
file_verbs_lseek (fuse_req_t req, fuse_ino_t number, off_t offset, int whence,
                  struct fuse_file_info *fi)
{
  Disk *disk = tree_live_disk (verbs_tree (req), number);

  if (disk != NULL)
    live_file_lseek (req, disk, offset, whence);
  else if (tree_is_frozen (number))
    lane_run (verbs_of (req)->frozen, &(LaneRequest){ .work = seek_frozen,
                                                      .answer = answer_seek,
                                                      .req = req,
                                                      .offset = offset,
                                                      .whence = whence,
                                                      .fi = fi });
  else
    reply_result (req, -EINVAL); /* a file of .fleecefs: nothing to find */
}
