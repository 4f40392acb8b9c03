/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/table.h"

#include "ctl/text.h"

#include <string.h>

/* No column is cut to less. */
#define CUT_MIN 6

struct _Table
{
  unsigned n_columns;
  const TableColumn *columns;
  GPtrArray *rows; /* char **; the first are the headings */
};

static void
free_row (gpointer row)
{
  g_strfreev (row);
}

Table *
table_new (const char *const *headings, const TableColumn *columns)
{
  Table *table = g_new0 (Table, 1);

  table->n_columns = g_strv_length ((GStrv) headings);
  g_assert (table->n_columns <= TABLE_COLUMNS);
  table->columns = columns;
  table->rows = g_ptr_array_new_with_free_func (free_row);
  g_ptr_array_add (table->rows, g_strdupv ((GStrv) headings));
  return table;
}

void
table_free (Table *table)
{
  g_ptr_array_unref (table->rows);
  g_free (table);
}

void
table_add (Table *table, char **cells)
{
  char **row = g_new0 (char *, table->n_columns + 1);

  memcpy (row, cells, table->n_columns * sizeof *row);
  g_ptr_array_add (table->rows, row);
}

/* The widest column that may be cut, or -1. */
static int
find_widest (const Table *table, const unsigned *widths)
{
  int widest = -1;

  for (unsigned i = 0; i < table->n_columns; i++)
    if (table->columns[i] == TABLE_CUT && widths[i] > CUT_MIN
        && (widest < 0 || widths[i] > widths[widest]))
      widest = (int) i;
  return widest;
}

static void
find_widths (const Table *table, unsigned width, unsigned *widths)
{
  unsigned sum = TABLE_GAP * (table->n_columns - 1);
  int widest;

  memset (widths, 0, table->n_columns * sizeof *widths);
  for (unsigned r = 0; r < table->rows->len; r++)
    for (unsigned i = 0; i < table->n_columns; i++)
      widths[i] = MAX (widths[i], text_width (((char **) table->rows->pdata[r])[i]));
  for (unsigned i = 0; i < table->n_columns; i++)
    sum += widths[i];
  for (; sum > width && (widest = find_widest (table, widths)) >= 0; sum--)
    widths[widest]--;
}

void
table_line (const char *text, unsigned width, GString *out)
{
  g_autofree char *line = text_cut (text, width);

  g_strchomp (line);
  g_string_append_printf (out, "%s\n", line);
}

void
table_print (const Table *table, unsigned width, GString *out)
{
  unsigned widths[TABLE_COLUMNS];

  find_widths (table, width, widths);
  for (unsigned r = 0; r < table->rows->len; r++)
    {
      g_autoptr (GString) line = g_string_new (NULL);

      for (unsigned i = 0; i < table->n_columns; i++)
        {
          g_autofree char *cell = text_cut (((char **) table->rows->pdata[r])[i], widths[i]);
          int blanks = (int) (widths[i] - text_width (cell));
          gboolean right = table->columns[i] == TABLE_RIGHT;

          g_string_append_printf (line, "%*s%*s%s%*s", i > 0 ? TABLE_GAP : 0, "",
                                  right ? blanks : 0, "", cell, right ? 0 : blanks, "");
        }
      table_line (line->str, width, out);
    }
}
