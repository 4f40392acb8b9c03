/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See test-util.h. */
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A wait that lasts as long as this has failed. */
#define WAIT_SECONDS 60

const char *test_dir;

static char *root_dir;

/* --- cleaning up; also outside of tests, where nothing may be asserted --- */

static bool
is_below (const char *path, const char *dir)
{
  size_t length = strlen (dir);

  return strncmp (path, dir, length) == 0 && path[length] == '/';
}

static void
unmount_below (const char *dir)
{
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;

  if (!g_file_get_contents ("/proc/self/mounts", &text, NULL, NULL))
    return;
  lines = g_strsplit (text, "\n", -1);
  for (unsigned i = g_strv_length (lines); i-- > 0;)
    {
      g_auto (GStrv) words = g_strsplit (lines[i], " ", 3);

      if (g_strv_length (words) == 3 && is_below (words[1], dir))
        umount2 (words[1], 0);
    }
}

static void
detach_loops_below (const char *dir)
{
  g_autoptr (GDir) blocks = g_dir_open ("/sys/block", 0, NULL);
  const char *name;

  while (blocks != NULL && (name = g_dir_read_name (blocks)) != NULL)
    {
      g_autofree char *attribute = g_build_filename ("/sys/block", name, "loop/backing_file", NULL);
      g_autofree char *device = g_build_filename ("/dev", name, NULL);
      g_autofree char *file = NULL;

      const char *argv[] = { "losetup", "-d", device, NULL };

      if (g_str_has_prefix (name, "loop") && g_file_get_contents (attribute, &file, NULL, NULL)
          && is_below (file, dir))
        g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                      NULL);
    }
}

static int
remove_entry (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void) st;
  (void) type;
  (void) ftw;
  return remove (path);
}

