/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of a disk's engine share: disk.c (the guest's verbs), save.c
 * (steps 2 to 5), copy.c (bytes to an overlay), frozen.c (snapshot reads) and
 * transfer.c (merges) and tail.c (a source that was cut off). */
#pragma once

#include "cow/disk.h"
#include "cow/tracker.h"
#include "cow/write-clock.h"

struct _Disk
{
  /* constant */
  Source *source;
  Barrier *barrier;
  Geometry geometry;
  Tracker *tracker;
  DiskCbwError on_cbw_error;
  DiskBreakFunc on_break;
  void *on_break_data;

  _Atomic DiskCopyMethod copy; /* goes to bounce when the kernel refuses to offload */
  WriteClock clock;

  Chain *chain; /* changed with the barrier closed and all stripes locked; so a write
                 * section or any stripe.lock is enough to look at it */
};

/* Copies the granules from the source to the overlay, which is prepared with create,
 * up to but without recording them. Those that are all zeros have no data: *out_zero.
 * size is that of the snapshot: the source must have that many bytes. Returns 0 or -errno, and
 * which side failed. No lock is held. */
int copy_granules (Disk *disk, Stripe *stripe, Overlay *to, uint64_t size, uint64_t region,
                   const GranuleSet *granules, GranuleSet *out_zero, LayerFault *out_fault);

/* Records granules whose bytes are in the overlay, as data or zeros: in its file. */
int copy_record (Disk *disk, Stripe *stripe, Overlay *to, uint64_t region, const GranuleSet *data,
                 const GranuleSet *zero);

/* Publishes what was recorded: from here on, lookups find it. */
void copy_publish (Disk *disk, Stripe *stripe, Overlay *to, uint64_t region, const GranuleSet *data,
                   const GranuleSet *zero);

/* The source ends at offset. Breaks all layers that would read what was beyond it, also those
 * that nobody has read yet: when a guest's write makes the source longer again there will be zeros.
 * No lock is held. Returns true when any was intact before. */
bool tail_lose (Disk *disk, Chain *chain, uint64_t offset);

/* Steps 2 to 5 for the bytes from offset to end; the caller is in a write section and
 * chain is the disk's. On success no frozen read of them is under way, and none will
 * start. Returns 0, or -errno when the guest's write must not go on. */
int save_range (Disk *disk, Chain *chain, uint64_t offset, uint64_t end);
