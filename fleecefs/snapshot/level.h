/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A level: one directory of the store and, for each disk, one layer of its chain.
 *
 * A level is made by mkdir, together with a snapshot. When the snapshot is gone
 * (no name, no reference) the level is dead: it stays as long as an older snapshot
 * reads through it.
 */
#pragma once

#include "cow/layer.h"
#include "snapshot/snapshots.h"
#include "store/store.h"

typedef struct
{
  /* constant */
  uint32_t number;
  unsigned n_disks;

  bool is_fresh;             /* mkdir makes it: in no chain yet. Under the set's lock */
  Snapshot *snapshot;        /* not a reference; NULL: dead. Under the set's lock */
  unsigned n_broken_logged;  /* of its broken layers: those in the log; under verbs */
  unsigned n_broken_written; /* and those in the manifest; under verbs */
  Layer *layers[];           /* one for each disk; NULL: the disk came later. Constant, but
                              * while it is fresh those of mkdir's thread */
} Level;

/* A level without layers. */
Level *level_new (uint32_t number, unsigned n_disks);
/* Drops its references of layers. */
void level_free (Level *level);

/* Are all its layers broken, and written down as such? */
bool level_is_given_up (const Level *level);
/* The number of layers that are broken. */
unsigned level_n_broken (const Level *level);

/* A disk's chain over the levels (oldest first, Level *). into receives the copies
 * when the newest level is dead and is being merged into it, else NULL. fresh is a level
 * that counts as living though its snapshot is not there yet, or NULL. The caller
 * holds the set's lock. */
Chain *level_build_chain (const GPtrArray *levels, unsigned disk, const Level *into,
                          const Level *fresh);
