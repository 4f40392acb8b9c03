/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/text.h"

#include "base/printable.h"

#include <string.h>

char *
text_printable (const char *text)
{
  return printable_text (text, !g_get_charset (NULL));
}

static unsigned
char_width (gunichar c)
{
  if (g_unichar_iszerowidth (c))
    return 0;
  return g_unichar_iswide (c) ? 2 : 1;
}

unsigned
text_width (const char *text)
{
  unsigned width = 0;

  for (const char *p = text; *p != '\0'; p = g_utf8_next_char (p))
    width += char_width (g_utf8_get_char (p));
  return width;
}

char *
text_cut (const char *text, unsigned width)
{
  unsigned used = 0;
  const char *p = text;

  if (text_width (text) <= width)
    return g_strdup (text);
  if (width == 0)
    return g_strdup ("");
  for (; used + char_width (g_utf8_get_char (p)) < width; p = g_utf8_next_char (p))
    used += char_width (g_utf8_get_char (p));
  return g_strdup_printf ("%.*s~", (int) (p - text), text);
}

char *
text_size (uint64_t bytes)
{
  static const char units[] = "KMGTPE";
  double value = (double) bytes;
  int unit = -1;

  if (bytes < 1024)
    return g_strdup_printf ("%u", (unsigned) bytes);
  /* What would be printed as 1024 is one of the next unit. */
  for (; value >= 1023.5 || unit < 0; unit++)
    value /= 1024;
  return g_strdup_printf (value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
}

char *
text_span (uint64_t seconds)
{
  static const struct
  {
    uint64_t seconds;
    char name;
  } units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };

  for (unsigned i = 0; i + 1 < G_N_ELEMENTS (units); i++)
    if (seconds >= units[i].seconds)
      return g_strdup_printf ("%" G_GUINT64_FORMAT "%c %" G_GUINT64_FORMAT "%c",
                              seconds / units[i].seconds, units[i].name,
                              seconds % units[i].seconds / units[i + 1].seconds, units[i + 1].name);
  return g_strdup_printf ("%" G_GUINT64_FORMAT "s", seconds);
}

unsigned
text_percent (uint64_t part, uint64_t whole)
{
  return part >= whole ? 100 : (unsigned) ((double) part * 100 / (double) whole);
}

char *
text_bar (uint64_t part, uint64_t whole, unsigned width)
{
  unsigned inner = width > 2 ? width - 2 : 1;
  unsigned full = inner * text_percent (part, whole) / 100;
  g_autofree char *cells = g_strnfill (inner, '.');

  memset (cells, '#', full);
  return g_strdup_printf ("[%s]", cells);
}
