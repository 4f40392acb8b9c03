/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/status-json.h"

#include <json-glib/json-glib.h>

/* Of the fields; a change that readers can trip over makes it another one. */
#define FORMAT 1

static void
add_number (JsonBuilder *json, const char *name, uint64_t value)
{
  json_builder_set_member_name (json, name);
  json_builder_add_int_value (json, (gint64) MIN (value, G_MAXINT64));
}

static void
add_boolean (JsonBuilder *json, const char *name, bool value)
{
  json_builder_set_member_name (json, name);
  json_builder_add_boolean_value (json, value);
}

/* As JSON can have it. A new string. */
static char *
json_text (const char *value)
{
  /* The one control character that json-glib does not escape. */
  return g_strdelimit (g_utf8_make_valid (value, -1), "\x1f", '?');
}

/* NULL is null. */
static void
add_text (JsonBuilder *json, const char *name, const char *value)
{
  g_autofree char *text = value != NULL ? json_text (value) : NULL;

  json_builder_set_member_name (json, name);
  if (text == NULL)
    json_builder_add_null_value (json);
  else
    json_builder_add_string_value (json, text);
}

static void
add_time (JsonBuilder *json, const char *name, const char *unix_name, struct timespec when)
{
  g_autofree char *text = facts_time (when);

  add_text (json, name, text);
  json_builder_set_member_name (json, unix_name);
  json_builder_add_int_value (json, when.tv_sec);
}

static void
begin_array (JsonBuilder *json, const char *name)
{
  json_builder_set_member_name (json, name);
  json_builder_begin_array (json);
}

static void
add_state (JsonBuilder *json, const char *broken, const char *lost)
{
  add_text (json, "state", broken != NULL ? "broken" : lost != NULL ? "lost" : "ok");
  add_text (json, "reason", broken != NULL ? broken : lost);
}

static void
add_disks (JsonBuilder *json, const Survey *survey)
{
  begin_array (json, "disks");
  for (unsigned i = 0; i < survey->n_disks; i++)
    {
      const SurveyDisk *disk = &survey->disks[i];

      json_builder_begin_object (json);
      add_text (json, "name", disk->name);
      if (disk->has_size)
        add_number (json, "size_bytes", disk->size);
      add_text (json, "source", disk->source);
      add_boolean (json, "block_device", disk->is_block);
      add_boolean (json, "in_place", disk->moved == NULL);
      json_builder_set_member_name (json, "counters");
      json_builder_begin_object (json);
      for (unsigned c = 0; c < COUNTER_N; c++)
        add_number (json, facts_counter ((Counter) c)->json, disk->counts[c]);
      add_number (json, "read_waits", disk->n_read_waits);
      json_builder_end_object (json);
      add_number (json, "held_writes", disk->n_held);
      json_builder_end_object (json);
    }
  json_builder_end_array (json);
}

static void
add_images (JsonBuilder *json, const Survey *survey, const SurveySnapshot *snapshot)
{
  begin_array (json, "disks");
  for (unsigned i = 0; i < survey->n_disks; i++)
    {
      const SurveyImage *image = &snapshot->images[i];

      if (!image->present)
        continue;
      json_builder_begin_object (json);
      add_text (json, "name", survey->disks[i].name);
      add_number (json, "size_bytes", image->size);
      add_number (json, "kept_bytes", image->kept);
      add_state (json, image->broken, snapshot->lost);
      json_builder_end_object (json);
    }
  json_builder_end_array (json);
}

static void
add_snapshots (JsonBuilder *json, const Survey *survey)
{
  begin_array (json, "snapshots");
  for (unsigned i = 0; i < survey->snapshots->len; i++)
    {
      const SurveySnapshot *snapshot = survey->snapshots->pdata[i];

      json_builder_begin_object (json);
      add_number (json, "id", snapshot->id);
      add_text (json, "name", snapshot->name);
      add_time (json, "created", "created_unix", snapshot->created);
      add_state (json, snapshot->broken, snapshot->lost);
      add_number (json, "kept_bytes", snapshot->kept);
      add_number (json, "levels", snapshot->n_levels);
      add_images (json, survey, snapshot);
      json_builder_end_object (json);
    }
  json_builder_end_array (json);
}

static void
add_store (JsonBuilder *json, const Survey *survey)
{
  const SpaceUsage *space = &survey->space;

  json_builder_set_member_name (json, "store");
  json_builder_begin_object (json);
  add_text (json, "path", survey->store);
  add_text (json, "loss", survey->loss);
  if (survey->has_space)
    {
      add_number (json, "kept_bytes", space->kept);
      add_number (json, "free_bytes", space->free);
      add_number (json, "size_bytes", space->total);
      add_number (json, "max_overlay_bytes", space->max_overlay);
      add_number (json, "reserve_bytes", space->reserve);
      add_number (json, "used_percent", survey->percent);
      add_text (json, "used_of", survey->percent_is_overlay ? "max-overlay" : "file system");
    }
  add_number (json, "levels", survey->n_levels);
  add_number (json, "removed_levels", survey->n_removed);
  add_number (json, "removed_kept_bytes", survey->removed_kept);
  json_builder_end_object (json);
}

static void
add_merges (JsonBuilder *json, const Survey *survey)
{
  begin_array (json, "merges");
  if (survey->is_merging)
    {
      json_builder_begin_object (json);
      add_text (json, "into", survey->merge_into);
      add_number (json, "done_bytes", survey->merge_done);
      add_number (json, "size_bytes", survey->merge_size);
      json_builder_end_object (json);
    }
  json_builder_end_array (json);
}

static void
add_warnings (JsonBuilder *json, const Facts *facts)
{
  begin_array (json, "warnings");
  for (guint i = 0; i < facts->warnings->len; i++)
    {
      g_autofree char *text = json_text (facts->warnings->pdata[i]);

      json_builder_add_string_value (json, text);
    }
  json_builder_end_array (json);
}

static GString *
generate (JsonBuilder *json)
{
  g_autoptr (JsonNode) root = json_builder_get_root (json);
  g_autoptr (JsonGenerator) generator = json_generator_new ();
  GString *text = g_string_new (NULL);

  json_generator_set_root (generator, root);
  json_generator_set_pretty (generator, TRUE);
  json_generator_to_gstring (generator, text);
  g_string_append_c (text, '\n');
  return text;
}

GString *
status_json_text (const Facts *facts)
{
  const Survey *survey = facts->survey;
  g_autoptr (JsonBuilder) json = json_builder_new ();

  json_builder_begin_object (json);
  add_number (json, "format", FORMAT);
  add_text (json, "version", facts->version);
  add_number (json, "pid", (uint64_t) facts->pid);
  add_time (json, "time", "time_unix", facts->now);
  add_time (json, "mounted", "mounted_unix", facts->mounted);
  add_text (json, "durability", survey->durable ? "power" : "process");
  add_number (json, "max_snapshots", survey->max_snapshots);
  add_number (json, "freeze_waits", survey->n_freeze_waits);
  add_warnings (json, facts);
  add_disks (json, survey);
  add_snapshots (json, survey);
  add_store (json, survey);
  add_merges (json, survey);
  json_builder_end_object (json);
  return generate (json);
}
