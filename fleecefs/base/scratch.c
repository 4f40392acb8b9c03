/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/scratch.h"

#include <glib.h>
#include <stdlib.h>

static GPrivate buffers[SCRATCH_N] = { G_PRIVATE_INIT (free), G_PRIVATE_INIT (free) };

void *
scratch_get (ScratchUse use)
{
  void *buffer = g_private_get (&buffers[use]);

  if (buffer == NULL)
    {
      buffer = aligned_alloc (4096, SCRATCH_SIZE);
      g_private_set (&buffers[use], buffer);
    }
  return buffer;
}
