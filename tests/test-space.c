/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The limits of the space: what is granted, refused, given back, and when it is said. */
#include "base/units.h"
#include "overlay/space.h"
#include "test-util.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int
temporary_file (void)
{
  int fd = open (g_get_tmp_dir (), O_TMPFILE | O_RDWR, 0600);

  ck_assert_int_ge (fd, 0);
  return fd;
}

static void
allocate (int fd, uint64_t offset, uint64_t length)
{
  ck_assert_int_eq (posix_fallocate (fd, (off_t) offset, (off_t) length), 0);
}

START_TEST (test_no_limits)
{
  Space *space = space_new (g_get_tmp_dir (), 0, 0);

  ck_assert_int_eq (space_take (space, UINT64_MAX), 0);
  space_done (space, UINT64_MAX);
  ck_assert_int_eq (space_take (NULL, UINT64_MAX), 0);
  space_done (NULL, UINT64_MAX);
  space_free (space);
}
END_TEST

/* Takes and allocates until it is refused; returns the number of bytes. */
static uint64_t
take_all (Space *space, int fd, uint64_t start, uint64_t step)
{
  uint64_t bytes = 0;

  while (space_take (space, step) == 0)
    {
      allocate (fd, start + bytes, step);
      space_done (space, step);
      bytes += step;
    }
  return bytes;
}

START_TEST (test_max_overlay)
{
  const uint64_t limit = 40 * MIB;
  Space *space = space_new (g_get_tmp_dir (), limit, 0);
  int a = temporary_file (), b = temporary_file ();
  uint64_t taken;
  struct stat st;

  space_add (space, a);
  allocate (a, 0, 10 * MIB);
  ck_assert_int_eq (space_take (space, 41 * MIB), -SPACE_MAX_OVERLAY);
  ck_assert_uint_eq (take_all (space, a, 10 * MIB, MIB), 30 * MIB);
  ck_assert_int_eq (fstat (a, &st), 0);
  ck_assert_uint_ge ((uint64_t) st.st_blocks * 512, limit);
  ck_assert_uint_le ((uint64_t) st.st_blocks * 512, limit + 64 * KIB); /* of its extents */
  ck_assert_int_eq (space_take (space, 4096), -SPACE_MAX_OVERLAY);

  /* Holes give back, and so does a file that is gone; another one takes. */
  ck_assert_int_eq (ftruncate (a, 35 * MIB), 0);
  space_add (space, b);
  taken = take_all (space, b, 0, 4096);
  ck_assert_uint_le (taken, 5 * MIB);
  ck_assert_uint_ge (taken, 5 * MIB - 64 * KIB); /* of its extents */
  space_remove (space, a);
  ck_assert_uint_ge (take_all (space, b, 5 * MIB, MIB), 34 * MIB);
  space_remove (space, b);
  space_free (space);
  close (a);
  close (b);
}
END_TEST

/* What is taken and not written yet counts. */
START_TEST (test_in_flight)
{
  Space *space = space_new (g_get_tmp_dir (), 20 * MIB, 0);

  for (unsigned i = 0; i < 20; i++)
    ck_assert_int_eq (space_take (space, MIB), 0);
  ck_assert_int_eq (space_take (space, 1), -SPACE_MAX_OVERLAY);
  space_done (space, MIB);
  ck_assert_int_eq (space_take (space, MIB), 0);
  ck_assert_int_eq (space_take (space, 1), -SPACE_MAX_OVERLAY);
  space_free (space);
}
END_TEST

/* More at a time than there is in a grant: a mkdir of many disks. */
START_TEST (test_more_than_a_grant)
{
  Space *space = space_new (g_get_tmp_dir (), 3 * SPACE_GRANT, 0);

  ck_assert_int_eq (space_take (space, 2 * SPACE_GRANT), 0);
  ck_assert_int_eq (space_take (space, 2 * SPACE_GRANT), -SPACE_MAX_OVERLAY);
  ck_assert_int_eq (space_take (space, SPACE_GRANT), 0);
  ck_assert_int_eq (space_take (space, 1), -SPACE_MAX_OVERLAY);
  space_free (space);
}
END_TEST

START_TEST (test_reserve)
{
  struct statvfs fs;
  Space *space;

  ck_assert_int_eq (statvfs (g_get_tmp_dir (), &fs), 0);
  space = space_new (g_get_tmp_dir (), 0, fs.f_bavail * fs.f_frsize / 2);
  ck_assert_int_eq (space_take (space, MIB), 0);
  space_free (space);
  space = space_new (g_get_tmp_dir (), GIB, fs.f_blocks * fs.f_frsize);
  ck_assert_int_eq (space_take (space, 1), -SPACE_RESERVE);
  space_free (space);
}
END_TEST

