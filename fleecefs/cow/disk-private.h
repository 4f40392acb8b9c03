/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of a disk's engine share: disk.c (the guest's verbs), range.c (those of long
 * ranges), save.c (steps 2 to 5), zero-run.c (those for large holes), copy.c (bytes to an overlay),
 * deadline.c (steps 2 to 5 in bounded time), frozen.c (snapshot reads), seek.c (their holes),
 * transfer.c (merges), tail.c (a source that was cut off) and note.c (breaks that are not
 * forgotten). */
#pragma once

#include "cow/counters.h"
#include "cow/disk.h"
#include "cow/tracker.h"
#include "cow/write-clock.h"

typedef struct _DiskJobs DiskJobs;

struct _Disk
{
  /* constant */
  Source *source;
  const char *image; /* the source's path, for tracepoints */
  Barrier *barrier;
  Geometry geometry;
  Tracker *tracker;
  Counters *counters;
  DiskCbwError on_cbw_error;
  unsigned cbw_timeout; /* seconds; 0: none */
  bool durable;
  char *store_id; /* for notes */
  DiskBreakFunc on_break;
  void *on_break_data;
  DiskEndingFunc is_ending;
  void *is_ending_data;

  /* constant after disk_set_places() */
  bool marked;
  Seal *seal;
  uint32_t number;

  _Atomic DiskCopyMethod copy; /* goes to bounce when the kernel refuses to offload */
  WriteClock clock;

  atomic_uint n_late; /* jobs that nobody waits for any more */

  atomic_uint n_held;      /* writes */
  atomic_bool is_settling; /* disk_settle() has been called */

  Lock note_lock;
  unsigned n_notes;   /* under note_lock */
  bool mark_is_taken; /* from the source, for want of space for a note; under note_lock */
  DiskJobs *jobs;     /* of deadline.c, from the first one on; set under note_lock */

  Chain *chain; /* changed with the barrier closed and all stripes locked; so a write
                 * section or any stripe.lock is enough to look at it */
};

/* Old bytes that are not in their place yet: of the granules that are not zero, one after another,
 * in the thread's buffer. The space for them is taken. */
typedef struct
{
  const uint8_t *bytes;
  uint64_t length; /* bytes */
} CopyHeld;

/* May they be held? When they are few, of one cluster, and not for the kernel to copy. */
bool copy_may_hold (const Disk *disk, const Overlay *to, const GranuleSet *granules);

/* Copies the granules from the source to the overlay, which is prepared with create,
 * up to but without recording them. Those that are all zeros have no data: *out_zero.
 * size is that of the snapshot: the source must have that many bytes. With out_held, the bytes are
 * only read and their place is reserved; copy_release_held() must follow, also after an error.
 * Returns 0 or -errno, and which side failed. No lock is held. */
int copy_granules (Disk *disk, Stripe *stripe, Overlay *to, uint64_t size, uint64_t region,
                   const GranuleSet *granules, GranuleSet *out_zero, CopyHeld *out_held,
                   LayerFault *out_fault);
/* Writes what is held to its place. Returns 0 or -errno. */
int copy_place_held (Disk *disk, Overlay *to, uint64_t region, const GranuleSet *data,
                     const CopyHeld *held);
/* They are in their place, or will not be. */
void copy_release_held (Overlay *to, const CopyHeld *held);

/* Records granules whose bytes are in the overlay, as data or zeros: in its file. */
int copy_record (Disk *disk, Stripe *stripe, Overlay *to, uint64_t region, const GranuleSet *data,
                 const GranuleSet *zero);

/* Publishes what was recorded: from here on, lookups find it. */
void copy_publish (Disk *disk, Stripe *stripe, Overlay *to, uint64_t region, const GranuleSet *data,
                   const GranuleSet *zero);

/* The source ends at cut. Breaks all layers that would read what was beyond it, also those
 * that nobody has read yet: when a guest's write makes the source longer again there will be zeros.
 * No lock is held. Returns true when any was intact before: note_break() must follow. */
bool tail_lose (Disk *disk, Chain *chain, uint64_t cut);

/* A reader of the layer's snapshot found a layer whose tables cannot be loaded (r: why), or that
 * the source ends at end, before the snapshot does: breaks the snapshot, in the second case every
 * one that misses the rest. No lock is held. Returns -EIO, or -ENOMEM for that, which breaks
 * nothing: memory may come back. */
int frozen_break_for_lookup (Disk *disk, Layer *layer, int r);
int frozen_break_for_tail (Disk *disk, Layer *layer, uint64_t end);

/* Steps 2 to 5 for the bytes from offset to end; the caller is in a write section and
 * chain is the disk's. On success no frozen read of them is under way, and none will
 * start. Returns 0, or -errno when the guest's write must not go on. */
int save_range (Disk *disk, Chain *chain, uint64_t offset, uint64_t end);
/* True when there is nothing to do for it; a look at bits and counters. */
bool save_is_needless (Disk *disk, Chain *chain, uint64_t offset, uint64_t end);
/* The end of what has to be saved of a range that ends there; 0: nothing. */
uint64_t save_limit (Chain *chain, uint64_t end);

/* How many bytes from offset on, up to end, are a hole of the source: zeros, if they are not saved
 * when this returns. None where the source ends before the wanted layer does. */
uint64_t range_hole (Disk *disk, Chain *chain, uint64_t offset, uint64_t end);
/* Steps 2 to 5 for a run of regions that are a hole, from offset on and before end. Returns how
 * many bytes it has done; 0: none, for whatever reason, save_range() does them one by one. */
uint64_t zero_run_save (Disk *disk, Chain *chain, uint64_t offset, uint64_t end);

/* As save_range(), in at most cbw_timeout seconds; then the policy decides: 0 with what needs
 * these bytes broken and that written down, or -ETIMEDOUT. */
int save_in_time (Disk *disk, Chain *chain, uint64_t offset, uint64_t end);

/* After chain_break(), with no lock held: writes it down, in the overlays or else as a note, and
 * then writers may rely on it. 0, or -errno: there is no place, and writers go on saving. */
int note_break (Disk *disk, Chain *chain);
/* The same before a guest's write that destroys what layers need: waits, without a limit, until
 * there is a place. -EIO: the process ends, and the write must not be made. */
int note_break_for_write (Disk *disk, Chain *chain);
/* Leaves a note, one for each call, for overlays that do not say that they are broken: at the
 * source, or at the seal. And takes it back when they do. -errno: there is no place. */
int note_set (Disk *disk);
void note_clear (Disk *disk);

/* A guest's write is held, and no more; says so in the log. */
void note_hold (Disk *disk);
void note_let_go (Disk *disk);
/* How long it is until the next try, in ms. */
#define NOTE_RETRY_MS 1000
/* The wait is over, whatever comes. */
bool note_is_ending (Disk *disk);
