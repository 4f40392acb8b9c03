/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cow/layer.h"

Layer *
layer_new (Overlay *overlay, uint64_t size, uint32_t number)
{
  Layer *layer = g_new (Layer, 1);

  *layer = (Layer){ .overlay = overlay, .size = size, .number = number };
  atomic_init (&layer->refs, 1);
  atomic_init (&layer->fault, 0);
  atomic_init (&layer->unmarked, false);
  atomic_init (&layer->given_up, false);
  return layer;
}

Layer *
layer_ref (Layer *layer)
{
  atomic_fetch_add (&layer->refs, 1);
  return layer;
}

void
layer_unref (Layer *layer)
{
  if (atomic_fetch_sub (&layer->refs, 1) != 1)
    return;
  overlay_free (layer->overlay);
  g_free (layer);
}

Overlay *
layer_steal_overlay (Layer *layer)
{
  return g_steal_pointer (&layer->overlay);
}

bool
layer_break (Layer *layer, LayerFault fault, int errnum)
{
  unsigned intact = 0;
  bool first = atomic_compare_exchange_strong (&layer->fault, &intact,
                                               (unsigned) fault << 16 | (unsigned) errnum);

  if (first && fault == LAYER_BROKEN_BEFORE)
    layer_give_up (layer);
  return first;
}

int
layer_record_break (Layer *layer)
{
  int r;

  if (!layer_is_broken (layer))
    return 0;
  r = layer->overlay != NULL ? overlay_mark_broken (layer->overlay) : 0;
  if (r == 0)
    atomic_store (&layer->given_up, true);
  else if (!atomic_exchange (&layer->unmarked, true))
    g_warning ("cannot mark an overlay of level %u as broken: %s", layer->number, g_strerror (-r));
  return r;
}

void
layer_give_up (Layer *layer)
{
  atomic_store (&layer->given_up, true);
}

char *
layer_dup_fault (Layer *layer)
{
  static const char *const texts[] = {
    [LAYER_READ_FAILED] = "reading old blocks from the image failed",
    [LAYER_WRITE_FAILED] = "writing old blocks to the store failed",
    [LAYER_LOOKUP_FAILED] = "reading an overlay in the store failed",
    [LAYER_SOURCE_TOO_SMALL] = "the image became shorter behind our back",
    [LAYER_TIMED_OUT] = "copying old blocks took longer than cbw-timeout",
    [LAYER_BROKEN_BEFORE] = "it was broken when the store was opened",
  };
  unsigned fault = atomic_load (&layer->fault);
  int errnum = (int) (fault & 0xffff);

  if (fault == 0)
    return NULL;
  return errnum == 0 ? g_strdup (texts[fault >> 16])
                     : g_strdup_printf ("%s: %s", texts[fault >> 16], space_strerror (errnum));
}
