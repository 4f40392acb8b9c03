/* SPDX-License-Identifier: GPL-2.0-or-later */
/* .fleecefs/status: a table for people. The text is made when the file is opened,
 * and that open keeps it: what is read in pieces still belongs together. */
#pragma once

#include "fs/fuse-compat.h"
#include "snapshot/snapshots.h"

#include <glib.h>

#define STATUS_FILE_NAME "status"

/* The table as it is now: disks, then snapshots, oldest first, each with the
 * moment of its freeze (UTC), its name, and "ok" or "broken: REASON". */
GString *status_text (Snapshots *set);

/* The handlers of the file; they reply. Opening for writing is refused with EPERM. */
void status_open (fuse_req_t req, Snapshots *set, struct fuse_file_info *fi);
void status_read (fuse_req_t req, size_t size, off_t offset, struct fuse_file_info *fi);
void status_release (fuse_req_t req, struct fuse_file_info *fi);
