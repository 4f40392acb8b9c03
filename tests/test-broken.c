/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What breaks when an old block cannot be kept, and what does not.
 *
 * Three snapshots; which of them had saved the block before the fault is the table. A snapshot
 * needs the fault's block unless it or a newer one has saved it: just those must be broken, and
 * stay so over a remount, and the others read every byte of their instant. */
#include "base/pause.h"
#include "base/units.h"
#include "snapshot/survey.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define GRANULE 4096
#define N_GRANULES 64
#define SIZE (N_GRANULES * GRANULE)
#define N 3 /* snapshots */

/* The granules in question are those of the second cluster; the first one's give every overlay a
 * table. */
#define PLACE 32
#define CLUSTER 0x20000 /* bytes, of an overlay */

static Snapshots *set;
static SnapshotsImage images[2];
static unsigned n_images;
static DiskCbwError policy;
static uint8_t pictures[N][SIZE];
static sem_t told;

static void
note_told (Snapshot *snapshot, void *data)
{
  (void) snapshot;
  (void) data;
  sem_post (&told);
}

static void
open_set (void)
{
  g_autoptr (GError) error = NULL;
  SnapshotsConfig config = { .store = test_path ("store"),
                             .granule = GRANULE,
                             .max_snapshots = 10,
                             .copy = DISK_COPY_BOUNCE,
                             .on_cbw_error = policy };

  set = snapshots_open (&config, images, n_images, &error);
  ck_assert_msg (set != NULL, "%s", error != NULL ? error->message : "");
  snapshots_set_broken_func (set, note_told, NULL);
  ck_assert_msg (snapshots_start (set, &error), "%s", error != NULL ? error->message : "");
}

static void
close_set (void)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (snapshots_close (set, &error), "%s", error != NULL ? error->message : "");
}

static void
add_image (const char *name)
{
  images[n_images] = (SnapshotsImage){ name, test_path (name) };
  test_make_file (images[n_images++].path, SIZE, 1);
}

static void
set_up (void)
{
  test_set_up ();
  n_images = 0;
  policy = DISK_CBW_BREAK_SNAPSHOT;
  ck_assert_int_eq (sem_init (&told, 0, 0), 0);
  add_image ("disk.img");
}

static void
tear_down (void)
{
  sem_destroy (&told);
  test_tear_down ();
}

/* A write of whole granules by the guest: its result. */
static ssize_t
write_granules (unsigned disk, unsigned first, unsigned n, unsigned seed)
{
  uint8_t bytes[SIZE];

  test_fill (bytes, n * GRANULE, seed, first * GRANULE);
  return disk_write (snapshots_disk (set, disk), bytes, n * GRANULE, first * GRANULE, IO_SYNC_NONE);
}

static void
must_write (unsigned first, unsigned n, unsigned seed)
{
  ck_assert_int_eq (write_granules (0, first, n, seed), n * GRANULE);
}

static const char *
name_of (unsigned i)
{
  static const char *const names[N] = { "a", "b", "c" };

  return names[i];
}

static void
freeze (unsigned i)
{
  ck_assert_int_eq (disk_read (snapshots_disk (set, 0), pictures[i], SIZE, 0), SIZE);
  ck_assert_int_eq (snapshots_create (set, name_of (i), NULL), 0);
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
  ck_assert_int_eq (snapshot_seek (snapshot, 0, 0, SEEK_DATA), 0);
}

static void
assert_broken (const char *name, const char *reason)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, name);
  g_autofree char *broken = snapshot_dup_broken (snapshot);
  uint8_t bytes[SIZE];

  ck_assert_msg (broken != NULL, "%s is not broken", name);
  ck_assert_msg (strstr (broken, reason) != NULL, "no '%s' in: %s", reason, broken);
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, SIZE, 0), -EIO);
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, 1, SIZE - 1), -EIO);
  ck_assert_int_eq (snapshot_seek (snapshot, 0, 0, SEEK_DATA), -EIO);
  ck_assert_int_eq (snapshot_seek (snapshot, 0, SIZE - 1, SEEK_HOLE), -EIO);
}

/* --- faults --- */

static int saved_fd; /* what the fault took away */

/* The descriptor of the source becomes one that cannot be read. */
static void
source_fails (void)
{
  int fd = source_fd (disk_source (snapshots_disk (set, 0)));
  int write_only = open (images[0].path, O_WRONLY);

  saved_fd = dup (fd);
  ck_assert (saved_fd >= 0 && write_only >= 0 && dup2 (write_only, fd) == fd);
  close (write_only);
}

static void
source_works (void)
{
  dup2 (saved_fd, source_fd (disk_source (snapshots_disk (set, 0))));
  close (saved_fd);
}

/* No file can be written beyond the size of the image: that is where an overlay has its blocks. Its
 * header comes before. */
static void
store_fails (void)
{
  signal (SIGXFSZ, SIG_IGN);
  ck_assert_int_eq (setrlimit (RLIMIT_FSIZE, &(struct rlimit){ SIZE, RLIM_INFINITY }), 0);
}

