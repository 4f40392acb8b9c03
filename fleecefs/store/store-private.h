/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of a Store, for store.c and store-open.c only. */
#pragma once

#include "store/manifest.h"
#include "store/store.h"

struct _Store
{
  /* Constant after store_open(). */
  char *path;           /* absolute */
  char *snapshots_path; /* for messages */
  char *boot_id;        /* of the host, now */
  int fd;               /* the store's directory */
  uint64_t place;       /* its time of birth; 0: unknown */
  int snapshots_fd;     /* STORE/snapshots, or -1 */
  int lock_fd;          /* holds the locks, or -1 */
  bool made_directory;  /* what this process made, in order of making */
  bool made_lock;
  bool is_new;
  bool was_clean; /* the state in which it was found */
  bool same_boot; /* as when it was left */
  bool host_crashed;
  bool was_copied;
  char *found_id; /* of the store that this is a copy of, or NULL */
  bool was_durable;

  bool is_unsure; /* the manifest may not be what this process was told; see keyfile_save() */

  Manifest *manifest; /* as on the disk, but for the disks */
  GArray *superseded; /* uint32_t, layers that the last store_read_records() left out; or NULL */
  GArray *unremoved;  /* uint32_t, layers that could not be removed and may have a record */
  uint64_t next;      /* the number that store_next_number() gives next */
};
