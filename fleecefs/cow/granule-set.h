/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of the granules of one region.
 *
 * A region is the piece of a disk in which claims and frozen reads are tracked:
 * 1 MiB or one cluster of 32 granules, whichever is larger, so at most 256
 * granules. Word w, bit b of a set stands for granule 32 * w + b of the region,
 * and word w for the region's cluster w.
 */
#pragma once

#include "base/units.h"

#include <string.h>

#define GRANULE_SET_WORDS 8
#define GRANULE_SET_MAX (32 * GRANULE_SET_WORDS)

typedef struct
{
  uint32_t words[GRANULE_SET_WORDS];
} GranuleSet;

/* Granules first to first + n - 1 of the region. */
static inline GranuleSet
granule_set_range (unsigned first, unsigned n)
{
  GranuleSet set = { 0 };

  for (unsigned w = first / 32; n > 0; w++)
    {
      unsigned bit = first % 32;
      unsigned here = n < 32 - bit ? n : 32 - bit;

      set.words[w] = (uint32_t) (((UINT64_C (1) << here) - 1) << bit);
      first += here;
      n -= here;
    }
  return set;
}

static inline bool
granule_set_is_empty (const GranuleSet *set)
{
  uint32_t any = 0;

  for (unsigned w = 0; w < GRANULE_SET_WORDS; w++)
    any |= set->words[w];
  return any == 0;
}

static inline unsigned
granule_set_count (const GranuleSet *set)
{
  uint64_t pairs[GRANULE_SET_WORDS / 2];
  unsigned n = 0;

  memcpy (pairs, set->words, sizeof pairs);
  for (unsigned i = 0; i < GRANULE_SET_WORDS / 2; i++)
    n += (unsigned) __builtin_popcountll (pairs[i]);
  return n;
}

static inline bool
granule_set_overlaps (const GranuleSet *a, const GranuleSet *b)
{
  uint32_t any = 0;

  for (unsigned w = 0; w < GRANULE_SET_WORDS; w++)
    any |= a->words[w] & b->words[w];
  return any != 0;
}

static inline void
granule_set_add (GranuleSet *set, const GranuleSet *more)
{
  for (unsigned w = 0; w < GRANULE_SET_WORDS; w++)
    set->words[w] |= more->words[w];
}

static inline void
granule_set_subtract (GranuleSet *set, const GranuleSet *less)
{
  for (unsigned w = 0; w < GRANULE_SET_WORDS; w++)
    set->words[w] &= ~less->words[w];
}

static inline bool
granule_set_has (const GranuleSet *set, unsigned granule)
{
  return (set->words[granule / 32] >> granule % 32 & 1) != 0;
}

/* The first granule at or after start that is a member, or that is none; GRANULE_SET_MAX when there
 * is none. */
static inline unsigned
granule_set_find (const GranuleSet *set, unsigned start, bool member)
{
  while (start < GRANULE_SET_MAX)
    {
      uint32_t word = set->words[start / 32];
      uint32_t rest = (member ? word : ~word) >> start % 32;

      if (rest != 0)
        return start + (unsigned) __builtin_ctz (rest);
      start = (start / 32 + 1) * 32;
    }
  return GRANULE_SET_MAX;
}

/* The first run of members at or after *first. Returns its length and moves *first
 * to its start; 0 when there is none. */
static inline unsigned
granule_set_next_run (const GranuleSet *set, unsigned *first)
{
  *first = granule_set_find (set, *first, true);
  return granule_set_find (set, *first, false) - *first;
}

/* How a disk is cut into granules, clusters and regions. Constant. */
typedef struct
{
  uint64_t granule; /* bytes */
  unsigned granules_per_region;
  unsigned clusters_per_region;
} Geometry;

static inline Geometry
geometry_new (uint64_t granule)
{
  unsigned granules = (unsigned) units_max (MIB / granule, 32);

  return (Geometry){ granule, granules, granules / 32 };
}

/* Bytes in a region. */
static inline uint64_t
geometry_region_size (const Geometry *geometry)
{
  return geometry->granule * geometry->granules_per_region;
}

/* A byte range cut at the borders of regions: one piece of it. */
typedef struct
{
  uint64_t region;
  uint64_t offset, length; /* bytes, on the disk */
  unsigned first, n;       /* the granules it touches, in the region */
} Piece;

/* The first piece of [offset, end), offset < end. */
static inline Piece
geometry_piece (const Geometry *geometry, uint64_t offset, uint64_t end)
{
  uint64_t region_size = geometry_region_size (geometry);
  uint64_t region = offset / region_size;
  uint64_t start = region * region_size;
  uint64_t stop = units_min (end, start + region_size);
  unsigned first = (unsigned) ((offset - start) / geometry->granule);

  return (Piece){
    .region = region,
    .offset = offset,
    .length = stop - offset,
    .first = first,
    .n = (unsigned) units_div_up (stop - start, geometry->granule) - first,
  };
}
