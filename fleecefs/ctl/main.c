/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fleecectl: what .fleecefs/status.json of each mount says, for people. It asks nobody else, so all
 * that it does can be done with cat(1). */
#include "config.h"

#include "base/fail.h"
#include "ctl/mounts.h"
#include "ctl/show.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define WIDTH_MIN 20
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
  g_autofree char *line = g_strdup (message);

  for (char *c = line; *c != '\0'; c++)
    if (g_ascii_iscntrl (*c))
      *c = '?';
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

/* Of the terminal, or what COLUMNS says; without both nothing is cut. */
static unsigned
find_width (void)
{
  const char *columns = g_getenv ("COLUMNS");
  struct winsize size;
  guint64 width = 0;

  if (columns != NULL && g_ascii_string_to_unsigned (columns, 10, 1, 10000, &width, NULL))
    return MAX ((unsigned) width, WIDTH_MIN);
  if (ioctl (STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    return MAX (size.ws_col, WIDTH_MIN);
  return isatty (STDOUT_FILENO) ? 80 : G_MAXUINT / 2;
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

  for (guint i = 0; i < states->len; i++)
    if (strcmp (((State *) states->pdata[i])->mountpoint, mountpoint) == 0)
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

static const State *
find_state (const GPtrArray *states, const char *mountpoint)
{
  for (guint i = 0; states != NULL && i < states->len; i++)
    if (strcmp (((State *) states->pdata[i])->mountpoint, mountpoint) == 0)
      return states->pdata[i];
  return NULL;
}

static GString *
format_states (const GPtrArray *states, const GPtrArray *before, gboolean is_list)
{
  GString *out = g_string_new (NULL);
  unsigned width = find_width ();

  for (guint i = 0; i < states->len; i++)
    {
      const State *state = states->pdata[i];

      if (i > 0)
        g_string_append_c (out, '\n');
      if (!is_list)
        show_status (state, find_state (before, state->mountpoint), width, out);
      else
        {
          if (states->len > 1)
            show_mountpoint (state, width, out);
          show_list (state, width, out);
        }
    }
  return out;
}

static int
show_once (const Options *options)
{
  gboolean ok;
  g_autoptr (GPtrArray) states = read_states (options, &ok);
  g_autoptr (GString) text = NULL;
  int status;

  if (options->json)
    status = print_json (states, options->is_list);
  else
    {
      text = format_states (states, NULL, options->is_list);
      status = print (text->str);
    }
  return ok ? status : STATUS_FAILED;
}

/* Over what was there before, if it is a terminal: each line ends in "clear the rest of the line",
 * the last one in "clear what is below". */
static char *
as_screen (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  g_autofree char *joined = g_strjoinv ("\033[K\n", lines);

  return g_strconcat ("\033[H", joined, "\033[J", NULL);
}

/* Ends when it is interrupted, or when a mount is gone. */
static int
watch (const Options *options)
{
  g_autoptr (GPtrArray) before = NULL;
  gboolean is_terminal = isatty (STDOUT_FILENO), ok = TRUE;
  int status = is_terminal ? print ("\033[2J") : STATUS_OK;

  while (status == STATUS_OK)
    {
      g_autoptr (GPtrArray) states = read_states (options, &ok);
      g_autoptr (GString) text = NULL;
      g_autofree char *screen = NULL;

      if (!ok)
        return STATUS_FAILED;
      text = format_states (states, before, FALSE);
      if (is_terminal)
        screen = as_screen (text->str);
      else
        g_string_append_c (text, '\n');
      status = print (is_terminal ? screen : text->str);
      g_clear_pointer (&before, g_ptr_array_unref);
      before = g_steal_pointer (&states);
      nanosleep (&(struct timespec){ .tv_sec = options->watch }, NULL);
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
  while ((c = getopt_long (argc, argv, "hjVw", known, NULL)) != -1)
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
        return report_usage ("bad option '%s'", argv[optind - 1]);
      }
  return run (&options, argv + optind);
}
