/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/state.h"

#include "base/fail.h"
#include "ctl/answer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What this program understands. */
#define FORMAT 1

static gboolean
parse (State *state, const char *path, const char *text, gsize length, GError **error)
{
  g_autoptr (JsonParser) parser = json_parser_new_immutable ();
  g_autoptr (GError) why = NULL;

  if (!json_parser_load_from_data (parser, text, (gssize) length, &why))
    return fail (error, EIO, "cannot understand '%s': %s", path, why->message);
  state->root = json_parser_steal_root (parser);
  if (state->root == NULL || !JSON_NODE_HOLDS_OBJECT (state->root))
    return fail (error, EIO, "cannot understand '%s': it is no object", path);
  state->object = json_node_get_object (state->root);
  if (state_number (state->object, "format") != FORMAT)
    return fail (error, EIO,
                 "cannot understand '%s': it has format %" G_GUINT64_FORMAT
                 ", not %d; use the fleecectl of that fleecefs",
                 path, state_number (state->object, "format"), FORMAT);
  return TRUE;
}

/* The text of the file up to its end. Not by its size, which is that of a text of now, and may be
 * less than that of the one that was opened: a snapshot was dropped in between. */
static GString *
read_text (const char *file, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  FILE *stream = fopen (file, "re");
  char piece[8192];
  size_t n;
  int errnum;

  if (stream == NULL)
    {
      fail_errno (error, errno, "cannot open '%s'", file);
      return NULL;
    }
  while ((n = fread (piece, 1, sizeof piece, stream)) > 0)
    g_string_append_len (text, piece, (gssize) n);
  errnum = ferror (stream) ? errno : 0;
  fclose (stream);
  if (errnum == 0)
    return g_steal_pointer (&text);
  fail_errno (error, errnum, "cannot read '%s'", file);
  return NULL;
}

State *
state_read (const char *mountpoint, const char *path, GError **error)
{
  g_autoptr (State) state = g_new0 (State, 1);
  g_autofree char *file = g_build_filename (mountpoint, STATE_FILE, NULL);
  g_autoptr (GString) text = NULL;
  g_autoptr (GError) why = NULL;

  state->mountpoint = g_strdup (mountpoint);
  text = answer_get (read_text, file, &why);
  if (text == NULL)
    {
      if (fail_code (why) == ENOENT || fail_code (why) == ENOTDIR)
        fail (error, ENOENT, "'%s' is in no mount of fleecefs", path != NULL ? path : mountpoint);
      else if (fail_code (why) == EACCES)
        fail (error, EACCES, "%s; run fleecectl as the user who mounted it", why->message);
      else
        g_propagate_error (error, g_steal_pointer (&why));
      return NULL;
    }
  state->read_at = g_get_monotonic_time ();
  return parse (state, file, text->str, text->len, error) ? g_steal_pointer (&state) : NULL;
}

void
state_free (State *state)
{
  g_clear_pointer (&state->root, json_node_unref);
  g_free (state->mountpoint);
  g_free (state);
}

const State *
state_find (const GPtrArray *states, const char *mountpoint)
{
  for (guint i = 0; i < states->len; i++)
    if (strcmp (((State *) states->pdata[i])->mountpoint, mountpoint) == 0)
      return states->pdata[i];
  return NULL;
}

static JsonNode *
find (JsonObject *object, const char *name, JsonNodeType type)
{
  JsonNode *node = object != NULL ? json_object_get_member (object, name) : NULL;

  return node != NULL && json_node_get_node_type (node) == type ? node : NULL;
}

static const char *
text_of (JsonNode *node)
{
  return node != NULL && JSON_NODE_HOLDS_VALUE (node)
                 && json_node_get_value_type (node) == G_TYPE_STRING
             ? json_node_get_string (node)
             : "";
}

const char *
state_text (JsonObject *object, const char *name)
{
  return text_of (find (object, name, JSON_NODE_VALUE));
}

uint64_t
state_number (JsonObject *object, const char *name)
{
  JsonNode *node = find (object, name, JSON_NODE_VALUE);
  gint64 value = node != NULL && json_node_get_value_type (node) == G_TYPE_INT64
                     ? json_node_get_int (node)
                     : 0;

  return (uint64_t) MAX (value, 0);
}

bool
state_has (JsonObject *object, const char *name)
{
  return object != NULL && json_object_has_member (object, name);
}

JsonObject *
state_object (JsonObject *object, const char *name)
{
  JsonNode *node = find (object, name, JSON_NODE_OBJECT);

  return node != NULL ? json_node_get_object (node) : NULL;
}

unsigned
state_length (JsonObject *object, const char *name)
{
  JsonNode *node = find (object, name, JSON_NODE_ARRAY);

  return node != NULL ? json_array_get_length (json_node_get_array (node)) : 0;
}

JsonObject *
state_element (JsonObject *object, const char *name, unsigned index)
{
  JsonNode *array = find (object, name, JSON_NODE_ARRAY);
  JsonNode *node = json_array_get_element (json_node_get_array (array), index);

  return JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

const char *
state_element_text (JsonObject *object, const char *name, unsigned index)
{
  JsonNode *array = find (object, name, JSON_NODE_ARRAY);

  return text_of (json_array_get_element (json_node_get_array (array), index));
}
