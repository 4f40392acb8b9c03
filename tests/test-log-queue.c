/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages before a log that reads, one that does not, and one that does again: what comes out, in
 * which order, and that nobody waits. */
#include "fs/log-queue.h"
#include "test-util.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#define N_THREADS 8
#define N_EACH 1000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for all that follows */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_hung;
static unsigned n_begun; /* lines that the log was given */
static GString *text;    /* what it took: "LEVEL LINE\n" each */

static LogQueue *queue;

static void
take_line (int level, const char *line)
{
  pthread_mutex_lock (&lock);
  n_begun++;
  pthread_cond_broadcast (&changed);
  while (is_hung)
    pthread_cond_wait (&changed, &lock);
  g_string_append_printf (text, "%d %s\n", level, line);
  pthread_mutex_unlock (&lock);
}

static void
set_hung (bool hung)
{
  pthread_mutex_lock (&lock);
  is_hung = hung;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
}

static void
wait_begun (unsigned n)
{
  pthread_mutex_lock (&lock);
  while (n_begun < n)
    pthread_cond_wait (&changed, &lock);
  pthread_mutex_unlock (&lock);
}

static void
set_up (void)
{
  is_hung = false;
  n_begun = 0;
  text = g_string_new (NULL);
  queue = log_queue_new (take_line);
  ck_assert_ptr_nonnull (queue);
}

static void
tear_down (void)
{
  set_hung (false);
  ck_assert (log_queue_flush (queue, 60000));
  log_queue_free (queue);
  g_string_free (text, TRUE);
}

static void
expect (const char *expected)
{
  set_hung (false);
  ck_assert (log_queue_flush (queue, 60000));
  ck_assert_str_eq (text->str, expected);
}

/* The log hangs with a first line, "0 begin", in its hands. */
static void
hang (void)
{
  set_hung (true);
  log_queue_push (queue, 0, "begin");
  wait_begun (1);
}

START_TEST (in_order)
{
  log_queue_push (queue, LOG_WARNING, "one");
  log_queue_push (queue, LOG_INFO, "");
  log_queue_push (queue, LOG_ERR, "%s three");
  expect ("4 one\n6 \n3 %s three\n");
}
END_TEST

/* A hung log is given up in time, and nothing of what it has not taken is lost by that. */
START_TEST (given_up)
{
  hang ();
  log_queue_push (queue, LOG_INFO, "more");
  ck_assert (!log_queue_flush (queue, 0));
  ck_assert (!log_queue_flush (queue, 50));
  ck_assert_str_eq (text->str, "");
  expect ("0 begin\n6 more\n");
}
END_TEST

/* One line more than a queue has room for, whatever the size, is lost, and said in its place. */
START_TEST (lost)
{
  g_autofree char *big = g_strnfill (LOG_QUEUE_BYTES / 3, 'x');
  g_autofree char *expected
      = g_strdup_printf ("0 begin\n6 %s\n7 %s\n3 3 messages were lost here: the log was not read "
                         "in time\n4 small\n5 1 message was lost here: the log was not read in "
                         "time\n",
                         big, big);

  hang ();
  log_queue_push (queue, LOG_INFO, big);
  log_queue_push (queue, LOG_DEBUG, big);
  log_queue_push (queue, LOG_WARNING, big);
  log_queue_push (queue, LOG_ERR, big);
  log_queue_push (queue, LOG_INFO, big);
  log_queue_push (queue, LOG_WARNING, "small");
  log_queue_push (queue, LOG_NOTICE, big);
  expect (expected);
  log_queue_push (queue, LOG_INFO, big); /* and there is room again */
  ck_assert (log_queue_flush (queue, 60000));
  ck_assert_uint_eq (text->len, strlen (expected) + strlen ("6 \n") + strlen (big));
}
END_TEST

/* What is too large for any queue. */
START_TEST (too_large)
{
  g_autofree char *huge = g_strnfill (LOG_QUEUE_BYTES, 'x');

  log_queue_push (queue, LOG_INFO, huge);
  expect ("6 1 message was lost here: the log was not read in time\n");
}
END_TEST

