/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the status.json of one mount says (fleecefs(8), STATUS), and how to read its fields. A field
 * that is missing or of another kind reads as nothing: "", 0, an empty array. */
#pragma once

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

#define STATE_FILE ".fleecefs/status.json"

typedef struct
{
  char *mountpoint;
  JsonNode *root;     /* an object */
  JsonObject *object; /* the same */
  int64_t read_at;    /* g_get_monotonic_time() */
} State;

/* Reads the file of a mount. path is what the user gave, for the message when there is no such
 * file; NULL: the mountpoint. */
State *state_read (const char *mountpoint, const char *path, GError **error);
void state_free (State *state);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (State, state_free)

/* The one of that mountpoint (State *), or NULL. */
const State *state_find (const GPtrArray *states, const char *mountpoint);

/* A field of an object, which may be NULL. */
const char *state_text (JsonObject *object, const char *name);
uint64_t state_number (JsonObject *object, const char *name);
JsonObject *state_object (JsonObject *object, const char *name);
/* Is there a field of that name? */
bool state_has (JsonObject *object, const char *name);

/* The number of elements of an array; one of them as an object, or NULL when it is none; and one as
 * a text, as state_text(). */
unsigned state_length (JsonObject *object, const char *name);
JsonObject *state_element (JsonObject *object, const char *name, unsigned index);
const char *state_element_text (JsonObject *object, const char *name, unsigned index);
