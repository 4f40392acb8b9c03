/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/io.h"
#include "base/units.h"
#include "overlay/be.h"
#include "overlay/qcow2-map-private.h"
#include "overlay/qcow2-refcount.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#define RECORD_MAX 8

/* Clusters that can be taken by writers between two looks at the room: more than 256 threads take
 * at a time, each a region's and a table. And how far ahead it is made. */
#define ROOM_MARGIN 2400
#define ROOM_STEP 4096

#ifdef FLEECE_PAUSE_POINTS
#define LOG_SIZE qcow2_log_size
#else
#define LOG_SIZE QCOW2_LOG_SIZE
#endif

Qcow2Map *
qcow2_map_new (int fd, const Qcow2Header *header, GroupSync *sync)
{
  Qcow2Map *map = g_malloc0 (sizeof *map + header->l1_size * sizeof map->tables[0]);

  map->fd = fd;
  map->header = *header;
  map->sync = sync;
  qcow2_journal_init (&map->journal, fd, qcow2_cluster_size (header) / QCOW2_GRANULES_PER_CLUSTER,
                      sync);
  qcow2_log_init (&map->log, fd, map->journal.granule, sync);
  map->n_entries = qcow2_l2_entries (header);
  map->next_cluster = qcow2_first_free (header);
  map->leaks = g_array_new (false, false, sizeof (uint64_t));
  lock_init (&map->tables_lock, LOCK_TABLES);
  return map;
}

void
qcow2_map_make_durable (Qcow2Map *map)
{
  map->durable = true;
}

/* Is as much free again? A log is not worth the space that copies would lack. */
static bool
is_roomy (const Qcow2Map *map)
{
  struct statvfs fs;

  return fstatvfs (map->fd, &fs) != 0 || fs.f_bavail * fs.f_frsize >= 2 * LOG_SIZE;
}

/* The clusters of the log; those of a try before that failed. */
static void
take_log_run (Qcow2Map *map)
{
  uint64_t first, n;

  if (map->log_run.size > 0)
    return;
  first = qcow2_take_clusters (map, units_div_up (LOG_SIZE, qcow2_cluster_size (&map->header)), &n);
  map->log_run = (Qcow2Run){ first << map->header.cluster_bits, n << map->header.cluster_bits };
}

/* Where there is no space for it, also in memory, copies do without, and get what it took. Nothing
 * that counts is in the file behind it. */
static int
begin_log (Qcow2Map *map)
{
  int r;

  if (LOG_SIZE == 0 || map->journal.granule > QCOW2_LOG_BYTES_MAX || !is_roomy (map))
    return 0;
  take_log_run (map);
  r = qcow2_log_begin (&map->log, map->log_run.offset, units_min (LOG_SIZE, map->log_run.size));
  if (r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -ENOMEM)
    r = io_truncate (map->fd, map->log_run.offset);
  return r;
}

int
qcow2_map_begin_journal (Qcow2Map *map, bool with_log)
{
  int r = with_log ? begin_log (map) : 0;

  if (r == 0)
    r = qcow2_journal_begin (&map->journal, (Qcow2Run){ map->log.offset, map->log.size });
  return r == 0 && map->n_loaded > 0 ? group_sync (map->sync) : r;
}

void
qcow2_map_free (Qcow2Map *map)
{
  for (uint32_t i = 0; i < map->header.l1_size; i++)
    qcow2_free_entries (map, map->tables[i].entries);
  lock_clear (&map->tables_lock);
  qcow2_journal_clear (&map->journal);
  qcow2_log_clear (&map->log);
  g_array_unref (map->leaks);
  g_free (map->used);
  g_free (map);
}

int
qcow2_map_load_all (Qcow2Map *map)
{
  int r = 0;

  for (uint32_t i = 0; i < map->header.l1_size && r == 0; i++)
    if (!qcow2_table_is_prepared (&map->tables[i], false))
      r = qcow2_prepare_table (map, &map->tables[i], false);
  return r;
}

