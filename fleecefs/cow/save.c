/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copy before write: steps 2 to 5 of disk.h. */
#include "base/pause.h"
#include "base/trace.h"
#include "cow/disk-private.h"

#include <errno.h>

/* One piece of a write on its way through the steps. */
typedef struct
{
  Disk *disk;
  Chain *chain;
  Stripe *stripe;
  uint64_t region;
  GranuleSet range;    /* all granules of the piece */
  GranuleSet given_up; /* granules whose copy failed: the write goes on without */
  bool broke;          /* a snapshot broke for it */
} Save;

/* The granules of the piece that have no copy yet. */
static GranuleSet
not_saved (const Save *save)
{
  GranuleSet set = save->range;

  granule_set_subtract (&set, &save->given_up);
  chain_subtract_saved (save->chain, &save->disk->geometry, save->region, &set);
  if (!granule_set_is_empty (&set))
    chain_subtract_unneeded (save->chain, &save->disk->geometry, save->region, &set);
  return set;
}

/* The case that must be fast: one look at the bits, one at a counter.
 *
 * The order matters. A frozen read is counted under stripe.lock together with its
 * lookup; who published a granule did that under the same lock. So if we see the
 * granule as saved, we also see the count of every read that found it not saved. */
static bool
is_saved_and_quiet (const Save *save)
{
  GranuleSet set = not_saved (save);

  return granule_set_is_empty (&set) && atomic_load (&save->stripe->n_reads) == 0;
}

/* What has been copied, and where it goes. */
typedef struct
{
  Overlay *to;
  uint64_t cluster; /* the first of the region */
  GranuleSet data, zero;
  bool is_held; /* the data is in held, not in its place */
  CopyHeld held;
  bool logged;
} Kept;

/* Brings the bytes to their place if they are not there, and bytes and entries to disk if the
 * overlay is durable. On return 0 keep_done() must follow. */
static int
keep (const Save *save, Kept *kept)
{
  const Geometry *geometry = &save->disk->geometry;
  unsigned w = 0;
  int r = 0;

  while (kept->is_held && w < GRANULE_SET_WORDS - 1
         && (kept->data.words[w] | kept->zero.words[w]) == 0)
    w++;
  kept->logged
      = kept->is_held && overlay_may_log (kept->to, kept->cluster + w, kept->data.words[w]);
  if (kept->logged)
    return overlay_log (kept->to, kept->cluster + w, kept->data.words[w], kept->zero.words[w],
                        kept->held.bytes);
  if (kept->is_held)
    r = copy_place_held (save->disk, kept->to, save->region, &kept->data, &kept->held);
  if (r == 0)
    r = overlay_journal (kept->to, kept->cluster, geometry->clusters_per_region, kept->data.words,
                         kept->zero.words);
  return r;
}

static void
keep_done (const Kept *kept)
{
  if (kept->logged)
    overlay_log_done (kept->to);
  else
    overlay_journal_done (kept->to);
}

/* Step 3. Bytes and entries of a durable overlay are on disk before the guest's write is issued. */
static int
copy_to_overlay (Save *save, const GranuleSet *claimed, GranuleSet *out_zero, LayerFault *out_fault)
{
  const Geometry *geometry = &save->disk->geometry;
  Overlay *to = save->chain->layers[save->chain->receiver]->overlay;
  uint64_t size = save->chain->layers[save->chain->wanted]->size;
  Kept kept
      = { .to = to, .cluster = save->region * geometry->clusters_per_region, .data = *claimed };
  Stripe *stripe = save->stripe;
  int r;

  PAUSE_POINT ("writer:claimed");
  *out_fault = LAYER_WRITE_FAILED;
  r = overlay_prepare (to, kept.cluster, geometry->clusters_per_region, true);
  if (r < 0)
    return r;
  kept.is_held = copy_may_hold (save->disk, to, claimed);
  r = copy_granules (save->disk, stripe, to, size, save->region, claimed, &kept.zero,
                     kept.is_held ? &kept.held : NULL, out_fault);
  if (r == 0)
    {
      PAUSE_POINT ("writer:copied");
      granule_set_subtract (&kept.data, &kept.zero);
      *out_zero = kept.zero;
      *out_fault = LAYER_WRITE_FAILED;
      r = keep (save, &kept);
    }
  copy_release_held (to, &kept.held);
  if (r < 0)
    return r;
  r = copy_record (save->disk, stripe, to, save->region, &kept.data, &kept.zero);
  keep_done (&kept);
  PAUSE_POINT ("writer:recorded");
  if (r == 0)
    copy_publish (save->disk, stripe, to, save->region, &kept.data, &kept.zero);
  return r;
}

/* The same, traced and counted. */
static int
copy_claimed (Save *save, const GranuleSet *claimed, LayerFault *out_fault)
{
  const Geometry *geometry = &save->disk->geometry;
  const char *image = save->disk->image;
  Counters *counters = save->disk->counters;
  unsigned first = 0;
  uint64_t length = granule_set_count (claimed) * geometry->granule, offset;
  GranuleSet zero;
  int r;

  granule_set_next_run (claimed, &first);
  offset = save->region * geometry_region_size (geometry) + first * geometry->granule;
  trace_copy_start (image, offset, length);
  r = copy_to_overlay (save, claimed, &zero, out_fault);
  if (r == 0)
    {
      trace_copy_done (image, offset, length, granule_set_count (&zero) * geometry->granule);
      counters_add (counters, COUNTER_COPIES, 1);
      counters_add (counters, COUNTER_COPIED_BYTES, length);
      return 0;
    }

  counters_add (counters, COUNTER_COPY_FAILURES, 1);
  if (*out_fault == LAYER_WRITE_FAILED)
    trace_copy_write_fail (image, offset, length, -r);
  else
    trace_copy_read_fail (image, offset, length, -r);
  return r;
}

