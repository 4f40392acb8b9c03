/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/tree.h"

#include "base/fail.h"
#include "base/units.h"

#include <errno.h>
#include <stdatomic.h>

enum
{
  ROOT = FUSE_ROOT_ID,
  LIVE_DIR = 2,
  LATEST_DIR = 3,
  OWN_DIR = 4,
  OWN_FILES = 5,             /* + TreeOwn */
  LIVE_FILES = 16,           /* + disk number */
  LATEST_INODES = 8192,      /* + disk number; st_ino only */
  DISK_NUMBER_MAX = 4095,    /* so that the ranges above do not meet */
  SNAPSHOT_SHIFT = 16,       /* above: the id */
  SNAPSHOT_LATEST = 0x8000u, /* below: seen through .latest */
};

#define NODE_MASK ((UINT64_C (1) << SNAPSHOT_SHIFT) - 1)

struct _Tree
{
  /* Constant. */
  Snapshots *set;
  struct timespec mounted;
  uint16_t disks[DISK_NUMBER_MAX + 1]; /* by number: index + 1, or 0 */

  _Atomic int64_t changed; /* ns since the epoch: the root's mtime */
};

static int64_t
now_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_REALTIME, &now);
  return now.tv_sec * NS_PER_S + now.tv_nsec;
}

Tree *
tree_new (Snapshots *set, GError **error)
{
  g_autoptr (Tree) tree = g_new0 (Tree, 1);

  tree->set = set;
  for (unsigned disk = 0; disk < snapshots_n_disks (set); disk++)
    {
      uint32_t number = snapshots_disk_number (set, disk);

      if (number == 0 || number > DISK_NUMBER_MAX)
        {
          fail (error, EOVERFLOW,
                "the store '%s' has no disk numbers left (%u is over %d); use a new store",
                snapshots_store_path (set), number, DISK_NUMBER_MAX);
          return NULL;
        }
      tree->disks[number] = (uint16_t) (disk + 1);
    }
  tree_touch (tree);
  tree->mounted = tree_changed (tree);
  return g_steal_pointer (&tree);
}

void
tree_free (Tree *tree)
{
  g_free (tree);
}

Snapshots *
tree_set (const Tree *tree)
{
  return tree->set;
}

struct timespec
tree_mounted (const Tree *tree)
{
  return tree->mounted;
}

struct timespec
tree_changed (const Tree *tree)
{
  return units_timespec (atomic_load (&tree->changed));
}

void
tree_touch (Tree *tree)
{
  atomic_store (&tree->changed, now_ns ());
}

void
tree_node_clear (TreeNode *node)
{
  g_clear_pointer (&node->snapshot, snapshot_unref);
}

/* The index of the disk with that number in the store. */
static bool
disk_of_number (const Tree *tree, uint64_t number, unsigned *out_disk)
{
  if (number > DISK_NUMBER_MAX || tree->disks[number] == 0)
    return false;
  *out_disk = tree->disks[number] - 1u;
  return true;
}

bool
tree_is_own_file (fuse_ino_t number)
{
  return number >= OWN_FILES && number < OWN_FILES + TREE_OWN_N;
}

static int
find_in_snapshot (const Tree *tree, fuse_ino_t number, TreeNode *out)
{
  uint64_t id = number >> SNAPSHOT_SHIFT;
  uint64_t node = number & NODE_MASK;
  g_autoptr (Snapshot) snapshot = NULL;

  if (id > UINT32_MAX)
    return -ESTALE;
  snapshot = snapshots_find_id (tree->set, (uint32_t) id);
  if (snapshot == NULL)
    return -ESTALE;
  if (node == 0)
    out->kind = TREE_SNAPSHOT_DIR;
  else
    {
      out->kind = node & SNAPSHOT_LATEST ? TREE_LATEST_FILE : TREE_SNAPSHOT_FILE;
      if (!disk_of_number (tree, node & ~(uint64_t) SNAPSHOT_LATEST, &out->disk)
          || !snapshot_has_disk (snapshot, out->disk))
        return -ESTALE;
    }
  out->snapshot = g_steal_pointer (&snapshot);
  return 0;
}

int
tree_find (const Tree *tree, fuse_ino_t number, TreeNode *out)
{
  *out = (TreeNode){ .kind = TREE_ROOT };
  switch (number)
    {
    case ROOT:
      return 0;
    case LIVE_DIR:
      out->kind = TREE_LIVE_DIR;
      return 0;
    case LATEST_DIR:
      out->kind = TREE_LATEST_DIR;
      return 0;
    case OWN_DIR:
      out->kind = TREE_OWN_DIR;
      return 0;
    default:
      break;
    }
  if (tree_is_own_file (number))
    {
      out->kind = TREE_OWN_FILE;
      out->own = (TreeOwn) (number - OWN_FILES);
      return 0;
    }
  if (number > NODE_MASK)
    return find_in_snapshot (tree, number, out);
  if (number < LIVE_FILES || !disk_of_number (tree, number - LIVE_FILES, &out->disk))
    return -ESTALE;
  out->kind = TREE_LIVE_FILE;
  return 0;
}

Disk *
tree_live_disk (const Tree *tree, fuse_ino_t number)
{
  unsigned disk;

  if (number < LIVE_FILES || !disk_of_number (tree, number - LIVE_FILES, &disk))
    return NULL;
  return snapshots_disk (tree->set, disk);
}

bool
tree_is_frozen (fuse_ino_t number)
{
  return number > NODE_MASK || number == LATEST_DIR;
}

int
tree_refusal (fuse_ino_t number)
{
  return tree_is_frozen (number) ? -EROFS : -EPERM;
}

static fuse_ino_t
snapshot_number (const TreeNode *node)
{
  return (fuse_ino_t) snapshot_id (node->snapshot) << SNAPSHOT_SHIFT;
}

fuse_ino_t
tree_number (const Tree *tree, const TreeNode *node)
{
  switch (node->kind)
    {
    case TREE_ROOT:
      return ROOT;
    case TREE_LIVE_DIR:
      return LIVE_DIR;
    case TREE_LATEST_DIR:
      return LATEST_DIR;
    case TREE_OWN_DIR:
      return OWN_DIR;
    case TREE_OWN_FILE:
      return OWN_FILES + node->own;
    case TREE_LIVE_FILE:
      return LIVE_FILES + snapshots_disk_number (tree->set, node->disk);
    case TREE_SNAPSHOT_DIR:
      return snapshot_number (node);
    case TREE_SNAPSHOT_FILE:
      return snapshot_number (node) | snapshots_disk_number (tree->set, node->disk);
    case TREE_LATEST_FILE:
      return snapshot_number (node) | SNAPSHOT_LATEST
             | snapshots_disk_number (tree->set, node->disk);
    }
  g_return_val_if_reached (0);
}

ino_t
tree_inode (const Tree *tree, const TreeNode *node)
{
  if (node->kind == TREE_LATEST_FILE)
    return LATEST_INODES + snapshots_disk_number (tree->set, node->disk);
  return tree_number (tree, node);
}
