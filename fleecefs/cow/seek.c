/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data and holes of snapshots.
 *
 * Nothing is registered, so no writer waits for a seek. What the source says counts for granules
 * that are not saved, and it is looked up that they are not after the source was asked: a
 * guest's write is at the source only when its granules are published as saved. So what was
 * not saved then was, when the source was asked, as at the snapshot's instant. The chain too is
 * taken after that: one taken before could lack the layer that has them.
 *
 * One answer of the source serves for all that is looked up later, and where layers have no table
 * there is nothing to look at; so a hole of a TiB is a few steps.
 */
#include "base/pause.h"
#include "cow/disk-private.h"

#include <errno.h>
#include <unistd.h>

/* Where granules are that stand together. */
typedef enum
{
  RUN_SAVED_DATA,
  RUN_SAVED_ZERO,
  RUN_AT_SOURCE,
} RunKind;

typedef struct
{
  RunKind kind;
  uint64_t end; /* granule; the run may go on there */
} Run;

typedef struct
{
  Disk *disk;
  Layer *layer;
  SourceExtent wanted;
  uint64_t end; /* of the snapshot, in granules */

  Chain *chain;       /* after the last answer of the source */
  unsigned index;     /* of the layer in it */
  bool asked;         /* the source; then: */
  uint64_t found;     /* the first granule wanted at the source; end: none */
  uint64_t at_source; /* bytes of the source */
} Seek;

static unsigned
bits_from (uint32_t word, unsigned bit)
{
  uint32_t rest = ~(word >> bit);

  return rest == 0 ? 32 - bit : units_min (__builtin_ctz (rest), 32 - bit);
}

/* The cluster before which no layer has anything saved, from that cluster on, as far as it is
 * known without an error. */
static uint64_t
next_saved (const Seek *seek, uint64_t cluster)
{
  uint64_t limit = units_div_up (seek->end, QCOW2_GRANULES_PER_CLUSTER);

  for (unsigned i = seek->index; i < seek->chain->n_layers && limit > cluster; i++)
    {
      uint64_t next = cluster;
      int errnum;

      if (seek->chain->layers[i]->overlay == NULL)
        continue;
      overlay_next (seek->chain->layers[i]->overlay, &next, limit, &errnum);
      limit = next;
    }
  return limit;
}

/* Where the granule is: the first layer that has it, else the source. Layers behind that one
 * need not be readable. */
static int
look_up (const Seek *seek, uint64_t granule, Run *out)
{
  uint64_t cluster = granule / QCOW2_GRANULES_PER_CLUSTER;
  unsigned bit = granule % QCOW2_GRANULES_PER_CLUSTER, n;
  uint32_t need = UINT32_MAX;

  for (unsigned i = seek->index; i < seek->chain->n_layers; i++)
    {
      Overlay *overlay = seek->chain->layers[i]->overlay;
      Qcow2Cluster mapping;
      uint32_t kind;
      int r;

      if (overlay == NULL)
        continue;
      r = overlay_prepare (overlay, cluster, 1, false);
      if (r < 0)
        return r;
      mapping = overlay_lookup (overlay, cluster);
      kind = mapping.data >> bit & 1 ? mapping.data : mapping.zero;
      if (kind >> bit & 1)
        {
          *out = (Run){ kind == mapping.data ? RUN_SAVED_DATA : RUN_SAVED_ZERO,
                        granule + bits_from (kind & need, bit) };
          return 0;
        }
      need &= ~(mapping.data | mapping.zero);
    }
  n = bits_from (need, bit);
  *out = (Run){ RUN_AT_SOURCE, granule + n };
  if (bit + n == QCOW2_GRANULES_PER_CLUSTER)
    out->end = next_saved (seek, cluster + 1) * QCOW2_GRANULES_PER_CLUSTER;
  return 0;
}

/* The first granule from that one on which the source has of the wanted kind, a hole only if the
 * whole granule is one. What is behind the end of the snapshot does not count, also in its last
 * granule: one that was data and a hole would keep those for ever who go from one to the other. */
