/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot/survey.h"

#include "base/pause.h"
#include "snapshot/set-private.h"

/* A level as it was at the moment of the survey: what is looked at when the lock is gone. */
typedef struct
{
  Snapshot *snapshot; /* a reference, or NULL: it had no name */
  char *name;
  uint32_t number; /* of the level */
  Layer **layers;  /* references; each may be NULL */
} Seen;

static void
free_snapshot (gpointer data)
{
  SurveySnapshot *snapshot = data;

  g_free (snapshot->name);
  g_free (snapshot->broken);
  g_free (snapshot->images);
  g_free (snapshot);
}

static Seen
see_level (Snapshots *set, const Level *level) LOCK_REQUIRES (&set->lock)
{
  Seen seen = { .number = level->number, .layers = g_new0 (Layer *, set->n_disks) };

  for (unsigned i = 0; i < set->n_disks; i++)
    if (level->layers[i] != NULL)
      seen.layers[i] = layer_ref (level->layers[i]);
  if (level->snapshot != NULL && level->snapshot->name != NULL)
    {
      seen.snapshot = level->snapshot;
      seen.snapshot->n_refs++;
      seen.name = g_strdup (seen.snapshot->name);
    }
  return seen;
}

/* The part that is of one moment. */
static Seen *
see_levels (Snapshots *set, Survey *survey)
{
  Seen *seen;

  lock_acquire (&set->lock);
  seen = g_new0 (Seen, set->levels->len + 1);
  survey->is_merging = set->merge.under_way;
  survey->merge_done = set->merge.done;
  survey->merge_size = set->merge.size;
  for (unsigned i = 0; i < set->levels->len; i++)
    {
      const Level *level = set->levels->pdata[i];

      if (level->is_fresh)
        break; /* the last one */
      survey->n_levels++;
      seen[i] = see_level (set, level);
      if (survey->is_merging && level->number == set->merge.older)
        survey->merge_into = g_strdup (seen[i].name);
    }
  lock_release (&set->lock);
  return seen;
}

static void
forget_level (Snapshots *set, Seen *seen)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    g_clear_pointer (&seen->layers[i], layer_unref);
  g_free (seen->layers);
  g_free (seen->name);
  g_clear_pointer (&seen->snapshot, snapshot_unref);
}

static uint64_t
kept_by (const Layer *layer)
{
  return layer != NULL && layer->overlay != NULL ? overlay_allocated (layer->overlay) : 0;
}

static SurveySnapshot *
describe (Snapshots *set, Seen *seen, unsigned n_levels)
{
  SurveySnapshot *out = g_new0 (SurveySnapshot, 1);
  g_autoptr (GString) broken = g_string_new (NULL);

  out->id = snapshot_id (seen->snapshot);
  out->name = g_steal_pointer (&seen->name);
  out->created = snapshot_created (seen->snapshot);
  out->n_levels = n_levels;
  out->images = g_new0 (SurveyImage, set->n_disks);
  for (unsigned i = 0; i < set->n_disks; i++)
    if (snapshot_has_disk (seen->snapshot, i))
      {
        out->images[i] = (SurveyImage){
          .present = true,
          .size = snapshot_size (seen->snapshot, i),
          .kept = kept_by (seen->layers[i]),
          .broken = snapshot_dup_disk_broken (seen->snapshot, i),
        };
        out->kept += out->images[i].kept;
        snapshot_add_reason (set, i, out->images[i].broken, broken);
        PAUSE_POINT ("survey:disk-seen");
      }
  if (broken->len > 0)
    out->broken = g_string_free (g_steal_pointer (&broken), FALSE);
  return out;
}

static void
describe_removed (Snapshots *set, const Seen *seen, Survey *survey)
{
  survey->n_removed++;
  for (unsigned i = 0; i < set->n_disks; i++)
    survey->removed_kept += kept_by (seen->layers[i]);
}

static void
describe_levels (Snapshots *set, Survey *survey)
{
  uint32_t lost;
  g_autofree Seen *seen = see_levels (set, survey);

  survey->loss = snapshots_find_loss (set, &lost);

  for (unsigned i = 0; i < survey->n_levels; i++)
    {
      if (seen[i].snapshot == NULL)
        describe_removed (set, &seen[i], survey);
      else
        {
          SurveySnapshot *snapshot = describe (set, &seen[i], survey->n_levels - i);

          if (snapshot->broken == NULL && seen[i].number <= lost)
            snapshot->lost = survey->loss;
          survey->n_broken += snapshot->broken != NULL;
          survey->n_lost += snapshot->lost != NULL;
          g_ptr_array_add (survey->snapshots, snapshot);
        }
      forget_level (set, &seen[i]);
    }
}

static void
describe_disks (Snapshots *set, Survey *survey)
{
  survey->n_disks = set->n_disks;
  survey->disks = g_new0 (SurveyDisk, set->n_disks);
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);
      SurveyDisk *disk = &survey->disks[i];

      disk->name = set->names[i];
      disk->source = source_path (source);
      disk->has_size = source_size (source, &disk->size) == 0;
      disk->is_block = source_is_block (source);
      disk->moved = source_find_move (source);
      for (unsigned c = 0; c < COUNTER_N; c++)
        disk->counts[c] = disk_count (set->disks[i], (Counter) c);
      disk->n_read_waits = disk_n_read_waits (set->disks[i]);
      disk->n_held = disk_n_held (set->disks[i]);
    }
}

Survey *
survey_new (Snapshots *set)
{
  Survey *survey = g_new0 (Survey, 1);

  survey->store = snapshots_store_path (set);
  survey->max_snapshots = set->max_snapshots;
  survey->durable = set->durable;
  survey->snapshots = g_ptr_array_new_with_free_func (free_snapshot);
  describe_levels (set, survey);
  describe_disks (set, survey);
  survey->n_freeze_waits = barrier_n_waits (set->barrier);
  survey->has_space = snapshots_space (set, &survey->space) == 0;
  if (survey->has_space)
    survey->percent = space_percent (&survey->space, &survey->percent_is_overlay);
  return survey;
}

void
survey_free (Survey *survey)
{
  for (unsigned i = 0; i < survey->snapshots->len; i++)
    {
      SurveySnapshot *snapshot = survey->snapshots->pdata[i];

      for (unsigned d = 0; d < survey->n_disks; d++)
        g_free (snapshot->images[d].broken);
    }
  g_ptr_array_unref (survey->snapshots);
  for (unsigned i = 0; i < survey->n_disks; i++)
    g_free (survey->disks[i].moved);
  g_free (survey->disks);
  g_free (survey->merge_into);
  g_free (survey->loss);
  g_free (survey);
}
