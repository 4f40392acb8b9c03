/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/show.h"

#include "ctl/table.h"
#include "ctl/text.h"

#include <inttypes.h>
#include <string.h>

#define BAR_MAX 40
#define BAR_MIN 6

static char *
printable (JsonObject *object, const char *name)
{
  return text_printable (state_text (object, name));
}

static char *
size (JsonObject *object, const char *name)
{
  return text_size (state_number (object, name));
}

/* "ok", or that it is broken, and why. */
static char *
state_of (JsonObject *snapshot)
{
  g_autofree char *word = printable (snapshot, "state");
  g_autofree char *reason = printable (snapshot, "reason");

  return *reason != '\0' ? g_strdup_printf ("%s: %s", word, reason) : g_steal_pointer (&word);
}

static void
show_mountpoint (const State *state, unsigned width, GString *out)
{
  g_autofree char *mountpoint = text_printable (state->mountpoint);

  table_line (mountpoint, width, out);
}

/* --- list --- */

static void
show_list (const State *state, unsigned width, GString *out)
{
  static const char *const headings[] = { "SNAPSHOT", "CREATED", "KEPT", "STATE", NULL };
  static const TableColumn columns[] = { TABLE_CUT, TABLE_LEFT, TABLE_RIGHT, TABLE_CUT };
  g_autoptr (Table) table = table_new (headings, columns);

  for (unsigned i = 0; i < state_length (state->object, "snapshots"); i++)
    {
      JsonObject *snapshot = state_element (state->object, "snapshots", i);

      table_add (table, (char *[]){ printable (snapshot, "name"), printable (snapshot, "created"),
                                    size (snapshot, "kept_bytes"), state_of (snapshot) });
    }
  table_print (table, width, out);
}

char *
show_lists (const GPtrArray *states, unsigned width)
{
  GString *out = g_string_new (NULL);

  for (guint i = 0; i < states->len; i++)
    {
      if (i > 0)
        g_string_append_c (out, '\n');
      if (states->len > 1)
        show_mountpoint (states->pdata[i], width, out);
      show_list (states->pdata[i], width, out);
    }
  return g_string_free (out, FALSE);
}

/* --- status --- */

static void
show_head (const State *state, unsigned width, GString *out)
{
  uint64_t now = state_number (state->object, "time_unix");
  uint64_t mounted = state_number (state->object, "mounted_unix");
  g_autofree char *version = printable (state->object, "version");
  g_autofree char *durability = printable (state->object, "durability");
  g_autofree char *span = text_span (now > mounted ? now - mounted : 0);
  g_autofree char *line
      = g_strdup_printf ("fleecefs %s, pid %" PRIu64 ", mounted for %s, durability %s", version,
                         state_number (state->object, "pid"), span, durability);

  show_mountpoint (state, width, out);
  table_line (line, width, out);
}

static void
show_warnings (const State *state, unsigned width, GString *out)
{
  for (unsigned i = 0; i < state_length (state->object, "warnings"); i++)
    {
      g_autofree char *warning = text_printable (state_element_text (state->object, "warnings", i));
      g_autofree char *line = g_strdup_printf ("warning: %s", warning);

      table_line (line, width, out);
    }
}

/* The disk of that name in another state, or NULL. */
static JsonObject *
find_disk (const State *state, const char *name)
{
  for (unsigned i = 0; i < state_length (state->object, "disks"); i++)
    {
      JsonObject *disk = state_element (state->object, "disks", i);

      if (strcmp (state_text (disk, "name"), name) == 0)
        return disk;
    }
  return NULL;
}

/* Bytes since the mount, or a second. */
static char *
flow (JsonObject *disk, JsonObject *older, double seconds, const char *counter)
{
  uint64_t now = state_number (state_object (disk, "counters"), counter);
  uint64_t then = state_number (state_object (older, "counters"), counter);

  if (older == NULL)
    return text_size (now);
  return text_size (now > then ? (uint64_t) ((double) (now - then) / seconds) : 0);
}

static char *
size_of_disk (JsonObject *disk)
{
  return state_has (disk, "size_bytes") ? size (disk, "size_bytes") : g_strdup ("?");
}

