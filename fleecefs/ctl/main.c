/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fleecectl: what .fleecefs/status.json of each mount says, for people. It asks nobody else, so all
 * that it does can be done with cat(1). */
#include "config.h"

#include "base/fail.h"
#include "ctl/mounts.h"
#include "ctl/screen.h"
#include "ctl/show.h"
#include "ctl/text.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#define WATCH_DEFAULT 2
#define WATCH_MAX 3600

enum
{
  STATUS_OK = 0,
  STATUS_FAILED = 1,
  STATUS_USAGE = 2,
};

typedef struct
{
  gboolean is_list; /* else status */
  gboolean json;
  unsigned watch; /* seconds; 0: once */
  char **paths;   /* up to NULL; none: all mounts */
} Options;

static const char help_text[]
    = "Usage: fleecectl list [--json] [PATH...]\n"
      "       fleecectl status [--json | --watch[=SECONDS]] [PATH...]\n"
      "Show mounts of fleecefs: those that a PATH is in, or all.\n"
      "\n"
      "  list                 the snapshots\n"
      "  status               disks, snapshots, the space of the store, merges\n"
      "\n"
      "  -j, --json           print a JSON array: for each mount what is in\n"
      "                       MOUNTPOINT/.fleecefs/status.json, and the mountpoint\n"
      "  -w, --watch[=SECONDS]\n"
      "                       go on, with rates, until interrupted [2]\n"
      "  -h, --help           print this text\n"
      "  -V, --version        print the version\n"
      "\n"
      "See fleecectl(8), and fleecefs(8) on the fields.\n";

/* As one line, whatever is in it: names may hold anything. */
static int
report (const char *message)
{
  g_autofree char *line = text_printable (message);

  fprintf (stderr, "fleecectl: %s\n", line);
  return STATUS_FAILED;
}

G_GNUC_PRINTF (1, 2)
static int
report_usage (const char *format, ...)
{
  g_autofree char *message = NULL;
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  report (message);
  fprintf (stderr, "Try 'fleecectl --help'.\n");
  return STATUS_USAGE;
}

static int
print (const char *text)
{
  g_autoptr (GError) error = NULL;

  if (fputs (text, stdout) >= 0 && fflush (stdout) == 0)
    return STATUS_OK;
  fail_errno (&error, errno, "cannot write to standard output");
  return report (error->message);
}

static void
free_state (gpointer state)
{
  state_free (state);
}

/* Adds the state of a mount, unless it is there; or reports why not. */
static gboolean
add_state (GPtrArray *states, const char *mountpoint, const char *path)
{
  g_autoptr (GError) error = NULL;
  State *state;

  if (state_find (states, mountpoint) != NULL)
    return TRUE;
  state = state_read (mountpoint, path, &error);
  if (state != NULL)
    g_ptr_array_add (states, state);
  else
    report (error->message);
  return state != NULL;
}

static gboolean
add_path (GPtrArray *states, const char *path)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *mountpoint = mounts_of (path, &error);

  if (mountpoint != NULL)
    return add_state (states, mountpoint, path);
  report (error->message);
  return FALSE;
}

static gboolean
add_all (GPtrArray *states)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) mounts = mounts_all (&error);
  gboolean ok = TRUE;

  if (mounts == NULL || mounts->len == 0)
    {
      report (mounts == NULL ? error->message : "no fleecefs is mounted here");
      return FALSE;
    }
  for (guint i = 0; i < mounts->len; i++)
    ok = add_state (states, mounts->pdata[i], NULL) && ok;
  return ok;
}

/* The states of what was asked for; *out_ok is false when one is missing, which was reported. */
static GPtrArray *
read_states (const Options *options, gboolean *out_ok)
{
  GPtrArray *states = g_ptr_array_new_with_free_func (free_state);

  *out_ok = TRUE;
  if (*options->paths == NULL)
    *out_ok = add_all (states);
  for (char **path = options->paths; *path != NULL; path++)
    *out_ok = add_path (states, *path) && *out_ok;
  return states;
}

/* The object of status.json, or of it just the snapshots, with the mountpoint. */
static JsonNode *
json_of (const State *state, gboolean is_list)
{
  g_autofree char *mountpoint = g_utf8_make_valid (state->mountpoint, -1);
  JsonObject *object = json_object_new ();
  JsonNode *node = json_node_new (JSON_NODE_OBJECT);
  g_autoptr (GList) names = json_object_get_members (state->object);

  /* The one control character that json-glib does not escape. */
  g_strdelimit (mountpoint, "\x1f", '?');
  json_object_set_string_member (object, "mountpoint", mountpoint);
  for (GList *name = names; name != NULL; name = name->next)
    if (!is_list || strcmp (name->data, "snapshots") == 0)
      json_object_set_member (object, name->data,
                              json_node_copy (json_object_get_member (state->object, name->data)));
  json_node_take_object (node, object);
  return node;
}

