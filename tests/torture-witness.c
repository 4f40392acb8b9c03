/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "torture-witness.h"

#include "base/units.h"

#include <inttypes.h>
#include <string.h>

#define CHUNK MIB

void
witnesses_init (Witnesses *witnesses, const Versions *versions)
{
  *witnesses = (Witnesses){ .versions = versions, .list = g_ptr_array_new () };
  lock_init (&witnesses->lock, LOCK_TEST);
}

void
witnesses_clear (Witnesses *witnesses)
{
  for (unsigned i = 0; i < witnesses->list->len; i++)
    witness_unref (witnesses->list->pdata[i]);
  g_ptr_array_unref (witnesses->list);
  lock_clear (&witnesses->lock);
}

unsigned
witnesses_count (Witnesses *witnesses)
{
  unsigned n;

  lock_acquire (&witnesses->lock);
  n = witnesses->list->len;
  lock_release (&witnesses->lock);
  return n;
}

void
witness_unref (Witness *witness)
{
  if (atomic_fetch_sub (&witness->refs, 1) != 1)
    return;
  for (unsigned d = 0; d < BED_MAX_DISKS; d++)
    g_free (witness->versions[d]);
  g_free (witness);
}

/* --- views --- */

static ssize_t
read_snapshot (void *data, unsigned disk, void *buffer, size_t length, uint64_t offset)
{
  return snapshot_read (data, disk, buffer, length, offset);
}

static char *
dup_broken (void *data)
{
  return snapshot_dup_broken (data);
}

WitnessView
witness_view (const Snapshots *set, Snapshot *snapshot)
{
  WitnessView view = {
    .id = snapshot_id (snapshot),
    .created = snapshot_created (snapshot),
    .read = read_snapshot,
    .dup_broken = dup_broken,
    .data = snapshot,
  };

  for (unsigned d = 0; d < snapshots_n_disks (set); d++)
    {
      view.mtimes[d] = snapshot_mtime (snapshot, d);
      view.sizes[d] = snapshot_size (snapshot, d);
    }
  return view;
}

/* False when the view has ended. */
static bool
read_view (const Versions *versions, const WitnessView *view, unsigned disk, uint8_t *buffer,
           uint64_t length, uint64_t offset, uint64_t expected)
{
  ssize_t got = view->read (view->data, disk, buffer, length, offset);
  g_autofree char *broken = NULL;

  if (got == (ssize_t) expected)
    return true;
  if (view->has_ended != NULL && atomic_load (view->has_ended))
    return false;
  broken = view->dup_broken (view->data);
  bed_fail (versions->bed,
            "snapshot id %u, disk %u, offset %" PRIu64 ": read gave %zd instead of %" PRIu64
            "; broken: %s",
            view->id, disk, offset, got, expected, broken != NULL ? broken : "no");
}

/* --- a new snapshot --- */

static bool
resolve_disk (const Versions *versions, Witness *witness, const WitnessView *view, unsigned d,
              const VersionsMoment *low, const VersionsMoment *high, uint8_t *buffer)
{
  char what[64];

  g_snprintf (what, sizeof what, "new snapshot id %u", witness->id);
  witness->versions[d] = g_new (uint32_t, versions->n_blocks);
  for (uint64_t at = 0, n; at < witness->sizes[d]; at += n)
    {
      n = units_min (CHUNK, witness->sizes[d] - at);
      if (!read_view (versions, view, d, buffer, n, at, n))
        return false;
      for (uint64_t i = 0; i < n; i += BED_BLOCK)
        {
          uint64_t b = (at + i) / BED_BLOCK;

          witness->versions[d][b]
              = versions_resolve (versions, what, d, b, buffer + i, units_min (BED_BLOCK, n - i),
                                  low->blocks[d][b], high->blocks[d][b]);
        }
    }
  atomic_fetch_add (&versions->bed->n_bytes, witness->sizes[d]);
  return true;
}

static void
check_size (const Versions *versions, const Witness *witness, unsigned d, const VersionsMoment *low,
            const VersionsMoment *high)
{
  for (uint32_t i = low->size[d]; i <= high->size[d]; i++)
    if (versions->disks[d].sizes[i] == witness->sizes[d])
      return;
  bed_fail (versions->bed, "new snapshot id %u, disk %u: size %" PRIu64 " is none of those it had",
            witness->id, d, witness->sizes[d]);
}

/* Each writer wrote n to one disk after the other: no disk is newer than one before, or more than
 * one older. */
static void
check_order (const Versions *versions, const Witness *witness)
{
  for (unsigned d = 1; d < versions->bed->n_disks; d++)
    for (unsigned b = 0; b < VERSIONS_MARKS; b++)
      {
        uint32_t first = witness->versions[0][b], before = witness->versions[d - 1][b];
        uint32_t here = witness->versions[d][b];

        if (here > before || first - here > 1)
          bed_fail (versions->bed,
                    "new snapshot id %u: writer %u wrote one number to all disks in order, but "
                    "there is %u on disk 0, %u on disk %u and %u on disk %u",
                    witness->id, b, first, before, d - 1, here, d);
      }
}

