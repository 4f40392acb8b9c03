/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/pause.h"
#include "base/units.h"
#include "cow/disk-private.h"

#include <errno.h>

Disk *
disk_new (Source *source, const DiskConfig *config)
{
  Disk *disk = g_new0 (Disk, 1);

  disk->source = source;
  disk->image = source_path (source);
  disk->barrier = config->barrier;
  disk->geometry = geometry_new (config->granule);
  disk->tracker = tracker_new ();
  disk->counters = counters_new ();
  g_assert (disk->counters != NULL);
  disk->on_cbw_error = config->on_cbw_error;
  disk->cbw_timeout = config->cbw_timeout;
  disk->durable = config->durable;
  disk->store_id = g_strdup (config->store_id);
  lock_init (&disk->note_lock, LOCK_NOTE);
  disk->on_break = config->on_break;
  disk->on_break_data = config->on_break_data;
  disk->is_ending = config->is_ending;
  disk->is_ending_data = config->is_ending_data;
  atomic_init (&disk->copy, config->copy);
  write_clock_init (&disk->clock, config->write_time);
  disk->chain = chain_new (NULL, 0, -1, -1);
  return disk;
}

void
disk_free (Disk *disk)
{
  disk_settle (disk);
  chain_unref (disk->chain);
  tracker_free (disk->tracker);
  counters_free (disk->counters);
  source_close (disk->source);
  lock_clear (&disk->note_lock);
  g_free (disk->store_id);
  g_free (disk);
}

void
disk_set_places (Disk *disk, bool marked, Seal *seal, uint32_t number)
{
  disk->marked = marked;
  disk->seal = seal;
  disk->number = number;
}

unsigned
disk_n_held (Disk *disk)
{
  return atomic_load (&disk->n_held);
}

Source *
disk_source (Disk *disk)
{
  return disk->source;
}

uint64_t
disk_count (Disk *disk, Counter counter)
{
  return counters_sum (disk->counters, counter);
}

uint64_t
disk_n_read_waits (Disk *disk)
{
  return tracker_n_read_waits (disk->tracker);
}

struct timespec
disk_write_time (Disk *disk)
{
  return units_timespec (write_clock_last (&disk->clock));
}

void
disk_set_write_time (Disk *disk, int64_t time)
{
  write_clock_init (&disk->clock, time);
}

int64_t
disk_freeze_clock (Disk *disk)
{
  return write_clock_freeze (&disk->clock);
}

Chain *
disk_chain (Disk *disk)
{
  Stripe *stripe = tracker_stripe (disk->tracker, 0);
  Chain *chain;

  lock_acquire (&stripe->lock);
  chain = chain_ref (disk->chain);
  lock_release (&stripe->lock);
  return chain;
}

void
disk_set_chain (Disk *disk, Chain *chain)
{
  Chain *old;

  tracker_lock_all (disk->tracker);
  old = disk->chain;
  disk->chain = chain;
  tracker_unlock_all (disk->tracker);
  chain_unref (old);
}

ssize_t
disk_read (Disk *disk, void *buffer, size_t length, uint64_t offset)
{
  ssize_t r = source_read (disk->source, buffer, length, offset);

  if (r >= 0)
    {
      counters_add (disk->counters, COUNTER_READS, 1);
      counters_add (disk->counters, COUNTER_READ_BYTES, (uint64_t) r);
    }
  return r;
}

/* What saves first, and may say no to the write. */
typedef int SaveFunc (Disk *disk, Chain *chain, uint64_t offset, uint64_t end);

static ssize_t
write_section (Disk *disk, const void *buffer, size_t length, uint64_t offset, IoSync sync,
               SaveFunc *save)
{
  unsigned slot = barrier_enter (disk->barrier);
  ssize_t r = save (disk, disk->chain, offset, offset + length);

  if (r == 0)
    {
      PAUSE_POINT ("writer:before-source");
      write_clock_tick (&disk->clock);
      r = source_write (disk->source, buffer, length, offset, sync);
      if (r >= 0)
        {
          counters_add (disk->counters, COUNTER_WRITES, 1);
          counters_add (disk->counters, COUNTER_WRITTEN_BYTES, (uint64_t) r);
        }
    }
  barrier_leave (disk->barrier, slot);
  return r;
}

ssize_t
disk_write (Disk *disk, const void *buffer, size_t length, uint64_t offset, IoSync sync)
{
  return write_section (disk, buffer, length, offset, sync, save_in_time);
}

static int
save_nothing (Disk *disk, Chain *chain, uint64_t offset, uint64_t end)
{
  return save_is_needless (disk, chain, offset, end) ? 0 : -EAGAIN;
}

ssize_t
disk_write_saved (Disk *disk, const void *buffer, size_t length, uint64_t offset, IoSync sync)
{
  return write_section (disk, buffer, length, offset, sync, save_nothing);
}

int
disk_flush (Disk *disk, bool data_only)
{
  int r = source_flush (disk->source, data_only);

  counters_add (disk->counters, COUNTER_FLUSHES, r == 0);
  return r;
}
