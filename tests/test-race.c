/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The races that the protocol excludes, forced.
 *
 * Each test brings its threads to the worst moment with pause points and then looks
 * at bytes. Where the engine must make a thread wait, the test waits for either of
 * two events: the thread waits, or it has come to where it can do harm. In the
 * second case it is let do the harm, so that wrong bytes fail the test, not an
 * order of events.
 *
 * tests/mutants.sh takes one safeguard at a time out of the engine and demands that
 * a test here fails.
 */
#include "base/pause.h"
#include "base/units.h"
#include "snapshot/snapshots.h"
#include "test-util.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define GRANULE 4096
#define DISK_SIZE (256 * 1024)
#define OLD 'o'
#define NEW 'n'

/* The granule in question; a truncate cuts the disk there. */
#define PLACE (40 * GRANULE)

static Snapshots *set;

static void
note_told (Snapshot *snapshot, void *data)
{
  (void) snapshot;
  (void) data;
  pause_point ("test:told");
}

/* Opens a set of disks that are full of OLD. */
static void
open_disks (const char *store, unsigned n_disks)
{
  g_autoptr (GError) error = NULL;
  SnapshotsConfig config = { .max_snapshots = 10, .copy = DISK_COPY_BOUNCE, .store = store };
  SnapshotsImage images[] = { { .name = "vm.img", .path = test_path ("vm.img") },
                              { .name = "second.img", .path = test_path ("second.img") } };
  g_autofree char *bytes = g_malloc (DISK_SIZE);

  memset (bytes, OLD, DISK_SIZE);
  for (unsigned i = 0; i < n_disks; i++)
    ck_assert (g_file_set_contents (images[i].path, bytes, DISK_SIZE, NULL));
  set = snapshots_open (&config, images, n_disks, &error);
  if (set != NULL)
    snapshots_set_broken_func (set, note_told, NULL);
  ck_assert_msg (set != NULL && snapshots_start (set, &error), "%s", error ? error->message : "");
}

static void
open_set (void)
{
  open_disks (NULL, 1);
}

static void
open_two (void)
{
  open_disks (test_path ("store"), 2);
}

static void
close_set (void)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (snapshots_close (set, &error), "%s", error ? error->message : "");
}

/* --- what threads do --- */

typedef enum
{
  WRITE_DATA,
  WRITE_ZERO,
  WRITE_PUNCH,
  WRITE_TRUNCATE,
  N_WRITES,
} Write;

/* Changes the granule at PLACE in one of the ways. */
static void *
change (void *data)
{
  Disk *disk = snapshots_disk (set, 0);
  char bytes[GRANULE];

  switch (*(Write *) data)
    {
    case WRITE_DATA:
      memset (bytes, NEW, sizeof bytes);
      ck_assert_int_eq (disk_write (disk, bytes, sizeof bytes, PLACE, IO_SYNC_NONE), sizeof bytes);
      break;
    case WRITE_ZERO:
      ck_assert_int_eq (disk_allocate (disk, FALLOC_FL_ZERO_RANGE, PLACE, GRANULE), 0);
      break;
    case WRITE_PUNCH:
      ck_assert_int_eq (
          disk_allocate (disk, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PLACE, GRANULE), 0);
      break;
    case WRITE_TRUNCATE:
      ck_assert_int_eq (disk_truncate (disk, PLACE), 0);
      break;
    case N_WRITES:
      break;
    }
  return NULL;
}

typedef struct
{
  const char *snapshot;
  char bytes[GRANULE];
  ssize_t n;
} Read;

static void
read_at (Read *read, uint64_t offset)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, read->snapshot);

  read->n = snapshot_read (snapshot, 0, read->bytes, GRANULE, offset);
}

static void *
read_place (void *data)
{
  read_at (data, PLACE);
  return NULL;
}

typedef struct
{
  int whence;
  int64_t found;
} Search;

/* Searches "oldest" from PLACE on. */
static void *
seek_place (void *data)
{
  Search *search = data;
  g_autoptr (Snapshot) snapshot = snapshots_find (set, "oldest");

  search->found = snapshot_seek (snapshot, 0, PLACE, search->whence);
  return NULL;
}

static void
mkdir_ (const char *name)
{
  ck_assert_int_eq (snapshots_create (set, name, NULL), 0);
}

static void *
mkdir_thread (void *name)
{
  mkdir_ (name);
  return NULL;
}

static pthread_t
start (void *(*function) (void *), void *data)
{
  pthread_t thread;

  ck_assert_int_eq (pthread_create (&thread, NULL, function, data), 0);
  return thread;
}

static void
join (pthread_t thread)
{
  ck_assert_int_eq (pthread_join (thread, NULL), 0);
}

static bool
is_all (const char *bytes, char c)
{
  for (int i = 0; i < GRANULE; i++)
    if (bytes[i] != c)
      return false;
  return true;
}

