/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A table whose lines fit a width: the columns that may be cut share what the others leave. */
#pragma once

#include <glib.h>

#define TABLE_COLUMNS 8
#define TABLE_GAP 2 /* between columns */

typedef enum
{
  TABLE_LEFT,
  TABLE_RIGHT, /* numbers */
  TABLE_CUT,   /* left, and cut when there is no room */
} TableColumn;

typedef struct _Table Table;

/* A table without rows. headings ends with NULL. */
Table *table_new (const char *const *headings, const TableColumn *columns);
void table_free (Table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Table, table_free)

/* Adds a row; takes over the cells, new strings of printable text, one for each heading. */
void table_add (Table *table, char **cells);

/* Appends the headings and the rows, no line wider than width. */
void table_print (const Table *table, unsigned width, GString *out);

/* Appends one line, cut to width, with a newline. */
void table_line (const char *text, unsigned width, GString *out);
