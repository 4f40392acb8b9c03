/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the journal of an image that was not closed to its tables.
 *
 * A record of a copy that was not on disk as a whole is passed over: its bytes are not what they
 * were to be, or its cluster has no table. The guest has not overwritten the old block then, for it
 * waits for the sync that brings all of that to disk. Of a copy that was it is not known whether
 * the guest waited; its granules are saved either way. So what is read here has to be on disk, not
 * just in memory: the entries that are made of it may be on disk at once. */
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

static int
replay_change (void *data, const Qcow2Change *change, uint64_t check)
{
  Qcow2Map *map = data;
  uint32_t missing_data, missing_zero, saved;
  Qcow2Entry *entry;
  uint64_t found;
  int r;

  if (!is_possible (map, change))
    return -EUCLEAN;
  entry = qcow2_entry (map, change->cluster);
  if (entry == NULL)
    return 0;
  saved = (uint32_t) (entry->bits | entry->bits >> 32);
  missing_data = change->data & ~saved;
  missing_zero = change->zero & ~saved;
  if ((missing_data | missing_zero) == 0)
    return 0;
  r = qcow2_journal_check (map->fd, map->journal.granule, change, &found);
  if (r == -ENODATA || (r == 0 && found != check))
    return 0;
  if (r == 0 && missing_data != 0 && !take_place (map, entry, change->host_offset))
    r = -EUCLEAN;
  if (r == 0)
    r = qcow2_map_record (map, change->cluster, 1, &missing_data, &missing_zero);
  if (r == 0)
    qcow2_map_publish (map, change->cluster, 1, &missing_data, &missing_zero);
  return r;
}

int
qcow2_replay (Qcow2Map *map)
{
  int r = qcow2_journal_read (map->fd, replay_change, map);

  return r == 0 ? group_sync (map->sync) : r;
}