static void
assert_frozen (const Read *read)
{
  ck_assert_int_eq (read->n, GRANULE);
  ck_assert_msg (is_all (read->bytes, OLD), "the snapshot's reader got new bytes");
}

static void
assert_snapshot_is_old (const char *name)
{
  Read again = { .snapshot = name };

  read_place (&again);
  assert_frozen (&again);
}

/* A writer is on its way; it must not get past the reader that stands at a point.
 * Ends both. */
static void
let_them_meet (pthread_t writer, pthread_t reader, const char *reader_point, const Read *read)
{
  bool waits
      = strcmp (pause_wait_either ("tracker:wait", "writer:before-source"), "tracker:wait") == 0;

  if (!waits)
    {
      pause_release ("writer:before-source");
      join (writer);
    }
  pause_release (reader_point);
  join (reader);
  if (waits)
    {
      pause_wait_reached ("writer:before-source");
      pause_release ("writer:before-source");
      join (writer);
    }
  pause_release ("tracker:wait");
  assert_frozen (read);
  assert_snapshot_is_old (read->snapshot);
}

/* --- the tests; their loops go over Write --- */

static const char *const chain_of_three[] = { "oldest", "middle", "newest" };

static void
make_snapshots (unsigned n)
{
  for (unsigned i = 0; i < n; i++)
    mkdir_ (chain_of_three[i]);
}

/* The bug of 2018: "not saved" is found, and the write is through before the read. */
static void
reader_first (unsigned n_snapshots, Write write, bool mkdir_between)
{
  Read read = { .snapshot = "oldest" };
  pthread_t reader, writer;

  make_snapshots (n_snapshots);
  pause_arm ("reader:registered");
  reader = start (read_place, &read);
  pause_wait_reached ("reader:registered");
  if (mkdir_between)
    mkdir_ ("between");

  pause_watch ("tracker:wait");
  pause_arm ("writer:before-source");
  writer = start (change, &write);
  let_them_meet (writer, reader, "reader:registered", &read);
}

START_TEST (test_reader_first) { reader_first (1, _i, false); }
END_TEST

START_TEST (test_reader_first_oldest_of_three) { reader_first (3, _i, false); }
END_TEST

START_TEST (test_reader_first_mkdir_between) { reader_first (1, _i, true); }
END_TEST

/* The reader comes after the copy and before it is published: steps 4 and 5 in order. */
START_TEST (test_reader_before_publish)
{
  Read read = { .snapshot = "oldest" };
  Write write = _i;
  pthread_t reader, writer;

  make_snapshots (3);
  pause_arm ("writer:copied");
  writer = start (change, &write);
  pause_wait_reached ("writer:copied");
  pause_arm ("reader:registered");
  reader = start (read_place, &read);
  pause_wait_reached ("reader:registered");

  pause_watch ("tracker:wait");
  pause_arm ("writer:before-source");
  pause_release ("writer:copied");
  let_them_meet (writer, reader, "reader:registered", &read);
}
END_TEST

/* A second writer finds the granule saved by a first one that still waits. */
START_TEST (test_second_writer_waits_too)
{
  Read read = { .snapshot = "oldest" };
  Write write = _i;
  pthread_t reader, first, second;

  make_snapshots (1);
  pause_arm ("reader:registered");
  reader = start (read_place, &read);
  pause_wait_reached ("reader:registered");
  pause_watch ("tracker:wait");
  first = start (change, &(Write){ WRITE_DATA });
  pause_wait_reached ("tracker:wait");
  pause_release ("tracker:wait");

  /* Whichever of the two passes first is held at writer:before-source. */
  pause_watch ("tracker:wait");
  pause_arm ("writer:before-source");
  second = start (change, &write);
  if (strcmp (pause_wait_either ("tracker:wait", "writer:before-source"), "tracker:wait") != 0)
    {
      pause_release ("writer:before-source");
      join (second);
      pause_release ("reader:registered");
      join (reader);
      join (first);
    }
  else
    {
      pause_release ("reader:registered");
      join (reader);
      pause_wait_reached ("writer:before-source");
      pause_release ("writer:before-source");
      join (first);
      join (second);
    }
  pause_release ("tracker:wait");
  assert_frozen (&read);
  assert_snapshot_is_old ("oldest");
}
END_TEST

/* The reader has found "not saved"; only registered in the same breath does that hold. */
START_TEST (test_writer_between_lookup_and_registration)
{
  Read read = { .snapshot = "oldest" };
  Write write = _i;
  pthread_t reader, writer;

  make_snapshots (1);
  pause_arm ("reader:looked-up");
  pause_arm ("reader:registered");
  reader = start (read_place, &read);
  if (strcmp (pause_wait_either ("reader:looked-up", "reader:registered"), "reader:looked-up") == 0)
    {
      change (&write);
      pause_release ("reader:looked-up");
      pause_wait_reached ("reader:registered");
      pause_release ("reader:registered");
      join (reader);
    }
  else
    {
      pause_watch ("tracker:wait");
      writer = start (change, &write);
      pause_wait_reached ("tracker:wait");
      pause_release ("tracker:wait");
      pause_release ("reader:registered");
      join (reader);
      join (writer);
      pause_release ("reader:looked-up");
    }
  assert_frozen (&read);
  assert_snapshot_is_old ("oldest");
}
END_TEST

