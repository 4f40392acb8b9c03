/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text for a terminal: nothing in it moves the cursor or turns the line around, whatever names
 * hold, and its width in columns is known. */
#pragma once

#include <glib.h>
#include <stdint.h>

/* The text as printable_text(), in the characters of the locale. A new string. */
char *text_printable (const char *text);

/* The columns that a printable text takes. */
unsigned text_width (const char *text);

/* The text cut to a width, with a ~ at its end if something was cut. A new string. */
char *text_cut (const char *text, unsigned width);

/* Bytes for people: 0, 1023, 1.5K, 20G (powers of 1024). A new string. */
char *text_size (uint64_t bytes);

/* A span of time, in its two largest units: 45s, 5m 3s, 2d 4h. A new string. */
char *text_span (uint64_t seconds);

/* A bar of that many columns, [###...], for part of whole. A new string. */
char *text_bar (uint64_t part, uint64_t whole, unsigned width);

/* Percent, 0 to 100; 100 of nothing. */
unsigned text_percent (uint64_t part, uint64_t whole);
