/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The set of snapshots over all disks: what the verbs of the tree do.
 *
 * The set owns the store, the disks and the chains. A snapshot is a name, an
 * instant, and for each disk a layer of its chain. It lives as long as it has a
 * name or somebody holds a reference (an open file); after that the layers are
 * dropped or merged by a background thread (merge.h).
 *
 * All functions may be called from any thread. create, remove and rename write
 * the manifest before they return, and exclude each other.
 */
#pragma once

#include "cow/disk.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

typedef struct _Snapshots Snapshots;
typedef struct _Snapshot Snapshot;

typedef struct
{
  const char *name; /* of the disk in the tree */
  const char *path; /* of the image */
} SnapshotsImage;

typedef struct
{
  const char *store;         /* directory, or NULL for IMAGE.fleece beside a single image */
  uint64_t granule;          /* bytes: 4k to 64k, a power of two; 0: the store's, 4k in a new one */
  unsigned max_snapshots;    /* at least 1 */
  uint64_t max_overlay;      /* see overlay/space.h; 0: no limit */
  uint64_t reserve;          /* the same */
  DiskCopyMethod copy;       /* see cow/disk.h */
  DiskCbwError on_cbw_error; /* see cow/disk.h */
  unsigned cbw_timeout;      /* seconds that a guest's write waits for its copies; 0: no limit */
  bool durable;              /* durability=power: snapshots survive a crash of the host */
  bool new_store;            /* though an image was left open with another store */
  const char *run_dir;       /* where a seal (store/seal.h) lives as long as the host runs, */
  const char *state_dir;     /* and where for ever; NULL: nowhere */
  DiskEndingFunc is_ending;  /* see cow/disk.h; may be NULL */
  void *is_ending_data;
} SnapshotsConfig;

/* Opens the images (owned from here on), then the store, and brings back the
 * snapshots. Starts no thread: may be followed by fork(). On failure nothing was
 * created or changed. */
Snapshots *snapshots_open (const SnapshotsConfig *config, const SnapshotsImage *images,
                           unsigned n_images, GError **error);

/* A snapshot has broken. Called by the background thread with no lock held. */
typedef void (*SnapshotsBrokenFunc) (Snapshot *snapshot, void *data);

/* Who is to be told; before snapshots_start(). */
void snapshots_set_broken_func (Snapshots *set, SnapshotsBrokenFunc func, void *data);

/* Marks the store open and starts the background thread. */
bool snapshots_start (Snapshots *set, GError **error);

/* Ends the background thread, closes overlays, sources and the store clean.
 * Returns false if something could not be made clean (the set is freed all the
 * same; the next open will know). */
bool snapshots_close (Snapshots *set, GError **error);

/* Frees a set that was not started, or whose snapshots_start() failed: a store that this
 * process made is removed again, an older one is left as it was. */
void snapshots_abandon (Snapshots *set);

/* The disks, numbered from 0 in the order of the command line. */
unsigned snapshots_n_disks (const Snapshots *set);
Disk *snapshots_disk (const Snapshots *set, unsigned disk);
const char *snapshots_disk_name (const Snapshots *set, unsigned disk);
/* A small number that the disk has in this store for ever; from 1. */
uint32_t snapshots_disk_number (const Snapshots *set, unsigned disk);
/* The directory of the store. */
const char *snapshots_store_path (const Snapshots *set);
/* The file system of the store. Returns 0 or -errno. */
struct statvfs;
int snapshots_statvfs (const Snapshots *set, struct statvfs *out);
/* What the overlays take and may take. Returns 0 or -errno. */
int snapshots_space (const Snapshots *set, SpaceUsage *out);

/* What of the store is not where a start would find it, as a new string, or NULL. The snapshots of
 * levels up to *out_level are lost with that, though they can still be read. Looks at the store;
 * says it in the log, once. */
char *snapshots_find_loss (Snapshots *set, uint32_t *out_level);

