/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where it stands that a snapshot is broken, when the store takes nothing more: at the image, in
 * the seal (store/seal.h), or nowhere, and then the guest's write is held. Whatever comes, no start
 * calls a snapshot right whose blocks are gone. */
#include "calls.h"
#include "snapshot/merge.h"
#include "snapshot/survey.h"
#include "store/seal.h"
#include "test-util.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define GRANULE 4096
#define SIZE (16 * GRANULE)

enum
{
  STORE = 1, /* fails to be written: EIO */
  SEAL = 2,  /* the same */
  NOTES = 4, /* there is no space for an attribute of the image */
  IMAGE = 8, /* it takes none, and loses none */
};

static atomic_uint failing;
static atomic_bool ending;

static const char *seals; /* their directory */
static Snapshots *set;
static SnapshotsConfig config;
static uint8_t picture[SIZE]; /* of "a" */

static CallFate
decide (const Call *call, void *data)
{
  unsigned fails = atomic_load (&failing);
  bool is_seal = g_str_has_prefix (call->path, seals);

  (void) data;
  if (call->kind == CALL_XATTR && (fails & IMAGE) != 0)
    return (CallFate){ CALL_FAIL, call->bytes != NULL ? EOPNOTSUPP : EIO, 0 };
  if (call->kind == CALL_XATTR && (fails & NOTES) != 0 && call->bytes != NULL)
    return (CallFate){ CALL_FAIL, ENOSPC, 0 };
  if (call->kind == CALL_WRITE && is_seal && (fails & SEAL) != 0)
    return (CallFate){ CALL_FAIL, EIO, 0 };
  if (call->place == CALL_STORE && (fails & STORE) != 0)
    return (CallFate){ CALL_FAIL, EIO, 0 };
  return (CallFate){ CALL_GO_ON, 0, 0 };
}

static bool
is_ending (void *data)
{
  (void) data;
  return atomic_load (&ending);
}

static void
set_up (void)
{
  test_set_up ();
  test_make_file (test_path ("disk.img"), SIZE, 1);
  test_fill (picture, SIZE, 1, 0);
  seals = test_path ("run/fleecefs");
  config = (SnapshotsConfig){ .store = test_path ("store"),
                              .granule = GRANULE,
                              .max_snapshots = 10,
                              .copy = DISK_COPY_BOUNCE,
                              .run_dir = seals,
                              .state_dir = seals,
                              .is_ending = is_ending };
  atomic_store (&failing, 0);
  atomic_store (&ending, false);
  calls_watch (CALL_STORE, test_path ("store"));
  calls_watch (CALL_SOURCE, test_path ("disk.img"));
  calls_watch (CALL_SOURCE, test_path ("run"));
  calls_hook (1U << CALL_STORE | 1U << CALL_SOURCE, CALLS_CHANGES | 1U << CALL_XATTR, decide, NULL,
              NULL);
}

static void
tear_down (void)
{
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  test_tear_down ();
}

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

/* The process dies, and then the store is there again. */
static void
kill_set (void)
{
  merge_stop (set);
  snapshots_abandon (set); /* closes and writes nothing, for the store has snapshots */
  atomic_fetch_and (&failing, ~(unsigned) STORE);
}

static ssize_t
write_granule (unsigned granule, unsigned seed)
{
  uint8_t bytes[GRANULE];

  test_fill (bytes, GRANULE, seed, granule * GRANULE);
  return disk_write (snapshots_disk (set, 0), bytes, GRANULE, granule * GRANULE, IO_SYNC_NONE);
}

static void
assert_right (const char *name, const uint8_t *expected)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, name);
  uint8_t bytes[SIZE];

  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, SIZE, 0), SIZE);
  test_assert_bytes (name, bytes, expected, SIZE);
}

static void
assert_broken (const char *name, const char *reason)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, name);
  g_autofree char *broken = snapshot_dup_broken (snapshot);
  uint8_t bytes[SIZE];

  ck_assert_ptr_nonnull (broken);
  ck_assert_msg (strstr (broken, reason) != NULL, "%s", broken);
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, SIZE, 0), -EIO);
}

