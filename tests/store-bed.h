/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of the store share. Each test has a directory of its own; the store is "s" in it.
 * What is not as it should be fails the test. Names of files are relative to the store. */
#pragma once

#include "store/store.h"

#include <check.h>
#include <stdbool.h>

extern char *bed_directory; /* of the test */
extern char *bed_path;      /* of the store */

/* A test case of the suite whose tests have that, and the end of main(). */
TCase *bed_case (Suite *suite);
int bed_run (Suite *suite);
/* Of the fixture. */
void bed_set_up (void);
void bed_tear_down (void);

/* Files. The path of one; its text, both ways, as new strings. */
char *bed_in_store (const char *name);
void bed_write_file (const char *name, const char *text);
char *bed_read_file (const char *name);
bool bed_exists (const char *name);
/* With those above it. */
void bed_make_directory (const char *name);
/* Puts one text in the place of another that is there. */
void bed_replace (const char *name, const char *from, const char *to);
/* Of a key file; NULL takes the key away. */
void bed_set_value (const char *name, const char *group, const char *key, const char *value);

/* All that is in the test's directory: names, kinds, modes, sizes, contents. A new string. */
char *bed_listing (void);
/* That are open in this process. */
guint bed_count_descriptors (void);

/* Stores. */
Store *bed_open_store (void);
/* An open gives this error, with these words in its one line, and leaves all as it was. */
void bed_assert_refused (uint64_t granule, int errnum, const char *message);
/* Of the disks a.img and b.img. */
StoreRecord *bed_make_record (uint32_t layer, uint32_t id, const char *name);
void bed_add_layer (Store *store, uint32_t layer, uint32_t id, const char *name);
void bed_set_disks (Store *store);
/* A store with two disks and the layers 1 (monday) and 2 (tuesday), open. */
Store *bed_make_store (void);
/* The same, closed, and with leftovers that an open of a good store removes. */
void bed_make_closed_store (void);
/* The records are "LAYER:ID:NAME ", one after another. */
void bed_assert_names (Store *store, const char *expected);
