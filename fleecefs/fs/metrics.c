/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/metrics.h"

#include <inttypes.h>

static void
begin (GString *text, const char *name, const char *type, const char *help)
{
  g_string_append_printf (text, "# HELP fleecefs_%s %s\n# TYPE fleecefs_%s %s\n", name, help, name,
                          type);
}

/* A label's value may be any UTF-8, with three characters escaped. */
static void
add_label (GString *text, const char *label, const char *value)
{
  g_autofree char *valid = g_utf8_make_valid (value, -1);

  g_string_append_printf (text, "%s=\"", label);
  for (const char *c = valid; *c != '\0'; c++)
    if (*c == '\n')
      g_string_append (text, "\\n");
    else if (*c == '"' || *c == '\\')
      g_string_append_printf (text, "\\%c", *c);
    else
      g_string_append_c (text, *c);
  g_string_append_c (text, '"');
}

/* The beginning of a sample with one label, or none. */
static void
add_series (GString *text, const char *name, const char *label, const char *value)
{
  g_string_append_printf (text, "fleecefs_%s", name);
  if (label != NULL)
    {
      g_string_append_c (text, '{');
      add_label (text, label, value);
      g_string_append_c (text, '}');
    }
}

static void
add_sample (GString *text, const char *name, const char *label, const char *value, uint64_t sample)
{
  add_series (text, name, label, value);
  g_string_append_printf (text, " %" PRIu64 "\n", sample);
}

/* Before 1970 it is negative. */
static void
add_moment (GString *text, const char *name, const char *label, const char *value,
            struct timespec when)
{
  add_series (text, name, label, value);
  g_string_append_printf (text, " %" PRId64 "\n", (int64_t) when.tv_sec);
}

static void
add_single (GString *text, const char *name, const char *type, const char *help, uint64_t sample)
{
  begin (text, name, type, help);
  add_sample (text, name, NULL, NULL, sample);
}

static void
add_gauge (GString *text, const char *name, const char *help, uint64_t sample)
{
  add_single (text, name, "gauge", help, sample);
}

static void
add_process (GString *text, const Facts *facts)
{
  begin (text, "info", "gauge", "What serves, and how; always 1.");
  g_string_append (text, "fleecefs_info{");
  add_label (text, "version", facts->version);
  g_string_append_c (text, ',');
  add_label (text, "durability", facts->survey->durable ? "power" : "process");
  g_string_append_c (text, ',');
  add_label (text, "store", facts->survey->store);
  g_string_append (text, "} 1\n");
  begin (text, "mount_time_seconds", "gauge", "When it was mounted, since the epoch.");
  add_moment (text, "mount_time_seconds", NULL, NULL, facts->mounted);
}

static void
add_disks (GString *text, const Survey *survey)
{
  begin (text, "disk_size_bytes", "gauge", "Size of the live disk.");
  for (unsigned i = 0; i < survey->n_disks; i++)
    if (survey->disks[i].has_size)
      add_sample (text, "disk_size_bytes", "disk", survey->disks[i].name, survey->disks[i].size);
  begin (text, "disk_in_place", "gauge", "0 when the path of the image leads to it no longer.");
  for (unsigned i = 0; i < survey->n_disks; i++)
    add_sample (text, "disk_in_place", "disk", survey->disks[i].name,
                survey->disks[i].moved == NULL);
  for (unsigned c = 0; c < COUNTER_N; c++)
    {
      const FactsCounter *counter = facts_counter ((Counter) c);
      g_autofree char *name = g_strconcat (counter->metric, "_total", NULL);

      begin (text, name, "counter", counter->help);
      for (unsigned i = 0; i < survey->n_disks; i++)
        add_sample (text, name, "disk", survey->disks[i].name, survey->disks[i].counts[c]);
    }
  begin (text, "read_waits_total", "counter",
         "Guests' writes that waited for frozen reads of their blocks.");
  for (unsigned i = 0; i < survey->n_disks; i++)
    add_sample (text, "read_waits_total", "disk", survey->disks[i].name,
                survey->disks[i].n_read_waits);
  begin (text, "held_writes", "gauge",
         "Guests' writes that are held: it can be written down nowhere that they break snapshots.");
  for (unsigned i = 0; i < survey->n_disks; i++)
    add_sample (text, "held_writes", "disk", survey->disks[i].name, survey->disks[i].n_held);
  add_single (text, "freeze_waits_total", "counter",
              "Guests' writes that waited for a freeze, or for a merge to begin or end.",
              survey->n_freeze_waits);
}

