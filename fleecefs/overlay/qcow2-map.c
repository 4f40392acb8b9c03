/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/qcow2-map.h"

#include "base/fail.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/units.h"
#include "overlay/be.h"
#include "overlay/qcow2-refcount.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

#define ENTRY_SIZE 16
#define COPIED (UINT64_C (1) << 63) /* the refcount is one; with us it always is */
#define OFFSET_MASK UINT64_C (0x00fffffffffffe00)
#define RECORD_MAX 8

/* Memory order: an entry's bits are stored last (release) and loaded first (acquire). */
typedef struct
{
  _Atomic uint64_t offset; /* set once */
  _Atomic uint64_t bits;   /* low word: data, high word: zero; as in the file */
} Entry;

typedef struct
{
  _Atomic (Entry *) entries;    /* NULL: not in memory */
  _Atomic uint64_t host_offset; /* 0: not in the file; set once */
} Table;

struct _Qcow2Map
{
  /* constant */
  int fd;
  Qcow2Header header;
  uint64_t n_entries; /* of a table */

  Lock tables_lock;              /* loading and creating tables */
  _Atomic uint64_t next_cluster; /* the end of the file */
  Table tables[];
};

Qcow2Map *
qcow2_map_new (int fd, const Qcow2Header *header)
{
  Qcow2Map *map = g_malloc0 (sizeof *map + header->l1_size * sizeof map->tables[0]);

  map->fd = fd;
  map->header = *header;
  map->n_entries = qcow2_l2_entries (header);
  map->next_cluster = qcow2_first_free (header);
  lock_init (&map->tables_lock);
  return map;
}

void
qcow2_map_free (Qcow2Map *map)
{
  for (uint32_t i = 0; i < map->header.l1_size; i++)
    free (map->tables[i].entries);
  lock_clear (&map->tables_lock);
  g_free (map);
}

/* May a table or data cluster stand there? */
static bool
place_is_good (Qcow2Map *map, uint64_t offset)
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
    offsets[i] = be_load64 (l1 + 8 * i) & OFFSET_MASK;
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
      uint64_t offset = entry & OFFSET_MASK;

      if (entry == 0)
        continue;
      if (entry != (offset | COPIED) || !place_is_good (map, offset))
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
  return map;
}

/* Up to want clusters at the end of the file, all of them adjacent; the places of
 * refcount blocks are passed over. Returns the first, and the number in *out_n. */
static uint64_t
take_clusters (Qcow2Map *map, uint64_t want, uint64_t *out_n)
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
decode_table (Qcow2Map *map, const uint8_t *bytes, Entry *entries)
{
  for (uint64_t i = 0; i < map->n_entries; i++)
    {
      uint64_t descriptor = be_load64 (bytes + ENTRY_SIZE * i);
      uint64_t bits = be_load64 (bytes + ENTRY_SIZE * i + 8);
      uint64_t offset = descriptor & OFFSET_MASK;
      uint32_t data = (uint32_t) bits, zero = (uint32_t) (bits >> 32);

      if (descriptor == 0 && bits == 0)
        continue; /* leaves the page of the entry untouched */
      if ((data & zero) != 0
          || (offset == 0 ? descriptor != 0 || data != 0
                          : descriptor != (offset | COPIED) || !place_is_good (map, offset)))
        return false;
      entries[i].offset = offset;
      entries[i].bits = bits;
    }
  return true;
}

