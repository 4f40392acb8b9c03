/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/listing.h"

#include "base/scratch.h"
#include "fs/directory.h"
#include "fs/reply.h"
#include "fs/verbs.h"

enum
{
  AFTER_DOT = 1,
  AFTER_DOT_DOT = 2,
};

typedef struct
{
  fuse_req_t req;
  char *buffer;
  size_t size;
  size_t used;
} Page;

/* Adds an entry; false when the page is full. */
static bool
page_add (Page *page, const char *name, const struct stat *st, uint64_t next_offset)
{
  size_t left = page->size - page->used;
  size_t needed = fuse_add_direntry (page->req, page->buffer + page->used, left, name, st,
                                     (off_t) next_offset);

  if (needed > left)
    return false;
  page->used += needed;
  return true;
}

static bool
page_add_number (Page *page, const char *name, fuse_ino_t number, uint64_t next_offset)
{
  struct stat st = { .st_ino = number, .st_mode = S_IFDIR };

  return page_add (page, name, &st, next_offset);
}

/* Fills the page from offset on. */
static void
list (Page *page, const Tree *tree, const TreeNode *directory, fuse_ino_t number, uint64_t offset)
{
  uint64_t position;

  if (offset < AFTER_DOT && !page_add_number (page, ".", number, AFTER_DOT))
    return;
  if (offset < AFTER_DOT_DOT && !page_add_number (page, "..", FUSE_ROOT_ID, AFTER_DOT_DOT))
    return;
  position = offset > AFTER_DOT_DOT ? offset - AFTER_DOT_DOT : 0;
  for (;;)
    {
      g_auto (TreeNode) node = { .kind = TREE_ROOT };
      g_autofree char *name = NULL;
      struct stat st = { 0 };

      if (!directory_next (tree, directory, &position, &node, &name))
        return;
      st.st_ino = tree_inode (tree, &node);
      st.st_mode = node.kind == TREE_SNAPSHOT_DIR ? S_IFDIR : S_IFREG;
      if (!page_add (page, name, &st, position + AFTER_DOT_DOT))
        return;
    }
}

void
listing_read (fuse_req_t req, fuse_ino_t number, size_t size, off_t offset,
              struct fuse_file_info *fi)
{
  Tree *tree = verbs_tree (req);
  Page page
      = { .req = req, .buffer = scratch_get (SCRATCH_REPLY), .size = MIN (size, SCRATCH_SIZE) };
  int result;

  (void) fi;
  {
    g_auto (TreeNode) directory = { .kind = TREE_ROOT };

    result = page.buffer == NULL ? -ENOMEM : tree_find (tree, number, &directory);
    if (result == 0)
      list (&page, tree, &directory, number, (uint64_t) offset);
  }
  reply_bytes (req, page.buffer, result < 0 ? result : (ssize_t) page.used);
}
