/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk's chain of layers, oldest first, and after the newest the source.
 *
 * A chain does not change; a new one takes its place (disk_set_chain). Two of its
 * layers have a role for writers:
 *
 *   wanted    the newest layer of a snapshot that somebody can still read. A granule
 *             is saved when this layer or a newer one has it; granules
 *             beyond its size need no copy.
 *   receiver  the layer that new copies go to, wanted or a newer one.
 *
 * They differ while the newest snapshots have been removed and their layers are
 * not merged yet. Without a wanted layer nothing has to be saved.
 */
#pragma once

#include "cow/granule-set.h"
#include "cow/layer.h"

typedef struct
{
  /* constant */
  unsigned n_layers;
  int wanted; /* index; -1: none */
  int receiver;

  atomic_uint refs;
  atomic_bool given_up; /* every layer up to wanted is: nothing to save for */
  Layer *layers[];
} Chain;

/* Takes out of *set the granules at or beyond the layer's size. */
void chain_clip (const Layer *layer, const Geometry *geometry, uint64_t region, GranuleSet *set);

/* A chain of these layers, each referenced anew. */
Chain *chain_new (Layer *const *layers, unsigned n_layers, int wanted, int receiver);
/* References. */
Chain *chain_ref (Chain *chain);
void chain_unref (Chain *chain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Chain, chain_unref)

/* The index of a layer, or -1. */
int chain_find (const Chain *chain, const Layer *layer);

/* True when writers have nothing to save for. Lock-free. */
static inline bool
chain_is_idle (Chain *chain)
{
  return chain->wanted < 0 || atomic_load_explicit (&chain->given_up, memory_order_acquire);
}

/* Makes lookups in the layers from index first on possible for the clusters of the
 * region; with create also copies to the receiver. Blocks. Returns 0, or the first -errno: of a
 * layer that has then no granule there, as far as lookups tell; the others are prepared all the
 * same. */
int chain_prepare (Chain *chain, unsigned first, const Geometry *geometry, uint64_t region,
                   bool create);
/* The index after the last of the layers from first on, without a gap, for which lookups are
 * possible; n_layers: chain_prepare (..., false) would have nothing to do. */
unsigned chain_prepared (Chain *chain, unsigned first, const Geometry *geometry, uint64_t region);

/* Takes out of *set what writers need not save: saved already, or beyond the size
 * of the wanted layer. What is not prepared counts as not saved. */
void chain_subtract_saved (Chain *chain, const Geometry *geometry, uint64_t region,
                           GranuleSet *set);

/* Takes out of *set, which chain_subtract_saved() left, what only layers that are given up would
 * need. */
void chain_subtract_unneeded (Chain *chain, const Geometry *geometry, uint64_t region,
                              GranuleSet *set);

/* Breaks every layer, of those with over `beyond` bytes that reach so far, that would read one of
 * the granules at the source. Returns true when any was intact before. */
bool chain_break (Chain *chain, const Geometry *geometry, uint64_t region,
                  const GranuleSet *granules, uint64_t beyond, LayerFault fault, int errnum);

/* After chain_break() and before the guest's write, with no lock held: writes into the overlays
 * which layers are broken. Returns 0, or -errno when one of them does not say it. */
int chain_record_break (Chain *chain);
/* Then, and with a note of what their overlays do not say: they are given up. When all are, writers
 * need no copies any more. */
void chain_stop_if_broken (Chain *chain);
/* The same with nothing in the overlays yet: a note, which stays until chain_record_break() has
 * been called once more and done it, tells of all that is broken. */
void chain_give_up (Chain *chain);
