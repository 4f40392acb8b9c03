/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A log of small copies: the old bytes themselves, with a record of each change. It is the journal
 * (qcow2-journal.h) for a few granules, at the price of a write that overwrites.
 *
 * The place of a granule in the overlay is new more often than not. A sync that has to bring it to
 * disk has to bring what the file system wrote down of its new blocks as well, which takes another
 * trip. So the bytes go where the file has blocks already, and only that part of the file is waited
 * for (sync-range.h). They go to their place while the disk writes, the entry goes to its table
 * after that, and both are on disk with some later sync:
 *
 *     qcow2_log_add(), the entry in the table, qcow2_log_done()
 *
 * An entry may so be on disk before the bytes that it leads to, as long as the log has these; and
 * bytes may be in a place, that no entry leads to, which the log never got. Who
 * reads the log therefore writes all of its bytes to their places again, whatever the tables say,
 * and keeps the log until that is on disk. The file must reach as far as the places, and have the
 * table, on disk, before a change is added.
 *
 * The log is a run of clusters that nothing refers to. It begins with a record that has the number
 * of a lap; behind it stand records of changes, as in the journal, each followed by its bytes: one
 * granule for each that has data, in order. The check of a record includes the number of the lap.
 * They count up to the first that is not whole: each write of them begins when the one before is on
 * disk, takes the place of one that failed, and after a sync that failed there is none.
 *
 * When the log is full, or somebody is to overwrite bytes that it has, the file is synced and a new
 * lap begins, on disk: then nothing of the one before counts any more. When the sync fails the log
 * stays as it is for ever.
 *
 * Several writers share a write: one writes what all that wait have brought. Nothing is copied for
 * that, and there is no memory for each of them but their stack.
 */
#pragma once

#include "base/sync-range.h"
#include "overlay/qcow2-journal.h"

/* In bytes. */
#define QCOW2_LOG_SIZE (512 * 1024) /* with the first record */
#define QCOW2_LOG_SIZE_MAX (1024 * 1024)
#define QCOW2_LOG_BYTES_MAX (16 * 1024) /* of one change */

typedef struct _Qcow2LogEntry Qcow2LogEntry;

typedef struct
{
  /* constant once it has begun */
  int fd;
  GroupSync *sync;
  uint64_t granule;      /* bytes */
  uint64_t offset;       /* in the file, bytes */
  SyncRange range;       /* all of it */
  _Atomic uint64_t size; /* bytes; 0: there is no log. Set last */

  Lock lock;
  pthread_cond_t changed;
  bool writing; /* somebody writes to the file for others; under lock, so are the others */
  uint64_t lap;
  uint64_t next;               /* the first free byte, from offset on */
  unsigned n_open;             /* calls of add without done */
  Qcow2LogEntry *first, *last; /* who waits to be written, in order */
} Qcow2Log;

/* For the image behind fd and sync. There is no log until it begins. */
void qcow2_log_init (Qcow2Log *log, int fd, uint64_t granule, GroupSync *sync);
/* Nobody is in it. */
void qcow2_log_clear (Qcow2Log *log);

/* Begins the log at that offset of the file, empty. Its blocks are written, not synced.
 * Returns 0 or -errno: there is no log. ENOMEM also where the file cannot be mapped. */
int qcow2_log_begin (Qcow2Log *log, uint64_t offset, uint64_t size);

/* On return 0 the change, and its bytes (at most QCOW2_LOG_BYTES_MAX), are on disk, the bytes are
 * in their place in the file, and the caller owes a qcow2_log_done(). Blocks; -errno. */
int qcow2_log_add (Qcow2Log *log, const Qcow2Change *change, const void *bytes);

/* The entry of one qcow2_log_add() is in its table in the file, or the copy has failed. */
void qcow2_log_done (Qcow2Log *log);

/* Syncs the file and begins a new lap. On return 0 no change that was done before counts. Blocks;
 * -errno. */
int qcow2_log_renew (Qcow2Log *log);

/* Writes the bytes of a change to their places. Returns 0 or -errno. */
int qcow2_log_place (int fd, uint64_t granule, const Qcow2Change *change, const uint8_t *bytes);

/* What is done with a change that was read. Returns 0 or -errno, which ends the reading. */
typedef int Qcow2LogFunc (void *data, const Qcow2Change *change, const uint8_t *bytes);

/* What a log of that size has, read by qcow2_log_load(): calls func for each of its changes. */
int qcow2_log_read (const uint8_t *area, uint64_t size, uint64_t granule, Qcow2LogFunc *func,
                    void *data);
/* The bytes of a log; zeros behind the end of the file. NULL with -errno. */
uint8_t *qcow2_log_load (int fd, uint64_t offset, uint64_t size, int *out_error);

#ifdef FLEECE_PAUSE_POINTS
/* The size of logs that begin from now on, for tests; 0: none. */
extern uint64_t qcow2_log_size;
#endif
