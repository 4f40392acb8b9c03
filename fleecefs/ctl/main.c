/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fleecectl: what .fleecefs/status.json of each mount says, for people, and the unmount that waits
 * until all is closed. */
#include "config.h"

#include "base/fail.h"
#include "ctl/mounts.h"
#include "ctl/options.h"
#include "ctl/screen.h"
#include "ctl/show.h"
#include "ctl/text.h"
#include "ctl/unmount.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

static int
report (const char *message)
{
  options_report (message);
  return STATUS_FAILED;
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
  gboolean is_list = options->command == COMMAND_LIST;
  gboolean ok;
  g_autoptr (GPtrArray) states = read_states (options, &ok);
  int status = options->json ? print_json (states, is_list) : print_text (states, is_list);

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
unmount_one (const char *path, const Options *options)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *point = mounts_point (path, &error);

  /* What is not there needs no cleaning. */
  if (point == NULL && options->dead
      && (fail_code (error) == EINVAL || fail_code (error) == ENOENT))
    return TRUE;
  if (point != NULL)
    options->dead ? unmount_dead (point, &error) : unmount (point, &options->how, &error);
  if (error != NULL && *error->message != '\0')
    report (error->message);
  return error == NULL;
}

static int
unmount_all (const Options *options)
{
  gboolean ok = TRUE;

  for (char **path = options->paths; *path != NULL; path++)
    ok = unmount_one (*path, options) && ok;
  return ok ? STATUS_OK : STATUS_FAILED;
}

int
main (int argc, char **argv)
{
  Options options;
  int status;

  setlocale (LC_CTYPE, ""); /* only that: what is printed is English */
  status = options_parse (argc, argv, &options);
  if (status != STATUS_OK)
    return status;
  switch (options.command)
    {
    case COMMAND_HELP:
      return print (options_help);
    case COMMAND_VERSION:
      return print ("fleecectl " PACKAGE_VERSION "\n");
    case COMMAND_UMOUNT:
      return unmount_all (&options);
    default:
      return options.watch != 0 ? watch (&options) : show_once (&options);
    }
}
