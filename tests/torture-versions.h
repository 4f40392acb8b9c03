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
 *
 * Of the tail of a disk of odd size there is the beginning of one block.
 *
 * After a kill of what wrote, versions_settle() tells from the images which of the writes that were
 * begun have been done.
 */
#pragma once

#include "torture-bed.h"

#define VERSIONS_MARKS 8
#define VERSIONS_ZERO UINT32_MAX /* in a witness: the block was all zeros */
#define VERSIONS_MAX_SIZES 20000

/* What may be special with the last disk. */
typedef enum
{
  VERSIONS_LIKE_OTHERS,
  VERSIONS_FIXED_SIZE, /* as a block device */
  VERSIONS_ODD_SIZE,
} VersionsLast;

typedef struct
{
  _Atomic uint32_t *begun, *done;           /* by block */
  uint64_t *sizes;                          /* the history; an entry is constant once it is begun */
  _Atomic uint32_t sizes_begun, sizes_done; /* index of the newest entry */
  uint32_t *lost; /* by block: no version up to here is begun again; of the owner */
  bool is_fixed;  /* constant: the size does not change */
  unsigned odd;   /* constant: bytes of the block after the main part; 0: the size is not odd */
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

/* Images with version 0 of each block; writes them. With odd_disk the last disk is one of odd size.
 */
void versions_init (Versions *versions, Bed *bed, Random *random, VersionsLast last);
void versions_clear (Versions *versions);

/* The blocks, the last one perhaps in part, of a disk of this size; and the bytes that n blocks
 * from block on have. */
uint64_t versions_blocks_of (uint64_t size);
uint64_t versions_length (const Versions *versions, unsigned disk, uint64_t block, uint64_t n);

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

/* Which version of the block these bytes of its beginning are; VERSIONS_ZERO for zeros. Ends the
 * program when they are none between low and high. */
uint32_t versions_resolve (const Versions *versions, const char *what, unsigned disk,
                           uint64_t block, const uint8_t *bytes, uint64_t length, uint32_t low,
                           uint32_t high);

/* After a kill, with all writers gone: the disk has this size and these bytes. Each block must be
 * what was done last or begun since, and the size one of those begun; that is then what is done.
 * Returns the number of writes, by blocks, and of changes of the size that were begun and had not
 * been answered. */
unsigned versions_settle (Versions *versions, unsigned disk, const uint8_t *bytes, uint64_t size);

/* A BedExpect for the live disks with all writers gone; data is the versions. */
BedBytes versions_expect_live (const Versions *versions, unsigned disk);
