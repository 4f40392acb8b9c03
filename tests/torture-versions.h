/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The model of the concurrent phases: blocks of 512 bytes with versions.
 *
 * Each block belongs to one writer thread. Its bytes follow from the seed, the disk, the block and
 * a version, which they also carry: or they are zeros, for versions that a hash says. A
 * writer counts a version as begun before it writes it, and as done after. So when a snapshot is
 * made, a block must be in it with a version between what was done before the mkdir and
 * what was begun after it. A writer may leave out versions.
 *
 * The size of a disk changes too, by the hand of one writer: sizes have a history, and its index
 * is what is begun and done. The blocks that a truncate cuts off get a version of zeros.
 *
 *     0 .. MARKS - 1     one for each writer: it writes n to disk 0, then n to disk 1, ...
 *     .. n_main - 1      in runs; run r belongs to writer r % n_writers
 *     .. n_blocks - 1    the tail: of the writer who truncates; at first beyond the end
 */
#pragma once

#include "torture-bed.h"

#define VERSIONS_MARKS 8
#define VERSIONS_ZERO UINT32_MAX /* in a witness: the block was all zeros */
#define VERSIONS_MAX_SIZES 20000

typedef struct
{
  _Atomic uint32_t *begun, *done;           /* by block */
  uint64_t *sizes;                          /* the history; an entry is constant once it is begun */
  _Atomic uint32_t sizes_begun, sizes_done; /* index of the newest entry */
} VersionsDisk;

typedef struct
{
  Bed *bed;
  uint64_t n_main, n_blocks;
  VersionsDisk disks[BED_MAX_DISKS];
} Versions;

/* What the counters were at a moment: the bounds for a snapshot. */
typedef struct
{
  uint32_t *blocks[BED_MAX_DISKS];
  uint32_t size[BED_MAX_DISKS];
} VersionsMoment;

/* Images with version 0 of each block; writes them. */
void versions_init (Versions *versions, Bed *bed, Random *random);
void versions_clear (Versions *versions);

/* The version of a block that is a mark is the number itself; never zeros. Version 0 of the
 * tail is zeros. */
bool versions_is_zero (const Versions *versions, unsigned disk, uint64_t block, uint32_t version);
/* The first version after the block's last that is zeros, or that is not. For its owner. */
uint32_t versions_next (const Versions *versions, unsigned disk, uint64_t block, bool zero);
/* The bytes of a block. */
void versions_fill (const Versions *versions, unsigned disk, uint64_t block, uint32_t version,
                    uint8_t *bytes);

/* The counters of what is done, or begun, now. */
void versions_look (const Versions *versions, bool begun, VersionsMoment *moment);
VersionsMoment versions_moment_new (const Versions *versions);
void versions_moment_clear (VersionsMoment *moment);

/* Which version of the block the bytes are; VERSIONS_ZERO for zeros. Ends the program when they
 * are none between low and high. */
uint32_t versions_resolve (const Versions *versions, const char *what, unsigned disk,
                           uint64_t block, const uint8_t *bytes, uint32_t low, uint32_t high);

/* A BedExpect for the live disks with all writers gone; data is the versions. */
BedBytes versions_expect_live (const Versions *versions, unsigned disk);