/* One writer has claimed the granule and not read it yet; another must not write it. */
START_TEST (test_claim_is_waited_for)
{
  Write write = _i;
  pthread_t first, second;

  make_snapshots (1);
  pause_arm ("writer:claimed");
  first = start (change, &(Write){ WRITE_DATA });
  pause_wait_reached ("writer:claimed");
  pause_watch ("tracker:wait");
  pause_arm ("writer:before-source");
  second = start (change, &write);
  if (strcmp (pause_wait_either ("tracker:wait", "writer:before-source"), "tracker:wait") != 0)
    {
      pause_release ("writer:before-source");
      join (second);
      pause_release ("writer:claimed");
      join (first);
    }
  else
    {
      pause_release ("writer:claimed");
      pause_wait_reached ("writer:before-source");
      pause_release ("writer:before-source");
      join (first);
      join (second);
    }
  pause_release ("tracker:wait");
  assert_snapshot_is_old ("oldest");
}
END_TEST

/* A reader has begun; a new snapshot becomes the receiver and gets the granule. */
START_TEST (test_mkdir_while_reader_begins)
{
  Read read = { .snapshot = "oldest" };
  Write write = _i;
  pthread_t reader;

  make_snapshots (1);
  pause_arm ("reader:begin");
  reader = start (read_place, &read);
  pause_wait_reached ("reader:begin");
  mkdir_ ("newer");
  change (&write);
  pause_release ("reader:begin");
  join (reader);
  assert_frozen (&read);
  assert_snapshot_is_old ("oldest");
}
END_TEST

/* A write is past its copies when mkdir comes: it is in the snapshot, for ever, or
 * not at all. */
START_TEST (test_mkdir_drains_writers)
{
  Read before = { .snapshot = "new" }, after = { .snapshot = "new" };
  Write write = _i;
  pthread_t writer, maker;
  bool waits;

  make_snapshots (1);
  pause_arm ("writer:before-source");
  writer = start (change, &write);
  pause_wait_reached ("writer:before-source");

  pause_watch ("barrier:closing");
  pause_arm ("mkdir:closed");
  maker = start (mkdir_thread, (void *) "new");
  waits = strcmp (pause_wait_either ("barrier:closing", "mkdir:closed"), "barrier:closing") == 0;
  if (!waits)
    {
      pause_release ("mkdir:closed");
      join (maker);
      read_place (&before);
    }
  pause_release ("writer:before-source");
  join (writer);
  if (waits)
    {
      pause_wait_reached ("mkdir:closed");
      pause_release ("mkdir:closed");
      join (maker);
      read_place (&before);
    }
  pause_release ("barrier:closing");
  change (&(Write){ write == WRITE_TRUNCATE ? WRITE_DATA : write });
  read_place (&after);
  ck_assert_int_eq (after.n, before.n);
  ck_assert_mem_eq (after.bytes, before.bytes, (size_t) before.n);
  assert_snapshot_is_old ("oldest");
}
END_TEST

static void *
write_elsewhere (void *data)
{
  char bytes[GRANULE];

  memset (bytes, NEW, sizeof bytes);
  ck_assert_int_eq (disk_write (snapshots_disk (set, 0), bytes, sizeof bytes, 0, IO_SYNC_NONE),
                    sizeof bytes);
  pause_point ("test:written");
  return data;
}

/* A copy hangs, and mkdir waits for it. A write that has nothing to do with it waits for a moment
 * only, and is in the snapshot. */
START_TEST (test_hung_copy_during_mkdir)
{
  char bytes[GRANULE], expected[GRANULE];
  Write write = WRITE_DATA;
  pthread_t writer, other, maker;

  make_snapshots (1);
  pause_arm ("writer:claimed");
  writer = start (change, &write);
  pause_wait_reached ("writer:claimed");
  pause_watch ("barrier:closing");
  maker = start (mkdir_thread, (void *) "new");
  pause_wait_reached ("barrier:closing");
  pause_release ("barrier:closing");

  pause_watch ("test:written");
  other = start (write_elsewhere, NULL);
  pause_wait_reached ("test:written"); /* or the test's time is over */
  pause_release ("test:written");
  join (other);
  pause_release ("writer:claimed");
  join (writer);
  join (maker);

  memset (expected, NEW, sizeof expected);
  {
    g_autoptr (Snapshot) snapshot = snapshots_find (set, "new");

    ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, GRANULE, 0), GRANULE);
    ck_assert_mem_eq (bytes, expected, GRANULE);
    ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, GRANULE, PLACE), GRANULE);
    ck_assert_mem_eq (bytes, expected, GRANULE);
  }
  assert_snapshot_is_old ("oldest");
}
END_TEST

