/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Zeros, discards and resizes: guest's writes of ranges that may be long, and full of holes.
 *
 * A long write section would hold up mkdir, and then everybody. So these go step by step, each in a
 * section of its own. A discard or zero takes effect in each of them, for a guest that has not been
 * told of its end cannot tell either how far it is. A shrink is one change: it saves in steps what
 * it then cuts off in the last one.
 *
 * What is a hole at the source and stays one needs no copy. It is looked for within the section,
 * so no snapshot comes between the look and the change. A granule that is not saved after the look
 * was at the look as at the instant of every snapshot that needs it: zeros, and that it stays,
 * whoever reads it there. One that is saved by then, or later by another's write, needs nothing
 * from us: who wrote to it has waited for the frozen reads that began before.
 */
#include "base/pause.h"
#include "base/units.h"
#include "cow/disk-private.h"

#include <errno.h>
#include <linux/falloc.h>

/* Bytes that one section saves, but for a region more. */
#define STEP (16 * MIB)
/* The same where they are a hole (zero-run.c). */
#define HOLE_STEP (64 * MIB)
/* Bytes that one section zeroes: they may have to be written. */
#define ZERO_STEP (256 * MIB)
/* How often a shrink begins anew to save in steps when snapshots are made meanwhile. */
#define SHRINK_TRIES 4

uint64_t
range_hole (Disk *disk, Chain *chain, uint64_t offset, uint64_t end)
{
  uint64_t stop = offset + source_hole (disk->source, offset, end - offset), size;

  if (stop == offset || source_size (disk->source, &size) < 0)
    return 0;
  /* Beyond the end of a source that was cut off everything looks like a hole. */
  if (size < units_min (stop, chain->layers[chain->wanted]->size))
    stop = units_max (size, offset);
  return stop - offset;
}

static uint64_t
end_of_region (Disk *disk, uint64_t offset, uint64_t end)
{
  return offset + geometry_piece (&disk->geometry, offset, end).length;
}

/* The end of what goes on from offset without a hole at the beginning of a region. */
static uint64_t
end_of_data (Disk *disk, uint64_t offset, uint64_t end, uint64_t budget)
{
  uint64_t start = offset;

  do
    offset = end_of_region (disk, offset, end);
  while (offset < end && offset - start < budget
         && range_hole (disk, disk->chain, offset, end) == 0);
  return offset;
}

/* Steps 2 to 5 for what is no hole from *offset on, in the caller's section. Stops after about
 * budget bytes, and moves *offset to there: a place between blocks of the source, or end. */
static int
save_data (Disk *disk, uint64_t *offset, uint64_t end, uint64_t budget)
{
  uint64_t limit = save_limit (disk->chain, end), at = *offset, saved = 0;
  int r = 0;

  while (r == 0 && at < limit && saved < budget)
    {
      uint64_t next = end_of_region (disk, at, limit);

      if (!save_is_needless (disk, disk->chain, at, next))
        {
          uint64_t hole = range_hole (disk, disk->chain, at, limit);

          PAUSE_POINT ("range:looked");
          next = hole > 0 ? at + hole : end_of_data (disk, at, limit, budget - saved);
          if (hole == 0)
            {
              r = save_in_time (disk, disk->chain, at, next);
              saved += next - at;
            }
        }
      at = next;
    }
  *offset = at < limit ? at : end;
  return r;
}

/* One step: all six of the protocol. */
static int
destroy_step (Disk *disk, int mode, uint64_t *offset, uint64_t end)
{
  uint64_t start = *offset;
  unsigned slot;
  int r;

  if ((mode & FALLOC_FL_ZERO_RANGE) != 0)
    end = units_min (end, (start / ZERO_STEP + 1) * ZERO_STEP);

  PAUSE_POINT ("range:step");
  slot = barrier_enter (disk->barrier);
  r = save_data (disk, offset, end, STEP);
  if (r == 0)
    {
      PAUSE_POINT ("writer:before-source");
      write_clock_tick (&disk->clock);
      r = source_allocate (disk->source, mode, start, *offset - start);
    }
  barrier_leave (disk->barrier, slot);
  return r;
}

