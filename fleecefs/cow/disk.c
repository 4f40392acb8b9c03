/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/pause.h"
#include "base/units.h"
#include "cow/disk-private.h"

#include <errno.h>
#include <linux/falloc.h>

/* What a zero, discard or shrink saves in one write section at most, ahead of the one in
 * which it takes effect: a long section would hold up mkdir and then everybody. */
#define PRESAVE_STEP (16 * MIB)
/* How often this is done when snapshots are made meanwhile. */
#define PRESAVE_TRIES 4

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

/* The number of the layer that granules are saved for; 0: none. */
static uint32_t
wanted_number (Chain *chain)
{
  return chain_is_idle (chain) ? 0 : chain->layers[chain->wanted]->number;
}

/* Saves a long range step by step, each in a section of its own. *out_number: for what layer it
 * began to. */
static int
presave (Disk *disk, uint64_t offset, uint64_t end, uint32_t *out_number)
{
  const uint64_t start = offset;
  int r = 0;

  while (r == 0 && end - offset > PRESAVE_STEP)
    {
      unsigned slot = barrier_enter (disk->barrier);

      PAUSE_POINT ("range:step");
      if (offset == start)
        *out_number = wanted_number (disk->chain);
      if (chain_is_idle (disk->chain) || offset >= disk->chain->layers[disk->chain->wanted]->size)
        end = offset; /* nothing to save from here on */
      else
        r = save_in_time (disk, disk->chain, offset, offset + PRESAVE_STEP);
      barrier_leave (disk->barrier, slot);
      offset += end == offset ? 0 : PRESAVE_STEP;
    }
  return r;
}

/* Enters the section in which the range takes effect, with all but the last step saved. A snapshot
 * made meanwhile needs copies of its own: then they are made in the same way. Not for ever, lest
 * who makes one snapshot after the other keeps the guest waiting. */
static int
enter_presaved (Disk *disk, uint64_t offset, uint64_t end, unsigned *out_slot)
{
  for (unsigned try = 1;; try++)
    {
      uint32_t number = 0;
      int r = presave (disk, offset, end, &number);

      if (r < 0)
        return r;
      PAUSE_POINT ("range:presaved");
      *out_slot = barrier_enter (disk->barrier);
      if (end - offset <= PRESAVE_STEP || wanted_number (disk->chain) == number
          || try == PRESAVE_TRIES)
        return 0;
      barrier_leave (disk->barrier, *out_slot);
    }
}

int
disk_allocate (Disk *disk, int mode, uint64_t offset, uint64_t length)
{
  bool destroys = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;
  unsigned slot;
  int r;

  if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0)
    return -EOPNOTSUPP;
  if (length == 0 || offset > (uint64_t) INT64_MAX - length)
    return length == 0 ? -EINVAL : -EFBIG;
  r = enter_presaved (disk, offset, destroys ? offset + length : offset, &slot);
  if (r < 0)
    return r;
  if (destroys)
    r = save_in_time (disk, disk->chain, offset, offset + length);
  if (r == 0)
    {
      PAUSE_POINT ("writer:before-source");
      write_clock_tick (&disk->clock);
      r = source_allocate (disk->source, mode, offset, length);
      counters_add (disk->counters, COUNTER_DISCARDS, r == 0);
    }
  barrier_leave (disk->barrier, slot);
  return r;
}

int
disk_truncate (Disk *disk, uint64_t size)
{
  unsigned slot;
  int r;

  if (source_is_block (disk->source))
    return -EPERM;
  if (size > INT64_MAX)
    return -EFBIG;
  r = enter_presaved (disk, size, INT64_MAX, &slot);
  if (r < 0)
    return r;
  r = save_in_time (disk, disk->chain, size, INT64_MAX);
  if (r == 0)
    {
      PAUSE_POINT ("writer:before-source");
      write_clock_tick (&disk->clock);
      r = source_truncate (disk->source, size);
      counters_add (disk->counters, COUNTER_DISCARDS, r == 0);
    }
  barrier_leave (disk->barrier, slot);
  return r;
}

int
disk_flush (Disk *disk, bool data_only)
{
  int r = source_flush (disk->source, data_only);

  counters_add (disk->counters, COUNTER_FLUSHES, r == 0);
  return r;
}
