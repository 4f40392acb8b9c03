/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "torture-versions.h"

#include "base/units.h"
#include "base/zero.h"

#include <inttypes.h>
#include <string.h>

static uint64_t
key_of (const Versions *versions, unsigned disk, uint64_t block, uint32_t version)
{
  return random_mix (versions->bed->seed ^ block, (uint64_t) disk << 32 | version);
}

static void
init_disk (Versions *versions, unsigned d)
{
  VersionsDisk *disk = &versions->disks[d];
  uint64_t size = versions->n_main * BED_BLOCK + disk->odd;
  g_autofree uint8_t *image = g_malloc0 (size);

  disk->lost = g_new0 (uint32_t, versions->n_blocks);
  disk->begun = g_new (_Atomic uint32_t, versions->n_blocks);
  disk->done = g_new (_Atomic uint32_t, versions->n_blocks);
  for (uint64_t b = 0; b < versions->n_blocks; b++)
    {
      atomic_init (&disk->begun[b], 0);
      atomic_init (&disk->done[b], 0);
      if (b < versions->n_main)
        versions_fill (versions, d, b, 0, image + b * BED_BLOCK);
    }
  disk->sizes = g_new (uint64_t, VERSIONS_MAX_SIZES + 1);
  disk->sizes[0] = size;
  atomic_init (&disk->sizes_begun, 0);
  atomic_init (&disk->sizes_done, 0);
  bed_write_image (versions->bed, d, image, size);
}

void
versions_init (Versions *versions, Bed *bed, Random *random, VersionsLast last)
{
  versions->bed = bed;
  versions->n_main = (MIB + random_below (random, BED_IS_SLOW ? MIB / 2 : 3 * MIB)) / BED_BLOCK;
  versions->n_blocks = versions->n_main + random_below (random, MIB) / BED_BLOCK + 8;
  for (unsigned d = 0; d < bed->n_disks; d++)
    {
      bool is_last = d + 1 == bed->n_disks;
      bool is_odd = is_last && last == VERSIONS_ODD_SIZE;

      versions->disks[d].is_fixed = is_last && last != VERSIONS_LIKE_OTHERS;
      versions->disks[d].odd = is_odd ? 16 + (unsigned) random_below (random, BED_BLOCK - 16) : 0;
    }
  for (unsigned d = 0; d < bed->n_disks; d++)
    init_disk (versions, d);
}

void
versions_clear (Versions *versions)
{
  for (unsigned d = 0; d < versions->bed->n_disks; d++)
    {
      g_free (versions->disks[d].begun);
      g_free (versions->disks[d].done);
      g_free (versions->disks[d].sizes);
      g_free (versions->disks[d].lost);
    }
}

uint64_t
versions_blocks_of (uint64_t size)
{
  return units_div_up (size, BED_BLOCK);
}

uint64_t
versions_length (const Versions *versions, unsigned disk, uint64_t block, uint64_t n)
{
  unsigned odd = versions->disks[disk].odd;

  return n * BED_BLOCK - (odd != 0 && block + n > versions->n_main ? BED_BLOCK - odd : 0);
}

bool
versions_is_zero (const Versions *versions, unsigned disk, uint64_t block, uint32_t version)
{
  if (block < VERSIONS_MARKS)
    return false;
  if (block >= versions->n_main && version == 0)
    return true;
  return key_of (versions, disk, block, version) % 4 == 0;
}

uint32_t
versions_next (const Versions *versions, unsigned disk, uint64_t block, bool zero)
{
  const VersionsDisk *from = &versions->disks[disk];
  uint32_t version = MAX (atomic_load (&from->begun[block]), from->lost[block]) + 1;

  while (versions_is_zero (versions, disk, block, version) != zero)
    version++;
  return version;
}

void
versions_fill (const Versions *versions, unsigned disk, uint64_t block, uint32_t version,
               uint8_t *bytes)
{
  uint64_t words[BED_BLOCK / 8] = { 0 };

  if (!versions_is_zero (versions, disk, block, version))
    {
      uint64_t key = key_of (versions, disk, block, version);

      words[0] = version;
      for (unsigned i = 1; i < G_N_ELEMENTS (words); i++)
        words[i] = key += UINT64_C (0x9e3779b97f4a7c15);
    }
  memcpy (bytes, words, BED_BLOCK);
}

VersionsMoment
versions_moment_new (const Versions *versions)
{
  VersionsMoment moment = { 0 };

  for (unsigned d = 0; d < versions->bed->n_disks; d++)
    moment.blocks[d] = g_new0 (uint32_t, versions->n_blocks);
  return moment;
}

void
versions_moment_clear (VersionsMoment *moment)
{
  for (unsigned d = 0; d < BED_MAX_DISKS; d++)
    g_free (moment->blocks[d]);
}

