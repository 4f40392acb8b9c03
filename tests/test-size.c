/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An image that does not tell its size for once: that is an error of what wanted to know it, and
 * never a size of 0. What test-faults finds at every such call is not repeated here. */
#include "calls.h"
#include "snapshot/survey.h"
#include "test-util.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRANULE 4096
#define SIZE (64 * GRANULE)
#define CUT 32 /* granules that are left of an image that somebody cut off */

static Snapshots *set;
static uint64_t silent; /* the number of the call that fails; 0: all */

static Snapshots *
try_open (GError **error)
{
  SnapshotsConfig config = {
    .store = test_path ("store"), .granule = GRANULE, .max_snapshots = 10, .copy = DISK_COPY_BOUNCE
  };
  const SnapshotsImage image = { "disk.img", test_path ("disk.img") };

  return snapshots_open (&config, &image, 1, error);
}

static void
open_set (void)
{
  g_autoptr (GError) error = NULL;

  set = try_open (&error);
  ck_assert_msg (set != NULL, "%s", error != NULL ? error->message : "");
  ck_assert_msg (snapshots_start (set, &error), "%s", error != NULL ? error->message : "");
}

static void
close_set (void)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (snapshots_close (set, &error), "%s", error != NULL ? error->message : "");
}

static CallFate
keep_silent (const Call *call, void *data)
{
  (void) data;
  return silent == 0 || call->number == silent ? (CallFate){ CALL_FAIL, ESTALE, 0 }
                                               : (CallFate){ CALL_GO_ON, 0, 0 };
}

/* number: see above. */
static void
begin_silence (uint64_t number)
{
  silent = number;
  calls_hook (1U << CALL_SOURCE, 1U << CALL_STAT, keep_silent, NULL, NULL);
}

static void
end_silence (void)
{
  ck_assert_uint_gt (calls_count (), 0);
  calls_hook (0, 0, NULL, NULL, NULL);
}

static void
set_up (void)
{
  test_set_up ();
  test_make_file (test_path ("disk.img"), SIZE, 1);
  calls_watch (CALL_SOURCE, test_path ("disk.img"));
}

static void
tear_down (void)
{
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  test_tear_down ();
}

static void
must_write (unsigned granule, unsigned n, unsigned seed)
{
  uint8_t bytes[SIZE];

  test_fill (bytes, n * GRANULE, seed, granule * GRANULE);
  ck_assert_int_eq (
      disk_write (snapshots_disk (set, 0), bytes, n * GRANULE, granule * GRANULE, IO_SYNC_NONE),
      n * GRANULE);
}

static void
freeze (const char *name, uint8_t *picture)
{
  ck_assert_int_eq (disk_read (snapshots_disk (set, 0), picture, SIZE, 0), SIZE);
  ck_assert_int_eq (snapshots_create (set, name, NULL), 0);
}

static void
assert_right (const char *name, const uint8_t *picture)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, name);
  g_autofree char *broken = snapshot_dup_broken (snapshot);
  uint8_t bytes[SIZE];

  ck_assert_msg (broken == NULL, "%s: %s", name, broken);
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, SIZE, 0), SIZE);
  test_assert_bytes (name, bytes, picture, SIZE);
}

static void
assert_broken (const char *name)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, name);
  g_autofree char *broken = snapshot_dup_broken (snapshot);
  uint8_t byte;

  ck_assert_msg (broken != NULL && strstr (broken, "shorter") != NULL, "%s: %s", name, broken);
  ck_assert_int_eq (snapshot_read (snapshot, 0, &byte, 1, 0), -EIO);
}

START_TEST (test_mkdir)
{
  static uint8_t picture[SIZE];
  uint64_t number = 0;
  int r;

  open_set ();
  do
    {
      begin_silence (++number);
      r = snapshots_create (set, "a", NULL);
      if (r != 0)
        {
          ck_assert_int_eq (r, -EIO);
          ck_assert_uint_eq (snapshots_count (set), 0);
        }
    }
  while (r != 0);
  ck_assert_uint_gt (number, 3);
  calls_hook (0, 0, NULL, NULL, NULL);
  ck_assert_int_eq (disk_read (snapshots_disk (set, 0), picture, SIZE, 0), SIZE);
  assert_right ("a", picture);
  close_set ();
}
END_TEST

