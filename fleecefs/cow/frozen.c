/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The snapshot's side of the protocol: frozen reads. */
#include "base/pause.h"
#include "base/trace.h"
#include "cow/disk-private.h"

#include <errno.h>

/* Bytes at the source that are read along when they lie between two runs that are
 * wanted: a system call costs more. What is saved elsewhere overwrites them. */
#define READ_OVER (32 * KIB)

/* Granules that stand together in one overlay, or are zeros. */
typedef struct
{
  Overlay *overlay; /* NULL: zeros */
  uint64_t host_offset;
  unsigned first, n; /* in the region */
} Part;

/* Where the granules of a piece are, and what keeps that true. */
typedef struct
{
  Disk *disk;
  Layer *layer;
  Stripe *stripe;
  Piece piece;
  Chain *chain;      /* keeps the overlays of the parts open */
  TrackerEntry read; /* its granules are at the source; registered when there are any */
  unsigned n_parts;
  Part parts[GRANULE_SET_MAX];
} Frozen;

/* Adds the runs of a word of one cluster, joined to the last part where they go on from it. */
static void
add_parts (Frozen *frozen, Overlay *overlay, uint64_t host_offset, unsigned w, uint32_t word)
{
  uint64_t granule = frozen->disk->geometry.granule;

  while (word != 0)
    {
      unsigned bit = (unsigned) __builtin_ctz (word);
      uint32_t rest = ~(word >> bit);
      unsigned n = rest == 0 ? 32 : (unsigned) __builtin_ctz (rest);
      Part part = { overlay, host_offset + bit * granule, w * 32 + bit, n };
      Part *last = frozen->n_parts > 0 ? &frozen->parts[frozen->n_parts - 1] : NULL;

      word &= ~(uint32_t) (((UINT64_C (1) << n) - 1) << bit);
      if (last != NULL && last->overlay == overlay && last->first + last->n == part.first
          && (overlay == NULL || last->host_offset + last->n * granule == part.host_offset))
        last->n += n;
      else
        frozen->parts[frozen->n_parts++] = part;
    }
}

/* Looks the piece up in the layers from first to last - 1: first who has it, then the source. */
static void
look_up (Frozen *frozen, unsigned first, unsigned last) LOCK_REQUIRES (&frozen->stripe->lock)
{
  const Geometry *geometry = &frozen->disk->geometry;
  GranuleSet need = granule_set_range (frozen->piece.first, frozen->piece.n);
  uint64_t cluster = frozen->piece.region * geometry->clusters_per_region;

  for (unsigned w = 0; w < geometry->clusters_per_region; w++)
    for (unsigned i = first; i < last && need.words[w] != 0; i++)
      {
        Overlay *overlay = frozen->chain->layers[i]->overlay;
        Qcow2Cluster mapping;

        if (overlay == NULL)
          continue;
        mapping = overlay_lookup (overlay, cluster + w);
        add_parts (frozen, overlay, mapping.host_offset, w, mapping.data & need.words[w]);
        add_parts (frozen, NULL, 0, w, mapping.zero & need.words[w]);
        need.words[w] &= ~(mapping.data | mapping.zero);
      }
  frozen->read = (TrackerEntry){ .region = frozen->piece.region, .granules = need };
}

/* A guest may rely on it that the layer is broken, and not save; so that is written down before
 * anybody is told. */
void
disk_break (Disk *disk, Layer *layer, LayerFault fault, int errnum)
{
  bool first = layer_break (layer, fault, errnum);
  g_autoptr (Chain) chain = disk_chain (disk);

  note_break (disk, chain);
  if (first)
    disk->on_break (disk->on_break_data);
}

void
disk_sync_saved (Disk *disk)
{
  g_autoptr (Chain) chain = disk_chain (disk);
  int r = 0;

  /* From the newest on: the older ones read what it has. */
  for (unsigned i = disk->durable ? 0 : chain->n_layers; i-- > 0;)
    {
      Layer *layer = chain->layers[i];

      if (r == 0 && layer->overlay != NULL && overlay_is_dirty (layer->overlay))
        r = overlay_sync (layer->overlay);
      if (r < 0)
        disk_break (disk, layer, LAYER_WRITE_FAILED, -r);
    }
}

