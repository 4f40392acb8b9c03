/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/entry.h"

#include "base/errno-map.h"
#include "base/units.h"
#include "fs/own-file.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KEEP_SECONDS 86400.0
#define BLOCK_SIZE 4096 /* st_blksize */
#define SECTOR 512      /* unit of st_blocks */

static void
set_times (struct stat *st, struct timespec when)
{
  st->st_atim = when;
  st->st_mtim = when;
  st->st_ctim = when;
}

static void
fill_directory (mode_t permissions, struct timespec when, struct stat *out)
{
  out->st_mode = S_IFDIR | permissions;
  out->st_nlink = 2;
  out->st_uid = getuid ();
  out->st_gid = getgid ();
  set_times (out, when);
}

static void
fill_own_file (const Tree *tree, TreeOwn own, struct fuse_entry_param *out)
{
  g_autoptr (GString) text = own_file_text (tree, own);
  struct timespec now;

  clock_gettime (CLOCK_REALTIME, &now);
  out->attr.st_mode = S_IFREG | 0444;
  out->attr.st_nlink = 1;
  out->attr.st_uid = getuid ();
  out->attr.st_gid = getgid ();
  out->attr.st_size = (off_t) text->len;
  set_times (&out->attr, now);
  out->attr_timeout = 0;
}

/* What the live file and the frozen ones have from the image. */
static int
fill_disk (Disk *disk, mode_t permissions, struct stat *out)
{
  struct stat image;
  int result = source_stat (disk_source (disk), &image);

  if (result < 0)
    return result;
  out->st_mode = S_IFREG | (image.st_mode & permissions);
  out->st_nlink = 1;
  out->st_uid = image.st_uid;
  out->st_gid = image.st_gid;
  out->st_blksize = BLOCK_SIZE;
  return 0;
}

static int
fill_live (Disk *disk, struct fuse_entry_param *out)
{
  Source *source = disk_source (disk);
  int result = fill_disk (disk, 0777, &out->attr);
  uint64_t size = 0, allocated = 0;

  if (result == 0)
    result = source_size (source, &size);
  if (result == 0)
    result = source_allocated (source, &allocated);
  out->attr.st_size = (off_t) size;
  out->attr.st_blocks = (blkcnt_t) units_div_up (allocated, SECTOR);
  set_times (&out->attr, disk_write_time (disk));
  out->attr_timeout = 0;
  return (int) errno_map (ERRNO_OF_LIVE, result);
}

static int
fill_frozen (Disk *disk, const TreeNode *node, struct fuse_entry_param *out)
{
  int result = fill_disk (disk, 0555, &out->attr);

  out->attr.st_size = (off_t) snapshot_size (node->snapshot, node->disk);
  out->attr.st_blocks
      = (blkcnt_t) units_div_up (snapshot_allocated (node->snapshot, node->disk), SECTOR);
  set_times (&out->attr, snapshot_mtime (node->snapshot, node->disk));
  out->attr_timeout = 0; /* owner and mode follow the image */
  if (node->kind == TREE_LATEST_FILE)
    out->entry_timeout = 0;
  return (int) errno_map (ERRNO_OF_SNAPSHOT, result);
}

int
entry_fill (const Tree *tree, const TreeNode *node, struct fuse_entry_param *out)
{
  Snapshots *set = tree_set (tree);

  *out = (struct fuse_entry_param){ .ino = tree_number (tree, node),
                                    .attr_timeout = KEEP_SECONDS,
                                    .entry_timeout = KEEP_SECONDS };
  out->attr.st_ino = tree_inode (tree, node);
  switch (node->kind)
    {
    case TREE_ROOT:
      fill_directory (0755, tree_changed (tree), &out->attr);
      out->attr.st_nlink += snapshots_count (set); /* find(1) may rely on it */
      return 0;
    case TREE_LIVE_DIR:
    case TREE_LATEST_DIR:
      fill_directory (0755, tree_mounted (tree), &out->attr);
      return 0;
    case TREE_OWN_DIR: /* paths, and what went wrong: the mounter's affair */
      fill_directory (0700, tree_mounted (tree), &out->attr);
      return 0;
    case TREE_OWN_FILE:
      fill_own_file (tree, node->own, out);
      return 0;
    case TREE_LIVE_FILE:
      return fill_live (snapshots_disk (set, node->disk), out);
    case TREE_SNAPSHOT_DIR:
      fill_directory (0555, snapshot_created (node->snapshot), &out->attr);
      return 0;
    case TREE_SNAPSHOT_FILE:
    case TREE_LATEST_FILE:
      return fill_frozen (snapshots_disk (set, node->disk), node, out);
    }
  g_return_val_if_reached (-EIO);
}
