/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the test programs share: directories, files with known bytes, other programs.
 *
 * A program's main() is `return test_main (suite ())`. All its files are in one
 * directory; each test has a directory of its own in it, test_dir, made and removed by
 * the fixtures test_set_up() and test_tear_down(). A test that fails in a child
 * process (CK_FORK) does not come to its tear-down; so test_main() cleans up once
 * more, also loop devices and mounts of files in there.
 *
 * A byte of a pattern depends on its seed and its offset, is never zero, and
 * differs between seeds at every offset, so that a block in the wrong place, of
 * the wrong time, or of zeros shows. At most 5 seeds: 1 to 5.
 *
 * Functions that can fail for a reason outside of the test end it by ck_abort.
 */
#pragma once

#include <check.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#undef fail /* libcheck's old name of ck_abort_msg(); ours is a function in base/fail.h */

/* The running test's directory, absolute. */
extern const char *test_dir;

/* Before test_main(): the files of the test are in memory if they can be and TMPDIR does not say
 * otherwise. For tests that make many, or sync often. */
void test_in_memory (void);

/* Runs the suite (libcheck's CK_FORK and friends apply); the status for exit(). */
int test_main (Suite *suite);

/* A checked fixture: makes and removes test_dir. */
void test_set_up (void);
void test_tear_down (void);

/* A test case of that name with the fixture, in the suite. seconds: its time limit, 0 for
 * libcheck's own. */
TCase *test_case (Suite *suite, const char *name, double seconds);

/* The path of a file in test_dir; kept for ever. */
const char *test_path (const char *name);

/* Says on the standard output what is not tested here, and why. */
void test_skip (const char *what, const char *why);

/* Bytes of a pattern. */
void test_fill (void *buffer, size_t length, unsigned seed, uint64_t offset);

/* Makes or replaces a file of size bytes of the pattern; of a hole when seed is 0. */
void test_make_file (const char *path, uint64_t size, unsigned seed);
/* The whole file. */
uint8_t *test_load (const char *path, size_t *out_length);
/* Writes into a file that exists. */
void test_poke (const char *path, uint64_t offset, const void *bytes, size_t length);
/* Makes another byte of the one at that place. */
void test_spoil (const char *path, uint64_t offset);
/* Bytes that files take below a directory. */
uint64_t test_disk_usage (const char *path);

/* Fails the test at the first byte that differs, and says where. */
void test_assert_bytes (const char *what, const uint8_t *got, const uint8_t *expected,
                        size_t length);

/* Is there such a program in PATH? */
bool test_have (const char *program);
/* Runs a program, without a shell, to its end; arguments end with NULL. Returns its exit
 * status, or 256 + the number of a signal. *output, if not NULL, is what it wrote, standard
 * output first, then standard error. */
int test_run (char **output, const char *program, ...) G_GNUC_NULL_TERMINATED;

/* A program that runs beside the test. */
typedef struct
{
  GPid pid;
  int in;  /* its standard input */
  int out; /* its standard output */
} TestChild;

/* Starts a program; arguments end with NULL. */
TestChild test_start (const char *program, ...) G_GNUC_NULL_TERMINATED;
/* Waits until it has written this text. */
void test_expect (const TestChild *child, const char *text);
/* Closes its standard input and waits for its end. */
void test_end (TestChild *child);

/* A loop device over the file, "/dev/loop0", or NULL after test_skip(). Detached by
 * test_tear_down(), if not before. */
char *test_loop_attach (const char *file, const char *what);

/* Waits until the thread sleeps in the kernel or has ended. */
void test_wait_asleep (pid_t thread);