static Space *shared;
static _Atomic uint64_t shared_end;

static void *
take_shared (void *data)
{
  int fd = *(int *) data;

  while (space_take (shared, 64 * KIB) == 0)
    {
      allocate (fd, atomic_fetch_add (&shared_end, 64 * KIB), 64 * KIB);
      space_done (shared, 64 * KIB);
    }
  return NULL;
}

/* Many at a time: never more than the limit, and not much less. */
START_TEST (test_threads)
{
  const uint64_t limit = 100 * MIB;
  int fd = temporary_file ();
  pthread_t threads[8];
  struct stat st;

  shared = space_new (g_get_tmp_dir (), limit, 0);
  space_add (shared, fd);
  for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
    pthread_create (&threads[i], NULL, take_shared, &fd);
  for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
    pthread_join (threads[i], NULL);
  ck_assert_int_eq (fstat (fd, &st), 0);
  ck_assert_uint_le ((uint64_t) st.st_blocks * 512, limit);
  ck_assert_uint_ge ((uint64_t) st.st_blocks * 512, limit - MIB);
  space_remove (shared, fd);
  space_free (shared);
  close (fd);
}
END_TEST

static const struct
{
  uint64_t kept, max_overlay, free, total, reserve;
  unsigned percent;
  bool is_overlay;
} percents[] = {
  { 0, 0, 100, 100, 0, 0, false },   { 50, 0, 20, 100, 0, 80, false },
  { 50, 100, 90, 100, 0, 50, true }, { 200, 100, 90, 100, 0, 100, true },
  { 0, 0, 60, 100, 50, 80, false },  { 0, 0, 50, 100, 50, 100, false },
  { 0, 0, 10, 100, 50, 100, false }, { 0, 0, 0, 0, 0, 100, false },
};

START_TEST (test_percent)
{
  SpaceUsage usage = { percents[_i].kept, percents[_i].max_overlay, percents[_i].free,
                       percents[_i].total, percents[_i].reserve };
  bool is_overlay;

  ck_assert_uint_eq (space_percent (&usage, &is_overlay), percents[_i].percent);
  ck_assert_int_eq (is_overlay, percents[_i].is_overlay);
}
END_TEST

START_TEST (test_alarm)
{
  static const unsigned steps[][2]
      = { { 0, 0 },   { 79, 0 },  { 80, 80 }, { 76, 80 }, { 75, 80 }, { 74, 0 }, { 79, 0 },
          { 96, 95 }, { 90, 95 }, { 89, 80 }, { 94, 80 }, { 95, 95 }, { 10, 0 } };
  unsigned alarm = 0;

  for (unsigned i = 0; i < G_N_ELEMENTS (steps); i++)
    {
      alarm = space_alarm (alarm, steps[i][0]);
      ck_assert_uint_eq (alarm, steps[i][1]);
    }
}
END_TEST

START_TEST (test_errors)
{
  ck_assert_int_eq (space_errno (-SPACE_MAX_OVERLAY), -ENOSPC);
  ck_assert_int_eq (space_errno (-SPACE_RESERVE), -ENOSPC);
  ck_assert_int_eq (space_errno (-EIO), -EIO);
  ck_assert_int_eq (space_errno (0), 0);
  ck_assert_ptr_nonnull (strstr (space_strerror (SPACE_MAX_OVERLAY), "max-overlay"));
  ck_assert_ptr_nonnull (strstr (space_strerror (SPACE_RESERVE), "reserve"));
  ck_assert_ptr_nonnull (strstr (space_strerror (EDQUOT), "quota"));
  ck_assert_ptr_nonnull (strstr (space_strerror (ENOSPC), "full"));
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("space");
  TCase *tcase = tcase_create ("space");
  SRunner *runner;
  int failed;

  tcase_add_test (tcase, test_no_limits);
  tcase_add_test (tcase, test_max_overlay);
  tcase_add_test (tcase, test_in_flight);
  tcase_add_test (tcase, test_more_than_a_grant);
  tcase_add_test (tcase, test_reserve);
  tcase_add_test (tcase, test_threads);
  tcase_add_loop_test (tcase, test_percent, 0, (int) G_N_ELEMENTS (percents));
  tcase_add_test (tcase, test_alarm);
  tcase_add_test (tcase, test_errors);
  suite_add_tcase (suite, tcase);
  runner = srunner_create (suite);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed != 0;
}