/* While mkdir has the barrier closed, a write that comes is not in the snapshot. */
START_TEST (test_write_during_mkdir)
{
  Write write = _i;
  pthread_t writer, maker;

  pause_arm ("mkdir:closed");
  maker = start (mkdir_thread, (void *) "new");
  pause_wait_reached ("mkdir:closed");
  pause_watch ("barrier:blocked");
  pause_arm ("writer:before-source");
  writer = start (change, &write);
  if (strcmp (pause_wait_either ("barrier:blocked", "writer:before-source"), "barrier:blocked")
      != 0)
    {
      pause_release ("mkdir:closed");
      join (maker);
      pause_release ("writer:before-source");
      join (writer);
    }
  else
    {
      pause_release ("mkdir:closed");
      join (maker);
      pause_wait_reached ("writer:before-source");
      pause_release ("writer:before-source");
      join (writer);
    }
  pause_release ("barrier:blocked");
  assert_snapshot_is_old ("new");
}
END_TEST

/* Writes the granule at PLACE of the first disk, and then that of the second. */
static void *
write_both (void *data)
{
  char bytes[GRANULE];

  (void) data;
  memset (bytes, NEW, sizeof bytes);
  for (unsigned i = 0; i < 2; i++)
    ck_assert_int_eq (disk_write (snapshots_disk (set, i), bytes, GRANULE, PLACE, IO_SYNC_NONE),
                      GRANULE);
  pause_point ("test:both-written");
  return NULL;
}

/* What is written to the second disk after the first is not in a snapshot that lacks the first. */
START_TEST (test_disks_freeze_as_one)
{
  g_autoptr (Snapshot) snapshot = NULL;
  pthread_t writer, maker;
  char first[GRANULE], second[GRANULE];

  pause_arm ("mkdir:disk-frozen");
  maker = start (mkdir_thread, (void *) "new");
  pause_wait_reached ("mkdir:disk-frozen");
  pause_watch ("barrier:blocked");
  pause_watch ("test:both-written");
  writer = start (write_both, NULL);
  pause_wait_either ("barrier:blocked", "test:both-written");
  pause_release ("mkdir:disk-frozen");
  join (maker);
  join (writer);
  pause_release ("barrier:blocked");
  pause_release ("test:both-written");

  snapshot = snapshots_find (set, "new");
  ck_assert_int_eq (snapshot_read (snapshot, 0, first, GRANULE, PLACE), GRANULE);
  ck_assert_int_eq (snapshot_read (snapshot, 1, second, GRANULE, PLACE), GRANULE);
  ck_assert (is_all (first, OLD) || is_all (first, NEW));
  ck_assert (is_all (second, OLD) || is_all (second, NEW));
  ck_assert_msg (second[0] == OLD || first[0] == NEW,
                 "the snapshot has the second write and not the first");
}
END_TEST

/* Granules of old bytes that a snapshot has saved, away from PLACE, so that merges
 * go in a known direction: to the one that has more. */
static void
overwrite (unsigned first, unsigned n)
{
  char bytes[GRANULE];

  memset (bytes, NEW, sizeof bytes);
  for (unsigned i = first; i < first + n; i++)
    ck_assert_int_eq (
        disk_write (snapshots_disk (set, 0), bytes, GRANULE, i * GRANULE, IO_SYNC_NONE), GRANULE);
}

/* Two snapshots; a merge of the newer one will go down (into the older) or up. */
static void
prepare_merge (bool up)
{
  mkdir_ ("oldest");
  overwrite (0, up ? 1 : 9);
  mkdir_ ("newest");
  overwrite (0, up ? 9 : 1);
}

/* Makes the disk larger, full of OLD: ranges of it are saved in several steps. */
#define LONG_SIZE (40 << 20)

static void
make_long (void)
{
  g_autofree char *bytes = g_malloc (LONG_SIZE);

  memset (bytes, OLD, LONG_SIZE);
  ck_assert_int_eq (disk_write (snapshots_disk (set, 0), bytes, LONG_SIZE, 0, IO_SYNC_NONE),
                    LONG_SIZE);
}

static void *
punch_all (void *size)
{
  ck_assert_int_eq (disk_allocate (snapshots_disk (set, 0),
                                   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                                   *(uint64_t *) size),
                    0);
  return NULL;
}

static void *
empty (void *data)
{
  (void) data;
  ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), 0), 0);
  return NULL;
}

/* A long discard goes step by step, and others come in between, with a snapshot too: it has the
 * first step, and not the second. */
