/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store: the directory that keeps the overlays, and the manifest that says
 * what they are (design.md, section 6).
 *
 *     STORE/lock                          two lock bytes, see below
 *     STORE/fleecefs.ini                  format, uuid, boot id, clean or open, disks
 *     STORE/spare                         space for a change of the manifest, see below
 *     STORE/snapshots/000001/snapshot.ini one layer of the chains
 *     STORE/snapshots/000001/vm1.img.qcow2
 *
 * A directory under snapshots/ is a layer: one overlay for each disk. Its number
 * gives its place in the chain (oldest first) and is never used again. A layer
 * has the record of a snapshot (id, name, times, sizes), or none when its
 * snapshot was removed and older ones still read through it. A snapshot keeps
 * its id for life; a merge can move it to another layer, so id and layer number
 * are two things.
 *
 * Every manifest file is changed by write-new, fsync, rename, fsync of the
 * directory; so a reader finds the old record or the new one. When the file system is full the
 * new one is made out of the spare, so that what is there can always be changed. A directory
 * without snapshot.ini is half made: nothing was ever read through it, and it is
 * removed by store_open().
 *
 * Byte 0 of STORE/lock belongs to the process that owns the store, byte 1 to
 * one that serves from it. A daemon whose mount is gone drops byte 1 first and
 * byte 0 when all is closed; so a new one can tell "in use", which it reports,
 * from "closing", which it waits for.
 *
 * What the directory holds is not trusted: symbolic links, names, numbers and sizes
 * are checked when they are read. Errors are FAIL_ERROR: EINVAL for a directory that
 * is not a store, ENOTSUP for a newer format, EUCLEAN for a damaged store, EPERM for one that
 * others may write to (base/trust.h), EBUSY,
 * or what the file system says (ENOSPC, EDQUOT, EROFS, EIO, ...).
 *
 * All functions block on the disk. They are not thread safe: the caller
 * (snapshots.c) serialises them by its own lock.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct _Store Store;

/* What tells that a file was changed although its size and mtime are the same. number 0: unknown.
 */
typedef struct
{
  uint64_t number;
  int64_t ctime; /* ns since the epoch */
  uint64_t mode, uid, gid, n_links;
} StoreInode;

/* What the manifest says of one disk when the store was last closed. */
typedef struct
{
  char *name;         /* as in the tree; the key */
  char *path;         /* absolute path of the source */
  uint32_t number;    /* 1, 2, ...; given at the first mount, part of inode numbers, never reused */
  uint64_t size;      /* bytes of the source at the last clean close */
  int64_t mtime;      /* of the source at the last clean close, ns since the epoch */
  int64_t write_time; /* of the disk's write clock (write-clock.h), ns */
  uint64_t identity;  /* of the source, see source_identity(); 0: unknown */
  uint64_t writes;    /* to a block device at the last clean close, see source_count_writes() */
  StoreInode inode;   /* of a file at the last clean close; unknown while the store is open */
  bool marked;        /* the source got the mark of this store when it was marked open */
} StoreDisk;

/* One disk in one snapshot. */
typedef struct
{
  char *disk;         /* StoreDisk.name */
  uint64_t size;      /* bytes at the freeze */
  uint64_t allocated; /* bytes that the source took then, of those of its size */
  int64_t mtime;      /* write time of the disk at the freeze, ns */
  char *broken;       /* why it is broken, or NULL */
} StoreImage;

/* The record in a layer's snapshot.ini. */
typedef struct
{
  uint32_t layer;    /* number of the directory */
  uint32_t id;       /* of the snapshot; 0: a layer without one */
  char *name;        /* NULL: a layer without a snapshot */
  int64_t created;   /* moment of the freeze, ns since the epoch */
  GPtrArray *images; /* StoreImage *, one for each disk that the layer has an overlay of */
} StoreRecord;

/* A record of zeros with an empty array of images. */
StoreRecord *store_record_new (void);
/* Frees a record, its array of images and all it points to. NULL is allowed. */
void store_record_free (StoreRecord *record);
/* A deep copy. */
StoreRecord *store_record_copy (const StoreRecord *record);
/* A new image entry of a record, which is right; the name is copied. */
StoreImage *store_image_new (const char *disk, uint64_t size, uint64_t allocated, int64_t mtime);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (StoreRecord, store_record_free)

/* Opens the store at path and locks it, or makes a new one there when the path
 * does not exist (mode 0700; the parent must exist) or is an empty directory.
 * *granule is the wanted copy unit in bytes, 0 for the store's own or, in a new
 * one, 4096; on return it is the store's. Half-made layers and temporary files are removed.
 * Fails, with nothing changed, when the directory is a symbolic link, is not a store, is of a newer
 * format, is damaged (which file, which key), has another granule while it has
 * layers, or is served by another fleecefs (EBUSY, and who). */
Store *store_open (const char *path, uint64_t *granule, GError **error);

/* To be called before the images of a store are opened: waits while another process
 * closes the store at path, and for 2 seconds at most while it still serves (it may
 * not have noticed the unmount). Changes nothing; no store is not an error. */
void store_await_closing (const char *path);

/* Drops the byte that says "serving": from now on a new daemon waits for us. */
void store_stop_serving (Store *store);

/* Unlocks and frees; the manifest stays as it is. NULL is allowed. */
void store_free (Store *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Store, store_free)

/* Undoes store_open() of a store that this process has just made and that has no
 * layers: removes its files and directories, unlocks and frees. For a start that
 * fails later. Does only store_free() for a store that was there before. */
void store_discard_new (Store *store);

