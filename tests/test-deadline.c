/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cbw-timeout: a store that does not answer. Its calls hang by the double's hand, so nothing is a
 * matter of chance; what is waited out is one second for each of the tests. */
#include "base/pause.h"
#include "base/units.h"
#include "calls.h"
#include "overlay/qcow2-log.h"
#include "snapshot/snapshots.h"
#include "test-util.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define GRANULE 4096
#define SIZE (64 * GRANULE)
#define NOTE "user.fleecefs.unsaved"

static Snapshots *set;
static SnapshotsConfig config;

static void
open_set (void)
{
  g_autoptr (GError) error = NULL;
  const SnapshotsImage image = { "disk.img", test_path ("disk.img") };

  set = snapshots_open (&config, &image, 1, &error);
  ck_assert_msg (set != NULL, "%s", error != NULL ? error->message : "");
  ck_assert_msg (snapshots_start (set, &error), "%s", error != NULL ? error->message : "");
}

static void
close_set (void)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (snapshots_close (set, &error), "%s", error != NULL ? error->message : "");
}

static void
set_up (void)
{
  test_set_up ();
  test_make_file (test_path ("disk.img"), SIZE, 1);
  config = (SnapshotsConfig){ .store = test_path ("store"),
                              .granule = GRANULE,
                              .max_snapshots = 10,
                              .copy = DISK_COPY_BOUNCE,
                              .cbw_timeout = 1 };
  calls_watch (CALL_STORE, test_path ("store"));
}

static void
tear_down (void)
{
  calls_release ();
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  test_tear_down ();
}

static CallFate
hang (const Call *call, void *data)
{
  (void) call;
  (void) data;
  return (CallFate){ CALL_HANG, 0, 0 };
}

static void
hang_store (unsigned kinds)
{
  calls_hook (1U << CALL_STORE, kinds, hang, NULL, NULL);
}

static ssize_t
write_granule (unsigned granule, unsigned seed)
{
  uint8_t bytes[GRANULE];

  test_fill (bytes, GRANULE, seed, granule * GRANULE);
  return disk_write (snapshots_disk (set, 0), bytes, GRANULE, granule * GRANULE, IO_SYNC_NONE);
}

static void
must_write (unsigned granule, unsigned seed)
{
  ck_assert_int_eq (write_granule (granule, seed), GRANULE);
}

static void
assert_live (unsigned granule, unsigned seed)
{
  uint8_t bytes[GRANULE], expected[GRANULE];

  test_fill (expected, GRANULE, seed, granule * GRANULE);
  ck_assert_int_eq (disk_read (snapshots_disk (set, 0), bytes, GRANULE, granule * GRANULE),
                    GRANULE);
  test_assert_bytes ("live", bytes, expected, GRANULE);
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
  uint8_t bytes[SIZE];

  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, SIZE, 0), SIZE);
  test_assert_bytes (name, bytes, picture, SIZE);
}

static void
assert_broken (const char *name, const char *reason)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, name);
  g_autofree char *broken = snapshot_dup_broken (snapshot);
  uint8_t bytes[GRANULE];

  ck_assert_ptr_nonnull (broken);
  ck_assert_msg (strstr (broken, reason) != NULL, "%s", broken);
  for (unsigned i = 0; i < SIZE / GRANULE; i++)
    ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, GRANULE, i * GRANULE), -EIO);
}

static bool
has_note (void)
{
  return getxattr (test_path ("disk.img"), NOTE, NULL, 0) >= 0;
}

/* Where files cannot have a note the write waits for the store, for good reason. */
static bool
can_have_note (void)
{
  if (setxattr (test_path ("disk.img"), "user.test", "x", 1, 0) == 0)
    return true;
  test_skip ("notes at the image", "no extended attributes in TMPDIR");
  return false;
}

/* What hangs: writing old blocks; with durability=power also syncing them, where they do not go by
 * the log. */