START_TEST (test_seek)
{
  g_autoptr (Snapshot) snapshot = NULL;
  static uint8_t picture[SIZE];

  open_set ();
  freeze ("a", picture);
  snapshot = snapshots_find (set, "a");
  begin_silence (0);
  ck_assert_int_eq (snapshot_seek (snapshot, 0, 0, SEEK_DATA), -ESTALE);
  ck_assert_int_eq (snapshot_seek (snapshot, 0, 0, SEEK_HOLE), -ESTALE);
  end_silence ();
  ck_assert_int_eq (snapshot_seek (snapshot, 0, 0, SEEK_DATA), 0);
  ck_assert_int_eq (snapshot_seek (snapshot, 0, 0, SEEK_HOLE), SIZE);
  g_clear_pointer (&snapshot, snapshot_unref);
  assert_right ("a", picture);
  close_set ();
}
END_TEST

START_TEST (test_status)
{
  g_autoptr (Survey) survey = NULL;

  open_set ();
  begin_silence (0);
  survey = survey_new (set);
  end_silence ();
  ck_assert (!survey->disks[0].has_size);
  close_set ();
}
END_TEST

/* What is copied is a hole, which may as well be the place of a cut: it is read. */
START_TEST (test_hole)
{
  static uint8_t picture[SIZE];

  test_make_file (test_path ("disk.img"), SIZE, 0);
  open_set ();
  freeze ("a", picture);
  begin_silence (0);
  must_write (0, SIZE / GRANULE, 2);
  end_silence ();
  assert_right ("a", picture);
  close_set ();
}
END_TEST

/* Makes a snapshot and overwrites a part; ends cleanly, or is killed. */
static void
use_set (bool killed)
{
  static uint8_t picture[SIZE];

  open_set ();
  freeze ("a", picture);
  must_write (1, 1, 2);
  if (killed)
    kill (getpid (), SIGKILL);
  close_set ();
}

/* _i: 1: after a kill, when the image may have been cut off. */
START_TEST (test_open)
{
  static uint8_t picture[SIZE];
  uint64_t number = 0;
  int status;
  pid_t child = fork ();

  ck_assert_int_ge (child, 0);
  if (child == 0)
    {
      use_set (_i == 1);
      _exit (0);
    }
  ck_assert_int_eq (waitpid (child, &status, 0), child);
  ck_assert_int_eq (status, _i == 1 ? SIGKILL : 0);

  for (set = NULL; set == NULL;)
    {
      g_autoptr (GError) error = NULL;

      begin_silence (++number);
      set = try_open (&error);
      ck_assert (set != NULL || strstr (error->message, "cannot stat image '") != NULL);
    }
  ck_assert_uint_gt (number, 2);
  calls_hook (0, 0, NULL, NULL, NULL);
  ck_assert (snapshots_start (set, NULL));
  test_fill (picture, SIZE, 1, 0);
  assert_right ("a", picture);
  close_set ();
}
END_TEST

/* Somebody has cut the image off, and the guest's write is about to make it longer again. That much
 * the copy sees; where the end was nobody tells. */
START_TEST (test_cut)
{
  static uint8_t a[SIZE], b[SIZE];

  open_set ();
  freeze ("a", a);
  must_write (0, SIZE / GRANULE, 2);
  freeze ("b", b);
  ck_assert_int_eq (truncate (test_path ("disk.img"), CUT * GRANULE), 0);
  begin_silence (0);
  must_write (CUT + 10, 1, 3);
  end_silence ();
  assert_right ("a", a);
  assert_broken ("b");
  close_set ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("size");
  TCase *tcase = tcase_create ("size");

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_add_test (tcase, test_mkdir);
  tcase_add_test (tcase, test_seek);
  tcase_add_test (tcase, test_status);
  tcase_add_test (tcase, test_hole);
  tcase_add_loop_test (tcase, test_open, 0, 2);
  tcase_add_test (tcase, test_cut);
  suite_add_tcase (suite, tcase);
  return test_main (suite);
}
