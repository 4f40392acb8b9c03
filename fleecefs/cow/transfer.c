/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Moving saved granules from one layer to its neighbour, for merges.
 *
 * No claim is needed. A granule that is moved is saved in one of the two layers, so
 * guests see it as saved and do not touch it; readers find the same bytes before and
 * after. Records of the region exclude each other by stripe.meta.
 */
#include "base/scratch.h"
#include "cow/disk-private.h"

#include <errno.h>

/* Copies the bytes of granules that stand together in from. */
static int
move_run (Disk *disk, Overlay *from, Overlay *to, Stripe *stripe, uint64_t granule, unsigned n,
          uint64_t host_offset)
{
  unsigned max = (unsigned) (SCRATCH_SIZE / disk->geometry.granule);
  uint8_t *buffer = scratch_get (SCRATCH_COPY);
  int r = buffer == NULL ? -ENOMEM : 0;

  while (n > 0 && r == 0)
    {
      unsigned n_here = n < max ? n : max;
      uint64_t cluster = granule / QCOW2_GRANULES_PER_CLUSTER;

      r = overlay_read (from, buffer, n_here * disk->geometry.granule, host_offset);
      if (r < 0)
        break;
      lock_acquire (&stripe->meta);
      overlay_reserve (to, cluster, 1);
      lock_release (&stripe->meta);
      r = overlay_write (to, granule, n_here, buffer);
      granule += n_here;
      host_offset += n_here * disk->geometry.granule;
      n -= n_here;
    }
  return r;
}

/* Moves the granules of one cluster. */
static int
move_cluster (Disk *disk, Overlay *from, Overlay *to, uint64_t cluster, bool overwrite,
              uint32_t within)
{
  const Geometry *geometry = &disk->geometry;
  uint64_t region = cluster / geometry->clusters_per_region;
  unsigned w = (unsigned) (cluster % geometry->clusters_per_region);
  Stripe *stripe = tracker_stripe (disk->tracker, region);
  GranuleSet data = { 0 }, zero = { 0 };
  Qcow2Cluster mapping = overlay_lookup (from, cluster);
  int r = overlay_prepare (to, region * geometry->clusters_per_region,
                           geometry->clusters_per_region, true);

  if (r < 0)
    return r;
  if (!overwrite)
    within &= ~overlay_saved (to, cluster);
  data.words[w] = mapping.data & within;
  zero.words[w] = mapping.zero & within;
  for (unsigned first = 0, n; r == 0 && (n = granule_set_next_run (&data, &first)) > 0; first += n)
    r = move_run (disk, from, to, stripe, cluster * QCOW2_GRANULES_PER_CLUSTER + first % 32, n,
                  mapping.host_offset + first % 32 * geometry->granule);
  if (r == 0 && (data.words[w] | zero.words[w]) != 0)
    r = copy_commit (disk, stripe, to, region, &data, &zero);
  return r;
}

int
disk_merge_step (Disk *disk, Layer *from, Layer *to, bool overwrite, uint64_t n_granules,
                 uint64_t *position)
{
  const Geometry *geometry = &disk->geometry;
  uint64_t end = units_div_up (to->size, geometry->granule);

  for (uint64_t done = 0; done < n_granules; done += QCOW2_GRANULES_PER_CLUSTER)
    {
      uint64_t cluster = *position / QCOW2_GRANULES_PER_CLUSTER;
      uint64_t granule;
      uint32_t within = UINT32_MAX;
      int r, errnum;

      if (!overlay_next (from->overlay, &cluster, &errnum))
        return -errnum;
      granule = cluster * QCOW2_GRANULES_PER_CLUSTER;
      if (granule >= end)
        return 0;
      if (end - granule < QCOW2_GRANULES_PER_CLUSTER)
        within = (UINT32_C (1) << (end - granule)) - 1;
      r = move_cluster (disk, from->overlay, to->overlay, cluster, overwrite, within);
      if (r < 0)
        return r;
      *position = granule + QCOW2_GRANULES_PER_CLUSTER;
    }
  return 1;
}