static uint64_t
find_at_source (const Seek *seek, uint64_t granule)
{
  uint64_t size = seek->disk->geometry.granule;
  Source *source = seek->disk->source;
  uint64_t at = granule * size;

  if (seek->wanted == SOURCE_DATA)
    {
      uint64_t data = source_find (source, at, SOURCE_DATA);

      return data < seek->layer->size ? data / size : seek->end;
    }
  while (at < seek->layer->size)
    {
      uint64_t hole = source_find (source, at, SOURCE_HOLE), data;

      if (hole >= seek->layer->size)
        break;
      hole = units_round_up (hole, size);
      data = source_find (source, hole, SOURCE_DATA);
      if (data >= hole + size || data >= seek->layer->size)
        return units_min (hole / size, seek->end);
      at = data;
    }
  return seek->end;
}

static int
take_chain (Seek *seek)
{
  int index;

  g_clear_pointer (&seek->chain, chain_unref);
  seek->chain = disk_chain (seek->disk);
  index = chain_find (seek->chain, seek->layer);
  seek->index = (unsigned) index;
  return index < 0 ? DISK_LAYER_GONE : 0;
}

static int
ask_source (Seek *seek, uint64_t granule)
{
  int r;

  PAUSE_POINT ("seek:ask");
  seek->found = find_at_source (seek, granule);
  r = source_size (seek->disk->source, &seek->at_source);
  if (r < 0)
    return r;
  seek->asked = true;
  PAUSE_POINT ("seek:asked");
  return take_chain (seek);
}

/* Is there a wanted granule in the run from granule on, all of which is at the source? Moves
 * *granule to it, or behind the run. Returns 1 when there is, 0, or -errno. */
static int
step_at_source (Seek *seek, uint64_t *granule, const Run *run)
{
  bool found = seek->found < run->end;
  uint64_t end = found ? seek->found + 1 : run->end;

  /* Looked at after the source: who broke the layer had not changed the source before that. */
  if (layer_is_broken (seek->layer))
    return -EIO;
  if (units_min (end * seek->disk->geometry.granule, seek->layer->size) > seek->at_source)
    return frozen_break_for_tail (seek->disk, seek->layer, seek->at_source);
  *granule = found ? seek->found : run->end;
  return found;
}

/* Moves *granule to the first one from there on that is wanted. Returns 1, or 0 when there is none,
 * or -errno. */
static int
find_granule (Seek *seek, uint64_t *granule)
{
  int r = take_chain (seek);

  while (r == 0 && *granule < seek->end)
    {
      Run run;

      r = look_up (seek, *granule, &run);
      if (r < 0)
        return frozen_break_for_lookup (seek->disk, seek->layer, r);
      run.end = units_min (run.end, seek->end);
      if (run.kind == RUN_AT_SOURCE && (!seek->asked || seek->found < *granule))
        r = ask_source (seek, *granule); /* and then looked up again */
      else if (run.kind == RUN_AT_SOURCE)
        r = step_at_source (seek, granule, &run);
      else if ((run.kind == RUN_SAVED_DATA) == (seek->wanted == SOURCE_DATA))
        return 1;
      else
        *granule = run.end;
    }
  return r;
}

int64_t
disk_seek_frozen (Disk *disk, Layer *layer, uint64_t offset, int whence)
{
  uint64_t size = disk->geometry.granule, granule = offset / size;
  Seek seek = {
    .disk = disk,
    .layer = layer,
    .wanted = whence == SEEK_DATA ? SOURCE_DATA : SOURCE_HOLE,
    .end = units_div_up (layer->size, size),
  };
  int r;

  if (whence != SEEK_DATA && whence != SEEK_HOLE)
    return -EINVAL;
  if (offset >= layer->size)
    return -ENXIO;
  if (layer_is_broken (layer))
    return -EIO;
  r = find_granule (&seek, &granule);
  g_clear_pointer (&seek.chain, chain_unref);
  if (r < 0)
    return r;
  if (r > 0)
    return (int64_t) units_max (granule * size, offset);
  return whence == SEEK_HOLE ? (int64_t) layer->size : -ENXIO;
}
