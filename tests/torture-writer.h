/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A writer of the concurrent phases: gives its blocks new versions (torture-versions.h), by write,
 * zero-range and punch, reads them back, and, the first writer, resizes the disks. It does not
 * know whether it works on the engine or on a mount. */
#pragma once

#include "torture-versions.h"

#include <stdatomic.h>
#include <sys/types.h>

#define WRITER_MAX_RUN 64 /* blocks */
#define WRITER_BUFFER (WRITER_MAX_RUN * BED_BLOCK)

/* The live disks. All return -errno on failure. */
typedef struct
{
  ssize_t (*read) (void *data, unsigned disk, void *buffer, size_t length, uint64_t offset);
  ssize_t (*write) (void *data, unsigned disk, const void *buffer, size_t length, uint64_t offset);
  int (*allocate) (void *data, unsigned disk, int mode, uint64_t offset, uint64_t length);
  int (*truncate) (void *data, unsigned disk, uint64_t size);
  int (*flush) (void *data, unsigned disk);
} WriterVerbs;

typedef struct
{
  Versions *versions;
  const WriterVerbs *verbs;
  void *data;                   /* of the verbs */
  const atomic_bool *has_ended; /* NULL, or: true from when on errors are the end, not a failure */
  unsigned index, n_writers;
  unsigned run; /* blocks of the main part that belong together, at most WRITER_MAX_RUN */
  Random random;
  uint8_t *buffer; /* WRITER_BUFFER bytes */
} Writer;

/* One of the lengths that runs may have. */
unsigned writer_pick_run (Random *random);

/* One random operation. False when the disks have gone away. */
bool writer_step (Writer *writer);

/* Gives the marks of this writer one new number on all disks. For a time without snapshots being
 * made, after versions_settle() left different ones. */
void writer_level_marks (Writer *writer);
