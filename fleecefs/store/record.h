/* SPDX-License-Identifier: GPL-2.0-or-later */
/* STORE/snapshots/NNNNNN/snapshot.ini: one layer, and the snapshot that it is of.
 *
 *     [snapshot]
 *     id=1
 *     name=monday           id and name are absent from a layer without a snapshot
 *     created=...           ns since the epoch
 *
 *     [disk 1]              number of the disk in fleecefs.ini
 *     name=vm1.img
 *     size=1073741824       bytes
 *     allocated=104857600   bytes
 *     mtime=...             ns since the epoch
 *     broken=why            absent when it is right; one line of text
 *
 *     [end]                 the last line, see keyfile.h
 */
#pragma once

#include "store/store.h"

#define RECORD_FILE "snapshot.ini"

/* May this record be written? Checks ids, names, sizes, and that each image is of another
 * one of the disks (StoreDisk *). Fails with EINVAL. */
bool record_check (const StoreRecord *record, const GPtrArray *disks, GError **error);

/* Reads and checks the record of a layer; layer_fd and layer_path are of its directory. NULL
 * with ENOENT when it has none, EUCLEAN when it is damaged or has an image of no disk. */
StoreRecord *record_load (int layer_fd, const char *layer_path, uint32_t layer,
                          const GPtrArray *disks, GError **error);

/* Writes a record that record_check() accepts; see keyfile_save(). */
bool record_save (const StoreRecord *record, int layer_fd, const char *layer_path,
                  const GPtrArray *disks, bool durable, int spare_fd, GError **error);
