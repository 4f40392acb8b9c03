/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Holes that are cut off: steps 2 to 5 for many regions at a time.
 *
 * A shrink has to save them, as zeros: where there is no source any more it could not be told
 * later what was there. By regions that would be as many looks at the source, and for a durable
 * overlay as many syncs, as the hole has MiB. Here a run of regions has one of each.
 *
 * All of the run is claimed before anything is written, without a wait: it ends before the first
 * region in which another is at work. What is not saved when it is claimed was not when the source
 * was looked at, and so it is a hole still (range.c). An entry of zeros leads to no bytes; so it
 * may be on disk before or after anything else, but it is there before it is published.
 */
#include "base/pause.h"
#include "base/trace.h"
#include "cow/disk-private.h"

/* Regions; what they have in a table is 8 KiB. */
#define RUN_MAX 64
#define RUN_MIN 2
#define TABLE_BYTES (16 * KIB)

typedef struct
{
  Disk *disk;
  Chain *chain;
  Overlay *to;
  uint64_t first; /* region */
  unsigned n;
  GranuleSet all; /* of a region */
  TrackerEntry claims[RUN_MAX];
} Run;

static Stripe *
stripe_of (const Run *run, unsigned i)
{
  return tracker_stripe (run->disk->tracker, run->first + i);
}

/* Makes lookups and entries possible. */
static int
prepare (const Run *run)
{
  const Geometry *geometry = &run->disk->geometry;
  int r = 0;

  for (unsigned i = 0; i < run->n && r == 0; i++)
    r = chain_prepare (run->chain, (unsigned) run->chain->wanted, geometry, run->first + i, true);
  return r;
}

/* Claims what is not saved in the region, which may be nothing. False when others have claimed some
 * of that, or when this is a job that is late. */
static bool
claim (Run *run, unsigned i)
{
  const Geometry *geometry = &run->disk->geometry;
  Stripe *stripe = stripe_of (run, i);
  TrackerEntry *entry = &run->claims[i];
  GranuleSet unclaimed;
  bool ok;

  *entry = (TrackerEntry){ .region = run->first + i, .granules = run->all };
  lock_acquire (&stripe->lock);
  chain_subtract_saved (run->chain, geometry, entry->region, &entry->granules);
  chain_subtract_unneeded (run->chain, geometry, entry->region, &entry->granules);
  unclaimed = stripe_unclaimed (stripe, entry->region, &entry->granules);
  ok = run->chain == run->disk->chain
       && granule_set_count (&unclaimed) == granule_set_count (&entry->granules);
  if (ok)
    stripe_claim (stripe, entry);
  lock_release (&stripe->lock);
  return ok;
}

static int
record (const Run *run)
{
  static const GranuleSet none;
  int r = space_take (overlay_space (run->to), TABLE_BYTES);

  if (r < 0)
    return r;
  for (unsigned i = 0; i < run->n && r == 0; i++)
    if (!granule_set_is_empty (&run->claims[i].granules))
      r = copy_record (run->disk, stripe_of (run, i), run->to, run->first + i, &none,
                       &run->claims[i].granules);
  if (r == 0)
    r = overlay_settle (run->to);
  space_done (overlay_space (run->to), TABLE_BYTES);
  return r;
}

/* Publishes the run if it is recorded, ends its claims, and waits for its readers. */
static void
finish (Run *run, bool recorded)
{
  static const GranuleSet none;

  for (unsigned i = 0; i < run->n; i++)
    {
      Stripe *stripe = stripe_of (run, i);

      if (recorded)
        copy_publish (run->disk, stripe, run->to, run->first + i, &none, &run->claims[i].granules);
      lock_acquire (&stripe->lock);
      stripe_end_claim (stripe, &run->claims[i]);
      lock_release (&stripe->lock);
    }
  for (unsigned i = 0; i < run->n && recorded; i++)
    {
      Stripe *stripe = stripe_of (run, i);

      lock_acquire (&stripe->lock);
      stripe_wait_reads (stripe, run->first + i, &run->all);
      lock_release (&stripe->lock);
    }
}

static void
count (const Run *run, uint64_t offset)
{
  uint64_t bytes = 0;

  for (unsigned i = 0; i < run->n; i++)
    bytes += granule_set_count (&run->claims[i].granules) * run->disk->geometry.granule;
  trace_copy_done (run->disk->image, offset, bytes, bytes);
  counters_add (run->disk->counters, COUNTER_COPIES, bytes > 0);
  counters_add (run->disk->counters, COUNTER_COPIED_BYTES, bytes);
}

uint64_t
zero_run_save (Disk *disk, Chain *chain, uint64_t offset, uint64_t end)
{
  uint64_t size = geometry_region_size (&disk->geometry), n;
  Run run;
  int r;

  if (offset % size != 0 || end - offset < RUN_MIN * size)
    return 0;
  n = range_hole (disk, chain, offset, units_min (end, offset + RUN_MAX * size)) / size;
  if (n < RUN_MIN)
    return 0;
  run.disk = disk;
  run.chain = chain;
  run.to = chain->layers[chain->receiver]->overlay;
  run.first = offset / size;
  run.n = (unsigned) n;
  run.all = granule_set_range (0, disk->geometry.granules_per_region);
  if (prepare (&run) < 0)
    return 0;
  PAUSE_POINT ("run:looked");
  run.n = 0;
  while (run.n < n && claim (&run, run.n))
    run.n++;
  PAUSE_POINT ("run:claimed");
  if (run.n == 0)
    return 0;
  trace_copy_start (disk->image, offset, run.n * size);
  r = record (&run);
  finish (&run, r == 0);
  if (r < 0)
    {
      trace_copy_write_fail (disk->image, offset, run.n * size, -r);
      return 0;
    }
  count (&run, offset);
  return run.n * size;
}
