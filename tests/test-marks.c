/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The marks of stores at images (source/mark.h): a store that was killed notices that another one
 * had its image, and nothing else is taken for that. */
#include "base/fail.h"
#include "calls.h"
#include "snapshot/merge.h"
#include "snapshot/snapshots.h"
#include "source/mark.h"
#include "test-util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#define GRANULE 4096
#define SIZE (16 * GRANULE)
#define DISKS 2

static const char *const images[DISKS] = { "a.img", "b.img" };

static Snapshots *set;
static bool new_store;               /* the option */
static uint8_t picture[DISKS][SIZE]; /* of the snapshot "old" */

static bool
try_open (const char *store, GError **error)
{
  const SnapshotsConfig config = {
    .store = test_path (store),
    .granule = GRANULE,
    .max_snapshots = 10,
    .copy = DISK_COPY_BOUNCE,
    .new_store = new_store,
  };
  const SnapshotsImage disks[DISKS]
      = { { images[0], test_path (images[0]) }, { images[1], test_path (images[1]) } };

  set = snapshots_open (&config, disks, DISKS, error);
  if (set == NULL || snapshots_start (set, error))
    return set != NULL;
  snapshots_abandon (set);
  return false;
}

static void
open_store (const char *store)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (try_open (store, &error), "%s", error != NULL ? error->message : "");
}

static void
close_store (void)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (snapshots_close (set, &error), "%s", error != NULL ? error->message : "");
}

static void
kill_store (void)
{
  merge_stop (set);
  snapshots_abandon (set); /* closes and writes nothing, for the store has snapshots */
}

static void
write_disk (unsigned disk, unsigned granule, unsigned seed)
{
  uint8_t bytes[GRANULE];

  test_fill (bytes, GRANULE, seed, granule * GRANULE);
  ck_assert_int_eq (disk_write (snapshots_disk (set, disk), bytes, GRANULE,
                                (uint64_t) granule * GRANULE, IO_SYNC_NONE),
                    GRANULE);
}

/* A snapshot, of which the first granule of each disk is saved. */
static void
freeze (const char *name)
{
  ck_assert_int_eq (snapshots_create (set, name, NULL), 0);
  for (unsigned i = 0; i < DISKS; i++)
    write_disk (i, 0, 2);
}

/* The store "one", with the snapshot "old", is killed. */
static void
leave_killed (void)
{
  open_store ("one");
  for (unsigned i = 0; i < DISKS; i++)
    ck_assert_int_eq (disk_read (snapshots_disk (set, i), picture[i], SIZE, 0), SIZE);
  freeze ("old");
  kill_store ();
}

static void
assert_right (void)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, "old");
  uint8_t bytes[SIZE];

  for (unsigned i = 0; i < DISKS; i++)
    {
      ck_assert_int_eq (snapshot_read (snapshot, i, bytes, SIZE, 0), SIZE);
      test_assert_bytes (images[i], bytes, picture[i], SIZE);
    }
}

static void
assert_broken (const char *why)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, "old");
  uint8_t bytes[SIZE];

  for (unsigned i = 0; i < DISKS; i++)
    {
      g_autofree char *reason = snapshot_dup_disk_broken (snapshot, i);

      ck_assert_ptr_nonnull (reason);
      ck_assert_msg (strstr (reason, why) != NULL, "%s", reason);
      ck_assert_int_eq (snapshot_read (snapshot, i, bytes, SIZE, 0), -EIO);
    }
}

static bool
has_mark (unsigned disk)
{
  return getxattr (test_path (images[disk]), MARK_NAME, NULL, 0) >= 0;
}

static void
set_up (void)
{
  test_set_up ();
  new_store = true;
  for (unsigned i = 0; i < DISKS; i++)
    {
      test_make_file (test_path (images[i]), SIZE, 1);
      calls_watch (CALL_SOURCE, test_path (images[i]));
    }
  calls_watch (CALL_STORE, test_path ("one"));
  calls_watch (CALL_STORE, test_path ("two"));
}

static void
tear_down (void)
{
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  test_tear_down ();
}

static bool
can_have_marks (void)
{
  if (setxattr (test_path (images[0]), "user.test", "x", 1, 0) == 0)
    return true;
  test_skip ("marks at the images", "no extended attributes in TMPDIR");
  return false;
}

/* Whether the other store writes or not, is closed or killed: "one" does not know. */
START_TEST (test_other_store)
{
  if (!can_have_marks ())
    return;
  leave_killed ();
  open_store ("two");
  if ((_i & 1) != 0)
    freeze ("x");
  if ((_i & 2) != 0)
    close_store ();
  else
    kill_store ();
  for (unsigned round = 0; round < 2; round++)
    {
      open_store ("one");
      assert_broken ("lost the mark of this store");
      if (round == 0)
        kill_store ();
    }
  freeze ("new");
  close_store ();
  ck_assert (!has_mark (0) && !has_mark (1));
}
END_TEST

