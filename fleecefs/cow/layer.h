/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One link of a disk's chain: an overlay, the size of the snapshot it was made
 * for, and whether what is read through it can still be right.
 *
 * A layer is reference counted; the last reference closes the overlay's file
 * without writing.
 */
#pragma once

#include "overlay/overlay.h"

#include <stdatomic.h>

/* Why a layer broke. */
typedef enum
{
  LAYER_INTACT,
  LAYER_READ_FAILED,      /* reading the old blocks from the source */
  LAYER_WRITE_FAILED,     /* writing them to an overlay */
  LAYER_LOOKUP_FAILED,    /* loading an overlay's tables */
  LAYER_SOURCE_TOO_SMALL, /* the source ends before the snapshot does */
  LAYER_TIMED_OUT,        /* cbw-timeout */
  LAYER_BROKEN_BEFORE,    /* found at the start; the set knows why */
} LayerFault;

typedef struct
{
  /* constant */
  Overlay *overlay; /* NULL: could not be opened; the layer is broken */
  uint64_t size;    /* bytes */
  uint32_t number;  /* of its directory in the store */

  atomic_uint refs;
  atomic_uint fault;    /* LayerFault << 16 | errno; set once */
  atomic_bool unmarked; /* broken, and its overlay does not say so: that was tried */
  atomic_bool given_up; /* see layer_is_given_up(); set once */
} Layer;

/* Takes over the overlay. */
Layer *layer_new (Overlay *overlay, uint64_t size, uint32_t number);
/* References. */
Layer *layer_ref (Layer *layer);
void layer_unref (Layer *layer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Layer, layer_unref)

/* Takes the overlay away, so that it can be closed clean; the caller has the only
 * reference that is still used. */
Overlay *layer_steal_overlay (Layer *layer);

/* Marks the layer broken, from any thread, without a lock. Returns true for the first one to
 * do so. Before the caller overwrites anything that the layer needs. */
bool layer_break (Layer *layer, LayerFault fault, int errnum);

/* If the layer is broken: that stands in its overlay on return, and it is given up. No lock is
 * held. */
int layer_record_break (Layer *layer);

/* A broken layer: that it is stands elsewhere than in its overlay. */
void layer_give_up (Layer *layer);

/* Looked at by every read, after it has its bytes. */
static inline bool
layer_is_broken (Layer *layer)
{
  return atomic_load (&layer->fault) != 0;
}

/* Broken, and a kill cannot make us forget it any more. Only then writers need not save what it
 * lacks: a start that does not know that it is broken would believe it. */
static inline bool
layer_is_given_up (Layer *layer)
{
  return atomic_load (&layer->given_up);
}

/* The reason as a new string, or NULL. */
char *layer_dup_fault (Layer *layer);
