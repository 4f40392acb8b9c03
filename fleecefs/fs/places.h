/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the images, the store and the mountpoint are, as absolute paths, and that they
 * do not stand in each other's way. Looks only; makes and opens nothing, but for
 * overmount_clean(). */
#pragma once

#include "fs/options.h"
#include "fs/overmount.h"

#include <sys/stat.h>

typedef struct
{
  SnapshotsImage *images; /* the paths are resolved; as many as in the options */
  unsigned n_images;
  char *store;               /* need not exist */
  char *run_dir, *state_dir; /* of our own, and need not exist: until the host ends, and for ever;
                              * NULL: there is none */
  char *mountpoint;          /* an empty directory */
  struct stat before_mount;  /* of the mountpoint */
  Overmount *overmount;      /* NULL: not asked for */
} Places;

/* Resolves the paths of the command line. Fails with one line that says what is wrong: an
 * image that is missing, no file or block device, named twice, in the store or under
 * the mountpoint; a store under the mountpoint or the other way round; a mountpoint
 * that mountpoint.h refuses; a block device without store=; a symbolic link of another user on
 * the way to any of them (base/trust.h). */
Places *places_resolve (const Options *options, GError **error);
void places_free (Places *places);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Places, places_free)