START_TEST (test_mkdir_during_a_long_discard)
{
  uint64_t size = LONG_SIZE;
  g_autoptr (Snapshot) snapshot = NULL;
  char bytes[GRANULE];
  pthread_t writer;

  make_long ();
  make_snapshots (1);
  pause_arm ("writer:before-source");
  writer = start (punch_all, &size);
  pause_wait_reached ("writer:before-source");
  pause_arm ("range:step");
  pause_release ("writer:before-source");
  pause_wait_reached ("range:step");
  mkdir_ ("between");
  overwrite (LONG_SIZE / GRANULE - 1, 1);
  pause_release ("range:step");
  join (writer);

  assert_snapshot_is_old ("oldest");
  snapshot = snapshots_find (set, "between");
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, GRANULE, PLACE), GRANULE);
  ck_assert_msg (is_all (bytes, 0), "the snapshot lacks the first step");
  for (uint64_t at = LONG_SIZE - (1 << 20); at < LONG_SIZE; at += GRANULE)
    {
      ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, GRANULE, at), GRANULE);
      ck_assert_msg (is_all (bytes, OLD), "the snapshot has a later step");
    }
}
END_TEST

/* A shrink saves step by step, so that a mkdir has to wait for a step at most. That holds for the
 * copies, too, that a snapshot needs which is made before the shrink takes effect. */
START_TEST (test_mkdir_during_a_long_shrink)
{
  pthread_t writer;

  make_long ();
  make_snapshots (1);
  pause_arm ("range:presaved");
  writer = start (empty, NULL);
  pause_wait_reached ("range:presaved");
  mkdir_ ("between");
  pause_arm ("range:step");
  pause_watch ("writer:before-source");
  pause_release ("range:presaved");
  ck_assert_str_eq (pause_wait_either ("range:step", "writer:before-source"), "range:step");
  pause_release ("range:step");
  join (writer);
  pause_release ("writer:before-source");
  assert_snapshot_is_old ("between");
  assert_snapshot_is_old ("oldest");
}
END_TEST

/* Makes a hole of the disk from PLACE on, and of that a snapshot. */
static void
snapshot_hole (const char *name)
{
  ck_assert_int_eq (disk_allocate (snapshots_disk (set, 0),
                                   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PLACE,
                                   DISK_SIZE - PLACE),
                    0);
  mkdir_ (name);
}

static void *
mkdir_and_tell (void *name)
{
  mkdir_ (name);
  pause_point ("test:made");
  return NULL;
}

/* A discard has seen that there is a hole; then another writes there, and a snapshot is wanted: it
 * has to wait, for it would lose what was written. */
START_TEST (test_hole_and_mkdir)
{
  Read before = { .snapshot = "between", .n = 0 }, after = { .snapshot = "between" };
  Write write = _i == 0 ? WRITE_PUNCH : WRITE_ZERO;
  pthread_t discarder, maker;
  bool made;

  snapshot_hole ("oldest");
  pause_arm ("range:looked");
  discarder = start (change, &write);
  pause_wait_reached ("range:looked");
  change (&(Write){ WRITE_DATA });
  pause_watch ("barrier:closing");
  pause_watch ("test:made");
  maker = start (mkdir_and_tell, (void *) "between");
  made = strcmp (pause_wait_either ("barrier:closing", "test:made"), "test:made") == 0;
  if (made)
    read_place (&before);
  pause_release ("range:looked");
  join (discarder);
  join (maker);
  pause_release ("barrier:closing");
  pause_release ("test:made");
  read_place (&after);
  ck_assert_int_eq (after.n, GRANULE);
  ck_assert_msg (!made || memcmp (before.bytes, after.bytes, GRANULE) == 0,
                 "the snapshot got other bytes");
  ck_assert_msg (is_all (after.bytes, 0) || is_all (after.bytes, NEW), "these were never there");
}
END_TEST

/* A discard of a hole passes a writer who waits for a frozen read of it; all of them come to their
 * end, and the reader has the hole. */
START_TEST (test_hole_and_writer)
{
  Read read = { .snapshot = "oldest" };
  Write write = _i == 0 ? WRITE_PUNCH : WRITE_ZERO;
  pthread_t reader, writer;

  snapshot_hole ("oldest");
  pause_arm ("reader:registered");
  reader = start (read_place, &read);
  pause_wait_reached ("reader:registered");
  pause_watch ("tracker:wait");
  writer = start (change, &(Write){ WRITE_DATA });
  pause_wait_reached ("tracker:wait");
  change (&write);
  pause_release ("reader:registered");
  join (reader);
  join (writer);
  pause_release ("tracker:wait");
  ck_assert_int_eq (read.n, GRANULE);
  ck_assert_msg (is_all (read.bytes, 0), "the snapshot's reader got new bytes");
  read_place (&read);
  ck_assert_msg (is_all (read.bytes, 0), "the snapshot has other bytes than a hole");
}
END_TEST

/* Within a hole of many regions. */
#define FAR (20 << 20)

static void *
read_far (void *data)
{
  read_at (data, FAR);
  return NULL;
}

static void *
write_far (void *data)
{
  char bytes[GRANULE];

  (void) data;
  memset (bytes, NEW, sizeof bytes);
  ck_assert_int_eq (disk_write (snapshots_disk (set, 0), bytes, GRANULE, FAR, IO_SYNC_NONE),
                    GRANULE);
  return NULL;
}