int
frozen_break_for_lookup (Disk *disk, Layer *layer, int r)
{
  if (r == -ENOMEM)
    return r;
  disk_break (disk, layer, LAYER_LOOKUP_FAILED, -r);
  return -EIO;
}

int
frozen_break_for_tail (Disk *disk, Layer *layer, uint64_t end)
{
  g_autoptr (Chain) chain = disk_chain (disk); /* newer than ours, perhaps */

  if (tail_lose (disk, chain, end))
    {
      note_break (disk, chain);
      disk->on_break (disk->on_break_data);
    }
  disk_break (disk, layer, LAYER_SOURCE_TOO_SMALL, 0);
  return -EIO;
}

/* Where the layer stands in the chain, which is referenced then; or what the read returns. */
static int
find_layer (Frozen *frozen, Chain *chain)
{
  int index = chain_find (chain, frozen->layer);

  if (index < 0)
    return DISK_LAYER_GONE;
  if (layer_is_broken (frozen->layer))
    return -EIO;
  frozen->chain = chain_ref (chain);
  return index;
}

/* Looks the piece up and, in the same critical section, registers the read of what
 * is at the source: whoever saves these granules later waits for it. The chain too is
 * taken under the lock: one taken before could lack a layer that has them.
 *
 * Newer layers whose tables cannot be read do no harm when the older ones have all granules. */
static int
frozen_begin (Frozen *frozen)
{
  const Geometry *geometry = &frozen->disk->geometry;
  uint64_t region = frozen->piece.region;
  int index, prepared = 0;

  frozen->n_parts = 0;
  PAUSE_POINT ("reader:begin");
  lock_acquire (&frozen->stripe->lock);
  while ((index = find_layer (frozen, frozen->disk->chain)) >= 0)
    {
      unsigned last = chain_prepared (frozen->chain, (unsigned) index, geometry, region);
      bool all = last == frozen->chain->n_layers;

      if (all || prepared < 0)
        look_up (frozen, (unsigned) index, last);
      if (all || (prepared < 0 && granule_set_is_empty (&frozen->read.granules)))
        break;
      lock_release (&frozen->stripe->lock);
      if (prepared < 0)
        index = frozen_break_for_lookup (frozen->disk, frozen->layer, prepared);
      else
        prepared = chain_prepare (frozen->chain, (unsigned) index, geometry, region, false);
      chain_unref (frozen->chain);
      if (index < 0)
        return index;
      lock_acquire (&frozen->stripe->lock);
    }
  if (index >= 0 && !granule_set_is_empty (&frozen->read.granules))
    {
      trace_frozen_read_start (frozen->disk->image, frozen->layer->number, frozen->piece.offset,
                               frozen->piece.length);
      stripe_begin_read (frozen->stripe, &frozen->read);
    }
  lock_release (&frozen->stripe->lock);
  return index < 0 ? index : 0;
}

/* Ends the read at the source, which came to r: 0 or -errno. Bytes that came from there count only
 * when the layer was intact after they were read. */
static int
frozen_end_source (Frozen *frozen, int r)
{
  if (r == 0 && layer_is_broken (frozen->layer))
    r = -EIO;
  if (!granule_set_is_empty (&frozen->read.granules))
    {
      lock_acquire (&frozen->stripe->lock);
      stripe_end_read (frozen->stripe, &frozen->read);
      lock_release (&frozen->stripe->lock);
      trace_frozen_read_done (frozen->disk->image, frozen->layer->number, frozen->piece.offset,
                              frozen->piece.length, -r);
    }
  return r;
}

/* The bytes of the piece that granules first to first + n - 1 cover. */
static uint64_t
clip (const Frozen *frozen, unsigned first, unsigned n, uint64_t *out_end)
{
  const Geometry *geometry = &frozen->disk->geometry;
  uint64_t start = frozen->piece.region * geometry_region_size (geometry);

  *out_end = units_min (start + (first + n) * geometry->granule,
                        frozen->piece.offset + frozen->piece.length);
  return units_max (start + first * geometry->granule, frozen->piece.offset);
}

