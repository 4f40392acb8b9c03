/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What was read from a snapshot of a concurrent phase right after the mkdir, block by block: it
 * must never change. The bytes themselves are not kept, the versions say them.
 *
 * Any number of threads may compare with a witness while they hold a reference. A witness does not
 * know how the snapshot is read: of an open set, or from a mount. */
#pragma once

#include "base/lock.h"
#include "torture-versions.h"

typedef struct
{
  atomic_uint refs;
  atomic_bool is_removed; /* its name is being taken away or has gone */
  atomic_uint n_name;     /* it is called by this number */

  /* constant */
  uint32_t id;
  struct timespec created;
  struct timespec mtimes[BED_MAX_DISKS];
  uint64_t sizes[BED_MAX_DISKS];
  uint32_t *versions[BED_MAX_DISKS]; /* by block, VERSIONS_ZERO for zeros */
} Witness;

/* A snapshot as it can be seen now. */
typedef struct
{
  uint32_t id;
  struct timespec created;
  struct timespec mtimes[BED_MAX_DISKS];
  uint64_t sizes[BED_MAX_DISKS];
  /* As snapshot_read(). */
  ssize_t (*read) (void *data, unsigned disk, void *buffer, size_t length, uint64_t offset);
  /* Why it is broken, as new text, or NULL. */
  char *(*dup_broken) (void *data);
  void *data;                   /* of these two */
  const atomic_bool *has_ended; /* NULL, or: true from when on errors are no failure */
} WitnessView;

/* The view of a snapshot of an open set, which must stay referenced. */
WitnessView witness_view (const Snapshots *set, Snapshot *snapshot);

/* The witnesses of the snapshots that have a name, by id. */
typedef struct
{
  const Versions *versions;
  Lock lock;
  GPtrArray *list; /* Witness *; under lock */
} Witnesses;

/* An empty list; and its end, with nobody else there. */
void witnesses_init (Witnesses *witnesses, const Versions *versions);
void witnesses_clear (Witnesses *witnesses);
/* The number of snapshots that have a name, or have just lost it. */
unsigned witnesses_count (Witnesses *witnesses);

/* Reads all of a new snapshot and checks it against the bounds: each block, the sizes, the order of
 * the marks, and that the same mtime and size as in the newest witness mean the same
 * bytes. Adds the witness. False, and nothing is added, when the view has ended. */
bool witnesses_add (Witnesses *witnesses, const WitnessView *view, unsigned n_name,
                    const VersionsMoment *low, const VersionsMoment *high);
/* Takes one off the list. */
void witnesses_remove (Witnesses *witnesses, Witness *witness);
/* A random one as a new reference, or NULL. */
Witness *witnesses_pick (Witnesses *witnesses, Random *random);
void witness_unref (Witness *witness);

/* Reads a range of the snapshot into buffer and compares; room for length bytes. False when the
 * view has ended. */
bool witness_compare_range (const Witness *witness, const Versions *versions,
                            const WitnessView *view, unsigned disk, uint64_t offset,
                            uint64_t length, uint8_t *buffer);
/* Compares all of it and the attributes; buffer has room for length bytes. False when the view
 * has ended. */
bool witness_compare (const Witness *witness, const Versions *versions, const WitnessView *view,
                      uint8_t *buffer, uint64_t length);
/* A BedExpect; data is the witnesses. */
BedBytes witnesses_expect (void *data, uint32_t id, unsigned disk);
