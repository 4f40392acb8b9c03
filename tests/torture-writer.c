/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "torture-writer.h"

#include "base/units.h"

#include <linux/falloc.h>

typedef enum
{
  PUT_DATA,
  PUT_ZEROS, /* by write */
  PUT_ZERO_RANGE,
  PUT_PUNCH,
} Put;

unsigned
writer_pick_run (Random *random)
{
  static const unsigned runs[] = { 1, 2, 5, 8, 11, WRITER_MAX_RUN };

  return runs[random_below (random, G_N_ELEMENTS (runs))];
}

/* Is r what it should be? False when the disks have gone away. */
static bool
expect (const Writer *writer, const char *what, int64_t r, int64_t wanted)
{
  if (r != wanted && writer->has_ended != NULL && atomic_load (writer->has_ended))
    return false;
  bed_expect (writer->versions->bed, what, r, wanted);
  return true;
}

/* Gives blocks of this writer the versions next[]. */
static bool
put_versions (Writer *writer, unsigned d, uint64_t block, uint64_t n, const uint32_t *next, Put how)
{
  const Versions *versions = writer->versions;
  const VersionsDisk *model = &versions->disks[d];
  bool by_write = how == PUT_DATA || how == PUT_ZEROS;
  int mode = FALLOC_FL_KEEP_SIZE | (how == PUT_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
  uint64_t length = versions_length (versions, d, block, n);
  int64_t r;

  for (uint64_t i = 0; i < n; i++)
    {
      atomic_store (&model->begun[block + i], next[i]);
      versions_fill (versions, d, block + i, next[i], writer->buffer + i * BED_BLOCK);
    }
  if (by_write)
    r = writer->verbs->write (writer->data, d, writer->buffer, length, block * BED_BLOCK);
  else
    r = writer->verbs->allocate (writer->data, d, mode, block * BED_BLOCK, length);
  if (!expect (writer, "write or allocate", r, by_write ? (int64_t) length : 0))
    return false;
  for (uint64_t i = 0; i < n; i++)
    atomic_store (&model->done[block + i], next[i]);
  return true;
}

/* Gives n blocks of this writer their next versions. */
static bool
put (Writer *writer, unsigned d, uint64_t block, uint64_t n, Put how)
{
  uint32_t next[WRITER_MAX_RUN];

  for (uint64_t i = 0; i < n; i++)
    next[i] = versions_next (writer->versions, d, block + i, how != PUT_DATA);
  return put_versions (writer, d, block, n, next, how);
}

static Put
pick_put (Random *random)
{
  unsigned percent = (unsigned) random_below (random, 100);

  return percent < 70   ? PUT_DATA
         : percent < 80 ? PUT_ZEROS
         : percent < 90 ? PUT_ZERO_RANGE
                        : PUT_PUNCH;
}

/* A range of blocks of this writer, half the time among those that everybody writes often. */
static uint64_t
pick_blocks (Writer *writer, uint64_t *out_n)
{
  uint64_t n_runs = (writer->versions->n_main - VERSIONS_MARKS) / writer->run;
  uint64_t n_mine = n_runs / writer->n_writers;
  uint64_t among = random_percent (&writer->random, 50) ? units_min (n_mine, 16) : n_mine;
  uint64_t run = random_below (&writer->random, among) * writer->n_writers + writer->index;
  uint64_t at = random_below (&writer->random, writer->run);

  *out_n = 1 + random_below (&writer->random, writer->run - at);
  return VERSIONS_MARKS + run * writer->run + at;
}

/* Reads blocks of this writer on the live disk: they are what it last wrote. */
static bool
read_back (Writer *writer, unsigned d, uint64_t block, uint64_t n)
{
  const Versions *versions = writer->versions;
  int64_t length = (int64_t) (n * BED_BLOCK);
  uint8_t expected[BED_BLOCK];

  if (!expect (
          writer, "read",
          writer->verbs->read (writer->data, d, writer->buffer, (size_t) length, block * BED_BLOCK),
          length))
    return false;
  for (uint64_t i = 0; i < n; i++)
    {
      versions_fill (versions, d, block + i, atomic_load (&versions->disks[d].done[block + i]),
                     expected);
      bed_compare (versions->bed, "live", d, (block + i) * BED_BLOCK,
                   writer->buffer + i * BED_BLOCK, expected, BED_BLOCK);
    }
  return true;
}

/* Resizes the disk, by truncate or a write at its end. For the writer of the tail. */
static bool
resize (Writer *writer, unsigned d)
{
  Versions *versions = writer->versions;
  VersionsDisk *model = &versions->disks[d];
  uint32_t index = atomic_load (&model->sizes_begun) + 1;
  uint64_t old = model->sizes[index - 1] / BED_BLOCK;
  uint64_t new = versions->n_main
                 + random_below (&writer->random, versions->n_blocks - versions->n_main + 1);
  bool done;

  if (index == VERSIONS_MAX_SIZES)
    return true;
  model->sizes[index] = new *BED_BLOCK;
  for (uint64_t b = new; b < old; b++)
    atomic_store (&model->begun[b], versions_next (versions, d, b, true));
  atomic_store (&model->sizes_begun, index);
  if (new > old && random_percent (&writer->random, 40))
    done = put (writer, d, new - 1, 1, PUT_DATA);
  else
    done
        = expect (writer, "truncate", writer->verbs->truncate (writer->data, d, new *BED_BLOCK), 0);
  if (!done)
    return false;
  atomic_store (&model->sizes_done, index);
  for (uint64_t b = new; b < old; b++)
    atomic_store (&model->done[b], atomic_load (&model->begun[b]));
  return true;
}

/* Writes in the tail, inside of the size. */
static bool
put_in_tail (Writer *writer, unsigned d)
{
  const Versions *versions = writer->versions;
  const VersionsDisk *model = &versions->disks[d];
  uint64_t end = versions_blocks_of (model->sizes[atomic_load (&model->sizes_done)]);
  uint64_t block, n;

  if (end == versions->n_main)
    return true;
  block = versions->n_main + random_below (&writer->random, end - versions->n_main);
  n = 1 + random_below (&writer->random, units_min (WRITER_MAX_RUN, end - block));
  return put (writer, d, block, n, pick_put (&writer->random));
}

/* One number to all disks, in their order. */
static bool
put_marks (Writer *writer)
{
  bool done = true;

  for (unsigned d = 0; d < writer->versions->bed->n_disks && done; d++)
    done = put (writer, d, writer->index, 1, PUT_DATA);
  return done;
}

void
writer_level_marks (Writer *writer)
{
  uint32_t number = 0;

  for (unsigned d = 0; d < writer->versions->bed->n_disks; d++)
    number = MAX (number, versions_next (writer->versions, d, writer->index, false));
  for (unsigned d = 0; d < writer->versions->bed->n_disks; d++)
    put_versions (writer, d, writer->index, 1, &number, PUT_DATA);
}

bool
writer_step (Writer *writer)
{
  unsigned d = (unsigned) random_below (&writer->random, writer->versions->bed->n_disks);
  unsigned percent = (unsigned) random_below (&writer->random, 100);
  bool is_fixed = writer->versions->disks[d].is_fixed;
  uint64_t n, block = pick_blocks (writer, &n);

  if (percent < 15)
    return put_marks (writer);
  if (percent < 25)
    return read_back (writer, d, block, n);
  if (percent < 28 && writer->index == 0 && !is_fixed)
    return resize (writer, d);
  if (percent < 40 && writer->index == 0)
    return put_in_tail (writer, d);
  if (percent < 42)
    return expect (writer, "fsync", writer->verbs->flush (writer->data, d), 0);
  return put (writer, d, block, n, pick_put (&writer->random));
}
