/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/printable.h"

bool
printable_is_hidden (gunichar c)
{
  switch (g_unichar_type (c))
    {
    case G_UNICODE_CONTROL:
    case G_UNICODE_FORMAT:
    case G_UNICODE_LINE_SEPARATOR:
    case G_UNICODE_PARAGRAPH_SEPARATOR:
      return true;
    default:
      return false;
    }
}

/* The hidden characters are not printable, or a kind of space. */
static bool
is_plain (gunichar c, bool ascii)
{
  if (c < 0x80)
    return c >= ' ' && c < 0x7f && c != '\\';
  return !ascii && g_unichar_isprint (c) && !g_unichar_isspace (c);
}

char *
printable_text (const char *text, bool ascii)
{
  g_autofree char *valid = g_utf8_make_valid (text, -1);
  GString *out = g_string_new (NULL);

  for (const char *p = valid; *p != '\0'; p = g_utf8_next_char (p))
    {
      gunichar c = g_utf8_get_char (p);

      if (is_plain (c, ascii))
        g_string_append_unichar (out, c);
      else if (c == '\\')
        g_string_append (out, "\\\\");
      else if (c == '\n')
        g_string_append (out, "\\n");
      else if (c < 0x100)
        g_string_append_printf (out, "\\x%02x", c);
      else if (c < 0x10000)
        g_string_append_printf (out, "\\u%04x", c);
      else
        g_string_append_printf (out, "\\U%08x", c);
    }
  return g_string_free (out, FALSE);
}
