/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The terminal that is written to, if standard output is one: its size, and text that stays in
 * its place while it is drawn again and again. */
#pragma once

#include <glib.h>

/* Columns: what COLUMNS in the environment says, or those of the terminal; without both more than
 * any line has. */
unsigned screen_width (void);

/* Lines that text for screen_text() may have; without a terminal more than any text has. */
unsigned screen_height (void);

/* Before the first text: an empty screen; "" without a terminal. From here on screen_wait() hears
 * of a terminal that changes its size. */
const char *screen_begin (void);

/* What draws the text over the one that was there before, cut to the height; without a terminal the
 * text and an empty line. A new string. */
char *screen_text (const char *text);

/* Waits until then (g_get_monotonic_time()). Returns FALSE, and early, when the size has changed or
 * the process was stopped: the text is to be drawn again. */
gboolean screen_wait (gint64 until);