/* Killed again and again: nobody else wrote to the image. */
START_TEST (test_own_store)
{
  if (!can_have_marks ())
    return;
  leave_killed ();
  for (unsigned round = 0; round < 3; round++)
    {
      open_store ("one");
      assert_right ();
      if (round < 2)
        kill_store ();
    }
  close_store ();
}
END_TEST

/* With another store after a clean end. The marks that come and go change the ctime, and nothing
 * tells that no write did. */
START_TEST (test_own_store_between)
{
  if (!can_have_marks ())
    return;
  leave_killed ();
  open_store ("one");
  close_store ();
  open_store ("one");
  assert_right ();
  close_store ();
  open_store ("two");
  close_store ();
  open_store ("one");
  assert_broken ("ctime");
  close_store ();
}
END_TEST

/* --- the order --- */

static unsigned n_renames, n_marked;

/* The manifest is about to say open, or clean: the images are marked. */
static CallFate
look_at_marks (const Call *call, G_GNUC_UNUSED void *data)
{
  if (!g_str_has_suffix (call->to_path, "/fleecefs.ini"))
    return (CallFate){ CALL_GO_ON, 0, 0 };
  n_renames++;
  n_marked += has_mark (0) && has_mark (1);
  return (CallFate){ CALL_GO_ON, 0, 0 };
}

START_TEST (test_order)
{
  if (!can_have_marks ())
    return;
  leave_killed ();
  open_store ("one");
  close_store ();
  ck_assert (!has_mark (0) && !has_mark (1));
  calls_hook (1U << CALL_STORE, 1U << CALL_RENAME, look_at_marks, NULL, NULL);
  open_store ("one");
  ck_assert (has_mark (0) && has_mark (1));
  ck_assert_uint_eq (n_renames, 2); /* before the marks, the ctime is forgotten */
  close_store ();
  ck_assert_uint_eq (n_renames, 4); /* and after them, known */
  ck_assert_uint_eq (n_marked, 2);
  ck_assert (!has_mark (0) && !has_mark (1));
}
END_TEST

static unsigned n_syncs;

static CallFate
count_syncs (const Call *call, G_GNUC_UNUSED void *data)
{
  n_syncs += call->flags == 0 && call->place == CALL_SOURCE;
  return (CallFate){ CALL_GO_ON, 0, 0 };
}

/* The mark of another store is gone for good, also if the host goes down, before the first write;
 * where there is none nobody waits for the disk. */
START_TEST (test_sync)
{
  if (!can_have_marks ())
    return;
  leave_killed ();
  calls_hook (1U << CALL_SOURCE, 1U << CALL_SYNC, count_syncs, NULL, NULL);
  open_store ("two");
  ck_assert_uint_eq (n_syncs, DISKS);
  close_store ();
  n_syncs = 0;
  open_store ("two");
  ck_assert_uint_eq (n_syncs, 0);
  close_store ();
}
END_TEST

/* --- what goes wrong --- */

static CallFate
refuse_manifest (const Call *call, G_GNUC_UNUSED void *data)
{
  bool hit = g_str_has_suffix (call->to_path, "/fleecefs.ini");

  return (CallFate){ hit ? CALL_FAIL : CALL_GO_ON, EIO, 0 };
}

/* A start that fails leaves the marks as they were. */
START_TEST (test_start_fails)
{
  g_autoptr (GError) error = NULL;

  if (!can_have_marks ())
    return;
  leave_killed ();
  open_store ("two");
  close_store ();
  open_store ("one");
  assert_broken ("lost the mark of this store");
  ck_assert_int_eq (snapshots_remove (set, "old"), 0);
  close_store ();
  leave_killed ();

  calls_hook (1U << CALL_STORE, 1U << CALL_RENAME, refuse_manifest, NULL, NULL);
  ck_assert (!try_open ("two", &error));
  ck_assert_int_eq (fail_code (error), EIO);
  calls_hook (0, 0, NULL, NULL, NULL);
  open_store ("one");
  assert_right ();
  close_store ();

  g_clear_error (&error);
  calls_hook (1U << CALL_STORE, 1U << CALL_RENAME, refuse_manifest, NULL, NULL);
  ck_assert (!try_open ("two", &error));
  ck_assert (!has_mark (0) && !has_mark (1));
}
END_TEST

/* data: an errno for attributes that are set. */
static CallFate
refuse_to_set (const Call *call, void *data)
{
  return (CallFate){ call->bytes != NULL ? CALL_FAIL : CALL_GO_ON, *(int *) data, 0 };
}