int
qcow2_map_make_first_room (Qcow2Map *map)
{
  return qcow2_make_room (map, 0);
}

int
qcow2_map_prepare (Qcow2Map *map, uint64_t cluster, uint64_t n_clusters, bool create)
{
  uint64_t last = (cluster + n_clusters - 1) / map->n_entries;
  int r = 0;

  if (create && last >= map->header.l1_size)
    return -EFBIG;
  if (create && map->room_end < map->next_cluster + ROOM_MARGIN)
    r = qcow2_make_room (map, ROOM_STEP);
  for (uint64_t i = cluster / map->n_entries; i <= last && r == 0; i++)
    if (i < map->header.l1_size && !qcow2_table_is_prepared (&map->tables[i], create))
      r = qcow2_prepare_table (map, &map->tables[i], create);
  return r;
}

bool
qcow2_map_prepared (Qcow2Map *map, uint64_t cluster, uint64_t n_clusters)
{
  uint64_t last = (cluster + n_clusters - 1) / map->n_entries;

  for (uint64_t i = cluster / map->n_entries; i <= last; i++)
    if (i < map->header.l1_size && !qcow2_table_is_prepared (&map->tables[i], false))
      return false;
  return true;
}

Qcow2Entry *
qcow2_entry (Qcow2Map *map, uint64_t cluster)
{
  uint64_t i = cluster / map->n_entries;
  Qcow2Entry *entries = i < map->header.l1_size
                            ? atomic_load_explicit (&map->tables[i].entries, memory_order_acquire)
                            : NULL;

  return entries == NULL ? NULL : &entries[cluster % map->n_entries];
}

Qcow2Cluster
qcow2_map_lookup (Qcow2Map *map, uint64_t cluster)
{
  Qcow2Entry *entry = qcow2_entry (map, cluster);
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
    n_missing += qcow2_entry (map, cluster + i)->offset == 0;
  for (uint64_t i = 0; i < n_clusters; i++)
    {
      Qcow2Entry *entry = qcow2_entry (map, cluster + i);

      if (entry->offset != 0)
        continue;
      if (n_taken == 0)
        {
          place = qcow2_take_clusters (map, n_missing, &n_taken);
          n_missing -= n_taken;
        }
      atomic_store_explicit (&entry->offset, place << map->header.cluster_bits,
                             memory_order_relaxed);
      place++;
      n_taken--;
    }
}

static uint64_t
changed_bits (uint64_t bits, uint32_t data, uint32_t zero)
{
  uint64_t changed = data | zero;

  return (bits & ~(changed | changed << 32)) | data | (uint64_t) zero << 32;
}

static void
encode_entry (uint8_t *bytes, uint64_t offset, uint64_t bits)
{
  be_store64 (bytes, offset == 0 ? 0 : offset | QCOW2_COPIED);
  be_store64 (bytes + 8, bits);
}

static int
write_entries (Qcow2Map *map, uint64_t cluster, unsigned n, const uint8_t *bytes)
{
  const Qcow2Table *table = &map->tables[cluster / map->n_entries];

  return io_write_full (map->fd, bytes, n * QCOW2_ENTRY_SIZE,
                        table->host_offset + QCOW2_ENTRY_SIZE * (cluster % map->n_entries));
}

int
qcow2_map_journal (Qcow2Map *map, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                   const uint32_t *zero)
{
  Qcow2Change changes[RECORD_MAX];
  unsigned n = 0;

  g_assert (n_clusters <= RECORD_MAX);
  for (unsigned i = 0; i < n_clusters; i++)
    if ((data[i] | zero[i]) != 0)
      changes[n++] = (Qcow2Change){
        .cluster = cluster + i,
        .host_offset = data[i] == 0 ? 0 : qcow2_entry (map, cluster + i)->offset,
        .data = data[i],
        .zero = zero[i],
      };
  return qcow2_journal_add (&map->journal, changes, n);
}

