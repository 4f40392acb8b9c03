/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/qcow2-journal.h"

#include "base/crc64.h"
#include "base/io.h"
#include "base/pause.h"
#include "base/scratch.h"
#include "overlay/be.h"

#include <errno.h>
#include <glib.h>

#define CHANGES_MAX 8

/* Places in a record, in bytes. */
enum
{
  AT_MAGIC = 0,
  AT_SESSION = 8, /* of the first record; so are these: */
  AT_LOG_OFFSET = 16,
  AT_LOG_SIZE = 24,
  /* of the others: */
  AT_CLUSTER = 8,
  AT_HOST_OFFSET = 16,
  AT_DATA = 24,
  AT_ZERO = 28,
  AT_BYTES_CHECK = 32,
  AT_CHECK = 56, /* of all before it, and of the session */
};

#define MAGIC_FIRST UINT64_C (0x666c6565636a3031)
#define MAGIC_LAP UINT64_C (0x666c6565636c3031)
#define MAGIC_CHANGE UINT64_C (0x666c656563657263)

#ifdef FLEECE_PAUSE_POINTS
unsigned qcow2_journal_records = QCOW2_JOURNAL_RECORDS;
#define RECORDS qcow2_journal_records
#else
#define RECORDS QCOW2_JOURNAL_RECORDS
#endif

void
qcow2_journal_init (Qcow2Journal *journal, int fd, uint64_t granule, GroupSync *sync)
{
  *journal = (Qcow2Journal){ .fd = fd, .sync = sync, .granule = granule };
  lock_init (&journal->lock, LOCK_JOURNAL);
  pthread_cond_init (&journal->done, NULL);
}

void
qcow2_journal_clear (Qcow2Journal *journal)
{
  pthread_cond_destroy (&journal->done);
  lock_clear (&journal->lock);
}

static void
seal (uint8_t *record, uint64_t session)
{
  be_store64 (record + AT_CHECK, crc64 (session, record, AT_CHECK));
}

static bool
is_sealed (const uint8_t *record, uint64_t magic, uint64_t session)
{
  return be_load64 (record + AT_MAGIC) == magic
         && be_load64 (record + AT_CHECK) == crc64 (session, record, AT_CHECK);
}

void
qcow2_journal_encode_first (uint64_t session, Qcow2Run log,
                            uint8_t record[static QCOW2_JOURNAL_RECORD])
{
  memset (record, 0, QCOW2_JOURNAL_RECORD);
  be_store64 (record + AT_MAGIC, MAGIC_FIRST);
  be_store64 (record + AT_SESSION, session);
  be_store64 (record + AT_LOG_OFFSET, log.offset);
  be_store64 (record + AT_LOG_SIZE, log.size);
  seal (record, 0);
}

void
qcow2_journal_encode_lap (uint64_t lap, uint8_t record[static QCOW2_JOURNAL_RECORD])
{
  memset (record, 0, QCOW2_JOURNAL_RECORD);
  be_store64 (record + AT_MAGIC, MAGIC_LAP);
  be_store64 (record + AT_SESSION, lap);
  seal (record, 0);
}

bool
qcow2_journal_decode_lap (const uint8_t *record, uint64_t *out_lap)
{
  *out_lap = be_load64 (record + AT_SESSION);
  return is_sealed (record, MAGIC_LAP, 0);
}

void
qcow2_journal_encode (uint64_t session, const Qcow2Change *change, uint64_t check,
                      uint8_t record[static QCOW2_JOURNAL_RECORD])
{
  memset (record, 0, QCOW2_JOURNAL_RECORD);
  be_store64 (record + AT_MAGIC, MAGIC_CHANGE);
  be_store64 (record + AT_CLUSTER, change->cluster);
  be_store64 (record + AT_HOST_OFFSET, change->host_offset);
  be_store32 (record + AT_DATA, change->data);
  be_store32 (record + AT_ZERO, change->zero);
  be_store64 (record + AT_BYTES_CHECK, check);
  seal (record, session);
}

bool
qcow2_journal_decode (uint64_t session, const uint8_t *record, Qcow2Change *out_change,
                      uint64_t *out_check)
{
  *out_change = (Qcow2Change){
    .cluster = be_load64 (record + AT_CLUSTER),
    .host_offset = be_load64 (record + AT_HOST_OFFSET),
    .data = be_load32 (record + AT_DATA),
    .zero = be_load32 (record + AT_ZERO),
  };
  *out_check = be_load64 (record + AT_BYTES_CHECK);
  return is_sealed (record, MAGIC_CHANGE, session);
}