static void
show_disks (const State *state, const State *before, unsigned width, GString *out)
{
  static const char *const totals[]
      = { "DISK", "SIZE", "READ", "WRITTEN", "COPIED", "IMAGE", NULL };
  static const char *const rates[]
      = { "DISK", "SIZE", "READ/s", "WRITE/s", "COPY/s", "IMAGE", NULL };
  static const TableColumn columns[]
      = { TABLE_CUT, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT, TABLE_RIGHT, TABLE_CUT };
  g_autoptr (Table) table = table_new (before != NULL ? rates : totals, columns);
  double seconds
      = before != NULL ? (double) (state->read_at - before->read_at) / G_USEC_PER_SEC : 1;

  for (unsigned i = 0; i < state_length (state->object, "disks"); i++)
    {
      JsonObject *disk = state_element (state->object, "disks", i);
      JsonObject *older = before != NULL ? find_disk (before, state_text (disk, "name")) : NULL;

      table_add (table, (char *[]){ printable (disk, "name"), size_of_disk (disk),
                                    flow (disk, older, seconds, "read_bytes"),
                                    flow (disk, older, seconds, "written_bytes"),
                                    flow (disk, older, seconds, "copied_bytes"),
                                    printable (disk, "source") });
    }
  table_print (table, width, out);
  for (unsigned i = 0; i < state_length (state->object, "disks"); i++)
    {
      JsonObject *disk = state_element (state->object, "disks", i);
      g_autofree char *name = printable (disk, "name");
      g_autofree char *line = g_strdup_printf (
          "writes to %s are held: they break snapshots, and that can be written down nowhere",
          name);

      if (state_number (disk, "held_writes") > 0)
        table_line (line, width, out);
    }
}

/* A row for the n oldest snapshots. */
static void
add_older (Table *table, const State *state, unsigned n)
{
  unsigned n_broken = 0, n_lost = 0;

  for (unsigned i = 0; i < n; i++)
    {
      JsonObject *snapshot = state_element (state->object, "snapshots", i);

      n_broken += strcmp (state_text (snapshot, "state"), "broken") == 0;
      n_lost += strcmp (state_text (snapshot, "state"), "lost") == 0;
    }
  table_add (table, (char *[]){ g_strdup_printf ("(%u older)", n), g_strdup (""), g_strdup (""),
                                n_lost > 0     ? g_strdup_printf ("%u lost", n_lost)
                                : n_broken > 0 ? g_strdup_printf ("%u broken", n_broken)
                                               : g_strdup ("ok") });
}

static void
show_snapshots (const State *state, unsigned width, unsigned max, GString *out)
{
  static const char *const headings[] = { "SNAPSHOT", "AGE", "KEPT", "STATE", NULL };
  static const TableColumn columns[] = { TABLE_CUT, TABLE_RIGHT, TABLE_RIGHT, TABLE_CUT };
  g_autoptr (Table) table = table_new (headings, columns);
  uint64_t now = state_number (state->object, "time_unix");
  unsigned n = state_length (state->object, "snapshots");
  unsigned n_older = n > max ? n - max : 0;

  if (n == 0)
    {
      table_line ("no snapshots", width, out);
      return;
    }
  if (n_older > 0)
    add_older (table, state, n_older);
  for (unsigned i = n_older; i < n; i++)
    {
      JsonObject *snapshot = state_element (state->object, "snapshots", i);
      uint64_t created = state_number (snapshot, "created_unix");

      table_add (table, (char *[]){ printable (snapshot, "name"),
                                    text_span (now > created ? now - created : 0),
                                    size (snapshot, "kept_bytes"), state_of (snapshot) });
    }
  table_print (table, width, out);
}

/* "what  [###...]  12%  rest", with a bar as wide as there is room. */
static void
show_bar (const char *what, uint64_t part, uint64_t whole, const char *rest, unsigned width,
          GString *out)
{
  g_autofree char *percent = g_strdup_printf ("%3u%%  %s", text_percent (part, whole), rest);
  unsigned taken = text_width (what) + 2 + 2 + text_width (percent);
  unsigned room = width > taken ? MIN (width - taken, BAR_MAX) : 0;
  g_autofree char *bar = text_bar (part, whole, MAX (room, BAR_MIN));
  g_autofree char *line = g_strdup_printf ("%s  %s  %s", what, bar, percent);

  table_line (line, width, out);
}

