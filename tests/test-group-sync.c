/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One sync for many writers: who may share it, who may not, and what an error does. */
#include "base/pause.h"
#include "calls.h"
#include "overlay/group-sync.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#define N_CALLERS 8

static GroupSync group;
static int fd;
static atomic_uint n_done; /* syncs that the kernel has done */
static int errnum;         /* of the next sync; 0: none. Constant while threads run */

static CallFate
decide (G_GNUC_UNUSED const Call *call, G_GNUC_UNUSED void *data)
{
  if (errnum == 0)
    return (CallFate){ CALL_GO_ON, 0, 0 };
  return (CallFate){ CALL_FAIL, errnum, 0 };
}

static void
hear (G_GNUC_UNUSED const Call *call, G_GNUC_UNUSED ssize_t result, G_GNUC_UNUSED int code,
      G_GNUC_UNUSED void *data)
{
  n_done++;
}

static void
set_up (void)
{
  test_set_up ();
  test_make_file (test_path ("file"), 4096, 1);
  fd = open (test_path ("file"), O_RDWR | O_CLOEXEC);
  ck_assert_int_ge (fd, 0);
  group_sync_init (&group, fd);
  n_done = 0;
  errnum = 0;
  calls_watch (CALL_STORE, test_path ("file"));
  calls_hook (1U << CALL_STORE, 1U << CALL_SYNC, decide, hear, NULL);
}

static void
tear_down (void)
{
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  group_sync_clear (&group);
  close (fd);
  test_tear_down ();
}

/* One thread that syncs. */
typedef struct
{
  pthread_t thread;
  int result;
  unsigned n_done; /* when it returned */
} Caller;

static void *
call (void *data)
{
  Caller *caller = data;

  caller->result = group_sync (&group);
  caller->n_done = n_done;
  return NULL;
}

static void
start (Caller *caller, const char *point)
{
  ck_assert_int_eq (pthread_create (&caller->thread, NULL, call, caller), 0);
  pause_wait_reached (point);
}

/* The first caller's sync has begun, and all others wait. */
static void
gather (Caller *callers, unsigned n)
{
  pause_arm ("sync:begun");
  start (&callers[0], "sync:begun");
  for (unsigned i = 1; i < n; i++)
    {
      pause_watch ("sync:wait");
      start (&callers[i], "sync:wait");
      pause_release ("sync:wait");
    }
}

static void
let_go (Caller *callers, unsigned n)
{
  pause_release ("sync:begun");
  for (unsigned i = 0; i < n; i++)
    pthread_join (callers[i].thread, NULL);
}

START_TEST (alone)
{
  for (unsigned i = 1; i <= 3; i++)
    {
      ck_assert_int_eq (group_sync (&group), 0);
      ck_assert_uint_eq (n_done, i);
    }
}
END_TEST

/* The sync that had begun may have passed the second one's bytes by. */
START_TEST (too_late)
{
  Caller callers[2];

  gather (callers, 2);
  ck_assert_uint_eq (n_done, 0);
  let_go (callers, 2);
  ck_assert_int_eq (callers[1].result, 0);
  ck_assert_uint_eq (callers[1].n_done, 2);
}
END_TEST

START_TEST (together)
{
  Caller callers[N_CALLERS];

  gather (callers, N_CALLERS);
  let_go (callers, N_CALLERS);
  for (unsigned i = 0; i < N_CALLERS; i++)
    ck_assert_int_eq (callers[i].result, 0);
  ck_assert_uint_eq (n_done, 2);
}
END_TEST

/* Of those who wait too, and for ever: the kernel would say that all is well the next time. */
START_TEST (error_stays)
{
  Caller callers[N_CALLERS];

  errnum = EIO;
  gather (callers, N_CALLERS);
  let_go (callers, N_CALLERS);
  for (unsigned i = 0; i < N_CALLERS; i++)
    ck_assert_int_eq (callers[i].result, -EIO);
  errnum = 0;
  ck_assert_int_eq (group_sync (&group), -EIO);
  errnum = ENOSPC;
  ck_assert_int_eq (group_sync (&group), -EIO);
}
END_TEST

static Suite *
suite (void)
{
  Suite *suite = suite_create ("group-sync");
  TCase *tcase = tcase_create ("group-sync");

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_add_test (tcase, alone);
  tcase_add_test (tcase, too_late);
  tcase_add_test (tcase, together);
  tcase_add_test (tcase, error_stays);
  suite_add_tcase (suite, tcase);
  return suite;
}

int
main (void)
{
  return test_main (suite ());
}