/* A store that cannot set its mark takes that of the other away all the same, and does not miss
 * its own. */
START_TEST (test_no_space)
{
  int errnum = ENOSPC;

  if (!can_have_marks ())
    return;
  leave_killed ();
  calls_hook (1U << CALL_SOURCE, 1U << CALL_XATTR, refuse_to_set, NULL, &errnum);
  open_store ("two");
  ck_assert (!has_mark (0) && !has_mark (1));
  close_store ();
  open_store ("one");
  assert_broken ("lost the mark of this store");
  ck_assert_int_eq (snapshots_remove (set, "old"), 0);
  close_store ();
  leave_killed ();
  open_store ("one");
  assert_right ();
  close_store ();
}
END_TEST

static CallFate
refuse (G_GNUC_UNUSED const Call *call, void *data)
{
  return (CallFate){ CALL_FAIL, *(int *) data, 0 };
}

/* A file system without attributes. */
START_TEST (test_no_attributes)
{
  int errnum = EOPNOTSUPP;

  calls_hook (1U << CALL_SOURCE, 1U << CALL_XATTR | 1U << CALL_GETXATTR, refuse, NULL, &errnum);
  leave_killed ();
  open_store ("one");
  assert_right ();
  close_store ();
}
END_TEST

/* The mark of another store can be neither replaced nor taken away, or not even be read: there is
 * no start, and nobody writes. */
START_TEST (test_refused)
{
  g_autoptr (GError) error = NULL;
  int errnum = EIO;

  if (!can_have_marks ())
    return;
  leave_killed ();
  calls_hook (1U << CALL_SOURCE, _i == 0 ? 1U << CALL_XATTR : 1U << CALL_GETXATTR, refuse, NULL,
              &errnum);
  ck_assert (!try_open ("two", &error));
  ck_assert_msg (strstr (error->message, MARK_NAME) != NULL, "%s", error->message);
  calls_hook (0, 0, NULL, NULL, NULL);
  open_store ("one");
  assert_right ();
  close_store ();
}
END_TEST

/* --- another manifest --- */

/* A store that was killed before there were marks. */
START_TEST (test_no_key)
{
  g_autofree char *text = NULL;
  g_auto (GStrv) parts = NULL;
  g_autofree char *without = NULL;

  if (!can_have_marks ())
    return;
  leave_killed ();
  ck_assert (g_file_get_contents (test_path ("one/fleecefs.ini"), &text, NULL, NULL));
  parts = g_strsplit (text, "marked=1\n", -1);
  ck_assert_uint_eq (g_strv_length (parts), 1 + DISKS);
  without = g_strjoinv ("", parts);
  ck_assert (g_file_set_contents_full (test_path ("one/fleecefs.ini"), without, -1,
                                       G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL));
  for (unsigned i = 0; i < DISKS; i++)
    ck_assert_int_eq (removexattr (test_path (images[i]), MARK_NAME), 0);
  open_store ("one");
  assert_right ();
  close_store ();
}
END_TEST

/* The store that the image remembers is not where a start looks, and so there is a new one. */
START_TEST (test_new_store)
{
  g_autoptr (GError) error = NULL;

  if (!can_have_marks ())
    return;
  leave_killed ();
  new_store = false;
  ck_assert (!try_open ("two", &error));
  ck_assert_msg (strstr (error->message, "left open with another store") != NULL, "%s",
                 error->message);
  ck_assert (!g_file_test (test_path ("two"), G_FILE_TEST_EXISTS));
  open_store ("one");
  assert_right ();
  kill_store ();
  new_store = true;
  open_store ("two");
  freeze ("new");
  close_store ();

  /* One with snapshots is what was meant. */
  open_store ("one");
  assert_broken ("lost the mark of this store");
  kill_store ();
  new_store = false;
  open_store ("two");
  close_store ();
}
END_TEST

static Suite *
suite (void)
{
  Suite *s = suite_create ("marks");
  TCase *tcase = tcase_create ("marks");

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  suite_add_tcase (s, tcase);
  tcase_add_test (tcase, test_no_attributes);
  tcase_add_loop_test (tcase, test_other_store, 0, 4);
  tcase_add_test (tcase, test_own_store);
  tcase_add_test (tcase, test_own_store_between);
  tcase_add_test (tcase, test_order);
  tcase_add_test (tcase, test_sync);
  tcase_add_test (tcase, test_start_fails);
  tcase_add_test (tcase, test_no_space);
  tcase_add_test (tcase, test_new_store);
  tcase_add_loop_test (tcase, test_refused, 0, 2);
  tcase_add_test (tcase, test_no_key);
  return s;
}

int
main (void)
{
  test_in_memory ();
  return test_main (suite ());
}
