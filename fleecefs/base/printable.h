/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names and paths as people are shown them: nothing in them moves the cursor or turns the line
 * around. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Has it no picture of its own, but does something to the text around it? Control and format
 * characters (U+202E), separators of lines and paragraphs. */
bool printable_is_hidden (gunichar c);

/* The text with what is not printable, and the backslash, escaped: \\, \n, \x1b, \u202e. ascii: so
 * is all beyond ASCII. A new string. */
char *printable_text (const char *text, bool ascii);
