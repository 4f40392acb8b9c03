/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/state.h"

#include "base/fail.h"

#include <errno.h>

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

State *
state_read (const char *mountpoint, const char *path, GError **error)
{
  g_autoptr (State) state = g_new0 (State, 1);
  g_autofree char *file = g_build_filename (mountpoint, STATE_FILE, NULL);
  g_autofree char *text = NULL;
  g_autoptr (GError) why = NULL;
  gsize length;

  state->mountpoint = g_strdup (mountpoint);
  if (!g_file_get_contents (file, &text, &length, &why))
    {
      if (g_error_matches (why, G_FILE_ERROR, G_FILE_ERROR_NOENT)
          || g_error_matches (why, G_FILE_ERROR, G_FILE_ERROR_NOTDIR))
        fail (error, ENOENT, "'%s' is in no mount of fleecefs", path != NULL ? path : mountpoint);
      else
        g_propagate_error (error, g_steal_pointer (&why));
      return NULL;
    }
  state->read_at = g_get_monotonic_time ();
  return parse (state, file, text, length, error) ? g_steal_pointer (&state) : NULL;
}

void
state_free (State *state)
{
  g_clear_pointer (&state->root, json_node_unref);
  g_free (state->mountpoint);
  g_free (state);
}

static JsonNode *
find (JsonObject *object, const char *name, JsonNodeType type)
{
  JsonNode *node = object != NULL ? json_object_get_member (object, name) : NULL;

  return node != NULL && json_node_get_node_type (node) == type ? node : NULL;
}

const char *
state_text (JsonObject *object, const char *name)
{
  JsonNode *node = find (object, name, JSON_NODE_VALUE);

  return node != NULL && json_node_get_value_type (node) == G_TYPE_STRING
             ? json_node_get_string (node)
             : "";
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