static const struct
{
  bool durable;
  uint64_t log_size;
  unsigned kinds;
} hanging[] = {
  { false, 0, CALLS_DATA_CHANGES },
  { true, QCOW2_LOG_SIZE, CALLS_DATA_CHANGES },
  { true, 0, CALLS_DATA_CHANGES },
  { true, 0, 1U << CALL_SYNC },
};

START_TEST (test_break)
{
  static uint8_t a[SIZE], b[SIZE];

  if (!can_have_note ())
    return;
  config.durable = hanging[_i].durable;
  qcow2_log_size = hanging[_i].log_size;
  open_set ();
  freeze ("a", a);
  must_write (0, 2);
  hang_store (hanging[_i].kinds);
  must_write (0, 3); /* saved before: nothing hangs */
  ck_assert_uint_eq (calls_count (), 0);
  must_write (1, 2); /* after a second */
  calls_wait_hanging ();
  assert_live (1, 2);
  assert_broken ("a", "cbw-timeout");
  ck_assert (has_note ());

  /* Nobody needs copies any more: the next write asks nothing of the store. Three calls hang at
   * most: the copy, the mark in the overlay, and the thread that notes what broke. */
  must_write (2, 2);
  ck_assert_uint_le (calls_count (), 3);

  calls_release ();
  freeze ("b", b);
  must_write (1, 4);
  must_write (2, 4);
  assert_right ("b", b);
  close_set ();
  ck_assert (!has_note ());

  calls_hook (0, 0, NULL, NULL, NULL);
  open_set ();
  assert_broken ("a", "cbw-timeout");
  assert_right ("b", b);
  close_set ();
}
END_TEST

START_TEST (test_refuse)
{
  static uint8_t a[SIZE];

  config.on_cbw_error = DISK_CBW_BREAK_GUEST_WRITE;
  config.durable = hanging[_i].durable;
  qcow2_log_size = hanging[_i].log_size;
  open_set ();
  freeze ("a", a);
  hang_store (hanging[_i].kinds);
  ck_assert_int_eq (write_granule (1, 2), -ETIMEDOUT);
  ck_assert_int_eq (write_granule (1, 2), -ETIMEDOUT); /* waits for the first one's claim */
  assert_live (1, 1);
  calls_release ();
  must_write (1, 2);
  assert_live (1, 2);
  assert_right ("a", a);
  ck_assert (!has_note ());
  close_set ();
}
END_TEST

/* A newer snapshot breaks, the older one that has the block does not; and the next block that only
 * the broken one lacks is not worth a wait. */
START_TEST (test_neighbour)
{
  static uint8_t a[SIZE], b[SIZE];

  if (!can_have_note ())
    return;
  open_set ();
  freeze ("a", a);
  must_write (1, 2);
  must_write (2, 2);
  freeze ("b", b);
  hang_store (CALLS_DATA_CHANGES);
  must_write (1, 3);
  assert_broken ("b", "cbw-timeout");
  must_write (2, 3);
  ck_assert_uint_le (calls_count (), 3);
  calls_release ();
  assert_right ("a", a);
  close_set ();
}
END_TEST

static void *
write_in_thread (void *granule)
{
  must_write (*(unsigned *) granule, 2);
  return NULL;
}

/* While one write waits, others and reads go on. */
START_TEST (test_others)
{
  static uint8_t a[SIZE];
  unsigned place = 1;
  pthread_t thread;

  if (!can_have_note ())
    return;
  config.cbw_timeout = 3;
  open_set ();
  freeze ("a", a);
  must_write (0, 2);
  hang_store (CALLS_DATA_CHANGES);
  ck_assert_int_eq (pthread_create (&thread, NULL, write_in_thread, &place), 0);
  calls_wait_hanging ();
  must_write (0, 3);
  assert_live (0, 3);
  assert_right ("a", a);
  ck_assert_int_eq (pthread_join (thread, NULL), 0);
  assert_broken ("a", "cbw-timeout");
  calls_release ();
  close_set ();
}
END_TEST

