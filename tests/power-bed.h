/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A set of snapshots over small disks, a log of all it does (power-log.h), and a model of what was
 * promised to whom at which moment.
 *
 * The files are in test_dir/live: disk0.img, disk1.img, store. A test opens sessions, does things
 * through the functions here, and then has power_try() crash it at every moment: each state is
 * made in test_dir/crash and opened as after a boot of the host, and what must be true
 * of it is checked (power-check.c).
 *
 * Offsets and lengths of guests' writes are multiples of 512, so that each sector has the bytes of
 * one of them. */
#pragma once

#include "power-crash.h"
#include "snapshot/snapshots.h"

#define BED_DISKS 2

/* What a guest did to a disk. */
typedef struct
{
  uint64_t begun, ended; /* moments */
  enum
  {
    BED_WRITE,
    BED_ZERO,
    BED_RESIZE, /* offset is the new size */
    BED_FLUSH,
  } kind;
  uint64_t offset, length;
  uint8_t *bytes;
} BedOp;

typedef struct
{
  char *name, *new_name;           /* new_name: NULL, or the name after a rename */
  uint64_t made_begun, made;       /* moments; made: mkdir had returned */
  uint64_t renamed_begun, renamed; /* POWER_NEVER: not */
  uint64_t removed_begun, removed; /* likewise */
  uint8_t *images[BED_DISKS];
  uint64_t sizes[BED_DISKS];
} BedSnapshot;

typedef struct
{
  bool durable;
  bool killed;
  uint64_t opened_begun, opened, closed_begun, closed; /* POWER_NEVER: not */
} BedSession;

typedef struct
{
  unsigned n_disks;
  uint64_t size; /* of each disk, bytes */
  uint64_t granule;
  DiskCopyMethod copy;
} BedConfig;

typedef struct
{
  BedConfig config;
  PowerLog *log;
  Snapshots *set;
  SnapshotsImage images[BED_DISKS];
  const char *sources[BED_DISKS + 1];
  unsigned version; /* of the next write's bytes */
  bool may_break;   /* a copy was made to fail: snapshots are right or say that they are broken */
  DiskCbwError on_cbw_error; /* of sessions from now on */

  /* under lock */
  pthread_mutex_t lock;
  uint8_t *first[BED_DISKS], *now[BED_DISKS]; /* BED_CAPACITY bytes, zeros after the end */
  uint64_t first_size, sizes[BED_DISKS];
  GPtrArray *ops[BED_DISKS]; /* BedOp */
  GPtrArray *snapshots;      /* BedSnapshot */
  GPtrArray *sessions;       /* BedSession */
  BedSnapshot *making;       /* in mkdir, whose picture was not taken yet */
} Bed;

/* The largest size that a disk may grow to. */
#define BED_CAPACITY(bed) ((bed)->config.size * 2)

/* The disks are there, half of them data and half holes; nothing is open. */
Bed *bed_new (const BedConfig *config);
void bed_free (Bed *bed);

/* A session, opened and started. */
void bed_open (Bed *bed, bool durable);
/* One that does not open. */
void bed_open_refused (Bed *bed, bool durable, int errnum);
void bed_close (Bed *bed);
/* The daemon is killed; the host goes on. */
void bed_kill (Bed *bed);

/* The guest; each sector gets bytes that no other write has. */
void bed_write (Bed *bed, unsigned disk, uint64_t offset, uint64_t length);
/* One whose copy fails, with on_cbw_error break-guest-write: it is refused, and changes nothing. */
void bed_write_refused (Bed *bed, unsigned disk, uint64_t offset, uint64_t length);
/* Zeros, by a write and by making a hole. */
void bed_write_zeros (Bed *bed, unsigned disk, uint64_t offset, uint64_t length);
void bed_zero (Bed *bed, unsigned disk, uint64_t offset, uint64_t length);
void bed_resize (Bed *bed, unsigned disk, uint64_t size);
void bed_flush (Bed *bed, unsigned disk);

void bed_mkdir (Bed *bed, const char *name);
/* Within mkdir: the disks are frozen as they are now. Otherwise it is done when mkdir returns. */
void bed_frozen (Bed *bed);
void bed_rmdir (Bed *bed, const char *name);
void bed_rename (Bed *bed, const char *from, const char *to);

/* How many states are tried, unless POWER_STATES says how many. */
typedef struct
{
  unsigned whole_limit; /* of a moment with at most so many states, all */
  unsigned n_random;    /* of all others together */
  unsigned deep_every;  /* one in so many states is looked at again; see PowerDepth */
} BedEffort;

/* Ends the log and tries crashes. name is for messages. */
void power_try (Bed *bed, const char *name, const BedEffort *effort);

/* What is done after the snapshots have been looked at. */
typedef enum
{
  POWER_CLOSE,
  POWER_REOPEN, /* closed, looked at by QEMU, opened and looked at again */
  POWER_WRITE,  /* the same, and guests write before it */
} PowerDepth;

/* Checks one state, made in path, of a crash at that moment. */
void power_check (Bed *bed, uint64_t moment, const char *path, PowerDepth depth);
