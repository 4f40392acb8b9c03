/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/units.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

bool
units_parse_size (const char *text, uint64_t *out_bytes)
{
  static const char suffixes[] = "kmgt";
  unsigned shift = 0;
  char *end;
  guint64 n;

  if (!g_ascii_isdigit (text[0]))
    return false;
  errno = 0;
  n = g_ascii_strtoull (text, &end, 10);
  if (errno != 0)
    return false;
  if (*end != '\0')
    {
      const char *suffix = strchr (suffixes, g_ascii_tolower (*end));

      if (suffix == NULL || end[1] != '\0')
        return false;
      shift = 10 * (unsigned) (suffix - suffixes + 1);
    }
  if (n > UINT64_MAX >> shift)
    return false;
  *out_bytes = n << shift;
  return true;
}