static void
show_kept (JsonObject *store, unsigned width, GString *out)
{
  g_autofree char *kept = size (store, "kept_bytes");
  g_autofree char *removed = size (store, "removed_kept_bytes");
  g_autofree char *line
      = state_number (store, "removed_levels") > 0
            ? g_strdup_printf ("kept         %s, %s of it for removed snapshots", kept, removed)
            : g_strdup_printf ("kept         %s", kept);

  table_line (line, width, out);
}

static void
show_store (const State *state, unsigned width, GString *out)
{
  JsonObject *store = state_object (state->object, "store");
  uint64_t all = state_number (store, "size_bytes"), free = state_number (store, "free_bytes");
  uint64_t limit = state_number (store, "max_overlay_bytes");
  uint64_t kept = state_number (store, "kept_bytes");
  uint64_t reserve = state_number (store, "reserve_bytes");
  g_autofree char *path = printable (store, "path");
  g_autofree char *kept_text = text_size (kept);
  g_autofree char *limit_text = text_size (limit);
  g_autofree char *free_text = text_size (free);
  g_autofree char *all_text = text_size (all);
  g_autofree char *reserve_text = text_size (reserve);
  g_autofree char *title = g_strdup_printf ("store %s", path);
  g_autofree char *loss = printable (store, "loss");
  g_autofree char *limit_line = g_strdup_printf ("%s of %s", kept_text, limit_text);
  g_autofree char *free_line
      = g_strdup_printf ("%s free of %s%s%s", free_text, all_text, reserve > 0 ? ", reserve " : "",
                         reserve > 0 ? reserve_text : "");

  table_line (title, width, out);
  if (*loss != '\0')
    table_line (loss, width, out);
  if (!json_object_has_member (store, "free_bytes"))
    {
      table_line ("its file system does not answer", width, out);
      return;
    }
  show_kept (store, width, out);
  if (limit > 0)
    show_bar ("max-overlay", kept, limit, limit_line, width, out);
  show_bar ("file system", all > free ? all - free : 0, all > reserve ? all - reserve : 0,
            free_line, width, out);
}

static void
show_merges (const State *state, unsigned width, GString *out)
{
  for (unsigned i = 0; i < state_length (state->object, "merges"); i++)
    {
      JsonObject *merge = state_element (state->object, "merges", i);
      g_autofree char *into = printable (merge, "into");
      g_autofree char *rest
          = *into != '\0' ? g_strdup_printf ("into %s", into) : g_strdup ("of removed snapshots");

      show_bar ("merge      ", state_number (merge, "done_bytes"),
                state_number (merge, "size_bytes"), rest, width, out);
    }
}

static void
show_status (const State *state, const State *before, unsigned width, unsigned max_snapshots,
             GString *out)
{
  show_head (state, width, out);
  show_warnings (state, width, out);
  g_string_append_c (out, '\n');
  show_disks (state, before, width, out);
  g_string_append_c (out, '\n');
  show_snapshots (state, width, max_snapshots, out);
  g_string_append_c (out, '\n');
  if (state_object (state->object, "store") != NULL)
    show_store (state, width, out);
  show_merges (state, width, out);
}

/* At most max_snapshots of each mount. */
static char *
format_statuses (const GPtrArray *states, const GPtrArray *before, unsigned width,
                 unsigned max_snapshots)
{
  GString *out = g_string_new (NULL);

  for (guint i = 0; i < states->len; i++)
    {
      const State *state = states->pdata[i];
      const State *older = before != NULL ? state_find (before, state->mountpoint) : NULL;

      if (i > 0)
        g_string_append_c (out, '\n');
      show_status (state, older, width, max_snapshots, out);
    }
  return g_string_free (out, FALSE);
}

static unsigned
count_lines (const char *text)
{
  unsigned n = 0;

  for (; (text = strchr (text, '\n')) != NULL; text++)
    n++;
  return n;
}

char *
show_statuses (const GPtrArray *states, const GPtrArray *before, unsigned width, unsigned height)
{
  unsigned max = 0;

  for (guint i = 0; i < states->len; i++)
    max = MAX (max, state_length (((const State *) states->pdata[i])->object, "snapshots"));
  for (;;)
    {
      g_autofree char *text = format_statuses (states, before, width, max);
      unsigned n = count_lines (text);

      if (n <= height || max == 0)
        return g_steal_pointer (&text);
      max -= MIN (max, MAX ((n - height) / states->len, 1));
    }
}
