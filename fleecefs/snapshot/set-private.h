/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the set share: snapshots.c (verbs), freeze.c (mkdir), snapshot.c (one
 * snapshot), set-chains.c (levels, for store and disks), set-open.c (start and end),
 * merge.c (the background thread), broken.c (what breaks) and survey.c (what people are told). */
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
  unsigned n_disks;
  Disk **disks;
  char **names;
  uint32_t *numbers;

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
  unsigned alarm; /* of the space; the thread's own */
};

/* A snapshot of the level with n_refs references, entered in the set's tables. */
Snapshot *snapshot_new (Snapshots *set, Level *level, const StoreRecord *record, unsigned n_refs);
/* Frees it; it is in no table any more. */
void snapshot_free (Snapshot *snapshot);

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
