/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A journal of changes that are not in the tables on disk yet. With it a durable overlay saves
 * granules at the price of one sync.
 *
 * An entry of an L2 table must not be on disk before the bytes that it leads to. By itself that
 * takes two syncs, one after each. Here the bytes and a record of the change are written, and one
 * sync is for both. Whether the bytes got to disk as well as the record, a check of them in the
 * record tells. The entry in the table is written after the sync, and reaches the disk with some
 * later one:
 *
 *     bytes, qcow2_journal_add(), the entry in the table, qcow2_journal_done()
 *
 * Bytes with a record must not change until their entry is on disk: the check in the record would
 * not do any more, for them and for all others of that record.
 *
 * The journal stands in the header's cluster, where the format has nothing. Its records are small
 * enough that a sector holds whole ones. Copies of a few granules go to a log (qcow2-log.h), whose
 * place stands in the journal's first record. When it is full, the tables are synced and it begins
 * anew; when that sync fails it stays full for ever. What stands there still is in the tables by
 * then; so whoever reads it takes from it only what a table lacks. An image with a journal that has
 * to be read has a bit in its header that keeps QEMU from opening it.
 *
 * The first record holds the number of the session, and where the log is; the check of each other
 * one includes that. A session has begun on disk before the header has the bit.
 */
#pragma once

#include "overlay/group-sync.h"

/* In bytes. */
#define QCOW2_JOURNAL_OFFSET (64 * 1024)
#define QCOW2_JOURNAL_SIZE (64 * 1024) /* with the first record */
#define QCOW2_JOURNAL_RECORD 64
#define QCOW2_JOURNAL_RECORDS (QCOW2_JOURNAL_SIZE / QCOW2_JOURNAL_RECORD)

typedef struct
{
  /* constant */
  int fd;
  GroupSync *sync;
  uint64_t granule; /* bytes */
  uint64_t session;

  Lock lock;
  pthread_cond_t done;
  unsigned next;   /* the first free record; under lock */
  unsigned n_open; /* calls of add without done; under lock */
} Qcow2Journal;

/* A change of one cluster's entry. */
typedef struct
{
  uint64_t cluster;
  uint64_t host_offset; /* of the cluster in the file; 0: none, then data is 0 */
  uint32_t data, zero;  /* granules that have that from now on */
} Qcow2Change;

/* For the image behind fd and sync. */
void qcow2_journal_init (Qcow2Journal *journal, int fd, uint64_t granule, GroupSync *sync);
/* Nobody is in it. */
void qcow2_journal_clear (Qcow2Journal *journal);

/* A run of bytes of the file. */
typedef struct
{
  uint64_t offset, size; /* size 0: none */
} Qcow2Run;

/* Begins a session, with a log there: what is in the journal's place counts no more. Written, not
 * synced. Returns 0 or -errno. */
int qcow2_journal_begin (Qcow2Journal *journal, Qcow2Run log);

/* On return 0 the changes, at most 8, and the bytes that they lead to, which are written before the
 * call, are on disk, and the caller owes a qcow2_journal_done(). Blocks; -errno. */
int qcow2_journal_add (Qcow2Journal *journal, const Qcow2Change *changes, unsigned n);

/* The changes of one qcow2_journal_add() are in the tables in the file, or need not be. */
void qcow2_journal_done (Qcow2Journal *journal);

/* What is done with a change that was read. Returns 0 or -errno, which ends the reading. */
typedef int Qcow2ChangeFunc (void *data, const Qcow2Change *change, uint64_t check);

/* Reads the journal of the image behind fd and calls func for each of its records; check is that of
 * the bytes as they were to be, for qcow2_journal_check(). *out_log: where the log is. Returns 0 or
 * -errno. */
int qcow2_journal_read (int fd, Qcow2ChangeFunc *func, void *data, Qcow2Run *out_log);

/* Reads the bytes that a change leads to. Returns 0 and their check, or -errno: -ENODATA when the
 * file ends before. */
int qcow2_journal_check (int fd, uint64_t granule, const Qcow2Change *change, uint64_t *out_check);

/* Records as they are in the file: the first one of a journal, and of a log, and that of a change;
 * of a change in a log the session is its lap. Decode: false when it is none, or none of the
 * session's. */
void qcow2_journal_encode_first (uint64_t session, Qcow2Run log,
                                 uint8_t record[static QCOW2_JOURNAL_RECORD]);
void qcow2_journal_encode (uint64_t session, const Qcow2Change *change, uint64_t check,
                           uint8_t record[static QCOW2_JOURNAL_RECORD]);
void qcow2_journal_encode_lap (uint64_t lap, uint8_t record[static QCOW2_JOURNAL_RECORD]);
bool qcow2_journal_decode_lap (const uint8_t *record, uint64_t *out_lap);
bool qcow2_journal_decode (uint64_t session, const uint8_t *record, Qcow2Change *out_change,
                           uint64_t *out_check);

#ifdef FLEECE_PAUSE_POINTS
/* How many records a journal holds before it begins anew, for tests; at least 9. */
extern unsigned qcow2_journal_records;
#endif