static int
allocate_only (Disk *disk, int mode, uint64_t offset, uint64_t length)
{
  unsigned slot = barrier_enter (disk->barrier);
  int r;

  PAUSE_POINT ("writer:before-source");
  write_clock_tick (&disk->clock);
  r = source_allocate (disk->source, mode, offset, length);
  barrier_leave (disk->barrier, slot);
  return r;
}

/* A device that is too small for all of the range is not changed. */
static bool
is_beyond_device (Disk *disk, uint64_t end)
{
  uint64_t size;

  return source_is_block (disk->source) && source_size (disk->source, &size) == 0 && end > size;
}

int
disk_allocate (Disk *disk, int mode, uint64_t offset, uint64_t length)
{
  uint64_t end = offset + length;
  int r = 0;

  if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0)
    return -EOPNOTSUPP;
  if (length == 0 || offset > (uint64_t) INT64_MAX - length)
    return length == 0 ? -EINVAL : -EFBIG;
  if (is_beyond_device (disk, end))
    return -ENOSPC;
  if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0)
    r = allocate_only (disk, mode, offset, length);
  else
    while (r == 0 && offset < end)
      r = destroy_step (disk, mode, &offset, end);
  counters_add (disk->counters, COUNTER_DISCARDS, r == 0);
  return r;
}

/* The number of the layer that granules are saved for; 0: none. */
static uint32_t
wanted_number (Chain *chain)
{
  return chain_is_idle (chain) ? 0 : chain->layers[chain->wanted]->number;
}

/* Steps end at whole regions. */
static uint64_t
end_of_step (Disk *disk, uint64_t offset, uint64_t limit)
{
  uint64_t hole_end = units_min ((offset / HOLE_STEP + 1) * HOLE_STEP, limit);

  if (range_hole (disk, disk->chain, offset, hole_end) == hole_end - offset)
    return hole_end;
  return (offset / STEP + 1) * STEP;
}

/* Saves step by step what a shrink to that size cuts off, each in a section of its own.
 * *out_number: for what layer it began to. */
static int
presave (Disk *disk, uint64_t size, uint32_t *out_number)
{
  uint64_t offset = size;
  int r = 0;

  while (r == 0 && offset < INT64_MAX)
    {
      unsigned slot;
      uint64_t limit;

      PAUSE_POINT ("range:step");
      slot = barrier_enter (disk->barrier);
      if (offset == size)
        *out_number = wanted_number (disk->chain);
      limit = save_limit (disk->chain, INT64_MAX);
      if (offset >= limit || limit - offset <= STEP)
        offset = INT64_MAX; /* the rest is for the last section */
      else
        {
          uint64_t end = end_of_step (disk, offset, limit);

          r = save_in_time (disk, disk->chain, offset, end);
          offset = end;
        }
      barrier_leave (disk->barrier, slot);
    }
  return r;
}

/* Enters the section in which a shrink takes effect, with all but the last step saved. A snapshot
 * made meanwhile needs copies of its own: then they are made in the same way. Not for ever, lest
 * who makes one snapshot after the other keeps the guest waiting. */
static int
enter_presaved (Disk *disk, uint64_t size, unsigned *out_slot)
{
  for (unsigned try = 1;; try++)
    {
      uint32_t number = 0;
      int r = presave (disk, size, &number);

      if (r < 0)
        return r;
      PAUSE_POINT ("range:presaved");
      *out_slot = barrier_enter (disk->barrier);
      if (wanted_number (disk->chain) == number || try == SHRINK_TRIES)
        return 0;
      barrier_leave (disk->barrier, *out_slot);
    }
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
  r = enter_presaved (disk, size, &slot);
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