/* A copy failed. Breaking comes before the guest's write, so that a read that got
 * the new bytes finds its layer broken. */
static int
settle_failure (Save *save, const GranuleSet *granules, LayerFault fault, int r)
{
  if (save->disk->on_cbw_error == DISK_CBW_BREAK_GUEST_WRITE)
    return space_errno (r);
  if (chain_break (save->chain, &save->disk->geometry, save->region, granules, 0, fault, -r))
    save->broke = true;
  granule_set_add (&save->given_up, granules);
  return 0;
}

/* Before settle_failure(), with no lock held: the tables of older layers, which writers do not
 * load, tell which of them need the granules. */
static void
look_at_failure (Save *save, LayerFault fault)
{
  Disk *disk = save->disk;
  uint64_t end;

  chain_prepare (save->chain, 0, &disk->geometry, save->region, false);
  if (fault != LAYER_SOURCE_TOO_SMALL || disk->on_cbw_error != DISK_CBW_BREAK_SNAPSHOT)
    return;
  /* That it was cut off the copy has seen. If nobody tells where, all of it may be gone, and the
   * guest's write is about to hide that. */
  if (source_size (disk->source, &end) < 0)
    end = 0;
  if (tail_lose (disk, save->chain, end))
    save->broke = true;
}

static int
save_claims (Save *save) LOCK_REQUIRES (&save->stripe->lock)
{
  bool waited = false;

  for (;;)
    {
      GranuleSet need = not_saved (save);
      TrackerEntry claim = { .region = save->region };
      LayerFault fault;
      int r;

      if (save->chain != save->disk->chain)
        return -ETIMEDOUT; /* a job that is late: its write is no more in its section */
      if (granule_set_is_empty (&need))
        return 0;
      claim.granules = stripe_unclaimed (save->stripe, save->region, &need);
      if (granule_set_is_empty (&claim.granules))
        {
          counters_add (save->disk->counters, COUNTER_CLAIM_WAITS, !waited);
          waited = true;
          stripe_wait (save->stripe);
          continue;
        }

      stripe_claim (save->stripe, &claim);
      lock_release (&save->stripe->lock);
      r = copy_claimed (save, &claim.granules, &fault);
      if (r < 0)
        look_at_failure (save, fault);
      lock_acquire (&save->stripe->lock);
      if (r < 0)
        r = settle_failure (save, &claim.granules, fault, r);
      stripe_end_claim (save->stripe, &claim);
      if (r < 0)
        return r;
    }
}

static int
save_piece (Save *save)
{
  int r = chain_prepare (save->chain, (unsigned) save->chain->wanted, &save->disk->geometry,
                         save->region, false);
  int note = 0;

  if (r < 0)
    look_at_failure (save, LAYER_LOOKUP_FAILED);
  lock_acquire (&save->stripe->lock);
  if (r < 0)
    r = settle_failure (save, &save->range, LAYER_LOOKUP_FAILED, r);
  if (r == 0)
    r = save_claims (save);
  if (r == 0)
    {
      lock_release (&save->stripe->lock);
      PAUSE_POINT ("writer:published");
      lock_acquire (&save->stripe->lock);
      stripe_wait_reads (save->stripe, save->region, &save->range);
    }
  lock_release (&save->stripe->lock);
  if (!granule_set_is_empty (&save->given_up))
    {
      PAUSE_POINT ("writer:broke");
      if (save->disk->cbw_timeout > 0)
        note_break (save->disk, save->chain); /* save_in_time() waits, if that was in vain */
      else
        note = note_break_for_write (save->disk, save->chain);
    }
  if (save->broke)
    save->disk->on_break (save->disk->on_break_data);
  return r < 0 ? r : note;
}

/* The save of the first piece of [offset, end). */
static Save
first_piece (Disk *disk, Chain *chain, uint64_t offset, uint64_t end, uint64_t *out_length)
{
  Piece piece = geometry_piece (&disk->geometry, offset, end);

  *out_length = piece.length;
  return (Save){
    .disk = disk,
    .chain = chain,
    .stripe = tracker_stripe (disk->tracker, piece.region),
    .region = piece.region,
    .range = granule_set_range (piece.first, piece.n),
  };
}

uint64_t
save_limit (Chain *chain, uint64_t end)
{
  if (chain_is_idle (chain))
    return 0;
  /* The rest of the last sector belongs to the overlay too, as zeros. */
  return units_min (end, units_round_up (chain->layers[chain->wanted]->size, 512));
}

bool
save_is_needless (Disk *disk, Chain *chain, uint64_t offset, uint64_t end)
{
  uint64_t start = offset, length;

  for (end = save_limit (chain, end); offset < end; offset += length)
    {
      Save save = first_piece (disk, chain, offset, end, &length);

      if (!is_saved_and_quiet (&save))
        return false;
    }
  if (offset > start)
    trace_copy_skip (disk->image, start, offset - start);
  return true;
}

int
save_range (Disk *disk, Chain *chain, uint64_t offset, uint64_t end)
{
  uint64_t length;
  int r = 0;

  for (end = save_limit (chain, end); offset < end && r == 0; offset += length)
    {
      Save save = first_piece (disk, chain, offset, end, &length);

      if (is_saved_and_quiet (&save))
        trace_copy_skip (disk->image, offset, length);
      else
        {
          uint64_t run = zero_run_save (disk, chain, offset, end);

          if (run > 0)
            length = run;
          else
            r = save_piece (&save);
        }
    }
  return r;
}
