/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What libfuse and fusermount3 print while the program starts, caught, so that the
 * user gets one line with all that matters. Between begin and end everything that
 * is written to standard error, also by child processes, is kept instead. For
 * use before there are threads. */
#pragma once

#include <glib.h>

typedef struct
{
  int saved;  /* standard error as it was, or -1 when nothing is caught */
  int memory; /* where it goes meanwhile */
} Capture;

/* Begins. When it cannot, the text just goes where it always did. */
void capture_begin (Capture *capture);

/* Ends and returns the text, as a new string. */
char *capture_end (Capture *capture);

/* The last line of a text that is not empty, without the program's name ("fuse: ",
 * "fusermount3: "), as a new string; "" when there is none. */
char *capture_last_line (const char *text);