/* One write has broken the snapshot and not yet left the note. Another one, which has nothing to
 * save for it any more, must not get ahead. */
START_TEST (test_second_write)
{
  static uint8_t a[SIZE];
  unsigned places[] = { 1, 2 };
  pthread_t threads[2];
  bool noted;

  if (!can_have_note ())
    return;
  open_set ();
  freeze ("a", a);
  hang_store (CALLS_DATA_CHANGES);
  pause_arm ("deadline:broke");
  ck_assert_int_eq (pthread_create (&threads[0], NULL, write_in_thread, &places[0]), 0);
  pause_wait_reached ("deadline:broke");
  pause_arm ("writer:before-source");
  ck_assert_int_eq (pthread_create (&threads[1], NULL, write_in_thread, &places[1]), 0);
  pause_wait_reached ("writer:before-source");
  noted = has_note ();
  pause_release ("writer:before-source");
  pause_release ("deadline:broke");
  for (unsigned i = 0; i < 2; i++)
    ck_assert_int_eq (pthread_join (threads[i], NULL), 0);
  calls_release ();
  assert_broken ("a", "cbw-timeout");
  close_set ();
  ck_assert (noted);
}
END_TEST

/* A copy hangs, and its write is refused. When it goes on it still has copies to make, of blocks
 * that another write has overwritten meanwhile, and saved for a newer snapshot. */
START_TEST (test_late_copy_and_mkdir)
{
  const uint64_t border = MIB; /* of two regions: two copies */
  static uint8_t big[2 * MIB], bytes[2 * MIB];
  g_autoptr (Snapshot) a = NULL;
  Disk *disk;

  config.on_cbw_error = DISK_CBW_BREAK_GUEST_WRITE;
  test_make_file (test_path ("disk.img"), sizeof big, 1);
  test_fill (big, sizeof big, 1, 0);
  open_set ();
  disk = snapshots_disk (set, 0);
  ck_assert_int_eq (snapshots_create (set, "a", &a), 0);
  pause_arm ("writer:claimed");
  ck_assert_int_eq (disk_write (disk, bytes, 2 * GRANULE, border - GRANULE, IO_SYNC_NONE),
                    -ETIMEDOUT);
  pause_wait_reached ("writer:claimed");
  ck_assert_int_eq (snapshots_create (set, "b", NULL), 0);
  ck_assert_int_eq (disk_write (disk, bytes, GRANULE, border, IO_SYNC_NONE), GRANULE);
  pause_release ("writer:claimed");
  disk_settle (disk);
  ck_assert_int_eq (snapshot_read (a, 0, bytes, sizeof bytes, 0), sizeof bytes);
  test_assert_bytes ("a", bytes, big, sizeof big);
  g_clear_pointer (&a, snapshot_unref);
  close_set ();
}
END_TEST

static CallFate
fail_io (const Call *call, void *works)
{
  (void) call;
  return (CallFate){ atomic_load ((atomic_bool *) works) ? CALL_GO_ON : CALL_FAIL, EIO, 0 };
}

/* It is a reader who finds that a table cannot be read, and then the mark cannot be written. Guests
 * do not save for that snapshot any more, so the image has to say it. */
START_TEST (test_reader)
{
  static uint8_t a[SIZE];
  static atomic_bool works;
  g_autoptr (Snapshot) snapshot = NULL;
  uint8_t byte;

  if (!can_have_note ())
    return;
  config.cbw_timeout = 0;
  open_set ();
  freeze ("a", a);
  must_write (1, 2);
  freeze ("b", a);
  close_set ();
  open_set (); /* reads the tables of the newest only */
  calls_hook (1U << CALL_STORE, 1U << CALL_READ | CALLS_DATA_CHANGES, fail_io, NULL, &works);
  snapshot = snapshots_find (set, "a");
  ck_assert_int_eq (snapshot_read (snapshot, 0, &byte, 1, GRANULE), -EIO);
  ck_assert (has_note ());
  atomic_store (&works, true);
  g_clear_pointer (&snapshot, snapshot_unref);
  assert_broken ("a", "reading an overlay");
  close_set ();
}
END_TEST

