/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cow/chain.h"

Chain *
chain_new (Layer *const *layers, unsigned n_layers, int wanted, int receiver)
{
  Chain *chain = g_malloc (sizeof *chain + n_layers * sizeof chain->layers[0]);

  g_assert (wanted <= receiver && receiver < (int) n_layers);
  chain->n_layers = n_layers;
  chain->wanted = wanted;
  chain->receiver = receiver;
  atomic_init (&chain->refs, 1);
  atomic_init (&chain->given_up, false);
  for (unsigned i = 0; i < n_layers; i++)
    chain->layers[i] = layer_ref (layers[i]);
  return chain;
}

Chain *
chain_ref (Chain *chain)
{
  atomic_fetch_add (&chain->refs, 1);
  return chain;
}

void
chain_unref (Chain *chain)
{
  if (atomic_fetch_sub (&chain->refs, 1) != 1)
    return;
  for (unsigned i = 0; i < chain->n_layers; i++)
    layer_unref (chain->layers[i]);
  g_free (chain);
}

int
chain_find (const Chain *chain, const Layer *layer)
{
  for (unsigned i = 0; i < chain->n_layers; i++)
    if (chain->layers[i] == layer)
      return (int) i;
  return -1;
}

int
chain_prepare (Chain *chain, unsigned first, const Geometry *geometry, uint64_t region, bool create)
{
  uint64_t cluster = region * geometry->clusters_per_region;
  int result = 0;

  for (unsigned i = first; i < chain->n_layers; i++)
    if (chain->layers[i]->overlay != NULL)
      {
        int r = overlay_prepare (chain->layers[i]->overlay, cluster, geometry->clusters_per_region,
                                 create && (int) i == chain->receiver);

        if (result == 0)
          result = r;
      }
  return result;
}

unsigned
chain_prepared (Chain *chain, unsigned first, const Geometry *geometry, uint64_t region)
{
  uint64_t cluster = region * geometry->clusters_per_region;

  while (first < chain->n_layers
         && (chain->layers[first]->overlay == NULL
             || overlay_prepared (chain->layers[first]->overlay, cluster,
                                  geometry->clusters_per_region)))
    first++;
  return first;
}

void
chain_clip (const Layer *layer, const Geometry *geometry, uint64_t region, GranuleSet *set)
{
  uint64_t start = region * geometry->granules_per_region;
  uint64_t n_granules = units_div_up (layer->size, geometry->granule);

  if (n_granules < start + geometry->granules_per_region)
    {
      unsigned keep = n_granules > start ? (unsigned) (n_granules - start) : 0;
      GranuleSet beyond = granule_set_range (keep, GRANULE_SET_MAX - keep);

      granule_set_subtract (set, &beyond);
    }
}

void
chain_subtract_saved (Chain *chain, const Geometry *geometry, uint64_t region, GranuleSet *set)
{
  uint64_t cluster = region * geometry->clusters_per_region;

  chain_clip (chain->layers[chain->wanted], geometry, region, set);
  for (unsigned w = 0; w < geometry->clusters_per_region; w++)
    for (unsigned i = (unsigned) chain->wanted; i < chain->n_layers && set->words[w] != 0; i++)
      if (chain->layers[i]->overlay != NULL)
        set->words[w] &= ~overlay_saved (chain->layers[i]->overlay, cluster + w);
}

void
chain_subtract_unneeded (Chain *chain, const Geometry *geometry, uint64_t region, GranuleSet *set)
{
  uint64_t cluster = region * geometry->clusters_per_region;
  GranuleSet at_source = *set, needed = { 0 };

  if (!layer_is_given_up (chain->layers[chain->wanted]))
    return; /* needs them all */
  for (unsigned i = (unsigned) chain->wanted; i-- > 0;)
    {
      Layer *layer = chain->layers[i];
      GranuleSet here;

      for (unsigned w = 0; layer->overlay != NULL && w < geometry->clusters_per_region; w++)
        if (at_source.words[w] != 0)
          at_source.words[w] &= ~overlay_saved (layer->overlay, cluster + w);
      here = at_source;
      chain_clip (layer, geometry, region, &here);
      if (!layer_is_given_up (layer))
        granule_set_add (&needed, &here);
    }
  *set = needed;
}

static bool
all_given_up (Chain *chain)
{
  for (int i = 0; i <= chain->wanted; i++)
    if (!layer_is_given_up (chain->layers[i]))
      return false;
  return true;
}

bool
chain_break (Chain *chain, const Geometry *geometry, uint64_t region, const GranuleSet *granules,
             uint64_t beyond, LayerFault fault, int errnum)
{
  uint64_t cluster = region * geometry->clusters_per_region;
  GranuleSet at_source = *granules;
  bool any = false;

  /* From the newest to the oldest: what a layer has, older ones find there. */
  for (unsigned i = chain->n_layers; i-- > 0;)
    {
      Layer *layer = chain->layers[i];
      GranuleSet here;

      for (unsigned w = 0; layer->overlay != NULL && w < geometry->clusters_per_region; w++)
        if (at_source.words[w] != 0)
          at_source.words[w] &= ~overlay_saved (layer->overlay, cluster + w);
      here = at_source;
      chain_clip (layer, geometry, region, &here);
      if (layer->size > beyond && !granule_set_is_empty (&here))
        any = layer_break (layer, fault, errnum) || any;
    }
  return any;
}

int
chain_record_break (Chain *chain)
{
  int result = 0;

  for (unsigned i = 0; i < chain->n_layers; i++)
    {
      int r = layer_record_break (chain->layers[i]);

      if (result == 0)
        result = r;
    }
  return result;
}

void
chain_stop_if_broken (Chain *chain)
{
  /* Who tried to mark them has left a note. */
  for (unsigned i = 0; i < chain->n_layers; i++)
    if (atomic_load (&chain->layers[i]->unmarked))
      layer_give_up (chain->layers[i]);
  if (all_given_up (chain))
    atomic_store (&chain->given_up, true);
}

void
chain_give_up (Chain *chain)
{
  for (unsigned i = 0; i < chain->n_layers; i++)
    if (layer_is_broken (chain->layers[i]))
      layer_give_up (chain->layers[i]);
  chain_stop_if_broken (chain);
}
