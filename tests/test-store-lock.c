/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store that another process has, or closes. In a child process a failed expectation is its exit
 * status. */
#include "base/fail.h"
#include "store-bed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void
assert_child_ends (pid_t child)
{
  int status;

  ck_assert_int_eq (waitpid (child, &status, 0), child);
  ck_assert_msg (WIFEXITED (status) && WEXITSTATUS (status) == 0, "status %x", status);
}

START_TEST (test_in_use)
{
  Store *store = bed_make_store ();

  bed_assert_refused (0, EBUSY, "is in use by another process");
  store_free (store);
  store_free (bed_open_store ());
}
END_TEST

/* The parent's store. A child must not free it, and has it in sight here: leak checkers look. */
static Store *held;

/* For a child: is the store refused because the parent has it? */
static bool
is_refused_for_parent (void)
{
  uint64_t granule = 0;
  g_autoptr (GError) error = NULL;
  g_autoptr (Store) second = store_open (bed_path, &granule, &error);
  g_autofree char *who = g_strdup_printf ("(pid %d)", (int) getppid ());

  return second == NULL && fail_code (error) == EBUSY
         && strstr (error->message, "' is in use by ") != NULL
         && strstr (error->message, who) != NULL;
}

START_TEST (test_in_use_by_other_process)
{
  pid_t child;

  held = bed_make_store ();
  child = fork ();
  if (child == 0)
    _exit (is_refused_for_parent () ? 0 : 1);
  assert_child_ends (child);
  store_free (held);
}
END_TEST

/* Returns when another process holds the byte that says "serving". */
static void
await_serving_byte (void)
{
  g_autofree char *file = bed_in_store ("lock");
  int fd = open (file, O_RDWR | O_CLOEXEC);
  struct flock lock;

  ck_assert_int_ge (fd, 0);
  do
    {
      sched_yield ();
      lock = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1 };
      ck_assert_int_eq (fcntl (fd, F_OFD_GETLK, &lock), 0);
    }
  while (lock.l_type == F_UNLCK);
  close (fd);
}

/* A child that opens the store and then writes a byte to the pipe. It ends with 0 if the
 * store is then as expected: with the two disks and clean, or new. */
static pid_t
start_opener (int pipe_fds[2], bool expect_new)
{
  pid_t child;

  ck_assert_int_eq (pipe (pipe_fds), 0);
  child = fork ();
  if (child == 0)
    {
      uint64_t granule = 0;
      Store *store = store_open (bed_path, &granule, NULL);
      bool ok = store != NULL && write (pipe_fds[1], "x", 1) == 1 && store_was_clean (store)
                && store_disks (store)->len == (expect_new ? 0 : 2);

      store_free (store);
      _exit (ok ? 0 : 1);
    }
  return child;
}

START_TEST (test_waits_for_closing)
{
  bool discard = _i > 0;
  int pipe_fds[2];
  struct pollfd poll_fd;
  char byte;
  pid_t child;

  if (_i == 2) /* the directory stays, and the child must not be content with the removed lock */
    bed_make_directory (".");
  held = bed_open_store ();
  if (!discard)
    ck_assert (store_mark_open (held, NULL));
  store_stop_serving (held);
  child = start_opener (pipe_fds, discard);
  await_serving_byte ();
  bed_assert_refused (0, EBUSY, "is in use by ");

  /* All this is before the child has the store, or it would find it open and without disks. */
  bed_set_disks (held);
  if (!discard)
    ck_assert (store_mark_clean (held, NULL));
  poll_fd = (struct pollfd){ .fd = pipe_fds[0], .events = POLLIN };
  ck_assert_int_eq (poll (&poll_fd, 1, 0), 0);
  if (discard)
    store_discard_new (held);
  else
    store_free (held);
  ck_assert_int_eq (read (pipe_fds[0], &byte, 1), 1);
  assert_child_ends (child);
  ck_assert (bed_exists ("fleecefs.ini"));
  ck_assert (bed_exists ("lock"));
  close (pipe_fds[0]);
  close (pipe_fds[1]);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("store-lock");
  TCase *tc = bed_case (suite);

  tcase_add_test (tc, test_in_use);
  tcase_add_test (tc, test_in_use_by_other_process);
  tcase_add_loop_test (tc, test_waits_for_closing, 0, 3);
  return bed_run (suite);
}