/* Tells it from any other: a UUID. A copy in another directory gets a new one. */
const char *store_id (const Store *store);
/* The one that the store had when it was found. */
const char *store_found_id (const Store *store);

/* The absolute path of the store. */
const char *store_path (const Store *store);

/* True when the last owner closed the store (or it is new). */
bool store_was_clean (const Store *store);
/* True when the host has not been booted since the store was marked open or clean, or it is new. */
bool store_same_boot (const Store *store);
/* True when it was not closed and the host has been booted since. store_mark_open() and
 * _clean() make the next open forget that: write what follows from it into the records first. */
bool store_host_crashed (const Store *store);

/* True when it was not closed and this is another directory, as far as that can be seen: a copy of
 * it, of any moment. What its owner saved since then is not in it. */
bool store_was_copied (const Store *store);

/* The disk's entry, or NULL when the store does not know it. Valid until the next change. */
const StoreDisk *store_find_disk (const Store *store, const char *name);
/* All disks (StoreDisk *); owned by the store. */
const GPtrArray *store_disks (const Store *store);
/* Adds the disk or replaces its path, size, mtime and write time; the number stays or
 * is given. In memory only: written by the next store_mark_open() or _clean(), which must
 * come before the first record that names the disk. NULL when the name of a new disk is not one
 * (1 to 200 bytes, UTF-8, no control characters, '/' or leading dot) or there are 4095. */
const StoreDisk *store_set_disk (Store *store, const char *name, const char *path, uint64_t size,
                                 int64_t mtime, int64_t write_time);

/* The rest of what is known of a disk that was set. */
void store_set_disk_marks (Store *store, const char *name, uint64_t identity, uint64_t writes);
void store_set_disk_inode (Store *store, const char *name, const StoreInode *inode);
void store_set_disk_marked (Store *store, const char *name, bool marked);

/* Did its last owner keep it with durability=power? Then it is right after a crash too. */
bool store_was_durable (const Store *store);

/* How it is kept from now on: durable says that what is in the store is on disk, and always will be
 * before it is needed. In memory only, as store_set_disk(). */
void store_set_durable (Store *store, bool durable);

/* The name of the seal (seal.h) that the manifest has, or NULL. */
const char *store_seal (const Store *store);
/* Another one, or none, from now on. In memory only, as store_set_disk(). */
void store_set_seal (Store *store, const char *name);

/* Writes "open" with the boot id and the disks: after this a crash is noticed. */
bool store_mark_open (Store *store, GError **error);
/* Writes "clean" with the disks as set: the last thing before store_free(). */
bool store_mark_clean (Store *store, GError **error);

/* The next number, for a snapshot id and its layer alike: greater than any that was
 * ever given, also across a crash (the manifest reserves them in blocks of 64). 0 and *error on
 * failure. */
uint32_t store_next_number (Store *store, GError **error);

/* Makes the directory of a layer; it is not one until its record is written. EEXIST when there is
 * one. */
bool store_create_layer (Store *store, uint32_t layer, GError **error);
/* Opens the directory of a layer (O_RDONLY): for openat() of its overlays. -1 on failure. */
int store_open_layer (Store *store, uint32_t layer, GError **error);
/* Its path, for messages. A new string. */
char *store_layer_path (const Store *store, uint32_t layer);
/* The name of a disk's overlay in its layer's directory. */
char *store_overlay_name (const char *disk);
/* A path from one layer's directory to a disk's overlay in another: "../000002/vm1.img.qcow2". */
char *store_overlay_reference (uint32_t layer, const char *disk);

/* Writes or replaces a layer's snapshot.ini; atomic and, if durable, synced. Without durable
 * a loss of power can leave it empty, which is a damaged store. EINVAL, with nothing
 * written, for a record that is wrong by itself; that id and name are not in use is up to
 * the caller. ENOTRECOVERABLE: not even the old record could be put back; then the store takes no
 * more changes, and what is true is what the next store_open() finds. */
bool store_write_record (Store *store, const StoreRecord *record, bool durable, GError **error);
/* Makes the spare again, if it was used and there is space now. */
void store_keep_spare (Store *store);
/* Takes a layer's record away again: the directory is half made. A missing one is no error. */
bool store_remove_record (Store *store, uint32_t layer, GError **error);
/* Reads all layers, oldest first (StoreRecord *, owned by the array). A damaged record, two
 * of one name, or an image that no disk of the store matches is an error. Of two layers with the
 * same snapshot id (a merge was interrupted just before its last step) the older is left out. */
GPtrArray *store_read_records (Store *store, GError **error);
/* Removes the layers that store_read_records() left out. To be called before records are changed,
 * and after the last backing file that was one of their overlays has become another. */
bool store_remove_superseded (Store *store, GError **error);
/* Removes a layer: its record first, then its overlays and the directory. A missing one is not an
 * error. EUCLEAN, with nothing removed, when there is something else than files in it; its record
 * goes before the next change of the store, which fails if that cannot be. */
bool store_remove_layer (Store *store, uint32_t layer, GError **error);

/* Why no start will find the store where it was, as a new string, or NULL: while it is open
 * somebody has deleted it, or its manifest, moved it, or put something else in its place. Of a
 * layer: its record, or the overlay of the disk, is not there. What cannot be asked is not lost. A
 * few system calls. */
char *store_find_loss (const Store *store);
char *store_find_lost_file (const Store *store, uint32_t layer, const char *disk);

/* Free and total bytes and files of the store's file system. Returns 0 or -errno. */
struct statvfs;
int store_statvfs (const Store *store, struct statvfs *out);
