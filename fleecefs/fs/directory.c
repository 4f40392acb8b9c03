/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/directory.h"

#include "fs/own-file.h"

#include <errno.h>
#include <string.h>

static const struct
{
  const char *name;
  TreeKind kind;
} own_names[] = {
  { ".live", TREE_LIVE_DIR },
  { ".latest", TREE_LATEST_DIR },
  { ".fleecefs", TREE_OWN_DIR },
};

bool
directory_is_own_name (const char *name)
{
  for (gsize i = 0; i < G_N_ELEMENTS (own_names); i++)
    if (strcmp (own_names[i].name, name) == 0)
      return true;
  return false;
}

static bool
disk_of_name (const Tree *tree, const char *name, unsigned *out_disk)
{
  for (unsigned disk = 0; disk < snapshots_n_disks (tree_set (tree)); disk++)
    if (strcmp (snapshots_disk_name (tree_set (tree), disk), name) == 0)
      {
        *out_disk = disk;
        return true;
      }
  return false;
}

static int
lookup_root (const Tree *tree, const char *name, TreeNode *out)
{
  for (gsize i = 0; i < G_N_ELEMENTS (own_names); i++)
    if (strcmp (own_names[i].name, name) == 0)
      {
        out->kind = own_names[i].kind;
        return 0;
      }
  out->kind = TREE_SNAPSHOT_DIR;
  out->snapshot = snapshots_find (tree_set (tree), name);
  return out->snapshot != NULL ? 0 : -ENOENT;
}

/* The file of a disk in a snapshot, which may be NULL. */
static int
lookup_frozen (const Tree *tree, Snapshot *snapshot, TreeKind kind, const char *name, TreeNode *out)
{
  if (snapshot == NULL || !disk_of_name (tree, name, &out->disk)
      || !snapshot_has_disk (snapshot, out->disk))
    return -ENOENT;
  out->kind = kind;
  out->snapshot = snapshot_ref (snapshot);
  return 0;
}

/* Turns the node into that of the directory above. */
static void
go_up (TreeNode *node)
{
  switch (node->kind)
    {
    case TREE_SNAPSHOT_FILE:
      node->kind = TREE_SNAPSHOT_DIR;
      return;
    case TREE_LIVE_FILE:
      node->kind = TREE_LIVE_DIR;
      break;
    case TREE_LATEST_FILE:
      node->kind = TREE_LATEST_DIR;
      break;
    case TREE_OWN_FILE:
      node->kind = TREE_OWN_DIR;
      break;
    case TREE_ROOT:
    case TREE_LIVE_DIR:
    case TREE_LATEST_DIR:
    case TREE_OWN_DIR:
    case TREE_SNAPSHOT_DIR:
      node->kind = TREE_ROOT;
      break;
    }
  tree_node_clear (node);
}

int
directory_lookup (const Tree *tree, fuse_ino_t parent, const char *name, TreeNode *out)
{
  g_auto (TreeNode) directory = { .kind = TREE_ROOT };
  g_autoptr (Snapshot) latest = NULL;
  int result = tree_find (tree, parent, &directory);

  *out = (TreeNode){ .kind = TREE_ROOT };
  if (result < 0)
    return result;
  if (strcmp (name, ".") == 0 || strcmp (name, "..") == 0)
    {
      *out = directory;
      directory.snapshot = NULL;
      if (name[1] == '.')
        go_up (out);
      return 0;
    }
  switch (directory.kind)
    {
    case TREE_ROOT:
      return lookup_root (tree, name, out);
    case TREE_LIVE_DIR:
      out->kind = TREE_LIVE_FILE;
      return disk_of_name (tree, name, &out->disk) ? 0 : -ENOENT;
    case TREE_OWN_DIR:
      out->kind = TREE_OWN_FILE;
      return own_file_find (name, &out->own) ? 0 : -ENOENT;
    case TREE_LATEST_DIR:
      latest = snapshots_latest (tree_set (tree));
      return lookup_frozen (tree, latest, TREE_LATEST_FILE, name, out);
    case TREE_SNAPSHOT_DIR:
      return lookup_frozen (tree, directory.snapshot, TREE_SNAPSHOT_FILE, name, out);
    case TREE_OWN_FILE:
    case TREE_LIVE_FILE:
    case TREE_SNAPSHOT_FILE:
    case TREE_LATEST_FILE:
      break;
    }
  return -ENOTDIR;
}

/* The next disk file of a directory; snapshot is NULL for .live. The position is
 * the number of disks passed. */
static bool
next_disk (const Tree *tree, Snapshot *snapshot, TreeKind kind, uint64_t *position, TreeNode *out,
           char **out_name)
{
  unsigned n_disks = snapshots_n_disks (tree_set (tree));

  while (*position < n_disks)
    {
      unsigned disk = (unsigned) (*position)++;

      if (snapshot != NULL && !snapshot_has_disk (snapshot, disk))
        continue;
      out->kind = kind;
      out->disk = disk;
      out->snapshot = snapshot != NULL ? snapshot_ref (snapshot) : NULL;
      *out_name = g_strdup (snapshots_disk_name (tree_set (tree), disk));
      return true;
    }
  return false;
}

/* The next named snapshot. The position is the id of the last one. */
static bool
next_snapshot (const Tree *tree, uint64_t *position, TreeNode *out, char **out_name)
{
  while (*position < UINT32_MAX)
    {
      g_autoptr (Snapshot) snapshot = snapshots_next (tree_set (tree), (uint32_t) *position);

      if (snapshot == NULL)
        return false;
      *position = snapshot_id (snapshot);
      *out_name = snapshot_dup_name (snapshot);
      if (*out_name == NULL) /* removed since */
        continue;
      out->kind = TREE_SNAPSHOT_DIR;
      out->snapshot = g_steal_pointer (&snapshot);
      return true;
    }
  return false;
}

bool
directory_next (const Tree *tree, const TreeNode *directory, uint64_t *position, TreeNode *out,
                char **out_name)
{
  g_autoptr (Snapshot) latest = NULL;

  *out = (TreeNode){ .kind = TREE_ROOT };
  switch (directory->kind)
    {
    case TREE_ROOT:
      return next_snapshot (tree, position, out, out_name);
    case TREE_LIVE_DIR:
      return next_disk (tree, NULL, TREE_LIVE_FILE, position, out, out_name);
    case TREE_SNAPSHOT_DIR:
      return next_disk (tree, directory->snapshot, TREE_SNAPSHOT_FILE, position, out, out_name);
    case TREE_LATEST_DIR:
      latest = snapshots_latest (tree_set (tree));
      return latest != NULL && next_disk (tree, latest, TREE_LATEST_FILE, position, out, out_name);
    case TREE_OWN_DIR:
      if (*position >= TREE_OWN_N)
        return false;
      out->kind = TREE_OWN_FILE;
      out->own = (TreeOwn) (*position)++;
      *out_name = g_strdup (own_file_name (out->own));
      return true;
    case TREE_OWN_FILE:
    case TREE_LIVE_FILE:
    case TREE_SNAPSHOT_FILE:
    case TREE_LATEST_FILE:
      break;
    }
  return false;
}
