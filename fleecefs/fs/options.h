/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line:
 *
 *     fleecefs [-f] [-d] [-h] [-V] [-o OPTIONS] [NAME=]IMAGE... MOUNTPOINT
 *
 * Options may stand anywhere (mount.fuse3 puts -o last). What is not fleecefs's own
 * is left for libfuse in `fuse`; what mount(8) and fstab add for themselves is dropped.
 *
 * Only the words are judged here; no file is looked at.
 */
#pragma once

#include "fs/fuse-compat.h"
#include "fs/images.h"
#include "snapshot/snapshots.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct
{
  bool help, version;     /* asked for; then nothing else is set */
  bool foreground, debug; /* debug implies foreground, and LOG_DEBUG */
  int log_level;          /* of syslog(3) */
  GPtrArray *images;      /* Image *, at least one */
  char *mountpoint;       /* as given */
  char *store;            /* as given, or NULL: then there is one image */
  uint64_t granule;       /* bytes, or 0 */
  unsigned max_snapshots;
  uint64_t max_overlay, reserve; /* bytes, or 0 */
  unsigned threads;
  unsigned max_read; /* bytes, or 0; also in fuse */
  DiskCopyMethod copy;
  DiskCbwError on_cbw_error;
  unsigned cbw_timeout;  /* seconds; 0: none */
  bool durable;          /* durability=power */
  bool new_store;        /* though the store of an image is gone */
  bool overmount;        /* the live files over their images */
  bool io_uring;         /* also in fuse */
  struct fuse_args fuse; /* program name and options for fuse_session_new() */
} Options;

/* Parses the command line. NULL and a usage error (usage.h) when it is wrong. */
Options *options_parse (int argc, char **argv, GError **error);
void options_free (Options *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Options, options_free)