int
qcow2_journal_begin (Qcow2Journal *journal, Qcow2Run log)
{
  uint8_t record[QCOW2_JOURNAL_RECORD];

  journal->session = (uint64_t) g_random_int () << 32 | g_random_int ();
  journal->next = 1;
  qcow2_journal_encode_first (journal->session, log, record);
  return io_write_full (journal->fd, record, sizeof record, QCOW2_JOURNAL_OFFSET);
}

int
qcow2_journal_check (int fd, uint64_t granule, const Qcow2Change *change, uint64_t *out_check)
{
  uint8_t *buffer = scratch_get (SCRATCH_COPY);
  uint64_t check = 0;

  if (buffer == NULL)
    return -ENOMEM;
  for (uint32_t left = change->data; left != 0;)
    {
      unsigned first = (unsigned) __builtin_ctz (left), n = 0;
      ssize_t got;

      while (first + n < 32 && (left >> (first + n) & 1) != 0 && (n + 1) * granule <= SCRATCH_SIZE)
        left &= ~(UINT32_C (1) << (first + n++));
      got = io_read (fd, buffer, n * granule, change->host_offset + first * granule);
      if (got < 0)
        return (int) got;
      if ((uint64_t) got < n * granule)
        return -ENODATA;
      check = crc64 (check, buffer, n * granule);
    }
  *out_check = check;
  return 0;
}

/* Takes n records. When there are not so many, all entries of those before have to be on disk
 * first. */
static int
take_records (Qcow2Journal *journal, unsigned n, unsigned *out_first)
{
  int r = 0;

  lock_acquire (&journal->lock);
  while (r == 0 && journal->next + n > RECORDS)
    if (journal->n_open > 0)
      {
        PAUSE_POINT ("journal:full");
        lock_wait (&journal->lock, &journal->done);
      }
    else
      {
        r = group_sync (journal->sync);
        if (r == 0)
          journal->next = 1;
      }
  *out_first = journal->next;
  if (r == 0)
    {
      journal->next += n;
      journal->n_open++;
    }
  lock_release (&journal->lock);
  return r;
}

int
qcow2_journal_add (Qcow2Journal *journal, const Qcow2Change *changes, unsigned n)
{
  uint8_t records[CHANGES_MAX * QCOW2_JOURNAL_RECORD];
  unsigned first;
  uint64_t check;
  int r = 0;

  g_assert (n <= CHANGES_MAX);
  /* The bytes are read from the file: they may never have been in memory. */
  for (unsigned i = 0; i < n && r == 0; i++)
    {
      r = qcow2_journal_check (journal->fd, journal->granule, &changes[i], &check);
      if (r == 0)
        qcow2_journal_encode (journal->session, &changes[i], check,
                              records + i * QCOW2_JOURNAL_RECORD);
    }
  if (r < 0)
    return r;
  r = take_records (journal, n, &first);
  if (r < 0)
    return r;
  r = io_write_full (journal->fd, records, n * QCOW2_JOURNAL_RECORD,
                     QCOW2_JOURNAL_OFFSET + first * QCOW2_JOURNAL_RECORD);
  if (r == 0)
    r = group_sync (journal->sync);
  if (r < 0)
    qcow2_journal_done (journal);
  return r;
}

void
qcow2_journal_done (Qcow2Journal *journal)
{
  lock_acquire (&journal->lock);
  if (--journal->n_open == 0)
    pthread_cond_broadcast (&journal->done);
  lock_release (&journal->lock);
}

int
qcow2_journal_read (int fd, Qcow2ChangeFunc *func, void *data, Qcow2Run *out_log)
{
  g_autofree uint8_t *area = g_try_malloc (QCOW2_JOURNAL_SIZE);
  ssize_t got;
  uint64_t session, check;
  Qcow2Change change;
  int r = 0;

  *out_log = (Qcow2Run){ 0 };
  if (area == NULL)
    return -ENOMEM;
  got = io_read (fd, area, QCOW2_JOURNAL_SIZE, QCOW2_JOURNAL_OFFSET);
  if (got < 0)
    return (int) got;
  memset (area + got, 0, QCOW2_JOURNAL_SIZE - (size_t) got);
  if (!is_sealed (area, MAGIC_FIRST, 0))
    return 0; /* no session has begun */
  session = be_load64 (area + AT_SESSION);
  *out_log = (Qcow2Run){ be_load64 (area + AT_LOG_OFFSET), be_load64 (area + AT_LOG_SIZE) };
  for (unsigned i = 1; i < QCOW2_JOURNAL_RECORDS && r == 0; i++)
    if (qcow2_journal_decode (session, area + i * QCOW2_JOURNAL_RECORD, &change, &check))
      r = func (data, &change, check);
  return r;
}
