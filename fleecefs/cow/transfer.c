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

/* Clusters between two looks at whether the merge is still wanted, and to one sync. */
#define STEP_CLUSTERS 32

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
      if (r == 0)
        r = overlay_check (from);
      if (r < 0)
        break;
      lock_acquire (&stripe->meta);
      overlay_reserve (to, cluster, 1);
      lock_release (&stripe->meta);
      space_add_twice (overlay_space (to), n_here * disk->geometry.granule);
      r = overlay_write (to, granule, n_here, buffer);
      if (r == 0)
        counters_add (disk->counters, COUNTER_MERGED_BYTES, n_here * disk->geometry.granule);
      granule += n_here;
      host_offset += n_here * disk->geometry.granule;
      n -= n_here;
    }
  return r;
}

/* One cluster of a batch that is moved. */
typedef struct
{
  uint64_t cluster;
  uint32_t data, zero; /* granules */
} Moved;

/* Copies the bytes of the granules of one cluster that are wanted, and says which they are. */
static int
move_bytes (Disk *disk, Overlay *from, Overlay *to, bool overwrite, uint32_t within, Moved *moved)
{
  const Geometry *geometry = &disk->geometry;
  uint64_t cluster = moved->cluster;
  uint64_t region = cluster / geometry->clusters_per_region;
  Stripe *stripe = tracker_stripe (disk->tracker, region);
  Qcow2Cluster mapping = overlay_lookup (from, cluster);
  GranuleSet data = { 0 };
  int r = overlay_prepare (to, region * geometry->clusters_per_region,
                           geometry->clusters_per_region, true);

  if (r < 0)
    return r;
  if (!overwrite)
    within &= ~overlay_saved (to, cluster);
  moved->data = mapping.data & within;
  moved->zero = mapping.zero & within;
  data.words[0] = moved->data;
  for (unsigned first = 0, n; r == 0 && (n = granule_set_next_run (&data, &first)) > 0; first += n)
    r = move_run (disk, from, to, stripe, cluster * QCOW2_GRANULES_PER_CLUSTER + first, n,
                  mapping.host_offset + first * geometry->granule);
  return r;
}

/* Records and publishes what was moved, when its bytes are where they have to be. Guests may have
 * saved some of it meanwhile, with the same bytes at the same place. */
static int
commit_moved (Disk *disk, Overlay *to, const Moved *moved)
{
  uint64_t region = moved->cluster / disk->geometry.clusters_per_region;
  unsigned w = (unsigned) (moved->cluster % disk->geometry.clusters_per_region);
  Stripe *stripe = tracker_stripe (disk->tracker, region);
  GranuleSet data = { 0 }, zero = { 0 };
  int r;

  if ((moved->data | moved->zero) == 0)
    return 0;
  data.words[w] = moved->data;
  zero.words[w] = moved->zero;
  r = copy_record (disk, stripe, to, region, &data, &zero);
  if (r == 0)
    copy_publish (disk, stripe, to, region, &data, &zero);
  return r;
}

static int
commit_batch (Disk *disk, Overlay *to, const Moved *moved, unsigned n)
{
  int r = n > 0 ? overlay_settle (to) : 0;

  for (unsigned i = 0; i < n && r == 0; i++)
    r = commit_moved (disk, to, &moved[i]);
  return r;
}

/* The next cluster with anything to move at or after *position, and if it is the last one, which of
 * its granules are before end. Returns 1, or 0 when there is none, or -errno. */
static int
find_next (Overlay *from, uint64_t end, uint64_t *position, uint64_t *out_cluster,
           uint32_t *out_within)
{
  uint64_t cluster = *position / QCOW2_GRANULES_PER_CLUSTER, granule;
  int errnum;

  if (!overlay_next (from, &cluster, UINT64_MAX, &errnum))
    return -errnum;
  granule = cluster * QCOW2_GRANULES_PER_CLUSTER;
  if (granule >= end)
    return 0;
  *out_cluster = cluster;
  if (end - granule < QCOW2_GRANULES_PER_CLUSTER)
    *out_within = (UINT32_C (1) << (end - granule)) - 1;
  *position = granule + QCOW2_GRANULES_PER_CLUSTER;
  return 1;
}

int
disk_merge_step (Disk *disk, Layer *from, Layer *to, bool overwrite, uint64_t *position)
{
  uint64_t end = units_div_up (to->size, disk->geometry.granule), next = *position;
  Moved moved[STEP_CLUSTERS];
  unsigned n = 0;
  int more = 1, r = 0;

  while (n < STEP_CLUSTERS && r == 0)
    {
      uint32_t within = UINT32_MAX;

      more = find_next (from->overlay, end, &next, &moved[n].cluster, &within);
      if (more <= 0)
        break;
      r = move_bytes (disk, from->overlay, to->overlay, overwrite, within, &moved[n++]);
    }
  if (r == 0)
    r = commit_batch (disk, to->overlay, moved, n);
  if (r < 0)
    return r;
  *position = next;
  return more;
}