/* The store did not take the mark once; later it does. The note of it at the image is not needed
 * any more when the store is closed clean, and breaks nothing at the next start. */
START_TEST (test_note_at_end)
{
  static uint8_t a[SIZE], b[SIZE];
  static atomic_bool works;

  if (!can_have_note ())
    return;
  atomic_store (&works, false);
  config.cbw_timeout = 0;
  open_set ();
  freeze ("a", a);
  calls_hook (1U << CALL_STORE, CALLS_DATA_CHANGES, fail_io, NULL, &works);
  must_write (1, 2);
  ck_assert (has_note ());
  assert_broken ("a", "writing old blocks");
  atomic_store (&works, true);
  freeze ("b", b);
  must_write (1, 3);
  close_set ();
  ck_assert (!has_note ());
  open_set ();
  assert_broken ("a", "writing old blocks");
  assert_right ("b", b);
  close_set ();
}
END_TEST

static void *
read_cut (void *result)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, "a");
  uint8_t bytes[GRANULE];

  *(ssize_t *) result = snapshot_read (snapshot, 0, bytes, GRANULE, 40 * GRANULE);
  return NULL;
}

/* A reader finds that somebody has cut off the image, and hangs on the store that it tells of it:
 * no guest waits for that read any more. */
START_TEST (test_reader_of_cut)
{
  static uint8_t a[SIZE];
  pthread_t reader;
  ssize_t n = 0;

  if (!can_have_note ())
    return;
  open_set ();
  freeze ("a", a);
  hang_store (CALLS_DATA_CHANGES);
  ck_assert_int_eq (truncate (test_path ("disk.img"), 40 * GRANULE), 0);
  ck_assert_int_eq (pthread_create (&reader, NULL, read_cut, &n), 0);
  calls_wait_hanging ();
  must_write (40, 2); /* after a second */
  calls_release ();
  pthread_join (reader, NULL);
  ck_assert_int_eq (n, -EIO);
  assert_broken ("a", "shorter");
  close_set ();
}
END_TEST

/* In a child process: killed when its guest's write is through and the store still hangs. */
static void
be_killed (void)
{
  static uint8_t a[SIZE];

  open_set ();
  freeze ("a", a);
  hang_store (CALLS_DATA_CHANGES);
  must_write (1, 2);
  kill (getpid (), SIGKILL);
}

static CallFate
fail_with_eio (const Call *call, void *data)
{
  (void) call;
  (void) data;
  return (CallFate){ CALL_FAIL, EIO, 0 };
}

/* While a note cannot be read it may be there. */
static void
assert_refused_without_note (void)
{
  const SnapshotsImage image = { "disk.img", test_path ("disk.img") };
  g_autoptr (GError) error = NULL;

  calls_watch (CALL_SOURCE, image.path);
  calls_hook (1U << CALL_SOURCE, 1U << CALL_GETXATTR, fail_with_eio, NULL, NULL);
  ck_assert_ptr_null (snapshots_open (&config, &image, 1, &error));
  ck_assert_msg (strstr (error->message, NOTE) != NULL, "%s", error->message);
  calls_hook (0, 0, NULL, NULL, NULL);
}

/* The store could not be told what broke, but the image was. */
START_TEST (test_kill)
{
  static uint8_t b[SIZE];
  int status;
  pid_t child;

  if (!can_have_note ())
    return;
  child = fork ();
  ck_assert_int_ge (child, 0);
  if (child == 0)
    {
      be_killed ();
      _exit (1);
    }
  ck_assert_int_eq (waitpid (child, &status, 0), child);
  ck_assert (WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL);
  ck_assert (has_note ());
  assert_refused_without_note ();

  open_set ();
  assert_live (1, 2);
  assert_broken ("a", "could not be kept");
  ck_assert (!has_note ());
  freeze ("b", b);
  must_write (1, 3);
  assert_right ("b", b);
  close_set ();
  open_set ();
  assert_broken ("a", "could not be kept");
  assert_right ("b", b);
  close_set ();
}
END_TEST

