/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/name.h"

#include "base/printable.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

/* The errno value is the same for both kinds of characters; what is said of them is not. */
static const char *
find_characters (const char *name)
{
  const char *found = NULL;

  for (const char *p = name; *p != '\0'; p = g_utf8_next_char (p))
    if (g_unichar_iscntrl (g_utf8_get_char (p)))
      return "has control characters";
    else if (printable_is_hidden (g_utf8_get_char (p)))
      found = NAME_HIDDEN;
  return found;
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
  else if ((why = find_characters (name)) != NULL)
    r = -EILSEQ;
  if (out_why != NULL)
    *out_why = why;
  return r;
}

int
name_check_known (const char *name, const char **out_why)
{
  const char *why;
  int r = name_check (name, &why);

  if (why != NULL && strcmp (why, NAME_HIDDEN) == 0)
    why = NULL, r = 0;
  if (out_why != NULL)
    *out_why = why;
  return r;
}