static unsigned
n_seals (void)
{
  g_autoptr (GDir) dir = g_dir_open (seals, 0, NULL);
  unsigned n = 0;

  while (dir != NULL && g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

static bool
can_be_marked (void)
{
  if (setxattr (test_path ("disk.img"), "user.test", "x", 1, 0) == 0)
    return true;
  test_skip ("marks at the image", "no extended attributes in TMPDIR");
  return false;
}

static const struct
{
  bool durable;
  unsigned cbw_timeout;
} ways[] = { { false, 0 }, { false, 1 }, { true, 0 }, { true, 1 } };

static void
choose (int i)
{
  config.durable = ways[i].durable;
  config.cbw_timeout = ways[i].cbw_timeout;
}

/* A snapshot "a", of which one block is saved and another cannot be. */
static void
break_a (void)
{
  ck_assert_int_eq (snapshots_create (set, "a", NULL), 0);
  ck_assert_int_eq (write_granule (0, 2), GRANULE);
  atomic_fetch_or (&failing, STORE);
  ck_assert_int_eq (write_granule (1, 2), GRANULE);
  assert_broken ("a", "writing old blocks");
}

/* A snapshot of now is right, also after a kill; "a" stays broken. */
static void
go_on_after_break (const char *reason)
{
  static uint8_t now[SIZE];

  open_set ();
  assert_broken ("a", reason);
  ck_assert_int_eq (disk_read (snapshots_disk (set, 0), now, SIZE, 0), SIZE);
  ck_assert_int_eq (snapshots_create (set, "b", NULL), 0);
  ck_assert_int_eq (write_granule (1, 3), GRANULE);
  kill_set ();
  open_set ();
  assert_broken ("a", reason);
  assert_right ("b", now);
  close_set ();
  ck_assert_uint_eq (n_seals (), 0);
}

START_TEST (test_seal)
{
  choose (_i);
  atomic_store (&failing, IMAGE);
  open_set ();
  break_a ();
  ck_assert_uint_eq (disk_n_held (snapshots_disk (set, 0)), 0);
  kill_set ();
  ck_assert_uint_eq (n_seals (), 1);
  go_on_after_break ("the seal of the store is broken");
}
END_TEST

/* Without a break a kill costs nothing. */
START_TEST (test_whole)
{
  choose (_i);
  atomic_store (&failing, IMAGE);
  open_set ();
  ck_assert_int_eq (snapshots_create (set, "a", NULL), 0);
  for (unsigned i = 0; i < 2; i++)
    {
      ck_assert_int_eq (write_granule (i, 2), GRANULE);
      kill_set ();
      ck_assert_uint_eq (n_seals (), 1);
      open_set ();
      assert_right ("a", picture);
    }
  close_set ();
  ck_assert_uint_eq (n_seals (), 0);
}
END_TEST

static char *
seal_path (void)
{
  g_autoptr (GDir) dir = g_dir_open (seals, 0, NULL);

  return g_build_filename (seals, g_dir_read_name (dir), NULL);
}

/* It is trusted only with its seal. */
START_TEST (test_seal_gone)
{
  g_autofree char *path = NULL;

  choose (_i);
  atomic_store (&failing, IMAGE);
  open_set ();
  ck_assert_int_eq (snapshots_create (set, "a", NULL), 0);
  kill_set ();
  path = seal_path ();
  ck_assert_int_eq (unlink (path), 0);
  go_on_after_break ("seal");
}
END_TEST

/* Who has another's seal is a copy. */
START_TEST (test_seal_in_use)
{
  g_autofree char *path = NULL, *name = NULL, *doubt = NULL;
  g_autoptr (GError) error = NULL;

  atomic_store (&failing, IMAGE);
  open_set ();
  path = seal_path ();
  name = g_path_get_basename (path);
  ck_assert (seal_ask (seals, name, 1, &doubt, &error));
  ck_assert_ptr_nonnull (doubt);
  ck_assert_ptr_nonnull (strstr (doubt, "copy"));
  seal_remove (seals, name);
  ck_assert_uint_eq (n_seals (), 1);
  close_set ();
}
END_TEST

/* The image could have had a note, were there space. */
START_TEST (test_mark)
{
  if (!can_be_marked ())
    return;
  choose (_i);
  open_set ();
  atomic_store (&failing, NOTES);
  break_a ();
  kill_set ();
  atomic_store (&failing, 0);
  go_on_after_break ("lost the mark of this store");
}
END_TEST

static void *
write_in_thread (void *result)
{
  *(ssize_t *) result = write_granule (1, 2);
  return NULL;
}

static void
await_held (void)
{
  while (disk_n_held (snapshots_disk (set, 0)) == 0)
    g_usleep (1000);
}

static void
assert_not_written (void)
{
  uint8_t bytes[GRANULE];

  ck_assert_int_eq (disk_read (snapshots_disk (set, 0), bytes, GRANULE, GRANULE), GRANULE);
  test_assert_bytes ("live", bytes, picture + GRANULE, GRANULE);
}

/* No place takes it: the guest's write is held, and the status says so. */
static pthread_t
hold_write (ssize_t *result)
{
  pthread_t thread;

  ck_assert_int_eq (snapshots_create (set, "a", NULL), 0);
  atomic_fetch_or (&failing, STORE | SEAL | IMAGE);
  ck_assert_int_eq (pthread_create (&thread, NULL, write_in_thread, result), 0);
  await_held ();
  assert_not_written ();
  {
    g_autoptr (Survey) survey = survey_new (set);

    ck_assert_uint_eq (survey->disks[0].n_held, 1);
  }
  return thread;
}

/* Then one place takes it. */
static const unsigned returning[] = { STORE, SEAL, IMAGE };

START_TEST (test_held)
{
  unsigned back = returning[(unsigned) _i % 3];
  pthread_t thread;
  ssize_t n = 0;

  choose (_i / 3);
  if (back == IMAGE && !can_be_marked ())
    return;
  if (back != IMAGE)
    atomic_store (&failing, IMAGE);
  open_set ();
  thread = hold_write (&n);
  atomic_fetch_and (&failing, ~back);
  ck_assert_int_eq (pthread_join (thread, NULL), 0);
  ck_assert_int_eq (n, GRANULE);
  ck_assert_uint_eq (disk_n_held (snapshots_disk (set, 0)), 0);
  kill_set ();
  atomic_store (&failing, back == IMAGE ? 0 : IMAGE);
  open_set ();
  assert_broken ("a", "old blocks");
  close_set ();
}
END_TEST

/* The end does not wait for it: the write is refused, and so nothing was lost. */
START_TEST (test_stop)
{
  pthread_t thread;
  ssize_t n = 0;

  choose (_i);
  atomic_store (&failing, IMAGE);
  open_set ();
  thread = hold_write (&n);
  atomic_store (&ending, true);
  ck_assert_int_eq (pthread_join (thread, NULL), 0);
  ck_assert_int_eq (n, -EIO);
  assert_not_written ();
  kill_set ();
  atomic_store (&failing, IMAGE);
  open_set ();
  assert_right ("a", picture);
  close_set ();
}
END_TEST

/* Where there is no directory for a seal. */
START_TEST (test_no_seal)
{
  pthread_t thread;
  ssize_t n = 0;

  choose (_i);
  config.run_dir = config.state_dir = NULL;
  atomic_store (&failing, IMAGE);
  open_set ();
  thread = hold_write (&n);
  atomic_fetch_and (&failing, ~(unsigned) STORE);
  ck_assert_int_eq (pthread_join (thread, NULL), 0);
  ck_assert_int_eq (n, GRANULE);
  kill_set ();
  open_set ();
  assert_broken ("a", "old blocks");
  close_set ();
}
END_TEST

/* Killed while the write is held: it never came to the image. */
START_TEST (test_kill_held)
{
  int status;
  pid_t child;

  choose (_i);
  atomic_store (&failing, IMAGE);
  child = fork ();
  ck_assert_int_ge (child, 0);
  if (child == 0)
    {
      ssize_t n = 0;

      open_set ();
      hold_write (&n);
      kill (getpid (), SIGKILL);
    }
  ck_assert_int_eq (waitpid (child, &status, 0), child);
  ck_assert (WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL);
  open_set ();
  assert_right ("a", picture);
  close_set ();
}
END_TEST

/* Nothing breaks, so nothing has to be written down. */
START_TEST (test_refuse)
{
  choose (_i);
  config.on_cbw_error = DISK_CBW_BREAK_GUEST_WRITE;
  atomic_store (&failing, IMAGE);
  open_set ();
  ck_assert_int_eq (snapshots_create (set, "a", NULL), 0);
  atomic_fetch_or (&failing, STORE | SEAL);
  ck_assert_int_eq (write_granule (1, 2), -EIO);
  assert_not_written ();
  kill_set ();
  atomic_store (&failing, IMAGE);
  open_set ();
  assert_right ("a", picture);
  close_set ();
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("held");
  TCase *tcase = tcase_create ("held");
  int n = G_N_ELEMENTS (ways);

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_set_timeout (tcase, 30);
  suite_add_tcase (suite, tcase);
  tcase_add_loop_test (tcase, test_seal, 0, n);
  tcase_add_loop_test (tcase, test_whole, 0, n);
  tcase_add_loop_test (tcase, test_seal_gone, 0, n);
  tcase_add_test (tcase, test_seal_in_use);
  tcase_add_loop_test (tcase, test_mark, 0, n);
  tcase_add_loop_test (tcase, test_held, 0, 3 * n);
  tcase_add_loop_test (tcase, test_stop, 0, n);
  tcase_add_loop_test (tcase, test_no_seal, 0, n);
  tcase_add_loop_test (tcase, test_kill_held, 0, n);
  tcase_add_loop_test (tcase, test_refuse, 0, n);
  return test_main (suite);
}
