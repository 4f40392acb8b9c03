/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands where in the file of an image that was there before: each cluster at most once.
 *
 * Where two granules shared a place, saving one of them would overwrite the other. So
 * each table and cluster takes its place when it is read, and fails when that is taken. Of an
 * image with tables that are not read yet nothing is known; so all of them are read before it is
 * changed (qcow2_map_load_all()). The refcounts say nothing: who made the tables made them too.
 *
 * What a kill leaves is seen here as well: clusters at the end of some copies that were
 * never recorded. They are harmless, but would stay for ever and be reported by qemu-img
 * check. */
#include "base/fail.h"
#include "base/units.h"
#include "overlay/qcow2-map-private.h"

#include <errno.h>

/* Marks a cluster of the file as used; false when it was before. */
static bool
take_bit (uint8_t *used, uint64_t cluster)
{
  uint8_t bit = (uint8_t) (1U << cluster % 8);

  if ((used[cluster / 8] & bit) != 0)
    return false;
  used[cluster / 8] |= bit;
  return true;
}

/* The longest file that can be: the fixed part, the tables with all they can point to, what kills
 * have left, and a refcount block for each span of that. */
static uint64_t
max_clusters (const Qcow2Map *map, uint64_t n_tables)
{
  uint64_t n = qcow2_first_free (&map->header) + n_tables * (1 + map->n_entries) + QCOW2_LEAKS_MAX;

  return n + units_div_up (n, qcow2_block_span (&map->header) - 1);
}

bool
qcow2_used_init (Qcow2Map *map, uint64_t n_clusters, uint64_t n_tables, const char *path,
                 GError **error)
{
  if (n_clusters > max_clusters (map, n_tables))
    return fail (error, EINVAL, "overlay '%s' is damaged: the file is too long", path);
  map->used = g_try_malloc0 (n_clusters / 8 + 1);
  if (map->used == NULL)
    return fail_errno (error, ENOMEM, "cannot open overlay '%s'", path);
  map->n_loaded = n_clusters;
  for (uint64_t i = 0; i < qcow2_first_free (&map->header); i++)
    take_bit (map->used, i);
  for (uint64_t k = 1; k * qcow2_block_span (&map->header) < n_clusters; k++)
    take_bit (map->used, qcow2_refcount_block (&map->header, k));
  return true;
}

bool
qcow2_use (Qcow2Map *map, uint64_t offset)
{
  uint64_t cluster = offset >> map->header.cluster_bits;

  return offset % qcow2_cluster_size (&map->header) == 0 && cluster < map->n_loaded
         && take_bit (map->used, cluster);
}

/* The end of the file as it was loaded was never used, or is not any more: that is no leak, the
 * next clusters are taken there. A file's room for writes to come would be thousands of leaks. */
static void
trim_end (Qcow2Map *map)
{
  uint64_t n = map->n_loaded;

  while ((map->used[(n - 1) / 8] >> (n - 1) % 8 & 1) == 0)
    n--;
  map->n_loaded = n;
  map->next_cluster = n;
}

void
qcow2_note_unused (Qcow2Map *map)
{
  for (uint64_t i = 0; i < map->n_loaded && map->leaks->len <= QCOW2_LEAKS_MAX; i++)
    if (take_bit (map->used, i))
      g_array_append_val (map->leaks, i);
}

bool
qcow2_find_leaks (Qcow2Map *map, const char *path, GError **error)
{
  int r = qcow2_map_load_all (map);
  uint64_t n_clusters = map->n_loaded;

  if (r == 0 && map->header.journaled)
    {
      r = qcow2_replay (map);
      if (r == -EUCLEAN)
        return fail (error, EUCLEAN, "overlay '%s' is damaged: bad journal", path);
      if (r < 0)
        return fail_errno (error, -r, "cannot bring the journal of overlay '%s' into its tables",
                           path);
    }
  if (r == -EUCLEAN)
    return fail (error, EUCLEAN, "overlay '%s' is damaged: bad L2 table", path);
  if (r < 0)
    return fail_errno (error, -r, "cannot read an L2 table of overlay '%s'", path);
  trim_end (map);
  qcow2_note_unused (map);
  if (map->leaks->len + (n_clusters - map->n_loaded) > QCOW2_LEAKS_MAX)
    return fail (error, EINVAL, "overlay '%s' is damaged: the file is too long", path);
  return true;
}