static void
assert_far_is_hole (const Read *read)
{
  ck_assert_int_eq (read->n, GRANULE);
  ck_assert_msg (is_all (read->bytes, 0), "the snapshot has other bytes than a hole");
}

/* A shrink that cuts off a large hole waits for who reads there at the source, or copies. */
START_TEST (test_shrink_of_a_large_hole)
{
  const char *point = _i == 0 ? "reader:registered" : "writer:claimed";
  Read read = { .snapshot = "oldest" };
  Write write = WRITE_TRUNCATE;
  pthread_t other, shrinker;
  bool waits;

  ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), LONG_SIZE), 0);
  make_snapshots (1);
  pause_arm (point);
  other = _i == 0 ? start (read_far, &read) : start (write_far, NULL);
  pause_wait_reached (point);
  pause_watch ("tracker:wait");
  pause_arm ("writer:before-source");
  shrinker = start (change, &write);
  waits = strcmp (pause_wait_either ("tracker:wait", "writer:before-source"), "tracker:wait") == 0;
  if (!waits)
    {
      pause_release ("writer:before-source");
      join (shrinker);
    }
  pause_release (point);
  if (waits)
    pause_release ("writer:before-source");
  join (other);
  if (waits)
    join (shrinker);
  pause_release ("tracker:wait");
  if (_i != 0)
    read_far (&read);
  assert_far_is_hole (&read);
  read_far (&read);
  assert_far_is_hole (&read);
}
END_TEST

/* A write comes when a merge of the newest level has copied all and not yet finished:
 * its old block must be in the level that stays. */
START_TEST (test_write_at_the_end_of_a_merge)
{
  prepare_merge (_i % 2 != 0);
  pause_arm ("merge:copied");
  ck_assert_int_eq (snapshots_remove (set, "newest"), 0);
  pause_wait_reached ("merge:copied");
  change (&(Write){ _i / 2 });
  pause_watch ("merge:done");
  pause_release ("merge:copied");
  pause_wait_reached ("merge:done");
  pause_release ("merge:done");
  assert_snapshot_is_old ("oldest");
}
END_TEST

static void
save_mib (unsigned at)
{
  g_autofree char *bytes = g_malloc (MIB);

  memset (bytes, NEW, MIB);
  ck_assert_int_eq (disk_write (snapshots_disk (set, 0), bytes, MIB, at * MIB, IO_SYNC_NONE), MIB);
}

/* What a merge copies is there twice for a while. A guest's copy that comes then has room as if it
 * were not: else who removes a snapshot to make room would break the others. */
START_TEST (test_merge_and_limit)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Snapshot) snapshot = NULL;
  g_autofree char *broken = NULL;
  g_autofree char *bytes = g_malloc (16 * MIB);
  SnapshotsConfig config
      = { .max_snapshots = 10, .copy = DISK_COPY_BOUNCE, .max_overlay = 10 * MIB };
  SnapshotsImage image = { .name = "big.img", .path = test_path ("big.img") };

  close_set ();
  memset (bytes, OLD, 16 * MIB);
  ck_assert (g_file_set_contents (image.path, bytes, 16 * MIB, NULL));
  set = snapshots_open (&config, &image, 1, &error);
  ck_assert_msg (set != NULL && snapshots_start (set, &error), "%s", error ? error->message : "");
  mkdir_ ("oldest");
  for (unsigned i = 0; i < 4; i++)
    save_mib (i);
  mkdir_ ("newest");
  for (unsigned i = 4; i < 8; i++)
    save_mib (i);
  pause_arm ("merge:copied");
  ck_assert_int_eq (snapshots_remove (set, "newest"), 0);
  pause_wait_reached ("merge:copied");
  save_mib (8);
  snapshot = snapshots_find (set, "oldest");
  broken = snapshot_dup_broken (snapshot);
  pause_release ("merge:copied");
  ck_assert_msg (broken == NULL, "%s", broken);
}
END_TEST

/* A writer copies into the newest level when that level's snapshot is removed: the merge must
 * not go by before the copy is there. */
START_TEST (test_merge_waits_for_writers)
{
  Write write = _i / 2;
  pthread_t writer;

  prepare_merge (_i % 2 != 0);
  pause_arm ("writer:claimed");
  writer = start (change, &write);
  pause_wait_reached ("writer:claimed");
  pause_watch ("barrier:closing");
  pause_arm ("merge:copied");
  pause_watch ("merge:done");
  ck_assert_int_eq (snapshots_remove (set, "newest"), 0);
  if (strcmp (pause_wait_either ("barrier:closing", "merge:copied"), "merge:copied") == 0)
    {
      pause_release ("merge:copied");
      pause_wait_reached ("merge:done");
      pause_release ("writer:claimed");
      join (writer);
    }
  else
    {
      pause_release ("writer:claimed");
      join (writer);
      pause_wait_reached ("merge:copied");
      pause_release ("merge:copied");
      pause_wait_reached ("merge:done");
    }
  pause_release ("barrier:closing");
  pause_release ("merge:done");
  assert_snapshot_is_old ("oldest");
}
END_TEST