static bool
is_same_time (struct timespec a, struct timespec b)
{
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void
check_times (const Versions *versions, const Witness *older, const Witness *newer)
{
  for (unsigned d = 0; d < versions->bed->n_disks; d++)
    if (is_same_time (older->mtimes[d], newer->mtimes[d]) && older->sizes[d] == newer->sizes[d]
        && memcmp (older->versions[d], newer->versions[d],
                   versions_blocks_of (older->sizes[d]) * sizeof (uint32_t))
               != 0)
      bed_fail (versions->bed, "snapshots id %u and %u, disk %u: same mtime and size, other bytes",
                older->id, newer->id, d);
}

static Witness *
witness_new (const WitnessView *view, unsigned n_name)
{
  Witness *witness = g_new0 (Witness, 1);

  atomic_init (&witness->refs, 1);
  atomic_init (&witness->is_removed, false);
  atomic_init (&witness->n_name, n_name);
  witness->id = view->id;
  witness->created = view->created;
  memcpy (witness->sizes, view->sizes, sizeof witness->sizes);
  memcpy (witness->mtimes, view->mtimes, sizeof witness->mtimes);
  return witness;
}

bool
witnesses_add (Witnesses *witnesses, const WitnessView *view, unsigned n_name,
               const VersionsMoment *low, const VersionsMoment *high)
{
  const Versions *versions = witnesses->versions;
  Witness *witness = witness_new (view, n_name);
  g_autofree uint8_t *buffer = g_malloc (CHUNK);

  for (unsigned d = 0; d < versions->bed->n_disks; d++)
    {
      check_size (versions, witness, d, low, high);
      if (!resolve_disk (versions, witness, view, d, low, high, buffer))
        {
          witness_unref (witness);
          return false;
        }
    }
  check_order (versions, witness);

  lock_acquire (&witnesses->lock);
  if (witnesses->list->len > 0)
    check_times (versions, witnesses->list->pdata[witnesses->list->len - 1], witness);
  g_ptr_array_add (witnesses->list, witness);
  lock_release (&witnesses->lock);
  return true;
}

void
witnesses_remove (Witnesses *witnesses, Witness *witness)
{
  lock_acquire (&witnesses->lock);
  g_ptr_array_remove (witnesses->list, witness);
  lock_release (&witnesses->lock);
  witness_unref (witness);
}

Witness *
witnesses_pick (Witnesses *witnesses, Random *random)
{
  Witness *witness = NULL;

  lock_acquire (&witnesses->lock);
  if (witnesses->list->len > 0)
    {
      witness = witnesses->list->pdata[random_below (random, witnesses->list->len)];
      atomic_fetch_add (&witness->refs, 1);
    }
  lock_release (&witnesses->lock);
  return witness;
}

/* --- comparison --- */

static void
compare_block (const Witness *witness, const Versions *versions, unsigned disk, uint64_t block,
               uint64_t skip, const uint8_t *bytes, uint64_t length)
{
  uint8_t expected[BED_BLOCK] = { 0 };
  char what[64];

  if (witness->versions[disk][block] != VERSIONS_ZERO)
    versions_fill (versions, disk, block, witness->versions[disk][block], expected);
  if (memcmp (bytes, expected + skip, length) == 0)
    return;
  g_snprintf (what, sizeof what, "snapshot id %u changed (block %" PRIu64 ", version %u)",
              witness->id, block, witness->versions[disk][block]);
  bed_compare (versions->bed, what, disk, block * BED_BLOCK + skip, bytes, expected + skip, length);
}

bool
witness_compare_range (const Witness *witness, const Versions *versions, const WitnessView *view,
                       unsigned disk, uint64_t offset, uint64_t length, uint8_t *buffer)
{
  uint64_t size = witness->sizes[disk];
  uint64_t expected = offset < size ? units_min (length, size - offset) : 0;

  if (!read_view (versions, view, disk, buffer, length, offset, expected))
    return false;
  for (uint64_t at = 0, n; at < expected; at += n)
    {
      uint64_t skip = (offset + at) % BED_BLOCK;

      n = units_min (BED_BLOCK - skip, expected - at);
      compare_block (witness, versions, disk, (offset + at) / BED_BLOCK, skip, buffer + at, n);
    }
  atomic_fetch_add (&versions->bed->n_bytes, expected);
  return true;
}

bool
witness_compare (const Witness *witness, const Versions *versions, const WitnessView *view,
                 uint8_t *buffer, uint64_t length)
{
  if (view->id != witness->id || !is_same_time (view->created, witness->created))
    bed_fail (versions->bed, "snapshot id %u is another one, or its time changed", witness->id);
  for (unsigned d = 0; d < versions->bed->n_disks; d++)
    {
      if (view->sizes[d] != witness->sizes[d]
          || !is_same_time (view->mtimes[d], witness->mtimes[d]))
        bed_fail (versions->bed, "snapshot id %u, disk %u: its size or mtime changed", witness->id,
                  d);
      for (uint64_t at = 0; at < witness->sizes[d]; at += length)
        if (!witness_compare_range (witness, versions, view, d, at, length, buffer))
          return false;
    }
  return true;
}

BedBytes
witnesses_expect (void *data, uint32_t id, unsigned disk)
{
  const Witnesses *witnesses = data;
  const Versions *versions = witnesses->versions;

  if (id == 0)
    return versions_expect_live (versions, disk);
  for (unsigned i = 0; i < witnesses->list->len; i++)
    {
      const Witness *witness = witnesses->list->pdata[i];
      uint8_t *bytes;

      if (witness->id != id)
        continue;
      bytes = g_malloc0 (units_round_up (witness->sizes[disk], BED_BLOCK));
      for (uint64_t b = 0; b < versions_blocks_of (witness->sizes[disk]); b++)
        if (witness->versions[disk][b] != VERSIONS_ZERO)
          versions_fill (versions, disk, b, witness->versions[disk][b], bytes + b * BED_BLOCK);
      return (BedBytes){ bytes, witness->sizes[disk] };
    }
  return (BedBytes){ NULL, 0 };
}
