/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fail.h"
#include "base/io.h"
#include "base/units.h"
#include "overlay/be.h"
#include "overlay/qcow2-map-private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

bool
qcow2_place_is_good (const Qcow2Map *map, uint64_t offset)
{
  uint64_t cluster = offset >> map->header.cluster_bits;

  return offset % qcow2_cluster_size (&map->header) == 0
         && cluster >= qcow2_first_free (&map->header) && cluster < map->next_cluster
         && cluster % qcow2_block_span (&map->header) != 0;
}

static int
compare_offsets (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return (x > y) - (x < y);
}

static bool
offsets_are_distinct (const uint8_t *l1, uint32_t n)
{
  g_autofree uint64_t *offsets = g_new (uint64_t, n);

  for (uint32_t i = 0; i < n; i++)
    offsets[i] = be_load64 (l1 + 8 * i) & QCOW2_OFFSET_MASK;
  if (n > 1)
    qsort (offsets, n, sizeof *offsets, compare_offsets);
  for (uint32_t i = 1; i < n; i++)
    if (offsets[i] != 0 && offsets[i] == offsets[i - 1])
      return false;
  return true;
}

Qcow2Map *
qcow2_map_load (int fd, const Qcow2Header *header, const char *path, GError **error)
{
  size_t l1_bytes = (size_t) header->l1_size * 8;
  g_autofree uint8_t *l1 = g_malloc (l1_bytes);
  Qcow2Map *map;
  struct stat st;
  int r;

  r = io_read_full (fd, l1, l1_bytes, header->l1_offset);
  if (r == 0 && fstat (fd, &st) != 0)
    r = -errno;
  if (r < 0)
    {
      fail_errno (error, -r, "cannot read the L1 table of overlay '%s'", path);
      return NULL;
    }

  map = qcow2_map_new (fd, header);
  map->next_cluster = units_max (map->next_cluster,
                                 units_div_up ((uint64_t) st.st_size, qcow2_cluster_size (header)));
  for (uint32_t i = 0; i < header->l1_size; i++)
    {
      uint64_t entry = be_load64 (l1 + 8 * i);
      uint64_t offset = entry & QCOW2_OFFSET_MASK;

      if (entry == 0)
        continue;
      if (entry != (offset | QCOW2_COPIED) || !qcow2_place_is_good (map, offset))
        {
          qcow2_map_free (map);
          fail (error, EINVAL, "overlay '%s' is damaged: bad L1 entry %u", path, i);
          return NULL;
        }
      map->tables[i].host_offset = offset;
    }
  if (!offsets_are_distinct (l1, header->l1_size))
    {
      qcow2_map_free (map);
      fail (error, EINVAL, "overlay '%s' is damaged: two L2 tables at one place", path);
      return NULL;
    }
  if (header->dirty && !qcow2_find_leaks (map, path, error))
    {
      qcow2_map_free (map);
      return NULL;
    }
  return map;
}

uint64_t
qcow2_take_clusters (Qcow2Map *map, uint64_t want, uint64_t *out_n)
{
  uint64_t span = qcow2_block_span (&map->header);
  uint64_t start, first, n;

  start = atomic_load_explicit (&map->next_cluster, memory_order_relaxed);
  do
    {
      first = start % span == 0 ? start + 1 : start;
      n = units_min (want, span - first % span);
    }
  while (!atomic_compare_exchange_weak_explicit (&map->next_cluster, &start, first + n,
                                                 memory_order_relaxed, memory_order_relaxed));
  *out_n = n;
  return first;
}

/* Fills entries from the bytes of a table. False when one of them is damaged. */
static bool
decode_table (Qcow2Map *map, const uint8_t *bytes, Qcow2Entry *entries)
{
  for (uint64_t i = 0; i < map->n_entries; i++)
    {
      uint64_t descriptor = be_load64 (bytes + QCOW2_ENTRY_SIZE * i);
      uint64_t bits = be_load64 (bytes + QCOW2_ENTRY_SIZE * i + 8);
      uint64_t offset = descriptor & QCOW2_OFFSET_MASK;
      uint32_t data = (uint32_t) bits, zero = (uint32_t) (bits >> 32);

      if (descriptor == 0 && bits == 0)
        continue; /* leaves the page of the entry untouched */
      if ((data & zero) != 0
          || (offset == 0
                  ? descriptor != 0 || data != 0
                  : descriptor != (offset | QCOW2_COPIED) || !qcow2_place_is_good (map, offset)))
        return false;
      entries[i].offset = offset;
      entries[i].bits = bits;
      entries[i].recorded = bits;
    }
  return true;
}

static int
load_table (Qcow2Map *map, Qcow2Table *table) LOCK_REQUIRES (&map->tables_lock)
{
  Qcow2Entry *entries = calloc (map->n_entries, sizeof *entries);
  uint8_t *bytes = malloc (qcow2_cluster_size (&map->header));
  int r = -ENOMEM;

  if (entries != NULL && bytes != NULL)
    r = io_read_full (map->fd, bytes, qcow2_cluster_size (&map->header), table->host_offset);
  if (r == 0 && !decode_table (map, bytes, entries))
    r = -EUCLEAN;
  if (r == 0)
    atomic_store_explicit (&table->entries, g_steal_pointer (&entries), memory_order_release);
  free (entries);
  free (bytes);
  return r;
}

static int
create_table (Qcow2Map *map, Qcow2Table *table) LOCK_REQUIRES (&map->tables_lock)
{
  static const uint8_t zeros[QCOW2_ENTRY_SIZE];
  uint64_t l1_index = (uint64_t) (table - map->tables);
  Qcow2Entry *entries = calloc (map->n_entries, sizeof *entries);
  uint8_t l1_entry_be[8];
  uint64_t offset, n;
  int r;

  if (entries == NULL)
    return -ENOMEM;
  offset = qcow2_take_clusters (map, 1, &n) << map->header.cluster_bits;

  /* The last entry is written so that the file reaches that far before L1 says so. */
  r = io_write_full (map->fd, zeros, sizeof zeros,
                     offset + qcow2_cluster_size (&map->header) - sizeof zeros);
  if (r == 0 && map->sync != NULL)
    r = group_sync (map->sync);
  be_store64 (l1_entry_be, offset | QCOW2_COPIED);
  if (r == 0)
    r = io_write_full (map->fd, l1_entry_be, sizeof l1_entry_be,
                       map->header.l1_offset + 8 * l1_index);
  if (r < 0)
    {
      /* The place is lost, as is an L1 entry that may or may not be in the file. */
      free (entries);
      return r;
    }
  table->host_offset = offset;
  atomic_store_explicit (&table->entries, entries, memory_order_release);
  return 0;
}

bool
qcow2_table_is_prepared (Qcow2Table *table, bool create)
{
  return atomic_load_explicit (&table->entries, memory_order_acquire) != NULL
         || (!create && atomic_load_explicit (&table->host_offset, memory_order_relaxed) == 0);
}

int
qcow2_prepare_table (Qcow2Map *map, Qcow2Table *table, bool create)
{
  int r = 0;

  lock_acquire (&map->tables_lock);
  if (!qcow2_table_is_prepared (table, create))
    r = table->host_offset != 0 ? load_table (map, table) : create_table (map, table);
  lock_release (&map->tables_lock);
  return r;
}
