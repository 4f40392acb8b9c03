/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the journal and the log of an image that was not closed to its tables.
 *
 * A record of a copy that was not on disk as a whole is passed over: its bytes are not what they
 * were to be, or its cluster has no table. The guest has not overwritten the old block then, for it
 * waits for the sync that brings all of that to disk. Of a copy that was it is not known whether
 * the guest waited; its granules are saved either way. So what is read here has to be on disk, not
 * just in memory: the entries that are made of it may be on disk at once.
 *
 * The log has its own bytes. */
#include "base/io.h"
#include "base/units.h"
#include "overlay/qcow2-map-private.h"

#include <errno.h>

static bool
is_possible (const Qcow2Map *map, const Qcow2Change *change)
{
  return change->cluster < units_div_up (map->header.size, qcow2_cluster_size (&map->header))
         && (change->data & change->zero) == 0 && (change->data == 0 || change->host_offset != 0);
}

/* Gives the entry its place, or finds that it has that. */
static bool
take_place (Qcow2Map *map, Qcow2Entry *entry, uint64_t host_offset)
{
  if (entry->offset == 0 && qcow2_use (map, host_offset))
    entry->offset = host_offset;
  return entry->offset == host_offset;
}

static uint32_t
saved (const Qcow2Entry *entry)
{
  return (uint32_t) (entry->bits | entry->bits >> 32);
}

/* The table gets what it lacks of a change, whose bytes are on disk. */
static int
complete_entry (Qcow2Map *map, const Qcow2Change *change)
{
  Qcow2Entry *entry = qcow2_entry (map, change->cluster);
  uint32_t data = change->data & ~saved (entry), zero = change->zero & ~saved (entry);
  int r;

  if ((data | zero) == 0)
    return 0;
  if (data != 0 && !take_place (map, entry, change->host_offset))
    return -EUCLEAN;
  r = qcow2_map_record (map, change->cluster, 1, &data, &zero);
  if (r == 0)
    qcow2_map_publish (map, change->cluster, 1, &data, &zero);
  return r;
}

static int
replay_change (void *data, const Qcow2Change *change, uint64_t check)
{
  Qcow2Map *map = data;
  Qcow2Entry *entry;
  uint64_t found;
  int r;

  if (!is_possible (map, change))
    return -EUCLEAN;
  entry = qcow2_entry (map, change->cluster);
  if (entry == NULL || ((change->data | change->zero) & ~saved (entry)) == 0)
    return 0;
  r = qcow2_journal_check (map->fd, map->journal.granule, change, &found);
  if (r == -ENODATA || (r == 0 && found != check))
    return 0;
  return r == 0 ? complete_entry (map, change) : r;
}

/* Every change of the log, whatever its table says: the bytes may lack where the entry does not. Of
 * these the entry need not wait, as the log stays until both are on disk. */
static int
replay_logged (void *data, const Qcow2Change *change, const uint8_t *bytes)
{
  Qcow2Map *map = data;
  Qcow2Entry *entry;
  int r;

  if (!is_possible (map, change))
    return -EUCLEAN;
  entry = qcow2_entry (map, change->cluster);
  if (entry == NULL || (change->data != 0 && !take_place (map, entry, change->host_offset)))
    return -EUCLEAN;
  r = qcow2_log_place (map->fd, map->journal.granule, change, bytes);
  return r == 0 ? complete_entry (map, change) : r;
}

static int
replay_log (Qcow2Map *map, Qcow2Run log)
{
  g_autofree uint8_t *area = NULL;
  int r;

  if (log.size == 0)
    return 0;
  if (log.size > QCOW2_LOG_SIZE_MAX || log.offset > INT64_MAX - log.size)
    return -EUCLEAN;
  area = qcow2_log_load (map->fd, log.offset, log.size, &r);
  return r == 0 ? qcow2_log_read (area, log.size, map->journal.granule, replay_logged, map) : r;
}

int
qcow2_replay (Qcow2Map *map)
{
  Qcow2Run log;
  int r = qcow2_journal_read (map->fd, replay_change, map, &log);

  if (r == 0)
    r = replay_log (map, log);
  return r == 0 ? group_sync (map->sync) : r;
}