/* The header of the overlay of snapshot number 1 or 2 is written: it waits for the test. */
static sem_t at_header[2], let_go[2];

static _Thread_local bool refuses_notes;

/* Copies hang; the image refuses the notes of one thread. */
static CallFate
hold (const Call *call, void *data)
{
  unsigned i = strstr (call->path, "/000002/") != NULL ? 1 : 0;

  (void) data;
  if (call->kind == CALL_XATTR && refuses_notes)
    return (CallFate){ CALL_FAIL, ENOSPC, 0 };
  if (call->place == CALL_SOURCE)
    return (CallFate){ CALL_GO_ON, 0, 0 };
  if (call->offset > 0 || !g_str_has_suffix (call->path, ".qcow2"))
    return (CallFate){ CALL_HANG, 0, 0 };
  sem_post (&at_header[i]);
  sem_wait (&let_go[i]);
  sem_post (&let_go[i]); /* for all that come later */
  return (CallFate){ CALL_GO_ON, 0, 0 };
}

static void *
write_without_note (void *granule)
{
  refuses_notes = true;
  return write_in_thread (granule);
}

/* The write that breaks "b" cannot leave a note and waits until the mark stands in the overlay.
 * Then it must not take away the note of the write that broke "a", whose mark still hangs. */
START_TEST (test_note_of_another)
{
  static uint8_t a[SIZE], b[SIZE];
  unsigned place = 1;
  pthread_t thread;

  if (!can_have_note ())
    return;
  for (unsigned i = 0; i < 2; i++)
    ck_assert (sem_init (&at_header[i], 0, 0) == 0 && sem_init (&let_go[i], 0, 0) == 0);
  calls_watch (CALL_SOURCE, test_path ("disk.img"));
  open_set ();
  freeze ("a", a);
  must_write (1, 2);
  freeze ("b", b);
  must_write (0, 2);

  calls_hook (1U << CALL_STORE | 1U << CALL_SOURCE, CALLS_DATA_CHANGES | 1U << CALL_XATTR, hold,
              NULL, NULL);
  ck_assert_int_eq (pthread_create (&thread, NULL, write_without_note, &place), 0);
  sem_wait (&at_header[1]);
  ck_assert (!has_note ());
  must_write (2, 2);
  sem_wait (&at_header[0]);
  ck_assert (has_note ());
  sem_post (&let_go[1]);
  ck_assert_int_eq (pthread_join (thread, NULL), 0);
  ck_assert (has_note ());
  assert_broken ("a", "cbw-timeout");
  assert_broken ("b", "cbw-timeout");

  sem_post (&let_go[0]);
  calls_release ();
  close_set ();
  ck_assert (!has_note ());
}
END_TEST

static CallFate
fail_in_snapshots (const Call *call, void *data)
{
  (void) data;
  return (CallFate){ strstr (call->path, "/snapshots") != NULL ? CALL_FAIL : CALL_GO_ON, EIO, 0 };
}

/* A start that finds the image changed, and cannot write down that the snapshot is broken. */
START_TEST (test_start_refused)
{
  const SnapshotsImage image = { "disk.img", test_path ("disk.img") };
  static uint8_t a[SIZE];
  g_autoptr (GError) error = NULL;

  open_set ();
  freeze ("a", a);
  must_write (1, 2);
  close_set ();
  test_make_file (image.path, SIZE, 3);

  calls_hook (1U << CALL_STORE, CALLS_CHANGES, fail_in_snapshots, NULL, NULL);
  set = snapshots_open (&config, &image, 1, &error);
  ck_assert_msg (set != NULL, "%s", error != NULL ? error->message : "");
  ck_assert (!snapshots_start (set, &error));
  ck_assert_msg (strstr (error->message, "that snapshots are broken") != NULL, "%s",
                 error->message);
  snapshots_abandon (set);
  calls_hook (0, 0, NULL, NULL, NULL);

  open_set ();
  assert_broken ("a", "was changed");
  close_set ();
}
END_TEST