static void
store_works (void)
{
  setrlimit (RLIMIT_FSIZE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
}

/* The overlay in the middle has a table that cannot be right, and it is not loaded yet. (Those of
 * the newest are looked at when it is opened.) */
static void
lookup_fails (void)
{
  close_set ();
  test_poke (test_path ("store/snapshots/000002/disk.img.qcow2"), 4 * CLUSTER,
             "\x80\0\0\0\xff\0\0\0", 8);
  open_set ();
}

static void
nothing_works (void)
{
}

static void
source_is_cut (void)
{
  ck_assert_int_eq (truncate (images[0].path, PLACE * GRANULE), 0);
}

static const struct
{
  const char *reason;
  void (*begin) (void);
  void (*end) (void);
  bool middle_is_lost; /* what it has saved cannot be found any more; only readers look there */
  bool bytes_are_lost; /* also for those who only read */
} faults[] = {
  { "reading old blocks from the image", source_fails, source_works, false, false },
  { "writing old blocks to the store", store_fails, store_works, false, false },
  { "reading an overlay in the store", lookup_fails, nothing_works, true, true },
  { "shorter", source_is_cut, nothing_works, false, true },
};

/* --- the table --- */

#define ALL_SAVED 0x100   /* no snapshot needs anything */
#define MIDDLE_LOST 0x200 /* who needs that one is broken */

/* Does the snapshot need the granules at PLACE from the source? Bit i of saved: snapshot i has
 * them. */
static bool
needs (unsigned saved, unsigned snapshot)
{
  return (saved & MIDDLE_LOST) != 0 ? snapshot == 1 || (snapshot == 0 && (saved & 1) == 0)
                                    : saved >> snapshot == 0;
}

static void
assert_all (unsigned saved, const char *reason)
{
  for (unsigned i = 0; i < N; i++)
    if (needs (saved, i))
      assert_broken (name_of (i), reason);
    else
      assert_right (name_of (i), pictures[i]);
}

START_TEST (test_fault)
{
  unsigned saved = _i % 8, fault = _i / 8 % G_N_ELEMENTS (faults);
  bool copies = (saved & 1 << (N - 1)) == 0 && !faults[fault].middle_is_lost;
  uint8_t picture[SIZE];
  ssize_t result;

  policy
      = _i / 8 / G_N_ELEMENTS (faults) == 0 ? DISK_CBW_BREAK_SNAPSHOT : DISK_CBW_BREAK_GUEST_WRITE;
  open_set ();
  for (unsigned i = 0; i < N; i++)
    {
      freeze (i);
      must_write (0, saved & 1 << i ? N_GRANULES : 1, 2 + i);
    }

  faults[fault].begin ();
  result = write_granules (0, PLACE, 1, 5);
  faults[fault].end ();
  if (faults[fault].middle_is_lost)
    saved |= MIDDLE_LOST;
  if (policy == DISK_CBW_BREAK_SNAPSHOT || !copies)
    ck_assert_int_eq (result, GRANULE);
  else
    {
      ck_assert_int_lt (result, 0);
      if (!faults[fault].bytes_are_lost)
        {
          saved = ALL_SAVED;
          must_write (PLACE, 1, 5);
        }
    }
  for (unsigned i = 0; i < N && faults[fault].bytes_are_lost; i++)
    {
      g_autoptr (Snapshot) snapshot = snapshots_find (set, name_of (i)); /* notices */
      uint8_t byte;

      snapshot_read (snapshot, 0, &byte, 1, PLACE * GRANULE);
    }
  assert_all (saved, faults[fault].reason);

  if (policy == DISK_CBW_BREAK_SNAPSHOT)
    {
      /* A new one is right, and the others stay what they are. */
      ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), SIZE), 0);
      ck_assert_int_eq (disk_read (snapshots_disk (set, 0), picture, SIZE, 0), SIZE);
      ck_assert_int_eq (snapshots_create (set, "new", NULL), 0);
      must_write (0, N_GRANULES, 4);
      for (unsigned round = 0; round < 2; round++)
        {
          assert_all (saved, faults[fault].reason);
          assert_right ("new", picture);
          close_set ();
          open_set ();
        }
    }
  close_set ();
}
END_TEST

/* The guest's write makes a source longer again that somebody has cut off: what it skips reads as
 * zeros. A snapshot that has the block that is written, and not those, is lost too. */
START_TEST (test_tail)
{
  open_set ();
  freeze (0);
  must_write (PLACE + 10, 1, 2);
  freeze (1);
  source_is_cut ();
  must_write (PLACE + 10, 1, 3);
  assert_broken ("a", "shorter");
  assert_broken ("b", "shorter");
  close_set ();
}
END_TEST

/* The same, and no guest writes: it is the first reader who notices, also one who only looks for
 * holes, of which there seem to be many. */
START_TEST (test_tail_is_no_hole)
{
  g_autoptr (Snapshot) b = NULL;

  open_set ();
  freeze (0);
  must_write (PLACE + 10, 1, 2);
  freeze (1);
  source_is_cut ();
  b = snapshots_find (set, "b");
  ck_assert_int_eq (snapshot_seek (b, 0, PLACE * GRANULE, SEEK_DATA), -EIO);
  ck_assert_int_eq (truncate (images[0].path, SIZE), 0);
  assert_broken ("a", "shorter");
  assert_broken ("b", "shorter");
  g_clear_pointer (&b, snapshot_unref);
  close_set ();
}
END_TEST