/* Freezes all disks at one instant under a new name. Returns 0 or -errno: -EINVAL
 * (leading dot, empty, '/'), -ENAMETOOLONG, -EILSEQ (not UTF-8, control characters),
 * -EEXIST, -EMLINK (max_snapshots), -ENOSPC, -EDQUOT, -EIO. On success *out, if
 * not NULL, is a new reference. */
int snapshots_create (Snapshots *set, const char *name, Snapshot **out);

/* Takes the name away; files that are open stay readable. Returns 0, -ENOENT, or an
 * error of the manifest, and then nothing has changed. */
int snapshots_remove (Snapshots *set, const char *name);

/* Gives a snapshot another name. Returns 0, -ENOENT, -EEXIST (never replaces), the
 * name errors of snapshots_create(), or an error of the manifest. */
int snapshots_rename (Snapshots *set, const char *from, const char *to);

/* A new reference to the snapshot of that name or id, the newest one, or NULL.
 * By id it is also found when it has lost its name and is still referenced. */
Snapshot *snapshots_find (Snapshots *set, const char *name);
Snapshot *snapshots_find_id (Snapshots *set, uint32_t id);
Snapshot *snapshots_latest (Snapshots *set);

/* The named snapshot with the smallest id greater than id, as a new reference, or
 * NULL: for listings that stay right while the set changes. */
Snapshot *snapshots_next (Snapshots *set, uint32_t id);

/* The number of named snapshots. */
unsigned snapshots_count (Snapshots *set);

/* References. */
Snapshot *snapshot_ref (Snapshot *snapshot);
void snapshot_unref (Snapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Snapshot, snapshot_unref)

/* Does anybody refer to it but its name and the caller? A file of it that is open does. */
bool snapshot_is_in_use (Snapshot *snapshot);

/* Greater than 0, never used again, the same after a remount. */
uint32_t snapshot_id (const Snapshot *snapshot);
/* A copy of the name; NULL when it has been removed. */
char *snapshot_dup_name (Snapshot *snapshot);
/* The moment of the freeze. */
struct timespec snapshot_created (const Snapshot *snapshot);
/* Which disks of it are broken and why, as a new string, or NULL when it is right. */
char *snapshot_dup_broken (Snapshot *snapshot);

/* Why no start will find it, or NULL; see snapshots_find_loss(). */
char *snapshot_dup_lost (Snapshot *snapshot);

/* One disk of the snapshot. has_disk: false for a disk that was added later; the
 * others may be called only when it is true. */
bool snapshot_has_disk (const Snapshot *snapshot, unsigned disk);
uint64_t snapshot_size (const Snapshot *snapshot, unsigned disk);
/* Bytes that the image took in its file system at the freeze, as du(1) counts, but none beyond its
 * end; of a block device its size. What guests write or discard later changes nothing. */
uint64_t snapshot_allocated (const Snapshot *snapshot, unsigned disk);
struct timespec snapshot_mtime (const Snapshot *snapshot, unsigned disk);
/* Why this disk of it is broken, as a new string, or NULL. */
char *snapshot_dup_disk_broken (Snapshot *snapshot, unsigned disk);
/* Bytes that the overlay of this disk of it takes in the store: what no older snapshot keeps. */
uint64_t snapshot_kept (Snapshot *snapshot, unsigned disk);

/* Reads the frozen bytes. Returns the number of bytes, short only at the end of
 * the file, or -errno: -EIO when the snapshot is or became broken. */
ssize_t snapshot_read (Snapshot *snapshot, unsigned disk, void *buffer, size_t length,
                       uint64_t offset);

/* lseek(2) with SEEK_DATA or SEEK_HOLE. Returns the offset or -errno (-ENXIO at or
 * after the end). Zero blocks are holes; blocks are granules. */
int64_t snapshot_seek (Snapshot *snapshot, unsigned disk, uint64_t offset, int whence);
