/* SPDX-License-Identifier: GPL-2.0-or-later */
/* STORE/fleecefs.ini: what is true of the store as a whole.
 *
 *     [fleecefs]
 *     format=1
 *     uuid=...
 *     state=clean | open
 *     boot-id=...           of the host when the state was written
 *     durability=process | power
 *     granule=4096          bytes
 *     next-number=65        no number from here on was ever given
 *     place=...             birth of the store's directory, ns since the epoch, when it was opened
 *                           last; 0 or absent: unknown
 *     seal=...           the name of its file, a UUID, see seal.h; absent: there is none
 *
 *     [disk 1]              1 to 4095
 *     name=vm1.img
 *     path=/images/vm1.img  bytes that are no UTF-8, and '%', as %XX
 *     size=1073741824       bytes
 *     mtime=...             ns since the epoch
 *     write-time=...        ns since the epoch
 *     identity=...          of the image; 0 or absent: unknown
 *     writes=...            sectors; 0 for a file
 *     inode=...             of a file, when the store is clean; 0 or absent: unknown
 *     ctime=...             ns since the epoch; this and what follows: of that inode
 *     mode=...              st_mode
 *     uid=...
 *     gid=...
 *     links=...
 *     marked=1              while the store is open: so is the image, see source/mark.h; else 0
 *
 *     [end]                 the last line, see keyfile.h
 *
 * Groups and keys that this version does not know are kept.
 */
#pragma once

#include "store/keyfile.h"
#include "store/store.h"

#define MANIFEST_FILE "fleecefs.ini"
#define MANIFEST_FORMAT 1

#define MANIFEST_GRANULE_MIN UINT64_C (4096)
#define MANIFEST_GRANULE_MAX UINT64_C (65536)
#define MANIFEST_DISKS_MAX 4095

/* The end of the numbers: next_number when all have been given. */
#define MANIFEST_NUMBER_END (UINT64_C (1) << 32)

typedef struct
{
  Keyfile *file; /* as read or last written, with the unknown keys */
  char *uuid;
  char *boot_id;
  bool open;
  bool durable;         /* power: what is open survives a crash of the host */
  uint64_t granule;     /* bytes */
  uint64_t next_number; /* 1 to MANIFEST_NUMBER_END */
  uint64_t place;       /* 0: unknown */
  char *seal;           /* or NULL */
  GPtrArray *disks;     /* StoreDisk * */
} Manifest;

/* That of a new store, clean, with no disks. store_path is for messages. */
Manifest *manifest_new (const char *store_path, uint64_t granule, const char *boot_id);
void manifest_free (Manifest *manifest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Manifest, manifest_free)

/* Reads and checks it. NULL with ENOENT when there is none, ENOTSUP when it is of a newer
 * format, EUCLEAN when it is damaged. */
Manifest *manifest_load (int store_fd, const char *store_path, GError **error);

/* Replaces it, atomically and synced; with use_spare also on a full file system (spare.h). */
bool manifest_save (Manifest *manifest, int store_fd, bool use_spare, GError **error);

/* The disk of that name or number, or NULL. */
StoreDisk *manifest_find_disk (const GPtrArray *disks, const char *name);
StoreDisk *manifest_find_number (const GPtrArray *disks, uint32_t number);

/* Adds a disk with the next number and neither path nor size. NULL when the name is not
 * one or there are MANIFEST_DISKS_MAX. */
StoreDisk *manifest_add_disk (Manifest *manifest, const char *name);

/* The groups "disk 1", "disk 2", ... of both manifest files. The number of the group is 0
 * when it is of another kind; false and *error when it starts like one and is not. */
char *manifest_disk_group (uint32_t number);
bool manifest_parse_disk_group (const Keyfile *file, const char *group, uint32_t *out_number,
                                GError **error);

/* The name in such a group, checked; NULL on failure. */
char *manifest_get_name (const Keyfile *file, const char *group, GError **error);

/* A power of two from MANIFEST_GRANULE_MIN to _MAX? */
bool manifest_granule_is_valid (uint64_t granule);
