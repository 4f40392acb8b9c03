/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is mounted where, as this process sees it (/proc/self/mountinfo, proc(5)). */
#pragma once

#include <glib.h>
#include <sys/types.h>

#define MOUNT_TABLE_FILE "/proc/self/mountinfo" /* poll(2) tells by POLLPRI that it changed */

typedef struct
{
  dev_t device;
  char *root;  /* what of its file system is mounted: "/" is all */
  char *point; /* where */
  char *type;
  uid_t owner; /* of FUSE: who mounted it (user_id=); else 0 */
} MountEntry;

/* The mounts in the order of their making (MountEntry *). */
GPtrArray *mount_table_read (GError **error);

/* The one that is on top at that path, absolute and resolved, or NULL. */
const MountEntry *mount_table_top (const GPtrArray *table, const char *path);

/* Where all of that file system is mounted, or NULL. */
const MountEntry *mount_table_whole (const GPtrArray *table, dev_t device);
