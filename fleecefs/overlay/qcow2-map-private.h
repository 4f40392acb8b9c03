/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of a map share: qcow2-map.c (lookups and changes), qcow2-tables.c
 * (tables between file and memory), qcow2-used.c (what stands where in the file) and qcow2-replay.c
 * (from the journal to the tables). */
#pragma once

#include "base/lock.h"
#include "overlay/qcow2-log.h"
#include "overlay/qcow2-map.h"

#include <stdatomic.h>

#define QCOW2_ENTRY_SIZE 16
#define QCOW2_LEAKS_MAX (1U << 20)        /* a kill leaves a few */
#define QCOW2_COPIED (UINT64_C (1) << 63) /* the refcount is one; with us it always is */
#define QCOW2_OFFSET_MASK UINT64_C (0x00fffffffffffe00)

/* Bits: low word data, high word zero, as in the file. What lookups see may lag behind the file.
 * Memory order: bits are stored last (release) and loaded first (acquire). */
typedef struct
{
  _Atomic uint64_t offset; /* set once */
  _Atomic uint64_t bits;   /* published */
  uint64_t recorded;       /* in the file; under the caller's stripe.meta */
} Qcow2Entry;

typedef struct
{
  _Atomic (Qcow2Entry *) entries; /* NULL: not in memory */
  _Atomic uint64_t host_offset;   /* 0: not in the file; set once */
  uint64_t failed;                /* where it was to be when making it failed; under tables_lock */
} Qcow2Table;

struct _Qcow2Map
{
  /* constant */
  int fd;
  Qcow2Header header;
  uint64_t n_entries; /* of a table */
  GroupSync *sync;
  bool durable;      /* once other threads use it */
  uint64_t n_loaded; /* clusters of the file when it was loaded, but for an unused end if it was not
                      * closed; 0 for a new image */

  Qcow2Journal journal; /* of a durable image */
  Qcow2Log log;         /* the same */
  Qcow2Run log_run;     /* the clusters of it; what it uses may be less */

  Lock tables_lock;              /* loading and creating tables, making room */
  uint8_t *used;                 /* bit i: something stands in cluster i, which is below n_loaded */
  _Atomic uint64_t next_cluster; /* the end of what is used */
  _Atomic uint64_t room_end;     /* the end of the file; 0: it has not been set by us yet */
  _Atomic uint64_t durable_end;  /* as room_end, on disk */
  GArray *leaks; /* uint64_t; clusters that nothing refers to. Changed at load and at the end */
  Qcow2Table tables[];
};

/* The entry of a cluster, or NULL when its table is not in memory. */
Qcow2Entry *qcow2_entry (Qcow2Map *map, uint64_t cluster);

/* Up to want clusters at the end of the file, all of them adjacent; the places of
 * refcount blocks are passed over. Returns the first, and the number in *out_n. */
uint64_t qcow2_take_clusters (Qcow2Map *map, uint64_t want, uint64_t *out_n);

/* The file reaches n clusters beyond what is used, and the space for their refcounts is
 * taken. Returns 0 or -errno.
 *
 * A write beyond the end of a file makes XFS take much more space than it needs (64 KiB for
 * a granule of 4), and where it leaves a hole behind it that is never given back. So
 * the end is moved ahead of the writes. */
int qcow2_make_room (Qcow2Map *map, uint64_t n);

/* Frees what a table has in memory. NULL is allowed. */
void qcow2_free_entries (const Qcow2Map *map, Qcow2Entry *entries);

/* A table that lookups can use: in memory, or absent and not wanted. */
bool qcow2_table_is_prepared (Qcow2Table *table, bool create);

/* Makes it so. Returns 0 or -errno. */
int qcow2_prepare_table (Qcow2Map *map, Qcow2Table *table, bool create);

/* For a map that is being loaded: the clusters of the file and the fixed part of them. Fails when
 * a file with n_tables L2 tables has no reason to be that long: memory is bounded by that. */
bool qcow2_used_init (Qcow2Map *map, uint64_t n_clusters, uint64_t n_tables, const char *path,
                      GError **error);

/* Something stands at this offset. False when it cannot: outside of the file as it was loaded, in
 * the fixed part, or where something else stands. Under tables_lock, or with nobody else there. */
bool qcow2_use (Qcow2Map *map, uint64_t offset);

/* Adds to the leaks the clusters of the file as it was loaded that nothing refers to. All tables
 * have been read. */
void qcow2_note_unused (Qcow2Map *map);

/* Of an image that is being loaded, with all its tables: these get what only the journal has. On
 * return 0 they are on disk. -errno; -EUCLEAN: the journal is damaged. */
int qcow2_replay (Qcow2Map *map);

/* For an image that was not closed: finds the clusters that were taken and never recorded. Reads
 * all tables. */
bool qcow2_find_leaks (Qcow2Map *map, const char *path, GError **error);