void
versions_look (const Versions *versions, bool begun, VersionsMoment *moment)
{
  for (unsigned d = 0; d < versions->bed->n_disks; d++)
    {
      const VersionsDisk *disk = &versions->disks[d];

      for (uint64_t b = 0; b < versions->n_blocks; b++)
        moment->blocks[d][b] = atomic_load (begun ? &disk->begun[b] : &disk->done[b]);
      moment->size[d] = atomic_load (begun ? &disk->sizes_begun : &disk->sizes_done);
    }
}

uint32_t
versions_resolve (const Versions *versions, const char *what, unsigned disk, uint64_t block,
                  const uint8_t *bytes, uint64_t length, uint32_t low, uint32_t high)
{
  uint8_t expected[BED_BLOCK];
  uint64_t version;

  if (zero_check (bytes, length))
    {
      for (version = low; version <= high; version++)
        if (versions_is_zero (versions, disk, block, (uint32_t) version))
          return VERSIONS_ZERO;
      bed_fail (versions->bed,
                "%s, disk %u, block %" PRIu64 ": zeros, which none of versions %u to %u are", what,
                disk, block, low, high);
    }
  memcpy (&version, bytes, sizeof version);
  versions_fill (versions, disk, block, (uint32_t) version, expected);
  if (version >= UINT32_MAX || memcmp (bytes, expected, length) != 0)
    bed_fail (versions->bed,
              "%s, disk %u, block %" PRIu64 ": no version at all; the first word is %" PRIu64
              "; expected versions %u to %u",
              what, disk, block, version, low, high);
  if (version < low || version > high)
    bed_fail (versions->bed,
              "%s, disk %u, block %" PRIu64 ": version %" PRIu64 " instead of %u to %u", what, disk,
              block, version, low, high);
  return (uint32_t) version;
}

BedBytes
versions_expect_live (const Versions *versions, unsigned disk)
{
  const VersionsDisk *from = &versions->disks[disk];
  uint64_t size = from->sizes[atomic_load (&from->sizes_done)];
  uint8_t *bytes = g_malloc (units_round_up (size, BED_BLOCK));

  for (uint64_t b = 0; b < versions_blocks_of (size); b++)
    versions_fill (versions, disk, b, atomic_load (&from->done[b]), bytes + b * BED_BLOCK);
  return (BedBytes){ bytes, size };
}

/* --- after a kill --- */

/* The newest version of those begun that is zeros. */
static uint32_t
newest_zero (const Versions *versions, unsigned disk, uint64_t block)
{
  uint32_t version = atomic_load (&versions->disks[disk].begun[block]);

  while (!versions_is_zero (versions, disk, block, version))
    version--;
  return version;
}

static unsigned
settle_block (Versions *versions, unsigned d, uint64_t block, const uint8_t *bytes, uint64_t length)
{
  VersionsDisk *disk = &versions->disks[d];
  uint32_t low = atomic_load (&disk->done[block]), high = atomic_load (&disk->begun[block]);
  uint32_t version
      = versions_resolve (versions, "live disk after a kill", d, block, bytes, length, low, high);

  if (version == VERSIONS_ZERO)
    version = newest_zero (versions, d, block);
  disk->lost[block] = MAX (disk->lost[block], high);
  atomic_store (&disk->done[block], version);
  atomic_store (&disk->begun[block], version);
  return low != high;
}

static unsigned
settle_size (Versions *versions, unsigned d, uint64_t size)
{
  VersionsDisk *disk = &versions->disks[d];
  uint32_t low = atomic_load (&disk->sizes_done), high = atomic_load (&disk->sizes_begun);
  uint32_t i = low;

  while (i <= high && disk->sizes[i] != size)
    i++;
  if (i > high)
    bed_fail (versions->bed,
              "live disk %u after a kill: size %" PRIu64 " instead of %" PRIu64 " or %" PRIu64, d,
              size, disk->sizes[low], disk->sizes[high]);
  if (low == high)
    return 0;
  disk->sizes[++high] = size;
  atomic_store (&disk->sizes_begun, high);
  atomic_store (&disk->sizes_done, high);
  return 1;
}

unsigned
versions_settle (Versions *versions, unsigned disk, const uint8_t *bytes, uint64_t size)
{
  const uint8_t zeros[BED_BLOCK] = { 0 };
  unsigned n = settle_size (versions, disk, size);

  for (uint64_t b = 0; b < versions_blocks_of (size); b++)
    n += settle_block (versions, disk, b, bytes + b * BED_BLOCK,
                       units_min (BED_BLOCK, size - b * BED_BLOCK));
  for (uint64_t b = versions_blocks_of (size); b < versions->n_blocks; b++)
    n += settle_block (versions, disk, b, zeros, BED_BLOCK);
  return n;
}
