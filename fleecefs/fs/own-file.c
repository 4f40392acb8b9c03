/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/own-file.h"

#include "base/scratch.h"
#include "fs/metrics.h"
#include "fs/reply.h"
#include "fs/status-json.h"
#include "fs/status.h"

#include <fcntl.h>
#include <string.h>

static const struct
{
  const char *name;
  GString *(*text) (const Facts *facts);
} files[TREE_OWN_N] = {
  [TREE_OWN_STATUS] = { "status", status_text },
  [TREE_OWN_JSON] = { "status.json", status_json_text },
  [TREE_OWN_METRICS] = { "metrics", metrics_text },
};

const char *
own_file_name (TreeOwn own)
{
  return files[own].name;
}

bool
own_file_find (const char *name, TreeOwn *out)
{
  for (TreeOwn own = 0; own < TREE_OWN_N; own++)
    if (strcmp (files[own].name, name) == 0)
      {
        *out = own;
        return true;
      }
  return false;
}

GString *
own_file_text (const Tree *tree, TreeOwn own)
{
  g_autoptr (Facts) facts = facts_new (tree);

  return files[own].text (facts);
}

/* True when the open asks for more than reading. */
static bool
wants_write (const struct fuse_file_info *fi)
{
  return (fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC) != 0;
}

static GString *
text_of (const struct fuse_file_info *fi)
{
  return (GString *) (uintptr_t) fi->fh;
}

void
own_file_open (fuse_req_t req, const Tree *tree, TreeOwn own, struct fuse_file_info *fi)
{
  GString *text;

  if (wants_write (fi))
    {
      reply_result (req, -EPERM);
      return;
    }
  text = own_file_text (tree, own);
  fi->fh = (uintptr_t) text;
  fi->direct_io = 1; /* the size that the kernel knows may be that of an older text */
  if (fuse_reply_open (req, fi) < 0)
    g_string_free (text, TRUE);
}

void
own_file_read (fuse_req_t req, size_t size, off_t offset, struct fuse_file_info *fi)
{
  const GString *text = text_of (fi);
  char *buffer = scratch_get (SCRATCH_REPLY);
  size_t n = 0;

  if (buffer == NULL)
    {
      reply_result (req, -ENOMEM);
      return;
    }
  if (offset >= 0 && (uint64_t) offset < text->len)
    {
      n = MIN (MIN (size, SCRATCH_SIZE), text->len - (size_t) offset);
      /* Not out of the text itself: once the reply is with the reader it may close the
       * file, and the text be gone before this thread is back from the reply. */
      memcpy (buffer, text->str + offset, n);
    }
  reply_bytes (req, buffer, (ssize_t) n);
}

void
own_file_release (fuse_req_t req, struct fuse_file_info *fi)
{
  g_string_free (text_of (fi), TRUE);
  reply_result (req, 0);
}
