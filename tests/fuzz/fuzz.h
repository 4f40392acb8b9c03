/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the fuzzing harnesses share.
 *
 * A harness is one file with LLVMFuzzerTestOneInput() (libFuzzer's name). tests/fuzz.sh builds
 * it with clang's libFuzzer and the sanitizers; any other compiler builds it with replay.c, which
 * feeds it files. What must hold is a fuzz_check(): it ends the process, as a sanitizer does. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One input, of any bytes. Returns 0. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* Ends the process, with the text, unless the condition holds. */
#define fuzz_check(condition)                                                                      \
  do                                                                                               \
    if (!(condition))                                                                              \
      g_error ("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                               \
  while (0)

/* A directory for the whole run, in memory where there is one; removed at exit. *out_path, if not
 * NULL, is its path. Returns a descriptor of it. */
int fuzz_directory (const char **out_path);

/* An error is of our domain, one line without control characters, and has this text in it. */
void fuzz_check_error (const GError *error, const char *text);

/* The lowest free descriptor: the same before and after what leaks none. */
int fuzz_lowest_free (void);