/* A write that may not wait does nothing while a granule is not saved, and while it is saved
 * and a reader that began before still reads it at the source. */
START_TEST (test_saved_write_does_not_wait)
{
  Read read = { .snapshot = "oldest" };
  Write write = WRITE_DATA;
  pthread_t reader, writer;
  char bytes[GRANULE];

  memset (bytes, NEW, sizeof bytes);
  mkdir_ ("oldest");
  ck_assert_int_eq (disk_write_saved (snapshots_disk (set, 0), bytes, GRANULE, PLACE, IO_SYNC_NONE),
                    -EAGAIN);
  assert_snapshot_is_old ("oldest");

  pause_arm ("reader:registered");
  reader = start (read_place, &read);
  pause_wait_reached ("reader:registered");
  pause_watch ("tracker:wait");
  writer = start (change, &write);
  pause_wait_reached ("tracker:wait"); /* it is saved */
  ck_assert_int_eq (disk_write_saved (snapshots_disk (set, 0), bytes, GRANULE, PLACE, IO_SYNC_NONE),
                    -EAGAIN);
  pause_release ("reader:registered");
  join (reader);
  join (writer);
  assert_frozen (&read);
  ck_assert_int_eq (disk_write_saved (snapshots_disk (set, 0), bytes, GRANULE, PLACE, IO_SYNC_NONE),
                    GRANULE);
  assert_snapshot_is_old ("oldest");
}
END_TEST

/* --- while a snapshot breaks --- */

#define OVERLAY "vm.img.fleece/snapshots/000001/vm.img.qcow2"
#define HEADER_FEATURES 79 /* the byte of the incompatible features that has the bit */
#define HEADER_CORRUPT 2

/* No file can be written beyond the size of the image: that is where an overlay has its blocks. Its
 * header comes before. */
static void
store_fails (void)
{
  signal (SIGXFSZ, SIG_IGN);
  ck_assert_int_eq (setrlimit (RLIMIT_FSIZE, &(struct rlimit){ DISK_SIZE, RLIM_INFINITY }), 0);
}

