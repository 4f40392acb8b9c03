/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whenever the daemon is killed, the store is a chain for QEMU: after each single change of the
 * store, by whatever verb or merge, every overlay of a layer with a record names a backing file
 * that is there. */
#include "base/io.h"
#include "calls.h"
#include "overlay/be.h"
#include "snapshot/snapshots.h"
#include "test-util.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define SIZE (300 * UINT64_C (4096))
#define N_SNAPSHOTS 6

static Snapshots *set;
static const char *layers;
static atomic_uint n_resizes; /* to be made in the midst of a mkdir */
static atomic_uint n_checks;

/* --- the check --- */

static void
check_overlay (const char *layer, const char *name)
{
  g_autofree char *path = g_build_filename (layers, layer, name, NULL);
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  uint8_t header[20];
  char backing[1024] = "";
  g_autofree char *resolved = NULL;

  if (fd < 0) /* between its layer's record and its own removal or making */
    return;
  ck_assert_int_eq (io_read_full (fd, header, sizeof header, 0), 0);
  ck_assert_uint_lt (be_load32 (header + 16), sizeof backing);
  ck_assert_int_eq (io_read_full (fd, backing, be_load32 (header + 16), be_load64 (header + 8)), 0);
  close (fd);
  resolved
      = backing[0] == '/' ? g_strdup (backing) : g_build_filename (layers, layer, backing, NULL);
  ck_assert_msg (access (resolved, F_OK) == 0, "%s/%s has the backing file %s, which is not there",
                 layer, name, backing);
}

static void
check_store (void)
{
  g_autoptr (GDir) directory = g_dir_open (layers, 0, NULL);
  const char *layer;

  while (directory != NULL && (layer = g_dir_read_name (directory)) != NULL)
    {
      g_autofree char *record = g_build_filename (layers, layer, "snapshot.ini", NULL);

      if (access (record, F_OK) == 0)
        check_overlay (layer, "disk.img.qcow2");
    }
  atomic_fetch_add (&n_checks, 1);
}

static CallFate
before (const Call *call, void *data)
{
  (void) data;
  if (call->kind == CALL_RENAME && atomic_load (&n_resizes) > 0)
    {
      unsigned n = atomic_fetch_sub (&n_resizes, 1);

      ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), SIZE + n * 512), 0);
    }
  return (CallFate){ CALL_GO_ON, 0, 0 };
}

static void
after (const Call *call, ssize_t result, int errnum, void *data)
{
  (void) call;
  (void) result;
  (void) errnum;
  (void) data;
  check_store ();
}

/* --- the set --- */

static void
set_up (void)
{
  test_set_up ();
  test_make_file (test_path ("disk.img"), SIZE, 1);
  layers = test_path ("store/snapshots");
  atomic_store (&n_resizes, 0);
  atomic_store (&n_checks, 0);
  calls_watch (CALL_STORE, test_path ("store"));
  calls_hook (1U << CALL_STORE, CALLS_CHANGES, before, after, NULL);
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
  const SnapshotsConfig config
      = { .store = test_path ("store"), .granule = 4096, .max_snapshots = N_SNAPSHOTS };
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

static unsigned
count_layers (void)
{
  g_autoptr (GDir) directory = g_dir_open (layers, 0, NULL);
  unsigned n = 0;

  while (g_dir_read_name (directory) != NULL)
    n++;
  return n;
}

static void
await_layers (unsigned n)
{
  int watch = inotify_init1 (IN_CLOEXEC | IN_NONBLOCK);
  struct pollfd wait = { .fd = watch, .events = POLLIN };
  uint8_t events[4096];

  ck_assert_int_ge (inotify_add_watch (watch, layers, IN_DELETE), 0);
  while (count_layers () > n)
    {
      ck_assert_int_eq (poll (&wait, 1, 20000), 1);
      while (read (watch, events, sizeof events) > 0)
        continue;
    }
  close (watch);
}

static void
make (const char *name, uint64_t n_granules)
{
  g_autofree uint8_t *bytes = g_malloc (n_granules * 4096);

  ck_assert_int_eq (snapshots_create (set, name, NULL), 0);
  test_fill (bytes, n_granules * 4096, n_granules, 0);
  ck_assert_int_eq (disk_write (snapshots_disk (set, 0), bytes, n_granules * 4096, 0, IO_SYNC_NONE),
                    n_granules * 4096);
}

/* --- tests --- */

/* The disk is resized between the making of the overlay and the freeze, so that it is made anew. */
START_TEST (test_resized_mkdir)
{
  open_set ();
  make ("a", 3);
  atomic_store (&n_resizes, (unsigned) _i);
  make ("b", 5);
  ck_assert_uint_eq (atomic_load (&n_resizes), 0);
  close_set ();
}
END_TEST

/* Snapshots are removed in several orders, merged up, down, or dropped. */
START_TEST (test_removals)
{
  static const char *const orders[][N_SNAPSHOTS] = {
    { "a", "b", "c", "d", "e", "f" }, { "f", "e", "d", "c", "b", "a" },
    { "b", "a", "d", "c", "f", "e" }, { "c", "b", "a", "e", "f", "d" },
    { "b", "d", "f", "a", "c", "e" },
  };
  static const unsigned sizes[N_SNAPSHOTS] = { 3, 200, 7, 100, 30, 1 };
  char name[2] = "a";

  open_set ();
  for (unsigned i = 0; i < N_SNAPSHOTS; i++, name[0]++)
    make (name, sizes[i]);
  for (unsigned i = 0; i < N_SNAPSHOTS; i++)
    {
      ck_assert_int_eq (snapshots_remove (set, orders[_i][i]), 0);
      if (i % 2 == 1)
        await_layers (N_SNAPSHOTS - 1 - i);
    }
  close_set ();
  ck_assert_uint_gt (atomic_load (&n_checks), 100);
}
END_TEST

static Suite *
make_suite (void)
{
  Suite *suite = suite_create ("backing");
  TCase *tcase = tcase_create ("backing");

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_add_loop_test (tcase, test_resized_mkdir, 0, 3);
  tcase_add_loop_test (tcase, test_removals, 0, 5);
  suite_add_tcase (suite, tcase);
  return suite;
}

int
main (void)
{
  return test_main (make_suite ());
}
