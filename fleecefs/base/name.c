/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/name.h"

#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>

static bool
has_control_characters (const char *name)
{
  for (const char *p = name; *p != '\0'; p = g_utf8_next_char (p))
    if (g_unichar_iscntrl (g_utf8_get_char (p)))
      return true;
  return false;
}

int
name_check (const char *name, const char **out_why)
{
  const char *why = NULL;
  int r = 0;

  if (name[0] == '\0')
    why = "is empty", r = -EINVAL;
  else if (name[0] == '.')
    why = "begins with a dot", r = -EINVAL;
  else if (strchr (name, '/') != NULL)
    why = "has a slash", r = -EINVAL;
  else if (strlen (name) > NAME_MAX_BYTES)
    why = "is longer than 200 bytes", r = -ENAMETOOLONG;
  else if (!g_utf8_validate (name, -1, NULL))
    why = "is not UTF-8", r = -EILSEQ;
  else if (has_control_characters (name))
    why = "has control characters", r = -EILSEQ;
  if (out_why != NULL)
    *out_why = why;
  return r;
}
