/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands where in the mount: nodes and their numbers. Names are in
 * directory.h, attributes in entry.h.
 *
 *     number                  node
 *     1                       the root: lists the named snapshots
 *     2, 3, 4                 .live, .latest, .fleecefs; found by name, not listed
 *     5 + n                   files in .fleecefs (TreeOwn)
 *     16 + n                  .live/DISK; n is the disk's number in the store
 *     id << 16                a snapshot's directory
 *     id << 16 | n            its file of disk n
 *     id << 16 | 0x8000 | n   .latest/DISK while the newest snapshot is id
 *
 * Ids and disk numbers are never used again and are the same after a remount;
 * so are these. Nothing has to be remembered of what the kernel looked up: a
 * number that no longer leads anywhere is ESTALE, and forget needs no code.
 *
 * st_ino is the number, but for .latest/DISK, which shows 8192 + n for ever:
 * backup programs see one file with new contents, while the kernel, which caches
 * by node, never takes one snapshot's pages for another's.
 *
 * All functions may be called from any thread.
 */
#pragma once

#include "fs/fuse-compat.h"
#include "snapshot/snapshots.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct _Tree Tree;

typedef enum
{
  TREE_ROOT,
  TREE_LIVE_DIR,
  TREE_LATEST_DIR,
  TREE_OWN_DIR,
  TREE_OWN_FILE,
  TREE_LIVE_FILE,
  TREE_SNAPSHOT_DIR,
  TREE_SNAPSHOT_FILE,
  TREE_LATEST_FILE,
} TreeKind;

/* The files of .fleecefs; see own-file.h. */
typedef enum
{
  TREE_OWN_STATUS,
  TREE_OWN_JSON,
  TREE_OWN_METRICS,
  TREE_OWN_N
} TreeOwn;

typedef struct
{
  TreeKind kind;
  TreeOwn own;        /* of TREE_OWN_FILE */
  unsigned disk;      /* of the three kinds of disk files */
  Snapshot *snapshot; /* a reference; of the last three kinds, else NULL */
} TreeNode;

/* The tree of a set. Fails when a disk's number does not fit into node numbers (the store has seen
 * over 4095 disks). */
Tree *tree_new (Snapshots *set, GError **error);
void tree_free (Tree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Tree, tree_free)

/* The set below. */
Snapshots *tree_set (const Tree *tree);

/* Drops the node's reference, if any. */
void tree_node_clear (TreeNode *node);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (TreeNode, tree_node_clear)

/* The node of a number. Returns 0 or -ESTALE. */
int tree_find (const Tree *tree, fuse_ino_t number, TreeNode *out);

/* The live disk of a number, or NULL when it is no live file. Takes no lock: this
 * is on the path of every guest I/O. */
Disk *tree_live_disk (const Tree *tree, fuse_ino_t number);

/* True for a file in .fleecefs. */
bool tree_is_own_file (fuse_ino_t number);

/* True for what belongs to a snapshot and for .latest: nothing there can be written. */
bool tree_is_frozen (fuse_ino_t number);

/* The error for a change that the table of verbs does not have: -EROFS in snapshots
 * and .latest, -EPERM elsewhere. */
int tree_refusal (fuse_ino_t number);

/* The number of a node, as tree_find() takes it. */
fuse_ino_t tree_number (const Tree *tree, const TreeNode *node);

/* What stat(2) shows as the number. */
ino_t tree_inode (const Tree *tree, const TreeNode *node);

/* The set of names at the root changed. */
void tree_touch (Tree *tree);

/* When the tree was made, and when the names at the root changed last. */
struct timespec tree_mounted (const Tree *tree);
struct timespec tree_changed (const Tree *tree);