/* *out_cut: where the source ends, if that is too early; -EIO then. */
static int
read_source (Frozen *frozen, uint8_t *buffer, uint64_t *out_cut)
{
  unsigned first = 0, n = granule_set_next_run (&frozen->read.granules, &first);

  while (n > 0)
    {
      unsigned next = first + n, n_next;
      uint64_t offset, end;
      ssize_t got;

      n_next = granule_set_next_run (&frozen->read.granules, &next);
      if (n_next > 0 && (next - (first + n)) * frozen->disk->geometry.granule <= READ_OVER)
        {
          n = next + n_next - first;
          continue;
        }
      offset = clip (frozen, first, n, &end);
      got = source_read (frozen->disk->source, buffer + (offset - frozen->piece.offset),
                         end - offset, offset);
      if (got < 0)
        return (int) got;
      if ((uint64_t) got < end - offset)
        {
          *out_cut = offset + (uint64_t) got;
          return -EIO;
        }
      first = next;
      n = n_next;
    }
  return 0;
}

static int
read_parts (Frozen *frozen, uint8_t *buffer)
{
  const Geometry *geometry = &frozen->disk->geometry;
  uint64_t start = frozen->piece.region * geometry_region_size (geometry);

  for (unsigned i = 0; i < frozen->n_parts; i++)
    {
      const Part *part = &frozen->parts[i];
      uint64_t end, offset = clip (frozen, part->first, part->n, &end);
      uint8_t *to = buffer + (offset - frozen->piece.offset);
      int r = 0;

      if (part->overlay == NULL)
        memset (to, 0, end - offset);
      else
        r = overlay_read (part->overlay, to, end - offset,
                          part->host_offset + (offset - start - part->first * geometry->granule));
      if (r < 0)
        return r;
    }
  return 0;
}

/* After all parts are read. Mostly neighbours are of one overlay. */
static int
check_parts (const Frozen *frozen)
{
  const Overlay *checked = NULL;

  for (unsigned i = 0; i < frozen->n_parts; i++)
    {
      Overlay *overlay = frozen->parts[i].overlay;

      if (overlay != NULL && overlay != checked && overlay_check (overlay) < 0)
        return -EIO;
      checked = overlay != NULL ? overlay : checked;
    }
  return 0;
}

static int
read_piece (Frozen *frozen, uint8_t *buffer)
{
  uint64_t cut = UINT64_MAX;
  int r = frozen_begin (frozen);

  if (r < 0)
    return r;
  PAUSE_POINT ("reader:registered");
  if (!granule_set_is_empty (&frozen->read.granules))
    counters_add (frozen->disk->counters, COUNTER_FROZEN_READS, 1);
  r = read_source (frozen, buffer, &cut);
  PAUSE_POINT ("reader:read");
  r = frozen_end_source (frozen, r);
  if (cut < UINT64_MAX) /* guests do not wait for the store to be told */
    r = frozen_break_for_tail (frozen->disk, frozen->layer, cut);
  if (r == 0)
    r = read_parts (frozen, buffer);
  if (r == 0)
    r = check_parts (frozen);
  chain_unref (frozen->chain);
  return r;
}

ssize_t
disk_read_frozen (Disk *disk, Layer *layer, void *buffer, size_t length, uint64_t offset)
{
  uint64_t start = offset;
  uint64_t end = offset < layer->size ? offset + units_min (length, layer->size - offset) : offset;
  Frozen frozen;

  frozen.disk = disk;
  frozen.layer = layer;
  if (layer_is_broken (layer))
    return -EIO;
  while (offset < end)
    {
      int r;

      frozen.piece = geometry_piece (&disk->geometry, offset, end);
      frozen.stripe = tracker_stripe (disk->tracker, frozen.piece.region);
      r = read_piece (&frozen, (uint8_t *) buffer + (offset - start));
      if (r < 0)
        return r;
      offset += frozen.piece.length;
    }
  counters_add (disk->counters, COUNTER_SNAPSHOT_READS, 1);
  counters_add (disk->counters, COUNTER_SNAPSHOT_READ_BYTES, end - start);
  return (ssize_t) (end - start);
}
