/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The check of the order of locks ends a process that breaks a rule, and says which. Each case is
 * a process of its own. */
#include "base/io.h"
#include "base/lock.h"
#include "test-util.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static Lock set, stripe, other_stripe, header;

static void
in_order (void)
{
  lock_acquire (&set);
  lock_acquire (&stripe);
  lock_acquire_next (&other_stripe);
  lock_release (&stripe); /* in any order */
  lock_release (&other_stripe);
  lock_release (&set);
  lock_acquire (&header);
  io_sync (STDIN_FILENO, true); /* whatever it returns */
  lock_release (&header);
  lock_order_check_none ();
}

static void
out_of_order (void)
{
  lock_acquire (&stripe);
  lock_acquire (&set);
}

static void
two_of_a_class (void)
{
  lock_acquire (&stripe);
  lock_acquire (&other_stripe);
}

static void
next_of_another_class (void)
{
  lock_acquire (&header);
  lock_acquire_next (&stripe);
}

static void
section_in_section (void)
{
  lock_order_take (LOCK_SECTION, false);
  lock_order_take (LOCK_SECTION, false);
}

static void
not_held (void)
{
  lock_order_drop (LOCK_SET);
}

static void
io_under_stripe (void)
{
  char byte;

  lock_acquire (&stripe);
  io_read (STDIN_FILENO, &byte, 1, 0);
}

static void
reply_under_lock (void)
{
  lock_acquire (&header);
  lock_order_check_none ();
}

static const struct
{
  void (*run) (void);
  const char *words; /* NULL: nothing is wrong */
} cases[] = {
  { in_order, NULL },
  { out_of_order, "'set' is taken while 'stripe' is held" },
  { two_of_a_class, "'stripe' is taken while 'stripe' is held" },
  { next_of_another_class, "'stripe' is taken while 'header' is held" },
  { section_in_section, "'section' is taken while 'section' is held" },
  { not_held, "'set' is released by a thread that does not hold it" },
  { io_under_stripe, "disk I/O while 'stripe' is held" },
  { reply_under_lock, "a reply is sent while 'header' is held" },
};

START_TEST (test_order)
{
  char words[256] = "";
  int ends[2], status;
  pid_t child;

  ck_assert_int_eq (pipe (ends), 0);
  child = fork ();
  if (child == 0)
    {
      signal (SIGABRT, SIG_DFL);
      dup2 (ends[1], STDERR_FILENO);
      cases[_i].run ();
      _exit (0);
    }
  close (ends[1]);
  ck_assert_int_eq (waitpid (child, &status, 0), child); /* a line fits into a pipe */
  ck_assert_int_ge (read (ends[0], words, sizeof words - 1), 0);
  close (ends[0]);
  if (cases[_i].words == NULL)
    ck_assert_msg (WIFEXITED (status) && WEXITSTATUS (status) == 0, "%s", words);
  else
    {
      ck_assert_int_eq (WIFSIGNALED (status) ? WTERMSIG (status) : 0, SIGABRT);
      ck_assert_msg (strstr (words, cases[_i].words) != NULL, "%s", words);
    }
}
END_TEST

static Suite *
lock_suite (void)
{
  Suite *suite = suite_create ("lock");
  TCase *order = test_case (suite, "order", 0);

  lock_init (&set, LOCK_SET);
  lock_init (&stripe, LOCK_STRIPE);
  lock_init (&other_stripe, LOCK_STRIPE);
  lock_init (&header, LOCK_HEADER);
  tcase_add_loop_test (order, test_order, 0, G_N_ELEMENTS (cases));
  return suite;
}

int
main (void)
{
  return test_main (lock_suite ());
}
