/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a kill leaves: clusters at the end of some copies that were never recorded. They are
 * harmless, but would stay for ever and be reported by qemu-img check. */
#include "base/fail.h"
#include "overlay/qcow2-map-private.h"

#include <errno.h>

/* Marks a cluster of the file as used; false when it was before. */
static bool
use (uint8_t *used, uint64_t cluster)
{
  uint8_t bit = (uint8_t) (1U << cluster % 8);

  if ((used[cluster / 8] & bit) != 0)
    return false;
  used[cluster / 8] |= bit;
  return true;
}

static bool
use_fixed_part (const Qcow2Map *map, uint8_t *used)
{
  bool ok = true;

  for (uint64_t i = 0; i < qcow2_first_free (&map->header); i++)
    ok = use (used, i) && ok;
  for (uint64_t k = 1; k * qcow2_block_span (&map->header) < map->next_cluster; k++)
    ok = use (used, qcow2_refcount_block (&map->header, k)) && ok;
  return ok;
}

/* The table and all that its entries point to. */
static bool
use_table (const Qcow2Map *map, Qcow2Table *table, uint8_t *used)
{
  const Qcow2Entry *entries = table->entries;

  if (table->host_offset == 0)
    return true;
  if (!use (used, table->host_offset >> map->header.cluster_bits))
    return false;
  for (uint64_t i = 0; i < map->n_entries; i++)
    if (entries[i].offset != 0 && !use (used, entries[i].offset >> map->header.cluster_bits))
      return false;
  return true;
}

bool
qcow2_find_leaks (Qcow2Map *map, const char *path, GError **error)
{
  g_autofree uint8_t *used = g_malloc0 (map->next_cluster / 8 + 1);
  bool ok = use_fixed_part (map, used);

  for (uint32_t i = 0; i < map->header.l1_size && ok; i++)
    {
      int r = qcow2_prepare_table (map, &map->tables[i], false);

      if (r < 0)
        return fail_errno (error, -r, "cannot read an L2 table of overlay '%s'", path);
      ok = use_table (map, &map->tables[i], used);
    }
  if (!ok)
    return fail (error, EUCLEAN, "overlay '%s' is damaged: two things at one place", path);
  for (uint64_t i = 0; i < map->next_cluster; i++)
    if (use (used, i))
      g_array_append_val (map->leaks, i);
  return true;
}
