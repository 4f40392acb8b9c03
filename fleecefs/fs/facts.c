/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "fs/facts.h"

#include <time.h>
#include <unistd.h>

static GPtrArray *
find_warnings (const Survey *survey)
{
  GPtrArray *warnings = g_ptr_array_new_with_free_func (g_free);

  for (unsigned i = 0; i < survey->n_disks; i++)
    if (survey->disks[i].moved != NULL)
      g_ptr_array_add (warnings, g_strdup (survey->disks[i].moved));
  if (survey->has_space && space_alarm (0, survey->percent) > 0)
    g_ptr_array_add (
        warnings,
        g_strdup_printf ("%u%% of %s is used", survey->percent,
                         survey->percent_is_overlay ? "max-overlay" : "the store's file system"));
  return warnings;
}

Facts *
facts_new (const Tree *tree)
{
  Facts *facts = g_new0 (Facts, 1);

  facts->version = PACKAGE_VERSION;
  facts->pid = getpid ();
  facts->mounted = tree_mounted (tree);
  facts->survey = survey_new (tree_set (tree));
  facts->warnings = find_warnings (facts->survey);
  clock_gettime (CLOCK_REALTIME, &facts->now);
  return facts;
}

void
facts_free (Facts *facts)
{
  g_ptr_array_unref (facts->warnings);
  survey_free (facts->survey);
  g_free (facts);
}

char *
facts_time (struct timespec when)
{
  char digits[32];
  struct tm tm;

  if (gmtime_r (&when.tv_sec, &tm) == NULL
      || strftime (digits, sizeof digits, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
    return g_strdup ("?");
  return g_strdup (digits);
}

const FactsCounter *
facts_counter (Counter counter)
{
  static const FactsCounter counters[COUNTER_N] = {
    [COUNTER_READS] = { "reads", "guest_reads", "Reads of the live disk." },
    [COUNTER_READ_BYTES] = { "read_bytes", "guest_read_bytes", "Bytes read from the live disk." },
    [COUNTER_WRITES] = { "writes", "guest_writes", "Writes to the live disk." },
    [COUNTER_WRITTEN_BYTES]
    = { "written_bytes", "guest_written_bytes", "Bytes written to the live disk." },
    [COUNTER_DISCARDS]
    = { "discards", "guest_discards", "Discards, zeroings and resizes of the live disk." },
    [COUNTER_FLUSHES] = { "flushes", "guest_flushes", "Syncs of the live disk." },
    [COUNTER_COPIES] = { "copies", "copies", "Copies of old blocks to the store." },
    [COUNTER_COPIED_BYTES] = { "copied_bytes", "copied_bytes",
                               "Bytes of old blocks copied to the store, zeros included." },
    [COUNTER_COPY_FAILURES]
    = { "copy_failures", "copy_failures", "Copies of old blocks that failed." },
    [COUNTER_SNAPSHOT_READS]
    = { "snapshot_reads", "snapshot_reads", "Reads of files in snapshots." },
    [COUNTER_SNAPSHOT_READ_BYTES]
    = { "snapshot_read_bytes", "snapshot_read_bytes", "Bytes read from files in snapshots." },
    [COUNTER_FROZEN_READS] = { "frozen_reads", "frozen_reads",
                               "Pieces of such reads that were not saved yet and came from the "
                               "image." },
    [COUNTER_CLAIM_WAITS]
    = { "copy_waits", "copy_waits", "Guests' writes that waited for the copy of another write." },
    [COUNTER_MERGED_BYTES]
    = { "merged_bytes", "merged_bytes", "Bytes moved in the store by merges." },
  };

  return &counters[counter];
}
