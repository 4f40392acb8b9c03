/* SPDX-License-Identifier: GPL-2.0-or-later */
/* STORE/snapshots: the directories of the layers.
 *
 * Its entries are directories with the number of the layer as their name, at
 * least six digits. One with snapshot.ini is a layer. One without is half made,
 * or half removed. Both hold regular files only, that nobody else may write to.
 * Anything else is damage: a store that is not understood is not changed.
 *
 * dir_fd and path are those of STORE/snapshots. All functions block on the disk.
 */
#pragma once

#include "store/store.h"

#define LAYERS_DIRECTORY "snapshots"

/* What is there. */
typedef struct
{
  GPtrArray *records;     /* StoreRecord *, oldest layer first, without the superseded ones */
  GArray *superseded;     /* uint32_t: layers of a snapshot that a merge has moved on */
  GArray *half_made;      /* uint32_t */
  GArray *with_temporary; /* uint32_t: layers with a snapshot.ini.new */
  uint32_t greatest;      /* of all layers and ids; 0 when there are none */
} LayersScan;

/* NULL is allowed. */
void layers_scan_free (LayersScan *scan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (LayersScan, layers_scan_free)

/* Reads and checks all of it and changes nothing. disks (StoreDisk *) are the store's. */
LayersScan *layers_scan (int dir_fd, const char *path, const GPtrArray *disks, GError **error);

/* Removes the half-made layers and the temporary files that the scan found. */
bool layers_remove_leftovers (int dir_fd, const char *path, const LayersScan *scan, GError **error);

/* The name of a layer's directory: "000001". */
char *layers_name (uint32_t layer);

/* Opens a layer's directory; -1 on failure, ENOENT when there is none. *out_path, if not NULL, is
 * its path, to be freed. */
int layers_open (int dir_fd, const char *path, uint32_t layer, char **out_path, GError **error);

/* Removes a layer: its record, synced, then all else and the directory. So after a crash
 * there is no record without its overlays. Does nothing and fails with EUCLEAN when the directory
 * holds something else than regular files. A missing layer is not an error. */
bool layers_remove (int dir_fd, const char *path, uint32_t layer, GError **error);

/* The first step of that alone, whatever else is in the directory: it is half made then. */
bool layers_remove_record (int dir_fd, const char *path, uint32_t layer, GError **error);
