/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot/level.h"

Level *
level_new (uint32_t number, unsigned n_disks)
{
  Level *level = g_malloc0 (sizeof *level + n_disks * sizeof level->layers[0]);

  level->number = number;
  level->n_disks = n_disks;
  return level;
}

void
level_free (Level *level)
{
  for (unsigned i = 0; i < level->n_disks; i++)
    g_clear_pointer (&level->layers[i], layer_unref);
  g_free (level);
}

bool
level_is_given_up (const Level *level)
{
  for (unsigned i = 0; i < level->n_disks; i++)
    if (level->layers[i] != NULL && !layer_is_given_up (level->layers[i]))
      return false;
  return true;
}

unsigned
level_n_broken (const Level *level)
{
  unsigned n = 0;

  for (unsigned i = 0; i < level->n_disks; i++)
    if (level->layers[i] != NULL && layer_is_broken (level->layers[i]))
      n++;
  return n;
}

Chain *
level_build_chain (const GPtrArray *levels, unsigned disk, const Level *into, const Level *fresh)
{
  g_autofree Layer **layers = g_new0 (Layer *, levels->len + 1);
  int wanted = -1, receiver = -1;
  unsigned n = 0;

  for (unsigned i = 0; i < levels->len; i++)
    {
      const Level *level = levels->pdata[i];
      Layer *layer = level->layers[disk];

      if (layer == NULL)
        continue;
      if ((level->snapshot != NULL || level == fresh) && !layer_is_given_up (layer))
        wanted = (int) n;
      if (into == NULL || level == into)
        receiver = (int) n;
      layers[n++] = layer;
    }
  if (receiver < wanted)
    receiver = wanted; /* the disk came after the level that receives */
  return chain_new (layers, n, wanted, receiver);
}
