/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/qcow2-log.h"

#include "base/crc64.h"
#include "base/io.h"
#include "base/pause.h"
#include "base/scratch.h"

#include <errno.h>
#include <glib.h>

#define RECORD QCOW2_JOURNAL_RECORD
#define BATCH_MAX 64 /* changes in one write */

#ifdef FLEECE_PAUSE_POINTS
uint64_t qcow2_log_size = QCOW2_LOG_SIZE;
#endif

/* A change that waits to be on disk. */
struct _Qcow2LogEntry
{
  Qcow2LogEntry *next;
  const Qcow2Change *change;
  const uint8_t *bytes;
  uint64_t length; /* of the bytes */
  uint64_t check;  /* of them */
  uint8_t record[RECORD];
  bool ended; /* under the log's lock; so is the other */
  int result; /* 0 or -errno */
};

static uint64_t
bytes_of (const Qcow2Change *change, uint64_t granule)
{
  return (unsigned) __builtin_popcount (change->data) * granule;
}

void
qcow2_log_init (Qcow2Log *log, int fd, uint64_t granule, GroupSync *sync)
{
  *log = (Qcow2Log){ .fd = fd, .sync = sync, .granule = granule };
  lock_init (&log->lock, LOCK_DATA_LOG);
  pthread_cond_init (&log->changed, NULL);
}

void
qcow2_log_clear (Qcow2Log *log)
{
  sync_range_close (&log->range);
  pthread_cond_destroy (&log->changed);
  lock_clear (&log->lock);
}

static uint64_t
new_lap (uint8_t record[static RECORD])
{
  uint64_t lap = (uint64_t) g_random_int () << 32 | g_random_int ();

  qcow2_journal_encode_lap (lap, record);
  return lap;
}

/* Blocks that were never written would be converted by the first write to each, which is as dear as
 * to allocate them. So they are written. */
int
qcow2_log_begin (Qcow2Log *log, uint64_t offset, uint64_t size)
{
  uint8_t *zeros = scratch_get (SCRATCH_COPY);
  int r = 0;

  log->size = 0;
  sync_range_close (&log->range); /* of a try that failed */
  if (zeros == NULL || !sync_range_open (&log->range, log->fd, offset, size))
    return -ENOMEM;
  memset (zeros, 0, SCRATCH_SIZE);
  for (uint64_t at = 0, n; r == 0 && at < size; at += n)
    {
      n = size - at < SCRATCH_SIZE ? size - at : SCRATCH_SIZE;
      r = io_write_full (log->fd, zeros, n, offset + at);
    }
  if (r == 0)
    {
      log->lap = new_lap (zeros);
      log->next = RECORD;
      r = io_write_full (log->fd, zeros, RECORD, offset);
    }
  if (r == 0)
    {
      log->offset = offset;
      log->size = size;
    }
  return r;
}

static void
add_entry (Qcow2Log *log, Qcow2LogEntry *entry) LOCK_REQUIRES (&log->lock)
{
  if (log->first == NULL)
    log->first = entry;
  else
    log->last->next = entry;
  log->last = entry;
}

/* Waits for what was written from one place of the log to another. An error may be of other bytes,
 * and nobody else is told. */
static int
await_disk (Qcow2Log *log, uint64_t start, uint64_t end)
{
  int r = sync_range_end (&log->range, log->offset + start, end - start);

  if (r < 0)
    group_sync_fail (log->sync, r);
  return r;
}

static int
write_lap (Qcow2Log *log, const uint8_t record[static RECORD])
{
  int r = io_write_full (log->fd, record, RECORD, log->offset);

  return r == 0 ? await_disk (log, 0, RECORD) : r;
}

/* All that was added is in its place, and a new lap begins. By who is `writing`; drops the lock
 * meanwhile. */
static int
begin_lap (Qcow2Log *log) LOCK_REQUIRES (&log->lock)
{
  uint8_t record[RECORD];
  uint64_t lap = new_lap (record);
  int r;

  while (log->n_open > 0)
    {
      PAUSE_POINT ("log:full");
      lock_wait (&log->lock, &log->changed);
    }
  lock_release (&log->lock);
  r = group_sync (log->sync);
  if (r == 0)
    r = write_lap (log, record);
  lock_acquire (&log->lock);
  if (r == 0)
    {
      log->lap = lap;
      log->next = RECORD;
    }
  return r;
}

static bool
fits (const Qcow2Log *log, uint64_t at, const Qcow2LogEntry *entry)
{
  return at + RECORD + entry->length <= log->size;
}

/* Takes from those who wait what fits, and makes one write of it. Returns the parts; *out_last: the
 * last of the changes; *out_end: the first byte behind them. */
static int
gather (Qcow2Log *log, struct iovec *parts, Qcow2LogEntry **out_last, uint64_t *out_end)
    LOCK_REQUIRES (&log->lock)
{
  Qcow2LogEntry *entry = log->first;
  int n = 0;

  *out_end = log->next;
  for (; entry != NULL && n < 2 * BATCH_MAX && fits (log, *out_end, entry); entry = entry->next)
    {
      qcow2_journal_encode (log->lap, entry->change, entry->check, entry->record);
      parts[n++] = (struct iovec){ entry->record, RECORD };
      if (entry->length > 0)
        parts[n++] = (struct iovec){ (void *) entry->bytes, entry->length };
      *out_end += RECORD + entry->length;
      *out_last = entry;
    }
  log->first = entry;
  return n;
}

