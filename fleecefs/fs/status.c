/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/status.h"

#include "base/scratch.h"
#include "fs/reply.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

/* True when the open asks for more than reading. */
static bool
wants_write (const struct fuse_file_info *fi)
{
  return (fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC) != 0;
}

static void
add_time (GString *text, struct timespec when)
{
  char digits[32] = "?";
  struct tm tm;

  if (gmtime_r (&when.tv_sec, &tm) != NULL)
    strftime (digits, sizeof digits, "%Y-%m-%dT%H:%M:%SZ", &tm);
  g_string_append (text, digits);
}

static void
add_disks (GString *text, Snapshots *set)
{
  g_string_append_printf (text, "%-20s  %-20s  %s\n", "DISK", "BYTES", "IMAGE");
  for (unsigned disk = 0; disk < snapshots_n_disks (set); disk++)
    {
      Source *source = disk_source (snapshots_disk (set, disk));

      g_string_append_printf (text, "%-20s  %-20" PRIu64 "  %s\n", snapshots_disk_name (set, disk),
                              source_size (source), source_path (source));
    }
}

static void
add_snapshots (GString *text, Snapshots *set)
{
  uint32_t id = 0;

  g_string_append_printf (text, "%-20s  %-20s  %s\n", "CREATED", "SNAPSHOT", "STATE");
  for (;;)
    {
      g_autoptr (Snapshot) snapshot = snapshots_next (set, id);
      g_autofree char *name = NULL;
      g_autofree char *broken = NULL;

      if (snapshot == NULL)
        return;
      id = snapshot_id (snapshot);
      name = snapshot_dup_name (snapshot);
      if (name == NULL) /* removed since */
        continue;
      broken = snapshot_dup_broken (snapshot);
      add_time (text, snapshot_created (snapshot));
      g_string_append_printf (text, "  %-20s  %s%s\n", name, broken != NULL ? "broken: " : "ok",
                              broken != NULL ? broken : "");
    }
}

/* What the overlays take, and how much more there is. */
static void
add_space (GString *text, Snapshots *set)
{
  SpaceUsage usage;
  bool is_overlay;
  unsigned percent, alarm;

  if (snapshots_space (set, &usage) < 0)
    return;
  percent = space_percent (&usage, &is_overlay);
  alarm = space_alarm (0, percent);
  g_string_append_printf (text, "kept: %" PRIu64 " bytes", usage.kept);
  if (usage.max_overlay > 0)
    g_string_append_printf (text, ", max-overlay %" PRIu64, usage.max_overlay);
  g_string_append_printf (text, "\nfree: %" PRIu64 " bytes", usage.free);
  if (usage.reserve > 0)
    g_string_append_printf (text, ", reserve %" PRIu64, usage.reserve);
  g_string_append_c (text, '\n');
  if (alarm > 0)
    g_string_append_printf (text, "warning: %u%% of %s is used\n", percent,
                            is_overlay ? "max-overlay" : "the store's file system");
}

GString *
status_text (Snapshots *set)
{
  GString *text = g_string_new (NULL);

  g_string_append_printf (text, "store: %s\n", snapshots_store_path (set));
  add_space (text, set);
  g_string_append_c (text, '\n');
  add_disks (text, set);
  g_string_append_c (text, '\n');
  add_snapshots (text, set);
  return text;
}

static GString *
text_of (const struct fuse_file_info *fi)
{
  return (GString *) (uintptr_t) fi->fh;
}

void
status_open (fuse_req_t req, Snapshots *set, struct fuse_file_info *fi)
{
  GString *text;

  if (wants_write (fi))
    {
      reply_result (req, -EPERM);
      return;
    }
  text = status_text (set);
  fi->fh = (uintptr_t) text;
  fi->direct_io = 1; /* the size that the kernel knows may be that of an older text */
  if (fuse_reply_open (req, fi) < 0)
    g_string_free (text, TRUE);
}

void
status_read (fuse_req_t req, size_t size, off_t offset, struct fuse_file_info *fi)
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
status_release (fuse_req_t req, struct fuse_file_info *fi)
{
  g_string_free (text_of (fi), TRUE);
  reply_result (req, 0);
}
