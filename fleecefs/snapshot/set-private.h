/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the set share: snapshots.c (verbs), freeze.c (mkdir), snapshot.c (one
 * snapshot), set-chains.c (levels, for store and disks), set-open.c (start and end),
 * set-images.c (images, as the store knows them), set-marks.c (open and clean), set-levels.c
 * (levels that are in the store), loss.c (a store that is deleted), merge.c (the background
 * thread), broken.c (what breaks) and survey.c (what people are told). */
#pragma once

#include "base/lock.h"
#include "snapshot/level.h"

struct _Snapshot
{
  /* constant */
  Snapshots *set;
  uint32_t id;
  int64_t created;

  /* under the set's lock */
  char *name;      /* NULL: removed */
  unsigned n_refs; /* a name counts as one */
  Level *level;    /* changes when a merge moves the snapshot */

  /* constant; one for each disk */
  struct
  {
    bool present;
    uint64_t size;
    uint64_t allocated;
    int64_t mtime;
    char *broken_before; /* why it was broken when the set was opened, or NULL */
  } images[];
};

struct _Snapshots
{
  /* constant after open */
  Store *store;
  Space *space; /* of all overlays */
  Barrier *barrier;
  uint64_t granule;
  unsigned max_snapshots;
  bool durable; /* old blocks are on disk before the guest's write is issued */
  char *run_dir, *state_dir;
  unsigned n_disks;
  Disk **disks;
  char **names;
  uint32_t *numbers;

  Seal *seal; /* or NULL; from snapshots_start() on */

  Lock verbs; /* see base/lock.h; the store, and every change of what stands below */

  Lock lock;
  GPtrArray *levels;   /* Level *, oldest first; changed under verbs and lock */
  GHashTable *by_name; /* char * to Snapshot *, those with a name */
  GHashTable *by_id;   /* uint32 to Snapshot *, all that live */
  Level *merging_into; /* see level_build_chain(); changed under verbs and lock */
  struct
  {
    bool under_way;
    uint32_t older;      /* number of the level whose snapshot stays */
    uint64_t done, size; /* bytes of its disks: gone through, all */
  } merge;               /* for people to see; under lock */

  /* the background thread */
  pthread_t worker;
  bool has_worker;
  SnapshotsBrokenFunc on_broken; /* set before the thread starts; may be NULL */
  void *on_broken_data;
  pthread_cond_t work;  /* a snapshot died or broke, or stop; with lock */
  pthread_cond_t room;  /* a level is gone, or the thread is idle; with lock */
  bool is_working;      /* the thread may yet take levels away; under lock */
  bool something_died;  /* under lock */
  bool something_broke; /* under lock */
  atomic_bool stop;
  unsigned alarm;           /* of the space; the thread's own */
  atomic_bool loss_is_told; /* in the log */
  char **moves;             /* of each image: the move that the log was told of; the thread's own */
};

/* A snapshot of the level with n_refs references, entered in the set's tables. */
Snapshot *snapshot_new (Snapshots *set, Level *level, const StoreRecord *record, unsigned n_refs);
/* Frees it; it is in no table any more. */
void snapshot_free (Snapshot *snapshot);

/* Adds to the text of snapshot_dup_broken() why one disk is; nothing if reason is NULL. */
void snapshot_add_reason (const Snapshots *set, unsigned disk, const char *reason, GString *text);

/* The part of snapshots_find_loss() that is of the store as a whole. */
char *set_find_loss (Snapshots *set);

/* The record of a level as it is now. */
StoreRecord *set_record (Snapshots *set, const Level *level) LOCK_REQUIRES (&set->verbs);

/* The name and format of the backing file that a level's overlay of a disk has: the
 * overlay of the next level, or the source. A new string. */
char *set_backing (Snapshots *set, unsigned level_index, unsigned disk, const char **out_format)
    LOCK_REQUIRES (&set->verbs);

/* Writes the backing file of a level's overlays where the levels after it have changed. */
bool set_relink (Snapshots *set, unsigned level_index, GError **error) LOCK_REQUIRES (&set->verbs);

/* The chains of the set's levels, one for each disk, references. fresh: see
 * level_build_chain(). */
Chain **set_build_chains (Snapshots *set, const Level *fresh);

/* The sources are on disk: what snapshots read there does not go back to what it was before. */
bool set_sync_sources (Snapshots *set, GError **error);

/* Makes a snapshot under a name that is free; two references, one for the name. NULL on failure,
 * and then there is none. */
Snapshot *set_create_snapshot (Snapshots *set, const char *name, GError **error)
    LOCK_REQUIRES (&set->verbs);

/* Replaces the chains of all disks at one instant by those of the set's levels. */
void set_swap_chains (Snapshots *set) LOCK_REQUIRES (&set->verbs);

/* Makes the set's disks of the sources, which are taken over, and tells the store of them.
 * *damages: why the snapshots of each disk cannot be right, or NULL; new strings, also after a
 * failure. *rights: when that is because another image was given, the path of theirs, if it is
 * there, else NULL. */
bool set_open_disks (Snapshots *set, const SnapshotsConfig *config, Source **sources,
                     char **damages, char **rights, GError **error);
/* Brings back the levels, with those snapshots broken that cannot be right. damages and rights are
 * those of set_open_disks(). Fails, with nothing broken for good, when the next start may find an
 * overlay right that cannot be opened now, or be given the right image. */
bool set_open_levels (Snapshots *set, char *const *damages, char *const *rights, GError **error);
/* After a kill: the disks' write clocks go on later than the times of all snapshots. */
void set_advance_clocks (Snapshots *set);
/* After a kill somebody may have cut the images off: disk_check_tail() for all. */
bool set_check_tails (Snapshots *set, GError **error);
/* Syncs the sources and tells the store what they look like then: the next start expects that. */
bool set_record_disks (Snapshots *set, GError **error);
/* After set_mark_clean(), which changes the sources' ctime: tells the store that as well, and waits
 * until a change by somebody else has another time than the last one of ours. That is some
 * milliseconds after a write; where times are whole seconds, 2 s at most. */
bool set_record_inodes (Snapshots *set, GError **error);

/* Refuses an empty store for an image that was left open with another one: that would hide the
 * snapshots that are there. */
bool set_check_marks (const Snapshots *set, GError **error);

/* Do the overlays say of all that is broken that it is? */
bool set_marks_are_written (const Snapshots *set);

/* Where the seal is of a store with that durability, or NULL. */
const char *set_seal_dir (const Snapshots *set, bool durable);

/* Marks the images as open with this store (durable: they are on disk), makes the seal, if one
 * of them takes no mark, and writes that the store is open. After a failure neither is so; only
 * with the code ENOTRECOVERABLE both may be. */
bool set_mark_open (Snapshots *set, GError **error) LOCK_REQUIRES (&set->verbs);
/* Writes that the store is clean, and takes marks and seal away: the last thing before the
 * images are closed. */
bool set_mark_clean (Snapshots *set, GError **error);
