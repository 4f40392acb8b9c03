/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/status.h"

#include "base/printable.h"

#include <inttypes.h>

/* A name, and blanks up to the next column. */
static void
add_name (GString *text, const char *name)
{
  g_autofree char *shown = printable_text (name, false);
  glong n = g_utf8_strlen (shown, -1);

  g_string_append_printf (text, "%s%*s  ", shown, n < 20 ? (int) (20 - n) : 0, "");
}

/* The last of a line, which stays one whatever is in a path. */
static void
add_rest (GString *text, const char *rest)
{
  g_autofree char *shown = printable_text (rest, false);

  g_string_append_printf (text, "%s\n", shown);
}

static void
add_disks (GString *text, const Survey *survey)
{
  g_string_append_printf (text, "%-20s  %-20s  %s\n", "DISK", "BYTES", "IMAGE");
  for (unsigned i = 0; i < survey->n_disks; i++)
    {
      const SurveyDisk *disk = &survey->disks[i];
      g_autofree char *size
          = disk->has_size ? g_strdup_printf ("%" PRIu64, disk->size) : g_strdup ("?");

      add_name (text, disk->name);
      g_string_append_printf (text, "%-20s  ", size);
      add_rest (text, disk->source);
    }
  for (unsigned i = 0; i < survey->n_disks; i++)
    if (survey->disks[i].n_held > 0)
      g_string_append_printf (
          text,
          "warning: writes to '%s' are held: they break snapshots, and that can "
          "be written down nowhere; see the log\n",
          survey->disks[i].name);
}

static void
add_snapshots (GString *text, const Survey *survey)
{
  g_string_append_printf (text, "%-20s  %-20s  %s\n", "CREATED", "SNAPSHOT", "STATE");
  for (unsigned i = 0; i < survey->snapshots->len; i++)
    {
      const SurveySnapshot *snapshot = survey->snapshots->pdata[i];
      g_autofree char *created = facts_time (snapshot->created);

      g_string_append_printf (text, "%s  ", created);
      add_name (text, snapshot->name);
      g_string_append (text, snapshot->broken != NULL ? "broken: "
                             : snapshot->lost != NULL ? "lost: "
                                                      : "ok");
      add_rest (text, snapshot->broken != NULL ? snapshot->broken
                      : snapshot->lost != NULL ? snapshot->lost
                                               : "");
    }
}

/* What the overlays take, and how much more there is. */
static void
add_space (GString *text, const Survey *survey)
{
  const SpaceUsage *usage = &survey->space;

  if (!survey->has_space)
    return;
  g_string_append_printf (text, "kept: %" PRIu64 " bytes", usage->kept);
  if (usage->max_overlay > 0)
    g_string_append_printf (text, ", max-overlay %" PRIu64, usage->max_overlay);
  g_string_append_printf (text, "\nfree: %" PRIu64 " bytes", usage->free);
  if (usage->reserve > 0)
    g_string_append_printf (text, ", reserve %" PRIu64, usage->reserve);
  g_string_append_c (text, '\n');
}

static void
add_warnings (GString *text, const Facts *facts)
{
  for (guint i = 0; i < facts->warnings->len; i++)
    {
      g_string_append (text, "warning: ");
      add_rest (text, facts->warnings->pdata[i]);
    }
}

GString *
status_text (const Facts *facts)
{
  const Survey *survey = facts->survey;
  GString *text = g_string_new (NULL);

  g_string_append (text, "store: ");
  add_rest (text, survey->store);
  if (survey->loss != NULL)
    {
      g_string_append (text, "warning: ");
      add_rest (text, survey->loss);
    }
  add_space (text, survey);
  add_warnings (text, facts);
  g_string_append_c (text, '\n');
  add_disks (text, survey);
  g_string_append_c (text, '\n');
  add_snapshots (text, survey);
  return text;
}