void
qcow2_map_journal_done (Qcow2Map *map)
{
  qcow2_journal_done (&map->journal);
}

bool
qcow2_map_has_log (const Qcow2Map *map, unsigned n_granules)
{
  return map->log.size > 0 && n_granules * map->journal.granule <= QCOW2_LOG_BYTES_MAX;
}

bool
qcow2_map_may_log (Qcow2Map *map, uint64_t cluster, uint32_t data)
{
  return qcow2_map_has_log (map, (unsigned) __builtin_popcount (data))
         && (data == 0
             || qcow2_entry (map, cluster)->offset >> map->header.cluster_bits < map->durable_end);
}

int
qcow2_map_log (Qcow2Map *map, uint64_t cluster, uint32_t data, uint32_t zero, const void *bytes)
{
  Qcow2Change change = {
    .cluster = cluster,
    .host_offset = data == 0 ? 0 : qcow2_entry (map, cluster)->offset,
    .data = data,
    .zero = zero,
  };

  return qcow2_log_add (&map->log, &change, bytes);
}

void
qcow2_map_log_done (Qcow2Map *map)
{
  qcow2_log_done (&map->log);
}

int
qcow2_map_renew_log (Qcow2Map *map)
{
  return map->log.size > 0 ? qcow2_log_renew (&map->log) : group_sync (map->sync);
}

int
qcow2_map_record (Qcow2Map *map, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                  const uint32_t *zero)
{
  uint8_t bytes[RECORD_MAX * QCOW2_ENTRY_SIZE] = { 0 };
  int r;

  g_assert (n_clusters <= RECORD_MAX);
  for (unsigned i = 0; i < n_clusters; i++)
    {
      const Qcow2Entry *entry = qcow2_entry (map, cluster + i);
      uint64_t bits = changed_bits (entry->recorded, data[i], zero[i]);

      /* A place with no data in it yet may be beyond the end of the file. */
      encode_entry (bytes + QCOW2_ENTRY_SIZE * i, (uint32_t) bits == 0 ? 0 : entry->offset, bits);
    }
  r = write_entries (map, cluster, n_clusters, bytes);
  for (unsigned i = 0; i < n_clusters && r == 0; i++)
    {
      Qcow2Entry *entry = qcow2_entry (map, cluster + i);

      entry->recorded = changed_bits (entry->recorded, data[i], zero[i]);
    }
  return r;
}

void
qcow2_map_publish (Qcow2Map *map, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                   const uint32_t *zero)
{
  for (unsigned i = 0; i < n_clusters; i++)
    {
      Qcow2Entry *entry = qcow2_entry (map, cluster + i);

      uint64_t bits = atomic_load_explicit (&entry->bits, memory_order_relaxed);

      atomic_store_explicit (&entry->bits, changed_bits (bits, data[i], zero[i]),
                             memory_order_release);
    }
}

bool
qcow2_map_next (Qcow2Map *map, uint64_t *cluster, uint64_t limit, int *out_errno)
{
  *out_errno = 0;
  while (*cluster < limit && *cluster / map->n_entries < map->header.l1_size)
    {
      Qcow2Table *table = &map->tables[*cluster / map->n_entries];
      const Qcow2Entry *entry;

      if (!qcow2_table_is_prepared (table, false))
        {
          *out_errno = -qcow2_prepare_table (map, table, false);
          if (*out_errno != 0)
            return false;
        }
      entry = qcow2_entry (map, *cluster);
      if (entry == NULL)
        *cluster = (*cluster / map->n_entries + 1) * map->n_entries;
      else if (atomic_load_explicit (&entry->bits, memory_order_relaxed) != 0)
        return true;
      else
        ++*cluster;
    }
  *cluster = limit;
  return false;
}

/* An entry of the file that cannot be written for want of space: there is a hole, in which it says
 * nothing, or it is there already, on a file system that writes elsewhere. */
