/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/xattr.h"

#include "fs/facts.h"
#include "fs/reply.h"
#include "fs/verbs.h"

#include <inttypes.h>
#include <string.h>

/* The sum of a number over the disks that the node is about. */
static char *
dup_sum (const Tree *tree, const TreeNode *node, uint64_t (*number) (Snapshot *, unsigned))
{
  uint64_t sum = 0;

  for (unsigned i = 0; i < snapshots_n_disks (tree_set (tree)); i++)
    if (snapshot_has_disk (node->snapshot, i)
        && (node->kind == TREE_SNAPSHOT_DIR || node->disk == i))
      sum += number (node->snapshot, i);
  return g_strdup_printf ("%" PRIu64, sum);
}

static char *
dup_state (const Tree *tree, const TreeNode *node)
{
  g_autofree char *broken = node->kind == TREE_SNAPSHOT_DIR
                                ? snapshot_dup_broken (node->snapshot)
                                : snapshot_dup_disk_broken (node->snapshot, node->disk);
  g_autofree char *lost = NULL;

  (void) tree;
  if (broken != NULL)
    return g_strconcat ("broken: ", broken, NULL);
  lost = snapshot_dup_lost (node->snapshot);
  return lost != NULL ? g_strconcat ("lost: ", lost, NULL) : g_strdup ("ok");
}

static char *
dup_created (const Tree *tree, const TreeNode *node)
{
  (void) tree;
  return facts_time (snapshot_created (node->snapshot));
}

static char *
dup_overlay_bytes (const Tree *tree, const TreeNode *node)
{
  return dup_sum (tree, node, snapshot_kept);
}

static uint64_t
size_of (Snapshot *snapshot, unsigned disk)
{
  return snapshot_size (snapshot, disk);
}

static char *
dup_source_size (const Tree *tree, const TreeNode *node)
{
  return dup_sum (tree, node, size_of);
}

static const struct
{
  const char *name;
  char *(*dup) (const Tree *tree, const TreeNode *node); /* of a node with a snapshot */
} attributes[] = {
  { "user.fleecefs.state", dup_state },
  { "user.fleecefs.created", dup_created },
  { "user.fleecefs.overlay-bytes", dup_overlay_bytes },
  { "user.fleecefs.source-size", dup_source_size },
};

/* The value of an attribute as a new string. Returns 0 or -errno. */
static int
dup_value (const Tree *tree, fuse_ino_t number, unsigned attribute, char **out)
{
  g_auto (TreeNode) node = { .kind = TREE_ROOT };
  int result = tree_find (tree, number, &node);

  if (result < 0)
    return result;
  if (node.snapshot == NULL)
    return -ENODATA;
  *out = attributes[attribute].dup (tree, &node);
  return 0;
}

static int64_t
get (const LaneRequest *request)
{
  fuse_req_t req = request->req;
  g_autofree char *value = NULL;
  int result = dup_value (verbs_tree (req), request->number, request->what, &value);

  if (result < 0)
    return reply_result (req, result);
  if (request->size == 0)
    return fuse_reply_xattr (req, strlen (value));
  if (request->size < strlen (value))
    return reply_result (req, -ERANGE);
  return reply_bytes (req, value, (ssize_t) strlen (value));
}

void
xattr_get (fuse_req_t req, fuse_ino_t number, const char *name, size_t size)
{
  for (unsigned i = 0; i < G_N_ELEMENTS (attributes); i++)
    if (strcmp (attributes[i].name, name) == 0)
      {
        verbs_look (
            &(LaneRequest){ .work = get, .req = req, .number = number, .what = i, .size = size });
        return;
      }
  reply_result (req, -ENODATA);
}

void
xattr_list (fuse_req_t req, fuse_ino_t number, size_t size)
{
  (void) number;
  if (size == 0)
    fuse_reply_xattr (req, 0);
  else
    reply_bytes (req, "", 0);
}

void
xattr_set (fuse_req_t req, fuse_ino_t number, const char *name, const char *value, size_t size,
           int flags)
{
  (void) name;
  (void) value;
  (void) size;
  (void) flags;
  reply_result (req, tree_refusal (number));
}

void
xattr_remove (fuse_req_t req, fuse_ino_t number, const char *name)
{
  (void) name;
  reply_result (req, tree_refusal (number));
}