static void
store_works (void)
{
  setrlimit (RLIMIT_FSIZE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
}

static void
assert_no_bytes (const char *name)
{
  Read read = { .snapshot = name };

  read_place (&read);
  ck_assert_int_eq (read.n, -EIO);
}

/* A read is at the source when its snapshot breaks elsewhere. Nothing has to be saved any more, so
 * nobody waits for the read, and it gets new bytes. It must not return them. */
START_TEST (test_break_while_reading)
{
  Read read = { .snapshot = "oldest" };
  Write write = _i;
  pthread_t reader;

  make_snapshots (1);
  pause_arm ("reader:registered");
  reader = start (read_place, &read);
  pause_wait_reached ("reader:registered");
  store_fails ();
  overwrite (0, 1);
  store_works ();
  change (&write);
  pause_release ("reader:registered");
  join (reader);
  ck_assert_int_eq (read.n, -EIO);
}
END_TEST

/* The guest's write is about to overwrite what could not be saved. From here on, and also if this
 * process were killed here, the snapshot is broken. */
START_TEST (test_break_before_the_write)
{
  Write write = _i;
  pthread_t writer;
  g_autofree uint8_t *header = NULL;
  size_t length;

  make_snapshots (1);
  pause_arm ("broken:tell"); /* the background thread would write it down as well */
  store_fails ();
  pause_arm ("writer:before-source");
  writer = start (change, &write);
  pause_wait_reached ("writer:before-source");
  store_works ();
  header = test_load (test_path (OVERLAY), &length);
  pause_release ("broken:tell");
  assert_no_bytes ("oldest");
  pause_release ("writer:before-source");
  join (writer);
  assert_no_bytes ("oldest");
  ck_assert_int_eq (header[HEADER_FEATURES] & HEADER_CORRUPT, HEADER_CORRUPT);
}
END_TEST

/* One write has broken the snapshot and not yet written that down. Another one, which has nothing
 * to save for it any more, must not get ahead: were this process killed then, the snapshot would
 * seem to be right. */
START_TEST (test_break_by_another_write)
{
  Write write = _i;
  pthread_t first, second;
  g_autofree uint8_t *header = NULL;
  size_t length;

  make_snapshots (1);
  store_fails ();
  pause_arm ("writer:broke");
  first = start (write_elsewhere, NULL);
  pause_wait_reached ("writer:broke");
  pause_arm ("writer:before-source");
  second = start (change, &write);
  pause_wait_reached ("writer:before-source");
  store_works ();
  header = test_load (test_path (OVERLAY), &length);
  pause_release ("writer:before-source");
  join (second);
  pause_release ("writer:broke");
  join (first);
  assert_no_bytes ("oldest");
  ck_assert_int_eq (header[HEADER_FEATURES] & HEADER_CORRUPT, HEADER_CORRUPT);
}
END_TEST

/* A snapshot breaks while the background thread is in a merge, between two steps of it: that is
 * told before the next step. */
START_TEST (test_break_during_a_merge)
{
  prepare_merge (_i == 1);
  pause_arm ("merge:step");
  ck_assert_int_eq (snapshots_remove (set, "newest"), 0);
  pause_wait_reached ("merge:step");
  store_fails ();
  change (&(Write){ WRITE_DATA });
  store_works ();

  pause_watch ("test:told");
  pause_arm ("merge:copied");
  pause_release ("merge:step");
  ck_assert_str_eq (pause_wait_either ("test:told", "merge:copied"), "test:told");
  pause_release ("test:told");
  pause_wait_reached ("merge:copied");
  pause_release ("merge:copied");
  assert_no_bytes ("oldest");
}
END_TEST

/* A seek is about to ask the source for extents, or has asked, when a guest fills a hole or makes
 * one, with all copies in the layer that was there, or in a newer one. */
START_TEST (test_seek)
{
  const char *point = _i & 1 ? "seek:ask" : "seek:asked";
  bool hole = _i & 2, mkdir_between = _i & 4, fails = _i & 8;
  Search search = { .whence = _i & 16 ? SEEK_DATA : SEEK_HOLE };
  int64_t expected = search.whence == SEEK_HOLE ? DISK_SIZE : PLACE;
  pthread_t seeker;

  if (hole)
    {
      change (&(Write){ WRITE_PUNCH });
      expected = search.whence == SEEK_HOLE ? PLACE : PLACE + GRANULE;
    }
  make_snapshots (1);
  pause_arm (point);
  seeker = start (seek_place, &search);
  pause_wait_reached (point);
  if (mkdir_between)
    mkdir_ ("between");
  if (fails) /* to save what is at another place; then nothing is saved any more */
    {
      store_fails ();
      overwrite (0, 1);
      store_works ();
      expected = -EIO;
    }
  change (&(Write){ hole ? WRITE_DATA : WRITE_PUNCH });
  pause_release (point);
  join (seeker);
  ck_assert_int_eq (search.found, expected);
}
END_TEST

static Suite *
race_suite (void)
{
  const struct
  {
    const char *name;
    const TTest *test;
    int n_loops;
  } cases[] = {
    { "reader-first", test_reader_first, N_WRITES },
    { "reader-first-oldest-of-three", test_reader_first_oldest_of_three, N_WRITES },
    { "reader-first-mkdir-between", test_reader_first_mkdir_between, N_WRITES },
    { "reader-before-publish", test_reader_before_publish, N_WRITES },
    { "second-writer", test_second_writer_waits_too, N_WRITES },
    { "lookup-and-registration", test_writer_between_lookup_and_registration, N_WRITES },
    { "claim", test_claim_is_waited_for, N_WRITES },
    { "mkdir-while-reader-begins", test_mkdir_while_reader_begins, N_WRITES },
    { "mkdir-drains", test_mkdir_drains_writers, N_WRITES },
    { "hung-copy-during-mkdir", test_hung_copy_during_mkdir, 1 },
    { "write-during-mkdir", test_write_during_mkdir, N_WRITES },
    { "mkdir-during-a-long-discard", test_mkdir_during_a_long_discard, 1 },
    { "mkdir-during-a-long-shrink", test_mkdir_during_a_long_shrink, 1 },
    { "hole-and-mkdir", test_hole_and_mkdir, 2 },
    { "hole-and-writer", test_hole_and_writer, 2 },
    { "shrink-of-a-large-hole", test_shrink_of_a_large_hole, 2 },
    { "write-at-the-end-of-a-merge", test_write_at_the_end_of_a_merge, 2 * N_WRITES },
    { "merge-and-limit", test_merge_and_limit, 1 },
    { "merge-waits", test_merge_waits_for_writers, 2 * N_WRITES },
    { "saved-write", test_saved_write_does_not_wait, 1 },
    { "break-while-reading", test_break_while_reading, N_WRITES },
    { "seek", test_seek, 32 },
    { "break-before-the-write", test_break_before_the_write, N_WRITES },
    { "break-by-another-write", test_break_by_another_write, N_WRITES },
    { "break-during-a-merge", test_break_during_a_merge, 2 },
  };
  Suite *suite = suite_create ("race");
  TCase *of_two = test_case (suite, "disks-freeze-as-one", 0);

  tcase_add_checked_fixture (of_two, open_two, close_set);
  tcase_add_test (of_two, test_disks_freeze_as_one);
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      TCase *tcase = test_case (suite, cases[i].name, 0);

      tcase_add_checked_fixture (tcase, open_set, close_set);
      tcase_add_loop_test (tcase, cases[i].test, 0, cases[i].n_loops);
    }
  return suite;
}

int
main (void)
{
  return test_main (race_suite ());
}
