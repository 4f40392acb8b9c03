/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A start that meets an error of the moment, as a lack of memory or of descriptors, breaks nothing:
 * it goes on without what failed, or ends, and the next one finds all as it was. */
#include "base/fail.h"
#include "calls.h"
#include "snapshot/merge.h"
#include "snapshot/snapshots.h"
#include "test-util.h"

#include <errno.h>
#include <string.h>

#define GRANULE 4096
#define SIZE (16 * GRANULE)
#define SNAPSHOTS 3
#define LOOKS                                                                                      \
  (1U << CALL_READ | 1U << CALL_SEEK | 1U << CALL_STAT | 1U << CALL_OPEN | 1U << CALL_GETXATTR)

static Snapshots *set;
static uint8_t pictures[SNAPSHOTS][SIZE];

/* What fails: the nth call from now on. */
static struct
{
  uint64_t nth;
  int errnum;
  bool met;
} fault;

static bool
try_open (bool durable, GError **error)
{
  const SnapshotsConfig config = { .store = test_path ("store"),
                                   .granule = GRANULE,
                                   .max_snapshots = 10,
                                   .durable = durable,
                                   .copy = DISK_COPY_BOUNCE };
  const SnapshotsImage image = { "disk.img", test_path ("disk.img") };

  set = snapshots_open (&config, &image, 1, error);
  if (set == NULL || snapshots_start (set, error))
    return set != NULL;
  snapshots_abandon (set);
  return false;
}

static void
open_set (bool durable)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (try_open (durable, &error), "%s", error != NULL ? error->message : "");
}

static void
leave (bool killed)
{
  g_autoptr (GError) error = NULL;

  if (killed)
    {
      merge_stop (set);
      snapshots_abandon (set); /* as a kill: writes nothing */
    }
  else
    ck_assert_msg (snapshots_close (set, &error), "%s", error != NULL ? error->message : "");
}

/* Each snapshot has old blocks of its own. */
static void
make_snapshots (void)
{
  for (unsigned i = 0; i < SNAPSHOTS; i++)
    {
      g_autofree char *name = g_strdup_printf ("s%u", i);
      uint8_t bytes[2 * GRANULE];

      ck_assert_int_eq (disk_read (snapshots_disk (set, 0), pictures[i], SIZE, 0), SIZE);
      ck_assert_int_eq (snapshots_create (set, name, NULL), 0);
      test_fill (bytes, sizeof bytes, 2 + i, i * GRANULE);
      ck_assert_int_eq (
          disk_write (snapshots_disk (set, 0), bytes, sizeof bytes, i * GRANULE, IO_SYNC_NONE),
          sizeof bytes);
    }
}

static void
assert_right (void)
{
  for (unsigned i = 0; i < SNAPSHOTS; i++)
    {
      g_autofree char *name = g_strdup_printf ("s%u", i);
      g_autoptr (Snapshot) snapshot = snapshots_find (set, name);
      uint8_t bytes[SIZE];

      ck_assert_msg (snapshot != NULL, "%s is gone after call %u", name, (unsigned) fault.nth);
      ck_assert_msg (snapshot_read (snapshot, 0, bytes, SIZE, 0) == SIZE,
                     "%s is broken after call %u: %s", name, (unsigned) fault.nth,
                     snapshot_dup_broken (snapshot));
      test_assert_bytes (name, bytes, pictures[i], SIZE);
    }
}

static CallFate
fail_nth (const Call *call, G_GNUC_UNUSED void *data)
{
  bool is_it = call->number == fault.nth;

  fault.met = fault.met || is_it;
  return (CallFate){ is_it ? CALL_FAIL : CALL_GO_ON, fault.errnum, 0 };
}

/* Loop: which error; was it killed before; durability. */
START_TEST (test_error_of_the_moment)
{
  static const int errnums[] = { ENOMEM, EMFILE };
  bool killed = _i / 2 % 2 == 1, durable = _i / 4 == 1;
  unsigned n_refused = 0;

  fault.errnum = errnums[_i % 2];
  open_set (durable);
  make_snapshots ();
  leave (killed);
  for (fault.nth = 1, fault.met = true; fault.met; fault.nth++)
    {
      g_autoptr (GError) error = NULL;
      bool opened;

      fault.met = false;
      calls_hook (1U << CALL_STORE | 1U << CALL_SOURCE,
                  fault.errnum == EMFILE ? 1U << CALL_OPEN : LOOKS, fail_nth, NULL, NULL);
      opened = try_open (durable, &error);
      calls_hook (0, 0, NULL, NULL, NULL);
      if (opened)
        assert_right ();
      else
        n_refused++;
      if (opened)
        leave (killed);
      open_set (durable);
      assert_right ();
      leave (killed);
    }
  ck_assert_uint_gt (n_refused, 0);
}
END_TEST

static void
set_up (void)
{
  test_set_up ();
  test_make_file (test_path ("disk.img"), SIZE, 1);
  calls_watch (CALL_SOURCE, test_path ("disk.img"));
  calls_watch (CALL_STORE, test_path ("store"));
}

static void
tear_down (void)
{
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  test_tear_down ();
}

int
main (void)
{
  Suite *suite = suite_create ("start");
  TCase *tcase = tcase_create ("start");

  test_in_memory ();
  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_add_loop_test (tcase, test_error_of_the_moment, 0, 8);
  suite_add_tcase (suite, tcase);
  return test_main (suite);
}