static void *
push_many (void *data)
{
  for (unsigned i = 0; i < N_EACH; i++)
    {
      char line[100];

      snprintf (line, sizeof line, "thread %u line %u%50s", *(unsigned *) data, i, "");
      log_queue_push (queue, LOG_INFO, line);
    }
  return NULL;
}

/* Each line of each thread comes, in its order, or is counted. The queue keeps its bound. */
static void
count_lines (bool was_hung)
{
  g_auto (GStrv) lines = NULL;
  unsigned next[N_THREADS] = { 0 }, n_lost = 0, n_lines = 0;
  size_t bytes = 0;

  ck_assert (log_queue_flush (queue, 60000));
  lines = g_strsplit (text->str, "\n", -1);
  for (char **line = lines; **line != '\0'; line++)
    {
      unsigned thread, i, n;

      if (sscanf (*line, "6 thread %u line %u", &thread, &i) == 2)
        {
          ck_assert_uint_ge (i, next[thread]);
          next[thread] = i + 1;
          n_lines++;
          bytes += strlen (*line);
        }
      else if (sscanf (*line, "6 %u message", &n) == 1)
        n_lost += n;
      else
        ck_assert_str_eq (*line, "0 begin");
    }
  ck_assert_uint_eq (n_lines + n_lost, N_THREADS * N_EACH);
  if (was_hung)
    {
      ck_assert_uint_gt (n_lost, 0);
      ck_assert_uint_le (bytes, LOG_QUEUE_BYTES);
      ck_assert_uint_gt (bytes, LOG_QUEUE_BYTES / 3);
    }
}

START_TEST (many_threads)
{
  pthread_t threads[N_THREADS];
  unsigned numbers[N_THREADS];

  if (_i == 1)
    hang ();
  for (unsigned i = 0; i < N_THREADS; i++)
    {
      numbers[i] = i;
      ck_assert_int_eq (pthread_create (&threads[i], NULL, push_many, &numbers[i]), 0);
    }
  for (unsigned i = 0; i < N_THREADS; i++)
    pthread_join (threads[i], NULL);
  set_hung (false);
  count_lines (_i == 1);
}
END_TEST

static volatile sig_atomic_t n_signals;

static void
count_signal (G_GNUC_UNUSED int number)
{
  n_signals++;
}

/* While all others have it blocked, a signal to the process stays pending: the thread has it
 * blocked too. */
START_TEST (no_signals)
{
  const struct sigaction action = { .sa_handler = count_signal };
  sigset_t set, pending;

  sigemptyset (&set);
  sigaddset (&set, SIGTERM);
  ck_assert_int_eq (sigaction (SIGTERM, &action, NULL), 0);
  pthread_sigmask (SIG_BLOCK, &set, NULL);
  kill (getpid (), SIGTERM);
  log_queue_push (queue, LOG_INFO, "one");
  expect ("6 one\n");
  sigpending (&pending);
  ck_assert (sigismember (&pending, SIGTERM) == 1);
  ck_assert_int_eq (n_signals, 0);
  pthread_sigmask (SIG_UNBLOCK, &set, NULL);
  ck_assert_int_eq (n_signals, 1);
  n_signals = 0;
  signal (SIGTERM, SIG_DFL);
}
END_TEST

static Suite *
suite (void)
{
  Suite *suite = suite_create ("log-queue");
  TCase *tcase = tcase_create ("queue");

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_add_test (tcase, in_order);
  tcase_add_test (tcase, given_up);
  tcase_add_test (tcase, lost);
  tcase_add_test (tcase, too_large);
  tcase_add_loop_test (tcase, many_threads, 0, 2);
  tcase_add_test (tcase, no_signals);
  suite_add_tcase (suite, tcase);
  return suite;
}

int
main (void)
{
  return test_main (suite ());
}
