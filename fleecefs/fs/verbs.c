/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/verbs.h"

#include "base/name.h"
#include "base/scratch.h"
#include "fs/directory.h"
#include "fs/entry.h"
#include "fs/file-verbs.h"
#include "fs/listing.h"
#include "fs/live-file.h"
#include "fs/read-ahead.h"
#include "fs/reply.h"
#include "fs/ring.h"
#include "fs/xattr.h"

#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0) /* linux/fs.h; not in every C library */
#endif

/* Requests that the kernel may have under way in the background. */
#define BACKGROUND 512

Tree *
verbs_tree (fuse_req_t req)
{
  const Verbs *verbs = fuse_req_userdata (req);

  return verbs->tree;
}

void
verbs_look (const LaneRequest *request)
{
  const Verbs *verbs = fuse_req_userdata (request->req);

  lane_run (verbs->looks, request);
}

static void
handle_init (void *user_data, struct fuse_conn_info *conn)
{
  const Verbs *verbs = user_data;
  unsigned background = MAX (verbs->threads * 2, conn->max_background);

  /* Never the writeback cache: dirty pages in the kernel would miss the snapshot.
   * Never splice: pages handed over would still change after a frozen read ended.
   * No automatic invalidation: a snapshot's bytes never change, so a read needs no look at
   * its attributes, which are not kept (owner and mode follow the image).
   * O_TRUNC comes as a setattr of the size, which preserves the old bytes. */
  conn->want
      &= ~(unsigned) (FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE
                      | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC);
  conn->want |= conn->capable & FUSE_CAP_PARALLEL_DIROPS;
  /* File handles: a number leads to the same node as long as the node exists, see tree.h. */
  conn->want |= conn->capable & FUSE_CAP_EXPORT_SUPPORT;

  /* Bounds reads too (the kernel derives the pages of a request from it): no read is
   * larger than a thread's buffer. */
  conn->max_write = MIN (conn->max_write, (unsigned) SCRATCH_SIZE);
  conn->max_read = verbs->max_read;
  conn->max_readahead = READ_AHEAD; /* the mount's own, if it is less */

  /* Reads ahead in snapshots and asynchronous I/O of guests count alike: when as many as the limit
   * are under way, guests wait in the kernel. So hung readers must not come up to it;
   * the threshold is where the kernel reads ahead no further. The kernel's own limit,
   * 12, would also leave threads idle under a deep queue. */
  conn->max_background = MAX (BACKGROUND, background);
  conn->congestion_threshold = background - background / 4;
}

static int
find_entry (const Tree *tree, fuse_ino_t number, struct fuse_entry_param *out)
{
  g_auto (TreeNode) node = { .kind = TREE_ROOT };
  int result = tree_find (tree, number, &node);

  return result < 0 ? result : entry_fill (tree, &node, out);
}

/* Names. */

static int64_t
look_up_own_file (const LaneRequest *request)
{
  struct fuse_entry_param entry;
  int result = find_entry (verbs_tree (request->req), request->number, &entry);

  return reply_entry (request->req, result, &entry);
}

static void
handle_lookup (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  Tree *tree = verbs_tree (req);
  struct fuse_entry_param entry;
  fuse_ino_t own_file = 0;
  int result;

  {
    g_auto (TreeNode) node = { .kind = TREE_ROOT };

    result = directory_lookup (tree, parent, name, &node);
    if (result == 0 && node.kind == TREE_OWN_FILE)
      own_file = tree_number (tree, &node);
    else if (result == 0)
      result = entry_fill (tree, &node, &entry);
  }
  if (own_file != 0)
    verbs_look (&(LaneRequest){ .work = look_up_own_file, .req = req, .number = own_file });
  else
    reply_entry (req, result, &entry);
}

static void
handle_mkdir (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
  Tree *tree = verbs_tree (req);
  struct fuse_entry_param entry;
  int result;

  (void) mode; /* that of a snapshot is fixed */
  if (parent != FUSE_ROOT_ID)
    {
      reply_result (req, tree_refusal (parent));
      return;
    }
  {
    g_auto (TreeNode) node = { .kind = TREE_SNAPSHOT_DIR };

    result = snapshots_create (tree_set (tree), name, &node.snapshot);
    if (result == 0)
      {
        tree_touch (tree);
        result = entry_fill (tree, &node, &entry);
      }
  }
  reply_entry (req, result, &entry);
}

/* Before the answer, after which the kernel would have to do it. Not when a file of the snapshot is
 * open and perhaps being read. */
static void
drop_pages (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  const Verbs *verbs = fuse_req_userdata (req);
  g_auto (TreeNode) node = { .kind = TREE_ROOT };

  if (directory_lookup (verbs->tree, parent, name, &node) == 0 && node.kind == TREE_SNAPSHOT_DIR
      && (!snapshot_is_in_use (node.snapshot) || lane_is_idle (verbs->frozen)))
    page_cache_drop_if_idle (verbs->page_cache, node.snapshot);
}

static void
handle_rmdir (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  Tree *tree = verbs_tree (req);
  int result;

  if (parent != FUSE_ROOT_ID)
    result = tree_refusal (parent);
  else if (directory_is_own_name (name))
    result = -EPERM;
  else
    {
      drop_pages (req, parent, name);
      result = snapshots_remove (tree_set (tree), name);
    }
  if (result == 0)
    tree_touch (tree);
  reply_result (req, result);
}

