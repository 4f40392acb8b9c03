/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A source that somebody else has cut off: what was beyond its end is lost to the snapshots that
 * have not saved it. Guests shrink it by disk_truncate(), which saves first. */
#include "cow/disk-private.h"

/* The end of the largest layer that is intact. */
static uint64_t
end_of_intact (Chain *chain)
{
  uint64_t end = 0;

  for (unsigned i = 0; i < chain->n_layers; i++)
    if (!layer_is_broken (chain->layers[i]))
      end = units_max (end, chain->layers[i]->size);
  return end;
}

bool
tail_lose (Disk *disk, Chain *chain, uint64_t cut)
{
  const Geometry *geometry = &disk->geometry;
  uint64_t offset = cut, end;
  bool any = false;

  while (offset < (end = end_of_intact (chain)))
    {
      Piece piece = geometry_piece (geometry, offset, end);
      Stripe *stripe = tracker_stripe (disk->tracker, piece.region);
      GranuleSet granules = granule_set_range (piece.first, piece.n);

      chain_prepare (chain, 0, geometry, piece.region, false);
      lock_acquire (&stripe->lock);
      any = chain_break (chain, geometry, piece.region, &granules, cut, LAYER_SOURCE_TOO_SMALL, 0)
            || any;
      lock_release (&stripe->lock);
      offset += piece.length;
    }
  return any;
}

int
disk_check_tail (Disk *disk)
{
  g_autoptr (Chain) chain = disk_chain (disk);
  uint64_t size;
  int r = source_size (disk->source, &size);

  if (r == 0 && tail_lose (disk, chain, size))
    {
      note_break (disk, chain);
      disk->on_break (disk->on_break_data);
    }
  return r;
}