static void
clean_up (const char *dir)
{
  unmount_below (dir);
  detach_loops_below (dir);
  nftw (dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- programs and fixtures --- */

void
test_in_memory (void)
{
  if (access ("/dev/shm", W_OK) == 0)
    g_setenv ("TMPDIR", "/dev/shm", FALSE);
}

int
test_main (Suite *suite)
{
  SRunner *runner = srunner_create (suite);
  g_autofree char *made = g_dir_make_tmp ("fleecefs-test-XXXXXX", NULL);
  char *resolved = made == NULL ? NULL : realpath (made, NULL);
  int n_failed;

  if (resolved == NULL)
    {
      perror ("cannot make a directory for the tests");
      srunner_free (runner);
      return 1;
    }
  root_dir = resolved;
  if (chmod (root_dir, 0755) != 0) /* some tests are another user for a while */
    perror (root_dir);

  srunner_run_all (runner, CK_ENV);
  n_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  clean_up (root_dir);
  root_dir = NULL;
  free (resolved);
  return n_failed == 0 ? 0 : 1;
}

void
test_set_up (void)
{
  g_autofree char *made = g_build_filename (root_dir, "XXXXXX", NULL);

  ck_assert_ptr_nonnull (g_mkdtemp_full (made, 0755));
  test_dir = g_intern_string (made);
}

void
test_tear_down (void)
{
  clean_up (test_dir);
  test_dir = NULL;
}

TCase *
test_case (Suite *suite, const char *name, double seconds)
{
  TCase *tcase = tcase_create (name);

  tcase_add_checked_fixture (tcase, test_set_up, test_tear_down);
  if (seconds > 0)
    tcase_set_timeout (tcase, seconds);
  suite_add_tcase (suite, tcase);
  return tcase;
}

const char *
test_path (const char *name)
{
  g_autofree char *path = g_build_filename (test_dir, name, NULL);

  return g_intern_string (path);
}

void
test_skip (const char *what, const char *why)
{
  printf ("skipped: %s: %s\n", what, why);
  fflush (stdout);
}

/* --- files --- */

/* Five residue classes of 51 values each keep the seeds apart; the offset moves within a class. */
void
test_fill (void *buffer, size_t length, unsigned seed, uint64_t offset)
{
  uint8_t *bytes = buffer;

  for (size_t i = 0; i < length; i++)
    {
      uint64_t at = offset + i;
      uint64_t mixed = (at + (at >> 9) * 7 + (at >> 12) * 13 + (at >> 20) * 17) % 51;

      bytes[i] = (uint8_t) (1 + (seed - 1) + 5 * mixed);
    }
}

static int
open_file (const char *path, int flags)
{
  int fd = open (path, flags | O_CLOEXEC, 0644);

  ck_assert_msg (fd >= 0, "cannot open '%s': %s", path, strerror (errno));
  return fd;
}

static void
write_all (int fd, const void *bytes, size_t length, uint64_t offset)
{
  size_t done = 0;

  while (done < length)
    {
      ssize_t n = pwrite (fd, (const char *) bytes + done, length - done, (off_t) (offset + done));

      ck_assert_msg (n > 0, "cannot write a file of the test: %s", strerror (errno));
      done += (size_t) n;
    }
}

void
test_make_file (const char *path, uint64_t size, unsigned seed)
{
  static uint8_t buffer[65536];
  int fd = open_file (path, O_RDWR | O_CREAT | O_TRUNC);

  ck_assert_int_eq (ftruncate (fd, (off_t) size), 0);
  for (uint64_t at = 0; seed != 0 && at < size; at += sizeof buffer)
    {
      size_t n = size - at < sizeof buffer ? (size_t) (size - at) : sizeof buffer;

      test_fill (buffer, n, seed, at);
      write_all (fd, buffer, n, at);
    }
  close (fd);
}

uint8_t *
test_load (const char *path, size_t *out_length)
{
  char *bytes = NULL;
  g_autoptr (GError) error = NULL;

  ck_assert_msg (g_file_get_contents (path, &bytes, out_length, &error), "%s",
                 error != NULL ? error->message : "");
  return (uint8_t *) bytes;
}

void
test_poke (const char *path, uint64_t offset, const void *bytes, size_t length)
{
  int fd = open_file (path, O_RDWR);

  write_all (fd, bytes, length, offset);
  close (fd);
}

void
test_spoil (const char *path, uint64_t offset)
{
  g_autofree uint8_t *bytes = NULL;
  size_t length;
  uint8_t other;

  bytes = test_load (path, &length);
  ck_assert_uint_lt (offset, length);
  other = bytes[offset] ^ 0x99;
  test_poke (path, offset, &other, 1);
}

static uint64_t usage;

static int
add_usage (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void) path;
  (void) ftw;
  if (type == FTW_F)
    usage += (uint64_t) st->st_blocks * 512;
  return 0;
}

uint64_t
test_disk_usage (const char *path)
{
  usage = 0;
  nftw (path, add_usage, 16, FTW_PHYS);
  return usage;
}

void
test_assert_bytes (const char *what, const uint8_t *got, const uint8_t *expected, size_t length)
{
  size_t i = 0;

  if (length == 0 || memcmp (got, expected, length) == 0)
    return;
  while (got[i] == expected[i])
    i++;
  ck_abort_msg ("%s: byte %zu of %zu is 0x%02x, not 0x%02x", what, i, length, got[i], expected[i]);
}

/* --- other programs --- */

bool
test_have (const char *program)
{
  g_autofree char *path = g_find_program_in_path (program);

  return path != NULL;
}

static GPtrArray *
collect (const char *program, va_list args)
{
  GPtrArray *argv = g_ptr_array_new ();
  const char *arg = program;

  do
    g_ptr_array_add (argv, (gpointer) arg);
  while ((arg = va_arg (args, const char *)) != NULL);
  g_ptr_array_add (argv, NULL);
  return argv;
}

int
test_run (char **output, const char *program, ...)
{
  g_autoptr (GPtrArray) argv = NULL;
  g_autoptr (GError) error = NULL;
  g_autofree char *out = NULL;
  g_autofree char *err = NULL;
  va_list args;
  int status;

  va_start (args, program);
  argv = collect (program, args);
  va_end (args);
  ck_assert_msg (g_spawn_sync (NULL, (char **) argv->pdata, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                               &out, &err, &status, &error),
                 "cannot run %s: %s", program, error != NULL ? error->message : "");
  if (output != NULL)
    *output = g_strconcat (out, err, NULL);
  return WIFEXITED (status) ? WEXITSTATUS (status) : 256 + WTERMSIG (status);
}

TestChild
test_start (const char *program, ...)
{
  g_autoptr (GPtrArray) argv = NULL;
  g_autoptr (GError) error = NULL;
  TestChild child;
  va_list args;

  va_start (args, program);
  argv = collect (program, args);
  va_end (args);
  ck_assert_msg (g_spawn_async_with_pipes (NULL, (char **) argv->pdata, NULL,
                                           G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                                           NULL, &child.pid, &child.in, &child.out, NULL, &error),
                 "cannot run %s: %s", program, error != NULL ? error->message : "");
  return child;
}

void
test_expect (const TestChild *child, const char *text)
{
  g_autoptr (GString) seen = g_string_new (NULL);

  while (strstr (seen->str, text) == NULL)
    {
      struct pollfd fd = { .fd = child->out, .events = POLLIN };
      char buffer[256];
      ssize_t n;

      ck_assert_msg (poll (&fd, 1, WAIT_SECONDS * 1000) == 1, "no \"%s\" came, only \"%s\"", text,
                     seen->str);
      n = read (child->out, buffer, sizeof buffer);
      ck_assert_msg (n > 0, "it ended without \"%s\", with \"%s\"", text, seen->str);
      g_string_append_len (seen, buffer, n);
    }
}

void
test_end (TestChild *child)
{
  close (child->in);
  ck_assert_int_eq (waitpid (child->pid, NULL, 0), child->pid);
  close (child->out);
  g_spawn_close_pid (child->pid);
}

char *
test_loop_attach (const char *file, const char *what)
{
  g_autofree char *output = NULL;

  if (geteuid () != 0 || !test_have ("losetup"))
    {
      test_skip (what, "needs root and losetup");
      return NULL;
    }
  if (test_run (&output, "losetup", "--find", "--show", file, NULL) != 0)
    {
      test_skip (what, g_strstrip (output));
      return NULL;
    }
  return g_strdup (g_strstrip (output));
}

/* --- threads --- */

/* The state in /proc/self/task/TID/stat, which follows the name in parentheses; 0: ended. */
static char
thread_state (pid_t thread)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/task/%d/stat", (int) thread);
  g_autofree char *text = NULL;
  const char *end;

  if (!g_file_get_contents (path, &text, NULL, NULL))
    return 0;
  end = strrchr (text, ')');
  return end == NULL || end[1] == '\0' ? 0 : end[2];
}

void
test_wait_asleep (pid_t thread)
{
  time_t limit = time (NULL) + WAIT_SECONDS;
  char state;

  while ((state = thread_state (thread)) != 'S' && state != 0)
    {
      ck_assert_msg (time (NULL) < limit, "a thread neither sleeps nor ends");
      sched_yield ();
    }
}