static int
rename_node (Tree *tree, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
             const char *new_name, unsigned flags)
{
  int result;

  if (parent != FUSE_ROOT_ID)
    return tree_refusal (parent);
  if ((flags & ~(unsigned) RENAME_NOREPLACE) != 0)
    return -EINVAL;
  if (directory_is_own_name (name))
    return -EPERM;
  if (new_parent != FUSE_ROOT_ID)
    return -EINVAL;
  if (directory_is_own_name (new_name))
    return -EPERM;
  result = snapshots_rename (tree_set (tree), name, new_name);
  if (result == 0)
    tree_touch (tree);
  return result;
}

static void
handle_rename (fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags)
{
  reply_result (req, rename_node (verbs_tree (req), parent, name, new_parent, new_name, flags));
}

/* Refused: a tree of snapshots has nothing else to make or to take away. */

static void
handle_unlink (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  (void) name;
  reply_result (req, tree_refusal (parent));
}

static void
handle_create (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *fi)
{
  (void) name;
  (void) mode;
  (void) fi;
  reply_result (req, tree_refusal (parent));
}

static void
handle_mknod (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
  (void) name;
  (void) mode;
  (void) device;
  reply_result (req, tree_refusal (parent));
}

static void
handle_symlink (fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
  (void) target;
  (void) name;
  reply_result (req, tree_refusal (parent));
}

static void
handle_link (fuse_req_t req, fuse_ino_t number, fuse_ino_t new_parent, const char *new_name)
{
  (void) number;
  (void) new_name;
  reply_result (req, tree_refusal (new_parent));
}

/* Attributes. */

static int64_t
get_attributes (const LaneRequest *request)
{
  struct fuse_entry_param entry;
  int result = find_entry (verbs_tree (request->req), request->number, &entry);

  return reply_attributes (request->req, result, &entry);
}

static void
handle_getattr (fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
  const LaneRequest request = { .work = get_attributes, .req = req, .number = number };
  Verbs *verbs = fuse_req_userdata (req);

  (void) fi;
  ring_expect (req, &verbs->expects_ring); /* fleecefs itself asks for this first */
  if (tree_is_own_file (number))
    verbs_look (&request);
  else
    get_attributes (&request);
}

static void
handle_setattr (fuse_req_t req, fuse_ino_t number, struct stat *wanted, int to_set,
                struct fuse_file_info *fi)
{
  Tree *tree = verbs_tree (req);
  Disk *disk = tree_live_disk (tree, number);
  struct fuse_entry_param entry;
  int result = disk != NULL ? live_file_set (disk, wanted, to_set) : tree_refusal (number);

  (void) fi;
  if (result == 0)
    result = find_entry (tree, number, &entry);
  reply_attributes (req, result, &entry);
}

static int64_t
check_access (const LaneRequest *request)
{
  fuse_ino_t number = request->number;
  struct fuse_entry_param entry;
  int result = find_entry (verbs_tree (request->req), number, &entry);

  if (result == 0 && (request->mask & W_OK) != 0 && tree_is_frozen (number))
    result = -EROFS;
  if (result == 0 && (request->mask & X_OK) != 0 && (entry.attr.st_mode & 0111) == 0)
    result = -EACCES;
  return reply_result (request->req, result);
}

/* access(2) without default_permissions, that is by the mounter. Other refusals come from
 * the verb itself. */
static void
handle_access (fuse_req_t req, fuse_ino_t number, int mask)
{
  const LaneRequest request = { .work = check_access, .req = req, .number = number, .mask = mask };

  if (tree_is_own_file (number))
    verbs_look (&request);
  else
    check_access (&request);
}

static int64_t
tell_space (const LaneRequest *request)
{
  struct statvfs out;
  int result = snapshots_statvfs (tree_set (verbs_tree (request->req)), &out);

  out.f_namemax = NAME_MAX_BYTES;
  return result < 0 ? reply_result (request->req, result) : fuse_reply_statfs (request->req, &out);
}

static void
handle_statfs (fuse_req_t req, fuse_ino_t number)
{
  (void) number;
  verbs_look (&(LaneRequest){ .work = tell_space, .req = req });
}

/* A directory has nothing that waits to be written: mkdir, rmdir and rename wrote the
 * manifest before they returned. */
static void
handle_fsyncdir (fuse_req_t req, fuse_ino_t number, int data_only, struct fuse_file_info *fi)
{
  (void) number;
  (void) data_only;
  (void) fi;
  reply_result (req, 0);
}

const struct fuse_lowlevel_ops verbs_operations = {
  .init = handle_init,
  .lookup = handle_lookup,
  .getattr = handle_getattr,
  .setattr = handle_setattr,
  .mknod = handle_mknod,
  .mkdir = handle_mkdir,
  .unlink = handle_unlink,
  .rmdir = handle_rmdir,
  .symlink = handle_symlink,
  .rename = handle_rename,
  .link = handle_link,
  .open = file_verbs_open,
  .read = file_verbs_read,
  .write = file_verbs_write,
  .release = file_verbs_release,
  .fsync = file_verbs_fsync,
  .readdir = listing_read,
  .fsyncdir = handle_fsyncdir,
  .statfs = handle_statfs,
  .setxattr = xattr_set,
  .getxattr = xattr_get,
  .listxattr = xattr_list,
  .removexattr = xattr_remove,
  .access = handle_access,
  .create = handle_create,
  .fallocate = file_verbs_fallocate,
  .lseek = file_verbs_lseek,
};