static void
add_snapshots (GString *text, const Survey *survey)
{
  const GPtrArray *snapshots = survey->snapshots;

  begin (text, "snapshots", "gauge", "Snapshots, by state.");
  add_sample (text, "snapshots", "state", "ok", snapshots->len - survey->n_broken - survey->n_lost);
  add_sample (text, "snapshots", "state", "broken", survey->n_broken);
  add_sample (text, "snapshots", "state", "lost", survey->n_lost);
  add_gauge (text, "max_snapshots", "The number of snapshots that there may be.",
             survey->max_snapshots);
  begin (text, "snapshot_created_seconds", "gauge", "When it was made, since the epoch.");
  for (unsigned i = 0; i < snapshots->len; i++)
    {
      const SurveySnapshot *snapshot = snapshots->pdata[i];

      add_moment (text, "snapshot_created_seconds", "snapshot", snapshot->name, snapshot->created);
    }
  begin (text, "snapshot_kept_bytes", "gauge",
         "What its overlays take in the store, for it and older snapshots.");
  for (unsigned i = 0; i < snapshots->len; i++)
    {
      const SurveySnapshot *snapshot = snapshots->pdata[i];

      add_sample (text, "snapshot_kept_bytes", "snapshot", snapshot->name, snapshot->kept);
    }
  begin (text, "snapshot_broken", "gauge", "1 for a snapshot that is broken.");
  for (unsigned i = 0; i < snapshots->len; i++)
    {
      const SurveySnapshot *snapshot = snapshots->pdata[i];

      add_sample (text, "snapshot_broken", "snapshot", snapshot->name, snapshot->broken != NULL);
    }
}

static void
add_store (GString *text, const Survey *survey)
{
  const SpaceUsage *space = &survey->space;

  if (survey->has_space)
    {
      add_gauge (text, "store_kept_bytes", "What all overlays take.", space->kept);
      add_gauge (text, "store_free_bytes", "Free in the file system of the store.", space->free);
      add_gauge (text, "store_size_bytes", "Size of the file system of the store.", space->total);
      add_gauge (text, "store_max_overlay_bytes", "The option max-overlay; 0: no limit.",
                 space->max_overlay);
      add_gauge (text, "store_reserve_bytes", "The option reserve.", space->reserve);
    }
  add_gauge (text, "store_lost", "1 when a part of the store was deleted, or all of it moved.",
             survey->loss != NULL);
  add_gauge (text, "levels", "Levels of the chain: snapshots, and removed ones not yet merged.",
             survey->n_levels);
  add_gauge (text, "removed_levels", "Levels of snapshots that were removed.", survey->n_removed);
  add_gauge (text, "removed_kept_bytes", "What these take in the store.", survey->removed_kept);
  add_gauge (text, "merges", "Merges under way.", survey->is_merging);
  add_gauge (text, "merge_done_bytes", "How far the merge is that is under way.",
             survey->is_merging ? survey->merge_done : 0);
  add_gauge (text, "merge_size_bytes", "What it has to go through.",
             survey->is_merging ? survey->merge_size : 0);
}

GString *
metrics_text (const Facts *facts)
{
  GString *text = g_string_new (NULL);

  add_process (text, facts);
  add_disks (text, facts->survey);
  add_snapshots (text, facts->survey);
  add_store (text, facts->survey);
  return text;
}
