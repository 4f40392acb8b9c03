/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fail.h"
#include "base/io.h"
#include "base/units.h"
#include "overlay/be.h"
#include "overlay/qcow2-map-private.h"
#include "overlay/qcow2-refcount.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Entries of a table that are read at a time, on the stack: all of it when granules have 4 KiB. */
#define READ_ENTRIES 8192

/* Reads L1 and the length of the file. */
static int
read_l1 (int fd, const Qcow2Header *header, uint8_t *l1, uint64_t *out_n_clusters)
{
  struct stat st;
  int r = io_read_full (fd, l1, (size_t) header->l1_size * 8, header->l1_offset);

  if (r == 0 && fstat (fd, &st) != 0)
    r = -errno;
  if (r == 0)
    *out_n_clusters = units_max (qcow2_first_free (header),
                                 units_div_up ((uint64_t) st.st_size, qcow2_cluster_size (header)));
  return r;
}

static bool
decode_l1 (Qcow2Map *map, const uint8_t *l1, const char *path, GError **error)
{
  for (uint32_t i = 0; i < map->header.l1_size; i++)
    {
      uint64_t entry = be_load64 (l1 + 8 * i);
      uint64_t offset = entry & QCOW2_OFFSET_MASK;

      if (entry == 0)
        continue;
      if (entry != (offset | QCOW2_COPIED) || !qcow2_use (map, offset))
        return fail (error, EINVAL, "overlay '%s' is damaged: bad L1 entry %u", path, i);
      map->tables[i].host_offset = offset;
    }
  return true;
}

Qcow2Map *
qcow2_map_load (int fd, const Qcow2Header *header, GroupSync *sync, const char *path,
                GError **error)
{
  g_autofree uint8_t *l1 = g_malloc ((size_t) header->l1_size * 8);
  uint64_t n_clusters = 0, n_tables = 0;
  Qcow2Map *map;
  int r = read_l1 (fd, header, l1, &n_clusters);

  if (r < 0)
    {
      fail_errno (error, -r, "cannot read the L1 table of overlay '%s'", path);
      return NULL;
    }
  for (uint32_t i = 0; i < header->l1_size; i++)
    n_tables += be_load64 (l1 + 8 * i) != 0;

  map = qcow2_map_new (fd, header, sync);
  map->next_cluster = n_clusters;
  if (qcow2_used_init (map, n_clusters, n_tables, path, error) && decode_l1 (map, l1, path, error)
      && (!header->dirty || qcow2_find_leaks (map, path, error)))
    return map;
  qcow2_map_free (map);
  return NULL;
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

static int
set_end (const Qcow2Map *map, uint64_t n_clusters)
{
  return io_truncate (map->fd, n_clusters << map->header.cluster_bits);
}

int
qcow2_make_room (Qcow2Map *map, uint64_t n)
{
  uint64_t first, end;
  int r = 0;

  lock_acquire (&map->tables_lock);
  first = map->room_end;
  end = map->next_cluster + n;
  if (first == 0) /* what is beyond the end was leaked before, and may hold anything */
    r = set_end (map, map->next_cluster);
  if (r == 0 && end > first)
    {
      r = qcow2_refcount_prepare (map->fd, &map->header, first, end);
      if (r == 0)
        {
          /* Where there is a limit it only wastes space that it fails. */
          bool is_set = set_end (map, end) == 0;

          map->room_end = end;
          if (map->durable)
            r = group_sync (map->sync);
          if (r == 0 && is_set && map->durable)
            map->durable_end = end;
        }
    }
  lock_release (&map->tables_lock);
  return r;
}

/* Not by malloc(), which gives memory that was used before, and has to be cleared: all of it would
 * be touched. */
static Qcow2Entry *
new_entries (const Qcow2Map *map)
{
  void *entries = mmap (NULL, map->n_entries * sizeof (Qcow2Entry), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  return entries == MAP_FAILED ? NULL : entries;
}

void
qcow2_free_entries (const Qcow2Map *map, Qcow2Entry *entries)
{
  if (entries != NULL)
    munmap (entries, map->n_entries * sizeof (Qcow2Entry));
}

/* Fills n entries from the bytes of a table. False when one of them is damaged; a table of which
 * that was said once is never good again, for its places are taken. */
static bool
decode_entries (Qcow2Map *map, const uint8_t *bytes, Qcow2Entry *entries, uint64_t n)
    LOCK_REQUIRES (&map->tables_lock)
{
  for (uint64_t i = 0; i < n; i++)
    {
      uint64_t descriptor = be_load64 (bytes + QCOW2_ENTRY_SIZE * i);
      uint64_t bits = be_load64 (bytes + QCOW2_ENTRY_SIZE * i + 8);
      uint64_t offset = descriptor & QCOW2_OFFSET_MASK;
      uint32_t data = (uint32_t) bits, zero = (uint32_t) (bits >> 32);

      if (descriptor == 0 && bits == 0)
        continue; /* leaves the page of the entry untouched */
      if ((data & zero) != 0
          || (offset == 0 ? descriptor != 0 || data != 0
                          : descriptor != (offset | QCOW2_COPIED) || !qcow2_use (map, offset)))
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
  uint8_t bytes[READ_ENTRIES * QCOW2_ENTRY_SIZE];
  Qcow2Entry *entries = new_entries (map);
  int r = entries == NULL ? -ENOMEM : 0;

  for (uint64_t i = 0; i < map->n_entries && r == 0; i += READ_ENTRIES)
    {
      uint64_t n = units_min (READ_ENTRIES, map->n_entries - i);

      r = io_read_full (map->fd, bytes, n * QCOW2_ENTRY_SIZE,
                        table->host_offset + i * QCOW2_ENTRY_SIZE);
      if (r == 0 && !decode_entries (map, bytes, entries + i, n))
        r = -EUCLEAN;
    }
  if (r == 0)
    atomic_store_explicit (&table->entries, entries, memory_order_release);
  else
    qcow2_free_entries (map, entries);
  return r;
}

static int
create_table (Qcow2Map *map, Qcow2Table *table) LOCK_REQUIRES (&map->tables_lock)
{
  static const uint8_t zeros[QCOW2_ENTRY_SIZE];
  uint64_t l1_index = (uint64_t) (table - map->tables);
  Qcow2Entry *entries = new_entries (map);
  uint8_t l1_entry_be[8];
  uint64_t offset, n;
  int r;

  if (entries == NULL)
    return -ENOMEM;
  offset = table->failed;
  if (offset == 0)
    offset = qcow2_take_clusters (map, 1, &n) << map->header.cluster_bits;

  /* The last entry is written so that the file reaches that far before L1 says so. */
  r = io_write_full (map->fd, zeros, sizeof zeros,
                     offset + qcow2_cluster_size (&map->header) - sizeof zeros);
  if (r == 0 && map->durable && offset >> map->header.cluster_bits >= map->durable_end)
    r = group_sync (map->sync);
  be_store64 (l1_entry_be, offset | QCOW2_COPIED);
  if (r == 0)
    r = io_write_full (map->fd, l1_entry_be, sizeof l1_entry_be,
                       map->header.l1_offset + 8 * l1_index);
  if (r == 0 && map->durable) /* the log relies on it */
    r = group_sync (map->sync);
  if (r < 0)
    {
      /* For the next try or qcow2_map_finish(): the L1 entry may be in the file or not. */
      table->failed = offset;
      qcow2_free_entries (map, entries);
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
