/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/xattr.h"

#include "fs/reply.h"
#include "fs/verbs.h"

#include <string.h>

#define STATE_NAME "user.fleecefs.state"

/* The state of the node's snapshot as a new string. Returns 0 or -errno. */
static int
dup_state (const Tree *tree, fuse_ino_t number, char **out)
{
  g_auto (TreeNode) node = { .kind = TREE_ROOT };
  g_autofree char *broken = NULL;
  int result = tree_find (tree, number, &node);

  if (result < 0)
    return result;
  if (node.snapshot == NULL)
    return -ENODATA;
  broken = node.kind == TREE_SNAPSHOT_DIR ? snapshot_dup_broken (node.snapshot)
                                          : snapshot_dup_disk_broken (node.snapshot, node.disk);
  *out = broken != NULL ? g_strconcat ("broken: ", broken, NULL) : g_strdup ("ok");
  return 0;
}

void
xattr_get (fuse_req_t req, fuse_ino_t number, const char *name, size_t size)
{
  g_autofree char *state = NULL;
  int result = -ENODATA;

  if (strcmp (name, STATE_NAME) == 0)
    result = dup_state (verbs_tree (req), number, &state);
  if (result < 0)
    reply_result (req, result);
  else if (size == 0)
    fuse_reply_xattr (req, strlen (state));
  else if (size < strlen (state))
    reply_result (req, -ERANGE);
  else
    reply_bytes (req, state, (ssize_t) strlen (state));
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
