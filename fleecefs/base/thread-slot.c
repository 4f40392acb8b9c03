/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/thread-slot.h"

#include <glib.h>
#include <stdatomic.h>
#include <stdint.h>

static _Atomic uint64_t taken; /* a bit for each slot that has an owner */

static void
give_back (gpointer owned)
{
  atomic_fetch_and (&taken, ~(UINT64_C (1) << (GPOINTER_TO_UINT (owned) - 1)));
}

/* What a thread owns: its slot + 1. */
static GPrivate owned_slot = G_PRIVATE_INIT (give_back);

static unsigned
take (void)
{
  static atomic_uint n_without;
  uint64_t before = atomic_load (&taken);
  unsigned slot;

  do
    {
      if (before == UINT64_MAX)
        return atomic_fetch_add (&n_without, 1) % THREAD_SLOTS;
      slot = (unsigned) __builtin_ctzll (~before);
    }
  while (!atomic_compare_exchange_weak (&taken, &before, before | UINT64_C (1) << slot));
  g_private_set (&owned_slot, GUINT_TO_POINTER (slot + 1));
  return slot;
}

unsigned
thread_slot (void)
{
  static _Thread_local unsigned slot = THREAD_SLOTS;

  if (slot == THREAD_SLOTS)
    slot = take ();
  return slot;
}