/* When all are broken guests save no more; when only the newest is, they save what others need. */
START_TEST (test_given_up)
{
  uint64_t before, after;

  open_set ();
  freeze (0);
  if (_i == 1)
    must_write (PLACE, 1, 2);
  freeze (1);
  source_fails ();
  must_write (PLACE, 1, 3);
  source_works ();
  sem_wait (&told);
  assert_broken ("b", "reading");
  if (_i == 1)
    {
      sem_post (&told);
      assert_right ("a", pictures[0]);
    }

  before = test_disk_usage (test_path ("store"));
  must_write (PLACE, 1, 4);
  if (_i == 0)
    must_write (0, N_GRANULES, 4);
  after = test_disk_usage (test_path ("store"));
  ck_assert_uint_eq (after, before);
  if (_i == 1)
    {
      must_write (0, N_GRANULES, 4);
      assert_right ("a", pictures[0]);
    }
  close_set ();
}
END_TEST

/* --- who is told --- */

/* A snapshot of two disks that breaks in one and later in the other. */
START_TEST (test_told_of_each_disk)
{
  g_autoptr (Snapshot) a = NULL;
  uint8_t byte;

  add_image ("other.img");
  open_set ();
  freeze (0);
  a = snapshots_find (set, "a");
  for (unsigned disk = 0; disk < 2; disk++)
    {
      ck_assert_int_eq (snapshot_read (a, disk, &byte, 1, SIZE - 1), 1);
      ck_assert_int_eq (truncate (images[disk].path, PLACE * GRANULE), 0);
      ck_assert_int_eq (write_granules (disk, PLACE, 1, 5), GRANULE);
      sem_wait (&told);
      ck_assert_int_eq (snapshot_read (a, disk, &byte, 1, SIZE - 1), -EIO);
    }
  g_clear_pointer (&a, snapshot_unref);
  close_set ();
}
END_TEST

/* One that has lost its name is still open somewhere. */
START_TEST (test_told_of_removed)
{
  g_autoptr (Snapshot) a = NULL;
  uint8_t byte;

  open_set ();
  freeze (0);
  a = snapshots_find (set, "a");
  ck_assert_int_eq (snapshots_remove (set, "a"), 0);
  source_is_cut ();
  must_write (PLACE, 1, 5);
  sem_wait (&told);
  ck_assert_int_eq (snapshot_read (a, 0, &byte, 1, SIZE - 1), -EIO);
  g_clear_pointer (&a, snapshot_unref);
  close_set ();
}
END_TEST

static void *
look (void *data)
{
  (void) data;
  return survey_new (set);
}

/* Who looks while a disk breaks is told of one moment: the snapshot is broken just when one of its
 * disks is. */
START_TEST (test_survey)
{
  g_autoptr (Survey) survey = NULL;
  const SurveySnapshot *seen;
  pthread_t looker;
  void *out;

  add_image ("second.img");
  open_set ();
  ck_assert_int_eq (snapshots_create (set, "a", NULL), 0);
  pause_arm ("survey:disk-seen");
  pthread_create (&looker, NULL, look, NULL);
  pause_wait_reached ("survey:disk-seen");
  ck_assert_int_eq (truncate (images[1].path, PLACE * GRANULE), 0);
  ck_assert_int_eq (disk_write (snapshots_disk (set, 1), "x", 1, SIZE - 1, IO_SYNC_NONE), 1);
  pause_release ("survey:disk-seen");
  pthread_join (looker, &out);
  survey = out;
  seen = survey->snapshots->pdata[0];
  ck_assert (seen->images[0].broken == NULL && seen->images[1].broken != NULL);
  ck_assert_msg (seen->broken != NULL && strstr (seen->broken, seen->images[1].broken) != NULL,
                 "the snapshot is '%s'", seen->broken != NULL ? seen->broken : "ok");
  ck_assert_uint_eq (survey->n_broken, 1);
  close_set ();
}
END_TEST

static Suite *
broken_suite (void)
{
  const struct
  {
    const char *name;
    const TTest *test;
    int n_loops;
  } cases[] = {
    { "fault", test_fault, 2 * 8 * G_N_ELEMENTS (faults) },
    { "tail", test_tail, 1 },
    { "tail-is-no-hole", test_tail_is_no_hole, 1 },
    { "given-up", test_given_up, 2 },
    { "told-of-each-disk", test_told_of_each_disk, 1 },
    { "told-of-removed", test_told_of_removed, 1 },
    { "survey", test_survey, 1 },
  };
  Suite *suite = suite_create ("broken");

  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      TCase *tcase = tcase_create (cases[i].name);

      tcase_add_checked_fixture (tcase, set_up, tear_down);
      tcase_add_loop_test (tcase, cases[i].test, 0, cases[i].n_loops);
      suite_add_tcase (suite, tcase);
    }
  return suite;
}

int
main (void)
{
  return test_main (broken_suite ());
}