static int
print_json (const GPtrArray *states, gboolean is_list)
{
  g_autoptr (JsonNode) root = json_node_new (JSON_NODE_ARRAY);
  JsonArray *array = json_array_new ();
  g_autofree char *text = NULL;
  g_autofree char *line = NULL;

  for (guint i = 0; i < states->len; i++)
    json_array_add_element (array, json_of (states->pdata[i], is_list));
  json_node_take_array (root, array);
  text = json_to_string (root, TRUE);
  line = g_strconcat (text, "\n", NULL);
  return print (line);
}

static int
print_text (const GPtrArray *states, gboolean is_list)
{
  unsigned width = screen_width ();
  g_autofree char *text
      = is_list ? show_lists (states, width) : show_statuses (states, NULL, width, G_MAXUINT);

  return print (text);
}

static int
show_once (const Options *options)
{
  gboolean ok;
  g_autoptr (GPtrArray) states = read_states (options, &ok);
  int status = options->json ? print_json (states, options->is_list)
                             : print_text (states, options->is_list);

  return ok ? status : STATUS_FAILED;
}

/* Draws it, and again when the terminal has another size, until then. */
static int
show_until (const GPtrArray *states, const GPtrArray *before, gint64 until)
{
  int status;

  do
    {
      g_autofree char *text = show_statuses (states, before, screen_width (), screen_height ());
      g_autofree char *screen = screen_text (text);

      status = print (screen);
    }
  while (status == STATUS_OK && !screen_wait (until));
  return status;
}

/* False, and reported, when a mount that was there is gone. */
static gboolean
are_all_there (const GPtrArray *before, const GPtrArray *states)
{
  for (guint i = 0; before != NULL && i < before->len; i++)
    {
      const State *state = before->pdata[i];
      g_autofree char *message = NULL;

      if (state_find (states, state->mountpoint) != NULL)
        continue;
      message = g_strdup_printf ("'%s' is no longer mounted", state->mountpoint);
      report (message);
      return FALSE;
    }
  return TRUE;
}

/* Ends when it is interrupted, or when a mount is gone. */
static int
watch (const Options *options)
{
  g_autoptr (GPtrArray) before = NULL;
  int status = print (screen_begin ());

  while (status == STATUS_OK)
    {
      gboolean ok;
      g_autoptr (GPtrArray) states = read_states (options, &ok);

      if (!ok || !are_all_there (before, states))
        return STATUS_FAILED;
      status = show_until (states, before,
                           g_get_monotonic_time () + options->watch * (gint64) G_USEC_PER_SEC);
      g_clear_pointer (&before, g_ptr_array_unref);
      before = g_steal_pointer (&states);
    }
  return status;
}

static gboolean
parse_watch (const char *value, unsigned *out)
{
  guint64 seconds = WATCH_DEFAULT;

  if (value != NULL && !g_ascii_string_to_unsigned (value, 10, 1, WATCH_MAX, &seconds, NULL))
    return FALSE;
  *out = (unsigned) seconds;
  return TRUE;
}

static int
run (Options *options, char **words)
{
  if (*words == NULL)
    return report_usage ("no command given");
  options->is_list = strcmp (*words, "list") == 0;
  options->paths = words + 1;
  if (!options->is_list && strcmp (*words, "status") != 0)
    return report_usage ("unknown command '%s'", *words);
  if (options->watch == 0)
    return show_once (options);
  if (options->is_list)
    return report_usage ("--watch is for status");
  if (options->json)
    return report_usage ("--watch and --json do not go together");
  return watch (options);
}

int
main (int argc, char **argv)
{
  static const struct option known[] = { { "help", no_argument, NULL, 'h' },
                                         { "json", no_argument, NULL, 'j' },
                                         { "version", no_argument, NULL, 'V' },
                                         { "watch", optional_argument, NULL, 'w' },
                                         { 0 } };
  Options options = { 0 };
  int c;

  setlocale (LC_CTYPE, ""); /* only that: what is printed is English */
  opterr = 0;
  while ((c = getopt_long (argc, argv, "hjVw::", known, NULL)) != -1)
    switch (c)
      {
      case 'h':
        return print (help_text);
      case 'V':
        return print ("fleecectl " PACKAGE_VERSION "\n");
      case 'j':
        options.json = TRUE;
        break;
      case 'w':
        if (!parse_watch (optarg, &options.watch))
          return report_usage ("bad option '--watch=%s': give seconds from 1 to %d", optarg,
                               WATCH_MAX);
        break;
      default:
        /* Of letters in one word getopt(3) tells which it was. */
        return optopt != 0 && strchr ("hjVw", optopt) == NULL
                   ? report_usage ("bad option '-%c'", optopt)
                   : report_usage ("bad option '%s'", argv[optind - 1]);
      }
  return run (&options, argv + optind);
}