/* A write for several. */
typedef struct
{
  Qcow2LogEntry *first, *last; /* for whom; NULL: nobody */
  uint64_t end;
  int result;
} Batch;

/* Writes for all that wait, or for as many as fit. Nothing may follow what is not on disk, for who
 * reads the log stops there. The disk has begun with it on return. Drops the lock meanwhile. */
static void
begin_batch (Qcow2Log *log, Batch *batch) LOCK_REQUIRES (&log->lock)
{
  struct iovec parts[2 * BATCH_MAX + 1];
  int n, r;

  log->writing = true;
  r = group_sync_error (log->sync);
  if (r == 0 && !fits (log, log->next, log->first))
    r = begin_lap (log);
  batch->first = log->first;
  if (r < 0)
    {
      batch->last = log->last;
      log->first = NULL;
    }
  else
    {
      n = gather (log, parts, &batch->last, &batch->end);
      lock_release (&log->lock);
      PAUSE_POINT ("log:writing");
      r = io_write_parts (log->fd, parts, n, log->offset + log->next);
      if (r == 0)
        sync_range_begin (&log->range, log->offset + log->next, batch->end - log->next);
      lock_acquire (&log->lock);
    }
  batch->result = r;
}

/* Waits for the disk, and tells all. */
static void
end_batch (Qcow2Log *log, const Batch *batch) LOCK_REQUIRES (&log->lock)
{
  Qcow2LogEntry *entry = batch->first;
  int r = batch->result;

  if (r == 0)
    {
      lock_release (&log->lock);
      r = await_disk (log, log->next, batch->end);
      lock_acquire (&log->lock);
      if (r == 0)
        log->next = batch->end;
    }
  for (Qcow2LogEntry *next; entry != NULL; entry = next)
    {
      next = entry == batch->last ? NULL : entry->next;
      entry->result = r;
      entry->ended = true;
      log->n_open += r == 0;
    }
  log->writing = false;
  pthread_cond_broadcast (&log->changed);
}

int
qcow2_log_place (int fd, uint64_t granule, const Qcow2Change *change, const uint8_t *bytes)
{
  int r = 0;

  for (uint32_t left = change->data; left != 0 && r == 0; left &= left - 1)
    {
      r = io_write_full (fd, bytes, granule,
                         change->host_offset + (unsigned) __builtin_ctz (left) * granule);
      bytes += granule;
    }
  return r;
}

static void
leave (Qcow2Log *log) LOCK_REQUIRES (&log->lock)
{
  if (--log->n_open == 0)
    pthread_cond_broadcast (&log->changed);
}

int
qcow2_log_add (Qcow2Log *log, const Qcow2Change *change, const void *bytes)
{
  Qcow2LogEntry entry
      = { .change = change, .bytes = bytes, .length = bytes_of (change, log->granule) };
  Batch batch = { 0 };
  int r;

  g_assert (entry.length <= QCOW2_LOG_BYTES_MAX && RECORD + entry.length <= log->size - RECORD);
  entry.check = crc64 (0, bytes, entry.length);
  lock_acquire (&log->lock);
  add_entry (log, &entry);
  if (!log->writing)
    begin_batch (log, &batch);
  lock_release (&log->lock);
  r = qcow2_log_place (log->fd, log->granule, change, bytes);
  lock_acquire (&log->lock);
  if (batch.first != NULL)
    end_batch (log, &batch);
  while (!entry.ended)
    if (log->writing)
      {
        PAUSE_POINT ("log:wait");
        lock_wait (&log->lock, &log->changed);
      }
    else
      {
        begin_batch (log, &batch);
        end_batch (log, &batch);
      }
  if (entry.result == 0 && r < 0)
    leave (log);
  lock_release (&log->lock);
  return entry.result < 0 ? entry.result : r;
}

void
qcow2_log_done (Qcow2Log *log)
{
  lock_acquire (&log->lock);
  leave (log);
  lock_release (&log->lock);
}

int
qcow2_log_renew (Qcow2Log *log)
{
  int r;

  lock_acquire (&log->lock);
  while (log->writing)
    lock_wait (&log->lock, &log->changed);
  log->writing = true;
  r = begin_lap (log);
  log->writing = false;
  pthread_cond_broadcast (&log->changed);
  lock_release (&log->lock);
  return r;
}

uint8_t *
qcow2_log_load (int fd, uint64_t offset, uint64_t size, int *out_error)
{
  g_autofree uint8_t *area = g_try_malloc0 (size);
  ssize_t got = area == NULL ? -ENOMEM : io_read (fd, area, size, offset);

  *out_error = got < 0 ? (int) got : 0;
  return got < 0 ? NULL : g_steal_pointer (&area);
}

int
qcow2_log_read (const uint8_t *area, uint64_t size, uint64_t granule, Qcow2LogFunc *func,
                void *data)
{
  uint64_t lap, check;
  Qcow2Change change;
  int r = 0;

  if (size < RECORD || !qcow2_journal_decode_lap (area, &lap))
    return 0; /* no lap has begun */
  for (uint64_t at = RECORD, n; r == 0 && size - at >= RECORD; at += RECORD + n)
    {
      const uint8_t *bytes = area + at + RECORD;

      if (!qcow2_journal_decode (lap, area + at, &change, &check))
        break;
      n = bytes_of (&change, granule);
      if (n > size - at - RECORD || crc64 (0, bytes, n) != check)
        break;
      r = func (data, &change, bytes);
    }
  return r;
}