/* --- late copies and merges --- */

/* A copy of granule 5 for "b" begins, and is late: its write is refused. */
static void
begin_late_copy (void)
{
  pause_arm ("writer:claimed");
  ck_assert_int_eq (write_granule (5, 8), -ETIMEDOUT);
  pause_wait_reached ("writer:claimed");
}

/* "b" is removed while the copy is under way. The copy ends when the merge waits for it; or, in an
 * engine where it does not, when it has copied all. On return the merge has. */
static void
remove_under_late_copy (void)
{
  const char *reached;

  pause_arm ("merge:copied");
  pause_watch ("merge:late");
  ck_assert_int_eq (snapshots_remove (set, "b"), 0);
  reached = pause_wait_either ("merge:copied", "merge:late");
  pause_arm ("writer:recorded");
  pause_release ("writer:claimed");
  pause_wait_reached ("writer:recorded");
  pause_release ("writer:recorded");
  if (strcmp (reached, "merge:late") == 0)
    pause_wait_reached ("merge:copied");
  pause_release ("merge:late");
}

static void
end_merge (void)
{
  pause_arm ("merge:done");
  pause_release ("merge:copied");
  pause_wait_reached ("merge:done");
  pause_release ("merge:done");
}

/* The copy comes to "b" after the merge was there. If a guest's write took it for saved, it would
 * go with "b". */
START_TEST (test_late_down)
{
  static uint8_t a[SIZE], b[SIZE];

  config.on_cbw_error = DISK_CBW_BREAK_GUEST_WRITE;
  config.durable = true;
  open_set ();
  freeze ("a", a);
  must_write (0, 2);
  freeze ("b", b);
  begin_late_copy ();
  remove_under_late_copy ();
  must_write (5, 9);
  end_merge ();
  assert_right ("a", a);
  close_set ();
}
END_TEST

/* The copy comes to "b" where the merge has put the block of "a". */
START_TEST (test_late_up)
{
  static uint8_t a[SIZE], b[SIZE];

  config.on_cbw_error = DISK_CBW_BREAK_GUEST_WRITE;
  config.durable = true;
  open_set ();
  freeze ("a", a);
  must_write (5, 2);
  freeze ("b", b);
  for (unsigned i = 16; i < 48; i++)
    must_write (i, 2);
  begin_late_copy ();
  remove_under_late_copy ();
  end_merge ();
  assert_right ("a", a);
  close_set ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("deadline");
  TCase *tcase = tcase_create ("deadline");

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_add_loop_test (tcase, test_break, 0, G_N_ELEMENTS (hanging));
  tcase_add_loop_test (tcase, test_refuse, 0, G_N_ELEMENTS (hanging));
  tcase_add_test (tcase, test_neighbour);
  tcase_add_test (tcase, test_others);
  tcase_add_test (tcase, test_second_write);
  tcase_add_test (tcase, test_late_copy_and_mkdir);
  tcase_add_test (tcase, test_reader);
  tcase_add_test (tcase, test_note_at_end);
  tcase_add_test (tcase, test_reader_of_cut);
  tcase_add_test (tcase, test_kill);
  suite_add_tcase (suite, tcase);
  tcase = tcase_create ("note");
  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_add_test (tcase, test_note_of_another);
  tcase_add_test (tcase, test_start_refused);
  suite_add_tcase (suite, tcase);
  tcase = tcase_create ("late");
  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_set_timeout (tcase, 60); /* a merge that waits looks again after some seconds */
  tcase_add_test (tcase, test_late_down);
  tcase_add_test (tcase, test_late_up);
  suite_add_tcase (suite, tcase);
  return test_main (suite);
}