static int
settle_unrecorded (Qcow2Map *map, uint64_t cluster, uint64_t offset)
{
  const Qcow2Table *table = &map->tables[cluster / map->n_entries];
  uint64_t leak = offset >> map->header.cluster_bits;
  uint8_t bytes[8];
  int r = io_read_full (map->fd, bytes, sizeof bytes,
                        table->host_offset + QCOW2_ENTRY_SIZE * (cluster % map->n_entries));

  if (r == 0 && be_load64 (bytes) == 0)
    g_array_append_val (map->leaks, leak);
  return r;
}

/* A place that was reserved and has no data, because a copy failed or was overwritten by
 * zeros: an entry with a place and no data is valid, and keeps the cluster from being
 * a leak. */
static int
record_reserved (Qcow2Map *map)
{
  for (uint32_t i = 0; i < map->header.l1_size; i++)
    {
      const Qcow2Entry *entries = map->tables[i].entries;

      for (uint64_t j = 0; entries != NULL && j < map->n_entries; j++)
        if (entries[j].offset != 0 && (uint32_t) entries[j].recorded == 0)
          {
            uint8_t bytes[QCOW2_ENTRY_SIZE];
            int r;

            encode_entry (bytes, entries[j].offset, entries[j].recorded);
            r = write_entries (map, i * map->n_entries + j, 1, bytes);
            if (r == -ENOSPC || r == -EDQUOT)
              r = settle_unrecorded (map, i * map->n_entries + j, entries[j].offset);
            if (r < 0)
              return r;
          }
    }
  return 0;
}

/* The place of a table that could not be made. Where there is no space to write that there is none,
 * see settle_unrecorded(): a hole, or a table of no entries. */
static int
give_up_table (Qcow2Map *map, uint32_t i)
{
  uint64_t place = map->header.l1_offset + 8 * (uint64_t) i;
  uint64_t leak = map->tables[i].failed >> map->header.cluster_bits;
  uint8_t bytes[8] = { 0 };
  int r = io_write_full (map->fd, bytes, sizeof bytes, place);

  if (r == -ENOSPC || r == -EDQUOT)
    r = io_read_full (map->fd, bytes, sizeof bytes, place);
  if (r == 0 && be_load64 (bytes) == 0)
    g_array_append_val (map->leaks, leak);
  return r;
}

static int
give_up_failed (Qcow2Map *map)
{
  int r = 0;

  for (uint32_t i = 0; i < map->header.l1_size && r == 0; i++)
    if (map->tables[i].failed != 0 && map->tables[i].host_offset == 0)
      r = give_up_table (map, i);
  return r;
}

/* All that it has is in its place on disk, and nothing refers to it. */
static void
give_up_log (Qcow2Map *map)
{
  uint64_t first = map->log_run.offset >> map->header.cluster_bits;
  uint64_t n = map->log_run.size >> map->header.cluster_bits;

  for (uint64_t i = first; i < first + n; i++)
    g_array_append_val (map->leaks, i);
}

void
qcow2_map_give_back (Qcow2Map *map)
{
  io_truncate (map->fd, map->next_cluster << map->header.cluster_bits);
  qcow2_refcount_give_back (map->fd, &map->header, map->leaks);
}

/* The file gets its end first: a place beyond it is damage, should we not come to the end here. */
int
qcow2_map_finish (Qcow2Map *map)
{
  int r;

  qcow2_note_unused (map); /* of an image that was clean: what a close before has given back */
  r = io_truncate (map->fd, map->next_cluster << map->header.cluster_bits);

  if (r == 0 && map->durable)
    r = group_sync (map->sync);
  if (r == 0)
    give_up_log (map);
  if (r == 0)
    r = record_reserved (map);
  if (r == 0)
    r = give_up_failed (map);
  return r < 0 ? r : qcow2_refcount_write (map->fd, &map->header, map->next_cluster, map->leaks);
}