static int
load_table (Qcow2Map *map, Table *table) LOCK_REQUIRES (&map->tables_lock)
{
  Entry *entries = calloc (map->n_entries, sizeof *entries);
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
create_table (Qcow2Map *map, Table *table) LOCK_REQUIRES (&map->tables_lock)
{
  static const uint8_t zeros[ENTRY_SIZE];
  uint64_t l1_index = (uint64_t) (table - map->tables);
  Entry *entries = calloc (map->n_entries, sizeof *entries);
  uint8_t l1_entry_be[8];
  uint64_t offset, n;
  int r;

  if (entries == NULL)
    return -ENOMEM;
  offset = take_clusters (map, 1, &n) << map->header.cluster_bits;

  /* The last entry is written so that the file reaches that far before L1 says so. */
  r = io_write_full (map->fd, zeros, sizeof zeros,
                     offset + qcow2_cluster_size (&map->header) - sizeof zeros);
  be_store64 (l1_entry_be, offset | COPIED);
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

/* A table that lookups can use: in memory, or absent and not wanted. */
static bool
table_is_prepared (Table *table, bool create)
{
  return atomic_load_explicit (&table->entries, memory_order_acquire) != NULL
         || (!create && atomic_load_explicit (&table->host_offset, memory_order_relaxed) == 0);
}

static int
prepare_table (Qcow2Map *map, Table *table, bool create)
{
  int r = 0;

  lock_acquire (&map->tables_lock);
  if (!table_is_prepared (table, create))
    r = table->host_offset != 0 ? load_table (map, table) : create_table (map, table);
  lock_release (&map->tables_lock);
  return r;
}

int
qcow2_map_prepare (Qcow2Map *map, uint64_t cluster, uint64_t n_clusters, bool create)
{
  uint64_t last = (cluster + n_clusters - 1) / map->n_entries;
  int r = 0;

  for (uint64_t i = cluster / map->n_entries; i <= last && r == 0; i++)
    if (i < map->header.l1_size && !table_is_prepared (&map->tables[i], create))
      r = prepare_table (map, &map->tables[i], create);
  return r;
}

bool
qcow2_map_prepared (Qcow2Map *map, uint64_t cluster, uint64_t n_clusters)
{
  uint64_t last = (cluster + n_clusters - 1) / map->n_entries;

  for (uint64_t i = cluster / map->n_entries; i <= last; i++)
    if (i < map->header.l1_size && !table_is_prepared (&map->tables[i], false))
      return false;
  return true;
}

static Entry *
entry_of (Qcow2Map *map, uint64_t cluster)
{
  uint64_t i = cluster / map->n_entries;
  Entry *entries = i < map->header.l1_size
                       ? atomic_load_explicit (&map->tables[i].entries, memory_order_acquire)
                       : NULL;

  return entries == NULL ? NULL : &entries[cluster % map->n_entries];
}

Qcow2Cluster
qcow2_map_lookup (Qcow2Map *map, uint64_t cluster)
{
  Entry *entry = entry_of (map, cluster);
  uint64_t bits;

  if (entry == NULL)
    return (Qcow2Cluster){ 0 };
  bits = atomic_load_explicit (&entry->bits, memory_order_acquire);
  return (Qcow2Cluster){
    .host_offset = atomic_load_explicit (&entry->offset, memory_order_relaxed),
    .data = (uint32_t) bits,
    .zero = (uint32_t) (bits >> 32),
  };
}

void
qcow2_map_reserve (Qcow2Map *map, uint64_t cluster, uint64_t n_clusters)
{
  uint64_t n_missing = 0, n_taken = 0, place = 0;

  for (uint64_t i = 0; i < n_clusters; i++)
    n_missing += entry_of (map, cluster + i)->offset == 0;
  for (uint64_t i = 0; i < n_clusters; i++)
    {
      Entry *entry = entry_of (map, cluster + i);

      if (entry->offset != 0)
        continue;
      if (n_taken == 0)
        {
          place = take_clusters (map, n_missing, &n_taken);
          n_missing -= n_taken;
        }
      atomic_store_explicit (&entry->offset, place << map->header.cluster_bits,
                             memory_order_relaxed);
      place++;
      n_taken--;
    }
}

static uint64_t
changed_bits (const Entry *entry, uint32_t data, uint32_t zero)
{
  uint64_t bits = atomic_load_explicit (&entry->bits, memory_order_relaxed);
  uint64_t changed = data | zero;

  return (bits & ~(changed | changed << 32)) | data | (uint64_t) zero << 32;
}

static void
encode_entry (uint8_t *bytes, uint64_t offset, uint64_t bits)
{
  be_store64 (bytes, offset == 0 ? 0 : offset | COPIED);
  be_store64 (bytes + 8, bits);
}

static int
write_entries (Qcow2Map *map, uint64_t cluster, unsigned n, const uint8_t *bytes)
{
  const Table *table = &map->tables[cluster / map->n_entries];

  return io_write_full (map->fd, bytes, n * ENTRY_SIZE,
                        table->host_offset + ENTRY_SIZE * (cluster % map->n_entries));
}

int
qcow2_map_record (Qcow2Map *map, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                  const uint32_t *zero)
{
  uint8_t bytes[RECORD_MAX * ENTRY_SIZE];

  g_assert (n_clusters <= RECORD_MAX);
  for (unsigned i = 0; i < n_clusters; i++)
    {
      const Entry *entry = entry_of (map, cluster + i);

      encode_entry (bytes + ENTRY_SIZE * i, entry->offset, changed_bits (entry, data[i], zero[i]));
    }
  return write_entries (map, cluster, n_clusters, bytes);
}

void
qcow2_map_publish (Qcow2Map *map, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                   const uint32_t *zero)
{
  for (unsigned i = 0; i < n_clusters; i++)
    {
      Entry *entry = entry_of (map, cluster + i);

      atomic_store_explicit (&entry->bits, changed_bits (entry, data[i], zero[i]),
                             memory_order_release);
    }
}

bool
qcow2_map_next (Qcow2Map *map, uint64_t *cluster, int *out_errno)
{
  uint64_t at = *cluster;

  *out_errno = 0;
  while (at / map->n_entries < map->header.l1_size)
    {
      Table *table = &map->tables[at / map->n_entries];
      Entry *entry;

      if (!table_is_prepared (table, false))
        {
          *out_errno = -prepare_table (map, table, false);
          if (*out_errno != 0)
            return false;
        }
      entry = entry_of (map, at);
      if (entry == NULL)
        {
          at = (at / map->n_entries + 1) * map->n_entries;
          continue;
        }
      if (atomic_load_explicit (&entry->bits, memory_order_relaxed) != 0)
        {
          *cluster = at;
          return true;
        }
      at++;
    }
  return false;
}

/* A place that was reserved for a copy that then failed: an entry with a place
 * and no granules is valid, and keeps the cluster from being a leak. */
static int
record_reserved (Qcow2Map *map)
{
  for (uint32_t i = 0; i < map->header.l1_size; i++)
    {
      const Entry *entries = map->tables[i].entries;

      for (uint64_t j = 0; entries != NULL && j < map->n_entries; j++)
        if (entries[j].offset != 0 && entries[j].bits == 0)
          {
            uint8_t bytes[ENTRY_SIZE];
            int r;

            encode_entry (bytes, entries[j].offset, 0);
            r = write_entries (map, i * map->n_entries + j, 1, bytes);
            if (r < 0)
              return r;
          }
    }
  return 0;
}

int
qcow2_map_finish (Qcow2Map *map)
{
  int r = record_reserved (map);

  return r < 0 ? r : qcow2_refcount_write (map->fd, &map->header, map->next_cluster);
}
