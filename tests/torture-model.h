/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The model of the exact phases: live disks as byte arrays, and for each snapshot what it must be.
 *
 * A frozen copy never changes, so any number of threads may compare with it while they hold a
 * reference. The list of them is changed by one thread. Live disks belong to that thread. */
#pragma once

#include "base/lock.h"
#include "torture-bed.h"

/* Immutable bytes, shared by frozen copies. */
typedef struct
{
  atomic_uint refs;
  uint64_t size;
  uint8_t bytes[];
} ModelBytes;

typedef struct
{
  uint8_t *bytes; /* capacity bytes, zeros from size on */
  uint64_t size, capacity;
  ModelBytes *last; /* of the newest snapshot, whether it lives or not; NULL: none yet */
  struct timespec last_mtime;
  bool is_touched; /* since then, by an operation that may change bytes or size */
} ModelDisk;

typedef struct
{
  atomic_uint refs;
  atomic_bool is_removed; /* its name is being taken away or has gone */

  /* of the thread that changes the list */
  char *name;     /* NULL: removed */
  Snapshot *held; /* a reference, or NULL */

  /* constant */
  uint32_t id;
  struct timespec created;
  struct timespec mtimes[BED_MAX_DISKS];
  ModelBytes *disks[BED_MAX_DISKS];
} ModelFrozen;

typedef struct
{
  Bed *bed;
  ModelDisk disks[BED_MAX_DISKS];
  Lock lock;
  GPtrArray *list; /* ModelFrozen *, by id; those that have a name or are held; under lock */
} Model;

/* Random images; writes them. */
void model_init (Model *model, Bed *bed, Random *random);
void model_clear (Model *model);

/* Fills with one of several kinds of bytes: random, one value, zeros, or mixed. */
void model_fill (Random *random, uint8_t *bytes, uint64_t length);

/* What the operations do to a live disk. */
void model_write (ModelDisk *disk, const uint8_t *bytes, uint64_t offset, uint64_t length);
void model_allocate (ModelDisk *disk, int mode, uint64_t offset, uint64_t length);
void model_truncate (ModelDisk *disk, uint64_t size);

/* A snapshot has been made: adds what it must be, and checks its times. */
void model_freeze (Model *model, Snapshot *snapshot, const char *name);
/* Takes one off the list. */
void model_forget (Model *model, ModelFrozen *frozen);

/* A random one as a new reference, or NULL. From any thread. */
ModelFrozen *model_pick (Model *model, Random *random);
void model_frozen_unref (ModelFrozen *frozen);

/* Reads a range of the snapshot into buffer and compares. From any thread. */
void model_compare_range (Model *model, Snapshot *snapshot, const ModelFrozen *frozen,
                          unsigned disk, uint64_t offset, uint64_t length, uint8_t *buffer);
/* Compares all of the snapshot: attributes, bytes, holes. By the thread that changes the
 * list; buffer has length bytes. */
void model_compare (Model *model, Snapshot *snapshot, const ModelFrozen *frozen, uint8_t *buffer,
                    uint64_t length);
/* A BedExpect; data is the model. */
BedBytes model_expect (void *data, uint32_t id, unsigned disk);
