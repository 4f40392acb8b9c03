/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The set of snapshots: its verbs and their errors, what survives a remount, what removed
 * snapshots give back, and what is noticed when images or overlays were changed meanwhile.
 *
 * Disks are small; snapshot N is made and then a piece of the disk written over, so that every
 * snapshot differs. A merge is over when its level's directory vanishes, which inotify tells. */
#include "base/fail.h"
#include "base/pause.h"
#include "base/units.h"
#include "snapshot/merge.h"
#include "snapshot/survey.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SIZE (2 * MIB + 1001)
#define GRANULE 4096
#define STORE "store"

static Snapshots *set;
static SnapshotsImage images[3];
static unsigned n_images;
static unsigned max_snapshots;
static bool durable;

/* --- opening and closing --- */

static void
add_image (const char *name, uint64_t size, unsigned seed)
{
  const char *path = test_path (name);

  test_make_file (path, size, seed);
  images[n_images++] = (SnapshotsImage){ g_intern_string (name), path };
}

static void
set_up (void)
{
  test_set_up ();
  set = NULL;
  n_images = 0;
  max_snapshots = 10;
  durable = false;
}

static Snapshots *
try_open (const char *store, GError **error)
{
  SnapshotsConfig config = { .store = store,
                             .granule = GRANULE,
                             .max_snapshots = max_snapshots,
                             .durable = durable,
                             .copy = DISK_COPY_BOUNCE };

  return snapshots_open (&config, images, n_images, error);
}

static void
open_set (void)
{
  g_autoptr (GError) error = NULL;

  set = try_open (test_path (STORE), &error);
  ck_assert_msg (set != NULL, "%s", error != NULL ? error->message : "");
  ck_assert_msg (snapshots_start (set, &error), "%s", error != NULL ? error->message : "");
}

static void
close_set (void)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (snapshots_close (set, &error), "%s", error != NULL ? error->message : "");
  set = NULL;
}

static void
remount (void)
{
  close_set ();
  open_set ();
}

static void
assert_not_opened (const char *store, int errnum, const char *message)
{
  g_autoptr (GError) error = NULL;

  ck_assert_ptr_null (try_open (store, &error));
  ck_assert_msg (fail_code (error) == errnum, "%s", error->message);
  ck_assert_msg (strstr (error->message, message) != NULL, "no '%s' in: %s", message,
                 error->message);
}

/* --- bytes --- */

static void
write_pattern (unsigned disk, uint64_t offset, uint64_t length, unsigned seed)
{
  g_autofree uint8_t *bytes = g_malloc (length);

  test_fill (bytes, length, seed, offset);
  ck_assert_int_eq (disk_write (snapshots_disk (set, disk), bytes, length, offset, IO_SYNC_NONE),
                    length);
}

static void
create (const char *name)
{
  ck_assert_int_eq (snapshots_create (set, name, NULL), 0);
}

/* The disk as it is now. */
static uint8_t *
picture (unsigned disk, size_t *out_length)
{
  return test_load (images[disk].path, out_length);
}

static void
assert_snapshot (const char *name, unsigned disk, const uint8_t *expected, size_t length)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, name);
  g_autofree char *broken = NULL;
  g_autofree uint8_t *bytes = g_malloc (length + 1);

  ck_assert_msg (snapshot != NULL, "no '%s'", name);
  broken = snapshot_dup_broken (snapshot);
  ck_assert_msg (broken == NULL, "%s: %s", name, broken);
  ck_assert_uint_eq (snapshot_size (snapshot, disk), length);
  ck_assert_int_eq (snapshot_read (snapshot, disk, bytes, length + 1, 0), length);
  test_assert_bytes (name, bytes, expected, length);
}

/* Every disk that the snapshot has reads -EIO, and the reason has the word. */
static void
assert_broken (const char *name, const char *word)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, name);
  g_autofree char *broken = NULL;
  uint8_t bytes[100];

  ck_assert_msg (snapshot != NULL, "no '%s'", name);
  for (unsigned i = 0; i < n_images; i++)
    if (snapshot_has_disk (snapshot, i))
      {
        ck_assert_int_eq (snapshot_read (snapshot, i, bytes, sizeof bytes, 0), -EIO);
        ck_assert_int_eq (snapshot_seek (snapshot, i, 0, SEEK_DATA), -EIO);
      }
  broken = snapshot_dup_broken (snapshot);
  ck_assert_msg (broken != NULL, "%s is not broken", name);
  ck_assert_msg (strstr (broken, word) != NULL, "no '%s' in: %s", word, broken);
}

static char *
level_path (unsigned level)
{
  return g_strdup_printf ("%s/snapshots/%06u", test_path (STORE), level);
}

static const char *
overlay_path (unsigned level, const char *disk)
{
  g_autofree char *dir = level_path (level);
  g_autofree char *path = g_strdup_printf ("%s/%s.qcow2", dir, disk);

  return g_intern_string (path);
}

/* The set is closed: QEMU finds the level's overlay clean, and reads the bytes, and after them
 * zeros up to a sector. */
static void
assert_qemu_reads (unsigned level, const char *disk, const uint8_t *expected, size_t length)
{
  g_autofree char *output = NULL;
  g_autofree uint8_t *bytes = NULL;
  size_t got;

  if (!test_have ("qemu-img"))
    return;
  ck_assert_msg (
      test_run (&output, "qemu-img", "check", "-f", "qcow2", overlay_path (level, disk), NULL) == 0,
      "%s", output);
  g_free (g_steal_pointer (&output));
  ck_assert_msg (test_run (&output, "qemu-img", "convert", "-f", "qcow2", "-O", "raw",
                           overlay_path (level, disk), test_path ("converted"), NULL)
                     == 0,
                 "%s", output);
  bytes = test_load (test_path ("converted"), &got);
  ck_assert_uint_eq (got, units_round_up (length, 512));
  test_assert_bytes ("QEMU's view", bytes, expected, length);
  for (size_t i = length; i < got; i++)
    ck_assert_msg (bytes[i] == 0, "QEMU's view: byte %zu, after the end at %zu, is 0x%02x", i,
                   length, bytes[i]);
}

/* --- verbs --- */

static const struct
{
  const char *name;
  size_t repeat; /* the name's last byte, so often */
  int expected;
} names[] = {
  { "monday", 1, 0 },
  { "a", 1, 0 },
  { "a", 200, 0 },
  { "a", 201, -ENAMETOOLONG },
  { "a", 5000, -ENAMETOOLONG },
  { "", 1, -EINVAL },
  { ".", 1, -EINVAL },
  { "..", 1, -EINVAL },
  { ".live", 1, -EINVAL },
  { ".x", 300, -EINVAL },
  { "a/b", 1, -EINVAL },
  { "/", 1, -EINVAL },
  { "a/", 1, -EINVAL },
  { "with space", 1, 0 },
  { "-rf", 1, 0 },
  { "a.b", 1, 0 },
  { "a\\b;c=d#e[f]", 1, 0 },
  { " a ", 1, 0 },
  { "%s%n", 1, 0 },
  { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 1, 0 },
  { "a\nb", 1, -EILSEQ },
  { "a\tb", 1, -EILSEQ },
  { "\x01", 1, -EILSEQ },
  { "a\x7f", 1, -EILSEQ },
  { "\xc2\x85", 1, -EILSEQ },         /* a control character above ASCII */
  { "\xff", 1, -EILSEQ },             /* not UTF-8 */
  { "a\xc3", 1, -EILSEQ },            /* cut */
  { "\xc0\xaf", 1, -EILSEQ },         /* overlong */
  { "\xed\xa0\x80", 1, -EILSEQ },     /* a surrogate */
  { "\xf4\x90\x80\x80", 1, -EILSEQ }, /* too large */
};

static char *
long_name (unsigned i)
{
  g_autoptr (GString) name = g_string_new (names[i].name);

  for (size_t n = 1; n < names[i].repeat; n++)
    g_string_append_c (name, names[i].name[strlen (names[i].name) - 1]);
  return g_strdup (name->str);
}

START_TEST (test_names)
{
  g_autofree char *name = long_name ((unsigned) _i);
  int expected = names[_i].expected;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  ck_assert_int_eq (snapshots_create (set, name, NULL), expected);
  ck_assert_uint_eq (snapshots_count (set), expected == 0 ? 1 : 0);
  create ("other");
  ck_assert_int_eq (snapshots_rename (set, "other", name), expected == 0 ? -EEXIST : expected);
  if (expected == 0)
    {
      remount ();
      ck_assert_int_eq (snapshots_create (set, name, NULL), -EEXIST);
      ck_assert_int_eq (snapshots_remove (set, name), 0);
      ck_assert_int_eq (snapshots_rename (set, "other", name), 0);
      remount ();
      ck_assert_int_eq (snapshots_remove (set, name), 0);
    }
  else
    {
      ck_assert_int_eq (snapshots_remove (set, name), -ENOENT);
      ck_assert_int_eq (snapshots_rename (set, name, "x"), -ENOENT);
      ck_assert_int_eq (snapshots_remove (set, "other"), 0);
    }
  ck_assert_uint_eq (snapshots_count (set), 0);
  close_set ();
}
END_TEST

START_TEST (test_max_snapshots)
{
  add_image ("vm1.img", SIZE, 1);
  max_snapshots = 3;
  open_set ();
  create ("a");
  create ("b");
  create ("c");
  ck_assert_int_eq (snapshots_create (set, "d", NULL), -EMLINK);
  ck_assert_int_eq (snapshots_create (set, "c", NULL), -EEXIST);
  ck_assert_int_eq (snapshots_rename (set, "c", "d"), 0);
  ck_assert_int_eq (snapshots_remove (set, "b"), 0);
  create ("e");
  ck_assert_int_eq (snapshots_create (set, "f", NULL), -EMLINK);
  max_snapshots = 1; /* fewer than there are: none is lost, none is made */
  remount ();
  ck_assert_uint_eq (snapshots_count (set), 3);
  ck_assert_int_eq (snapshots_create (set, "f", NULL), -EMLINK);
  close_set ();
}
END_TEST

START_TEST (test_rename)
{
  g_autoptr (Snapshot) a = NULL;
  g_autoptr (Snapshot) found = NULL;
  g_autofree char *name = NULL;
  uint32_t id;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  ck_assert_int_eq (snapshots_create (set, "a", &a), 0);
  create ("b");
  id = snapshot_id (a);
  ck_assert_int_eq (snapshots_rename (set, "nobody", "x"), -ENOENT);
  ck_assert_int_eq (snapshots_rename (set, "a", "b"), -EEXIST);
  ck_assert_int_eq (snapshots_rename (set, "a", "a"), -EEXIST);
  ck_assert_int_eq (snapshots_rename (set, "a", "z"), 0);
  ck_assert_ptr_null (snapshots_find (set, "a"));
  name = snapshot_dup_name (a);
  ck_assert_str_eq (name, "z");
  found = snapshots_find (set, "z");
  ck_assert_ptr_eq (found, a);
  ck_assert_uint_eq (snapshot_id (found), id);
  create ("a"); /* the name is free again */
  ck_assert_uint_eq (snapshots_count (set), 3);
  g_clear_pointer (&a, snapshot_unref);
  g_clear_pointer (&found, snapshot_unref);
  close_set ();
}
END_TEST

START_TEST (test_find)
{
  static const char *const in_order[] = { "c", "a", "b" };
  Snapshot *snapshots[3];
  uint32_t id = 0;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  ck_assert_ptr_null (snapshots_latest (set));
  ck_assert_ptr_null (snapshots_next (set, 0));
  for (unsigned i = 0; i < 3; i++)
    {
      g_autoptr (Snapshot) latest = NULL;

      ck_assert_int_eq (snapshots_create (set, in_order[i], &snapshots[i]), 0);
      latest = snapshots_latest (set);
      ck_assert_ptr_eq (latest, snapshots[i]);
      ck_assert_uint_gt (snapshot_id (snapshots[i]), id);
      id = snapshot_id (snapshots[i]);
    }
  id = 0;
  for (unsigned i = 0; i < 3; i++)
    {
      g_autoptr (Snapshot) next = snapshots_next (set, id);
      g_autoptr (Snapshot) by_id = NULL;

      ck_assert_ptr_eq (next, snapshots[i]);
      id = snapshot_id (next);
      by_id = snapshots_find_id (set, id);
      ck_assert_ptr_eq (by_id, next);
    }
  ck_assert_ptr_null (snapshots_next (set, id));
  ck_assert_ptr_null (snapshots_find (set, "x"));
  ck_assert_ptr_null (snapshots_find_id (set, id + 1));
  for (unsigned i = 0; i < 3; i++)
    snapshot_unref (snapshots[i]);
  close_set ();
}
END_TEST

/* Removed while somebody has it open: no name, the same bytes, found by its id. */
START_TEST (test_remove_referenced)
{
  g_autofree uint8_t *expected = NULL;
  g_autofree uint8_t *bytes = g_malloc (SIZE);
  g_autofree char *dir = level_path (1);
  Snapshot *snapshot, *again;
  size_t length;
  uint32_t id;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  expected = picture (0, &length);
  ck_assert_int_eq (snapshots_create (set, "a", &snapshot), 0);
  write_pattern (0, 0, MIB, 2);
  create ("b");
  id = snapshot_id (snapshot);
  ck_assert_int_eq (snapshots_remove (set, "a"), 0);
  ck_assert_int_eq (snapshots_remove (set, "a"), -ENOENT);
  ck_assert_ptr_null (snapshots_find (set, "a"));
  ck_assert_ptr_null (snapshot_dup_name (snapshot));
  ck_assert_uint_eq (snapshots_count (set), 1);
  create ("a"); /* another one of that name */
  write_pattern (0, MIB, MIB, 3);
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, SIZE, 0), SIZE);
  test_assert_bytes ("the removed one", bytes, expected, SIZE);
  again = snapshots_find_id (set, id);
  ck_assert_ptr_eq (again, snapshot);
  snapshot_unref (again);
  ck_assert_int_eq (access (dir, F_OK), 0);
  snapshot_unref (snapshot);
  ck_assert_ptr_null (snapshots_find_id (set, id));
  close_set ();
}
END_TEST

/* --- a remount --- */

START_TEST (test_remount)
{
  static const char *const in_order[] = { "c", "a", "b" };
  struct timespec created[3], mtimes[3], before = { 0 };
  uint32_t ids[3], number;
  uint8_t *pictures[3];
  size_t lengths[3];
  struct statvfs fs;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  number = snapshots_disk_number (set, 0);
  ck_assert_uint_ge (number, 1);
  for (unsigned i = 0; i < 3; i++)
    {
      Snapshot *snapshot;

      pictures[i] = picture (0, &lengths[i]);
      ck_assert_int_eq (snapshots_create (set, in_order[i], &snapshot), 0);
      ids[i] = snapshot_id (snapshot);
      created[i] = snapshot_created (snapshot);
      mtimes[i] = snapshot_mtime (snapshot, 0);
      ck_assert (mtimes[i].tv_sec > before.tv_sec
                 || (mtimes[i].tv_sec == before.tv_sec && mtimes[i].tv_nsec > before.tv_nsec));
      before = mtimes[i];
      snapshot_unref (snapshot);
      write_pattern (0, i * 300000, 500000 + i, 2 + i); /* the file grows */
    }
  for (unsigned round = 0; round < 3; round++)
    {
      remount ();
      ck_assert_uint_eq (snapshots_n_disks (set), 1);
      ck_assert_str_eq (snapshots_disk_name (set, 0), "vm1.img");
      ck_assert_uint_eq (snapshots_disk_number (set, 0), number);
      ck_assert_str_eq (snapshots_store_path (set), test_path (STORE));
      ck_assert_int_eq (snapshots_statvfs (set, &fs), 0);
      ck_assert_uint_gt (fs.f_blocks, 0);
      ck_assert_uint_eq (snapshots_count (set), 3);
      for (unsigned i = 0; i < 3; i++)
        {
          g_autoptr (Snapshot) snapshot = snapshots_find (set, in_order[i]);
          struct timespec c = snapshot_created (snapshot), m = snapshot_mtime (snapshot, 0);

          ck_assert_uint_eq (snapshot_id (snapshot), ids[i]);
          ck_assert (c.tv_sec == created[i].tv_sec && c.tv_nsec == created[i].tv_nsec);
          ck_assert (m.tv_sec == mtimes[i].tv_sec && m.tv_nsec == mtimes[i].tv_nsec);
          assert_snapshot (in_order[i], 0, pictures[i], lengths[i]);
        }
      write_pattern (0, round * 200000, 100000, 5);
    }
  close_set ();
  for (unsigned i = 0; i < 3; i++)
    g_free (pictures[i]);
}
END_TEST

/* Not written between two snapshots: equal times; written: a later one. Also over a remount. */
START_TEST (test_mtimes)
{
  struct timespec times[4];

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  for (unsigned i = 0; i < 4; i++)
    {
      static const char *const in_order[] = { "a", "b", "c", "d" };
      g_autoptr (Snapshot) snapshot = NULL;

      if (i == 2)
        write_pattern (0, 0, 1, 2);
      ck_assert_int_eq (snapshots_create (set, in_order[i], &snapshot), 0);
      times[i] = snapshot_mtime (snapshot, 0);
      g_clear_pointer (&snapshot, snapshot_unref);
      remount ();
    }
  ck_assert (memcmp (&times[0], &times[1], sizeof times[0]) == 0);
  ck_assert (times[2].tv_sec > times[1].tv_sec
             || (times[2].tv_sec == times[1].tv_sec && times[2].tv_nsec > times[1].tv_nsec));
  ck_assert (memcmp (&times[2], &times[3], sizeof times[0]) == 0);
  close_set ();
}
END_TEST

/* A guest may make its disk empty; the snapshots come back all the same. A new disk may not be. */
START_TEST (test_emptied)
{
  g_autofree uint8_t *before = NULL;
  size_t length;

  add_image ("vm1.img", 0, 0);
  assert_not_opened (test_path (STORE), EINVAL, "is empty; give it a size");
  ck_assert (!g_file_test (test_path (STORE), G_FILE_TEST_EXISTS));
  test_make_file (images[0].path, SIZE, 1);
  before = picture (0, &length);
  open_set ();
  create ("a");
  ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), 0), 0);
  create ("b");
  for (unsigned round = 0; round < 2; round++)
    {
      if (round == 0)
        close_set ();
      else
        {
          merge_stop (set);
          snapshots_abandon (set); /* as a kill: writes nothing */
        }
      open_set ();
      assert_snapshot ("a", 0, before, length);
      assert_snapshot ("b", 0, before, 0);
    }
  close_set ();
  add_image ("vm2.img", 0, 0);
  assert_not_opened (test_path (STORE), EINVAL, "is empty; give it a size");
}
END_TEST

static struct timespec
freeze_written (unsigned granule, const char *name)
{
  g_autoptr (Snapshot) snapshot = NULL;

  write_pattern (0, granule, 1, 2);
  ck_assert_int_eq (snapshots_create (set, name, &snapshot), 0);
  return snapshot_mtime (snapshot, 0);
}

/* Times of an image that is ahead of the host's clock go on after a kill: what is written then has
 * no time that a snapshot had before, also one that a backup has and the store has not. */
START_TEST (test_mtimes_after_kill)
{
  const struct timespec ahead[2]
      = { { .tv_sec = time (NULL) + 100000 }, { .tv_sec = time (NULL) + 100000 } };
  struct timespec last = { 0 };

  add_image ("vm1.img", SIZE, 1);
  ck_assert_int_eq (utimensat (AT_FDCWD, test_path ("vm1.img"), ahead, 0), 0);
  open_set ();
  for (unsigned i = 0; i < 6; i++)
    {
      static const char *const in_order[] = { "a", "b", "c", "d", "e", "f" };
      struct timespec now = freeze_written (i, in_order[i]);

      ck_assert_msg (now.tv_sec > last.tv_sec
                         || (now.tv_sec == last.tv_sec && now.tv_nsec > last.tv_nsec),
                     "%s is not later than the one before", in_order[i]);
      last = now;
      if (i == 1)
        ck_assert_int_eq (snapshots_remove (set, "b"), 0);
      if (i % 2 == 1)
        {
          merge_stop (set);
          snapshots_abandon (set); /* as a kill: writes nothing */
          open_set ();
        }
    }
  close_set ();
}
END_TEST

/* An id is never given again, also not that of the newest one, removed just before a remount. */
/* What malloc() has given out. */
static size_t
memory_in_use (void)
{
#if __GLIBC_PREREQ(2, 33)
  struct mallinfo2 info = mallinfo2 ();
#else
  struct mallinfo info = mallinfo ();
#endif

  return (size_t) info.uordblks + (size_t) info.hblkhd;
}

/* Makes n levels more with a block each, and dies. Returns what the set takes that opens the store
 * then: it is closed clean. */
static size_t
memory_after_kill (unsigned n)
{
  static unsigned n_made;
  g_autoptr (GError) error = NULL;
  size_t before, after;

  open_set ();
  for (unsigned i = 0; i < n; i++)
    {
      g_autofree char *name = g_strdup_printf ("%u", n_made++);

      ck_assert_int_eq (snapshots_create (set, name, NULL), 0);
      write_pattern (0, n_made % 512 * GRANULE, GRANULE, 2);
    }
  merge_stop (set);
  snapshots_abandon (set);
  before = memory_in_use ();
  open_set ();
  after = memory_in_use ();
  close_set ();
  return after - before;
}

/* The manual says how much memory a level takes at the least: no more after a kill. Beside what is
 * allocated there is a page of the table of blocks. */
START_TEST (test_memory_after_kill)
{
  enum
  {
    FEW = 4,
    MANY = 64,
    PER_LEVEL = 16 * 1024,
    PAGE = 4096,
  };
  size_t few, many;

  add_image ("vm1.img", SIZE, 1);
  max_snapshots = FEW + MANY;
  durable = _i != 0;
  few = memory_after_kill (FEW);
  many = memory_after_kill (MANY);
  ck_assert_msg (many <= few + MANY * (PER_LEVEL - PAGE), "%zu bytes for each level",
                 (many - few) / MANY + PAGE);
}
END_TEST

START_TEST (test_ids)
{
  uint32_t greatest = 0;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  for (unsigned i = 0; i < 12; i++)
    {
      g_autoptr (Snapshot) snapshot = NULL;

      ck_assert_int_eq (snapshots_create (set, "x", &snapshot), 0);
      ck_assert_uint_gt (snapshot_id (snapshot), greatest);
      greatest = snapshot_id (snapshot);
      g_clear_pointer (&snapshot, snapshot_unref);
      ck_assert_int_eq (snapshots_remove (set, "x"), 0);
      if (i % 3 == 0)
        remount ();
    }
  close_set ();
}
END_TEST

/* --- what removed snapshots give back --- */

/* Waits until the directory of the level is gone. */
static void
wait_gone (unsigned level)
{
  g_autofree char *dir = level_path (level);
  g_autofree char *parent = g_path_get_dirname (dir);
  int fd = inotify_init1 (IN_CLOEXEC | IN_NONBLOCK);

  ck_assert_int_ge (fd, 0);
  ck_assert_int_ge (inotify_add_watch (fd, parent, IN_DELETE | IN_MOVED_FROM), 0);
  while (access (dir, F_OK) == 0)
    {
      struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
      char events[4096];

      ck_assert_msg (poll (&poll_fd, 1, 60000) == 1, "level %u is not removed", level);
      while (read (fd, events, sizeof events) > 0)
        ;
    }
  close (fd);
}

/* Four snapshots; between them so many KiB are written, from an offset on. One is removed. Of
 * it and its older neighbour the level that goes is the smaller one; the oldest just goes. */
static const struct
{
  unsigned kib[4];    /* written after each snapshot */
  unsigned offset[4]; /* KiB */
  unsigned removed;   /* from 0 */
  unsigned gone;      /* the level, from 1 */
} merges[] = {
  { { 400, 400, 400, 400 }, { 0, 300, 600, 900 }, 0, 1 },
  { { 1000, 200, 100, 100 }, { 0, 900, 600, 900 }, 1, 2 }, /* down */
  { { 200, 1000, 100, 100 }, { 900, 0, 600, 900 }, 1, 1 }, /* up */
  { { 200, 1000, 100, 100 }, { 100, 0, 600, 900 }, 1, 1 }, /* up, all of it over older data */
  { { 1000, 200, 100, 100 }, { 0, 100, 600, 900 }, 1, 2 }, /* down, nothing to move */
  { { 100, 1000, 200, 100 }, { 0, 0, 900, 900 }, 2, 3 },   /* down, in the middle */
  { { 100, 200, 1000, 100 }, { 0, 900, 100, 900 }, 2, 2 }, /* up, in the middle */
  { { 100, 100, 1000, 300 }, { 0, 900, 100, 900 }, 3, 4 }, /* down, the newest */
  { { 100, 100, 300, 1000 }, { 0, 900, 900, 100 }, 3, 3 }, /* up, the newest */
  { { 100, 100, 300, 0 }, { 0, 900, 900, 100 }, 3, 4 },    /* the newest, empty */
};

/* _i % 2: with a remount between removal and merge's end, perhaps in its middle. */
START_TEST (test_merge)
{
  static const char *const in_order[] = { "a", "b", "c", "d" };
  unsigned i = (unsigned) _i / 2, removed = merges[i].removed;
  uint8_t *pictures[4];
  size_t length;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  for (unsigned s = 0; s < 4; s++)
    {
      pictures[s] = picture (0, &length);
      create (in_order[s]);
      if (merges[i].kib[s] != 0)
        write_pattern (0, merges[i].offset[s] * KIB + 5, merges[i].kib[s] * KIB, 2 + s);
    }
  ck_assert_int_eq (snapshots_remove (set, in_order[removed]), 0);
  if (_i % 2 != 0)
    remount ();
  write_pattern (0, 50 * KIB, 100, 5); /* a guest goes on */
  wait_gone (merges[i].gone);
  for (unsigned s = 0; s < 4; s++)
    if (s != removed)
      assert_snapshot (in_order[s], 0, pictures[s], SIZE);

  /* What is written now goes to the right place. */
  write_pattern (0, 0, 2 * MIB, 5);
  for (unsigned s = 0; s < 4; s++)
    if (s != removed)
      assert_snapshot (in_order[s], 0, pictures[s], SIZE);
  remount ();
  for (unsigned s = 0; s < 4; s++)
    if (s != removed)
      assert_snapshot (in_order[s], 0, pictures[s], SIZE);
  close_set ();
  for (unsigned s = 0, level = 1; s < 4; s++)
    if (s != removed)
      {
        level += level == merges[i].gone;
        assert_qemu_reads (level, "vm1.img", pictures[s], SIZE);
        level++;
      }
  for (unsigned s = 0; s < 4; s++)
    g_free (pictures[s]);
}
END_TEST

/* What is told of a merge: where it stands before its first step, after its last one, and that it
 * is over. */
START_TEST (test_survey_merge)
{
  add_image ("vm1.img", SIZE, 1);
  add_image ("vm2.img", MIB, 2);
  open_set ();
  create ("a");
  write_pattern (0, 0, 2 * MIB, 2);
  create ("b");
  write_pattern (0, 0, MIB / 2, 3);
  write_pattern (1, 0, MIB / 2, 3);
  for (unsigned i = 0; i < 3; i++)
    {
      static const char *const points[] = { "merge:step", "merge:copied", "merge:done" };
      static const uint64_t done[] = { 0, SIZE + MIB };
      g_autoptr (Survey) survey = NULL;

      pause_arm (points[i]);
      if (i == 0)
        ck_assert_int_eq (snapshots_remove (set, "b"), 0);
      else
        pause_release (points[i - 1]);
      pause_wait_reached (points[i]);
      survey = survey_new (set);
      ck_assert_int_eq (survey->is_merging, i < 2);
      ck_assert_uint_eq (survey->n_levels, i < 2 ? 2 : 1);
      ck_assert_uint_eq (survey->n_removed, i < 2 ? 1 : 0);
      ck_assert_uint_eq (survey->snapshots->len, 1);
      if (i < 2)
        {
          ck_assert_str_eq (survey->merge_into, "a");
          ck_assert_uint_eq (survey->merge_done, done[i]);
          ck_assert_uint_eq (survey->merge_size, SIZE + MIB);
        }
    }
  pause_release ("merge:done");
  ck_assert_uint_eq (disk_count (snapshots_disk (set, 1), COUNTER_MERGED_BYTES), MIB / 2);
  close_set ();
}
END_TEST

/* Threads that count at the same time, more than there are slots for; and slots that come back. */
static void *
count (void *counters)
{
  for (unsigned i = 0; i < 1000; i++)
    counters_add (counters, COUNTER_WRITES, 1);
  counters_add (counters, COUNTER_WRITTEN_BYTES, UINT32_MAX);
  return NULL;
}

static void *
make_b (void *data)
{
  (void) data;
  ck_assert_int_eq (snapshots_create (set, "b", NULL), 0);
  return NULL;
}

/* What mkdir has not finished is nothing that can be seen, and certainly nothing that was removed.
 * Its overlays may yet be replaced by others. */
START_TEST (test_survey_mkdir)
{
  pthread_t maker;

  add_image ("vm.img", SIZE, 1);
  open_set ();
  ck_assert_int_eq (snapshots_create (set, "a", NULL), 0);
  pause_arm ("mkdir:closed");
  ck_assert_int_eq (pthread_create (&maker, NULL, make_b, NULL), 0);
  pause_wait_reached ("mkdir:closed");
  for (unsigned i = 0; i < 2; i++)
    {
      g_autoptr (Survey) survey = survey_new (set);

      ck_assert_uint_eq (survey->n_levels, 1 + i);
      ck_assert_uint_eq (survey->n_removed, 0);
      ck_assert_uint_eq (survey->snapshots->len, 1 + i);
      if (i == 0)
        {
          pause_release ("mkdir:closed");
          ck_assert_int_eq (pthread_join (maker, NULL), 0);
        }
    }
  close_set ();
}
END_TEST

START_TEST (test_counters)
{
  Counters *counters = counters_new ();
  pthread_t threads[THREAD_SLOTS + 8];

  for (unsigned round = 0; round < 3; round++)
    {
      for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
        ck_assert_int_eq (pthread_create (&threads[i], NULL, count, counters), 0);
      for (unsigned i = 0; i < G_N_ELEMENTS (threads); i++)
        pthread_join (threads[i], NULL);
    }
  ck_assert_uint_eq (counters_sum (counters, COUNTER_WRITES), 3000 * G_N_ELEMENTS (threads));
  ck_assert_uint_eq (counters_sum (counters, COUNTER_WRITTEN_BYTES),
                     UINT64_C (3) * UINT32_MAX * G_N_ELEMENTS (threads));
  ck_assert_uint_eq (counters_sum (counters, COUNTER_READS), 0);
  counters_free (counters);
}
END_TEST

/* The space of a removed snapshot comes back: blocks that only it needed. Later ones have less,
 * so that the removed one's level is what goes. _i: the removed one. */
START_TEST (test_space)
{
  static const char *const in_order[] = { "a", "b", "c" };
  uint64_t before, freed = MIB - (uint64_t) _i * 256 * KIB;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  for (unsigned s = 0; s < 3; s++)
    {
      create (in_order[s]);
      write_pattern (0, 0, MIB - s * 256 * KIB, 2 + s);
    }
  before = test_disk_usage (test_path (STORE));
  ck_assert_int_eq (snapshots_remove (set, in_order[_i]), 0);
  wait_gone ((unsigned) _i + 1);
  ck_assert_uint_le (test_disk_usage (test_path (STORE)) + freed, before);

  for (int s = 0; s < 3; s++)
    if (s != _i)
      ck_assert_int_eq (snapshots_remove (set, in_order[s]), 0);
  for (unsigned level = 1; level <= 3; level++)
    wait_gone (level);
  ck_assert_uint_lt (test_disk_usage (test_path (STORE "/snapshots")), 64 * KIB);
  close_set ();
}
END_TEST

/* Several at once, in every order, while the guest writes. */
static const unsigned removal_orders[][3]
    = { { 1, 2, 3 }, { 3, 2, 1 }, { 2, 1, 3 }, { 2, 4, 3 }, { 4, 3, 2 }, { 0, 2, 4 } };

START_TEST (test_remove_several)
{
  static const char *const in_order[] = { "a", "b", "c", "d", "e" };
  uint8_t *pictures[5];
  bool removed[5] = { false };
  size_t length;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  for (unsigned s = 0; s < 5; s++)
    {
      pictures[s] = picture (0, &length);
      create (in_order[s]);
      write_pattern (0, s * 100000, 700000, 1 + s);
    }
  for (unsigned n = 0; n < 3; n++)
    {
      unsigned s = removal_orders[_i][n];

      ck_assert_int_eq (snapshots_remove (set, in_order[s]), 0);
      removed[s] = true;
      write_pattern (0, n * 300000, 400000, 3);
      for (unsigned t = 0; t < 5; t++)
        if (!removed[t])
          assert_snapshot (in_order[t], 0, pictures[t], SIZE);
    }
  remount ();
  for (unsigned t = 0; t < 5; t++)
    {
      if (!removed[t])
        assert_snapshot (in_order[t], 0, pictures[t], SIZE);
      g_free (pictures[t]);
    }
  close_set ();
}
END_TEST

/* --- sizes --- */

/* The sizes of a disk at three snapshots and in the end. The new part is written. */
static const struct
{
  uint64_t sizes[4];
} growths[] = {
  { { 1000001, 1000100, 1000200, 1000448 } }, /* within a sector */
  { { 1000001, 1000500, 1003000, 1003521 } }, /* within a granule, and just over */
  { { 1, 2, 3, 511 } },
  { { 1000001, 2000000, 3000000, 4000000 } },
  { { 3000000, 2000000, 1000001, 512 } },
  { { 3000000, 1000001, 3000000, 1000001 } },
  { { 1000001, 3000000, 1000001, 3000000 } },
  { { 1000001, 0, 0, 1000001 } },
};

/* _i % 2: with the middle snapshot removed. */
START_TEST (test_resized)
{
  static const char *const in_order[] = { "a", "b", "c" };
  const uint64_t *sizes = growths[_i / 2].sizes;
  uint8_t *pictures[3];
  size_t lengths[3];
  bool remove_middle = _i % 2 != 0;

  add_image ("vm1.img", sizes[0], 1);
  open_set ();
  for (unsigned s = 0; s < 3; s++)
    {
      pictures[s] = picture (0, &lengths[s]);
      ck_assert_uint_eq (lengths[s], sizes[s]);
      create (in_order[s]);
      if (sizes[s + 1] > sizes[s])
        write_pattern (0, sizes[s], sizes[s + 1] - sizes[s], 2 + s);
      else
        ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), sizes[s + 1]), 0);
    }
  if (remove_middle)
    ck_assert_int_eq (snapshots_remove (set, "b"), 0);
  for (unsigned round = 0; round < 2; round++)
    {
      for (unsigned s = 0; s < 3; s++)
        if (s != 1 || !remove_middle)
          assert_snapshot (in_order[s], 0, pictures[s], lengths[s]);
      remount ();
    }
  close_set ();
  for (unsigned s = 0; s < 3; s++)
    {
      if (!remove_middle)
        assert_qemu_reads (s + 1, "vm1.img", pictures[s], lengths[s]);
      g_free (pictures[s]);
    }
}
END_TEST

/* The end of the disk is within a granule. The one snapshot saved what was beyond it, the other has
 * nothing there; so none is broken when a start looks whether the source is shorter. */
START_TEST (test_shrunk_within_granule)
{
  g_autofree uint8_t *large = NULL, *small = NULL;
  size_t large_length, small_length;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  large = picture (0, &large_length);
  create ("large");
  ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), MIB + 1001), 0);
  small = picture (0, &small_length);
  create ("small");
  disk_check_tail (snapshots_disk (set, 0));
  assert_snapshot ("large", 0, large, large_length);
  assert_snapshot ("small", 0, small, small_length);
  close_set ();
}
END_TEST

/* --- several disks --- */

START_TEST (test_disk_added)
{
  g_autofree uint8_t *first = NULL, *second = NULL, *first_b = NULL;
  g_autoptr (Snapshot) a = NULL;
  size_t length;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  first = picture (0, &length);
  create ("a");
  write_pattern (0, 0, 5000, 2);
  close_set ();

  add_image ("vm2.img", 3 * SIZE, 3);
  open_set ();
  ck_assert_uint_eq (snapshots_n_disks (set), 2);
  ck_assert_uint_ne (snapshots_disk_number (set, 0), snapshots_disk_number (set, 1));
  a = snapshots_find (set, "a");
  ck_assert (snapshot_has_disk (a, 0));
  ck_assert (!snapshot_has_disk (a, 1));
  first_b = picture (0, &length);
  second = picture (1, &length);
  create ("b");
  write_pattern (0, 0, 100000, 4);
  write_pattern (1, 50000, MIB, 5);
  assert_snapshot ("a", 0, first, SIZE);
  g_clear_pointer (&a, snapshot_unref);
  remount ();
  assert_snapshot ("a", 0, first, SIZE);
  assert_snapshot ("b", 0, first_b, SIZE);
  assert_snapshot ("b", 1, second, 3 * SIZE);
  ck_assert_int_eq (snapshots_remove (set, "b"), 0);
  wait_gone (2);
  assert_snapshot ("a", 0, first, SIZE);
  close_set ();
  assert_qemu_reads (1, "vm1.img", first, SIZE);

  n_images = 1; /* nothing needs the second one any more */
  open_set ();
  assert_snapshot ("a", 0, first, SIZE);
  close_set ();
}
END_TEST

START_TEST (test_disk_missing)
{
  SnapshotsImage second;

  add_image ("vm1.img", SIZE, 1);
  add_image ("vm2.img", SIZE, 3);
  open_set ();
  create ("a");
  close_set ();
  second = images[1];

  n_images = 1;
  assert_not_opened (test_path (STORE), EINVAL, "'vm2.img'");
  images[0] = second;
  assert_not_opened (test_path (STORE), EINVAL, "'vm1.img'");

  n_images = 2; /* in another order */
  images[1] = (SnapshotsImage){ "vm1.img", test_path ("vm1.img") };
  open_set ();
  ck_assert_uint_eq (snapshots_count (set), 1);
  close_set ();
}
END_TEST

START_TEST (test_default_store)
{
  g_autoptr (GError) error = NULL;

  add_image ("vm1.img", SIZE, 1);
  set = try_open (NULL, &error);
  ck_assert_msg (set != NULL, "%s", error != NULL ? error->message : "");
  ck_assert_str_eq (snapshots_store_path (set), test_path ("vm1.img.fleece"));
  ck_assert (snapshots_start (set, NULL));
  close_set ();
  ck_assert_int_eq (access (test_path ("vm1.img.fleece/fleecefs.ini"), F_OK), 0);

  add_image ("vm2.img", SIZE, 1);
  assert_not_opened (NULL, EINVAL, "store=DIR");
}
END_TEST

/* A start that fails, or is given up, leaves nothing behind. */
START_TEST (test_abandon)
{
  g_autoptr (GError) error = NULL;

  add_image ("vm1.img", SIZE, 1);
  set = try_open (test_path (STORE), &error);
  ck_assert_ptr_nonnull (set);
  snapshots_abandon (set);
  ck_assert_int_eq (access (test_path (STORE), F_OK), -1);

  open_set ();
  create ("a");
  close_set ();
  set = try_open (test_path (STORE), &error);
  ck_assert_ptr_nonnull (set);
  snapshots_abandon (set);
  open_set ();
  ck_assert_uint_eq (snapshots_count (set), 1);
  close_set ();
}
END_TEST

START_TEST (test_open_twice)
{
  add_image ("vm1.img", SIZE, 1);
  add_image ("vm2.img", SIZE, 1);
  n_images = 1;
  open_set ();
  assert_not_opened (test_path (STORE), EBUSY, "vm1.img");
  assert_not_opened (test_path ("another"), EBUSY, "vm1.img");
  images[0] = images[1]; /* another image, the same store */
  assert_not_opened (test_path (STORE), EBUSY, test_path (STORE));
  ck_assert_int_eq (access (test_path ("another"), F_OK), -1);
  create ("a");
  close_set ();
}
END_TEST

/* --- changed behind our back --- */

static void
spoil_write (void)
{
  struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000 } };

  test_poke (images[0].path, 100, "x", 1);
  ck_assert_int_eq (utimensat (AT_FDCWD, images[0].path, times, 0), 0); /* even an older time */
}

static void
spoil_grow (void)
{
  struct stat st;
  struct timespec times[2];

  ck_assert_int_eq (stat (images[0].path, &st), 0);
  ck_assert_int_eq (truncate (images[0].path, SIZE + 1), 0);
  times[0] = st.st_atim;
  times[1] = st.st_mtim;
  ck_assert_int_eq (utimensat (AT_FDCWD, images[0].path, times, 0), 0); /* only the size tells */
}

static void
spoil_shrink (void)
{
  ck_assert_int_eq (truncate (images[0].path, 100000), 0);
}

static void
spoil_replace (void)
{
  test_make_file (test_path ("new"), SIZE, 5);
  ck_assert_int_eq (rename (test_path ("new"), images[0].path), 0);
}

static const struct
{
  void (*spoil) (void);
  const char *word;
} spoils[] = {
  { spoil_write, "changed" },
  { spoil_grow, "resized" },
  { spoil_shrink, "resized" },
  { spoil_replace, "changed" },
};

/* Twice, since what was noticed once must not be forgotten. */
START_TEST (test_image_changed)
{
  g_autofree uint8_t *expected = NULL;
  size_t length;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  create ("a");
  write_pattern (0, 0, 500000, 2);
  create ("b");
  close_set ();

  spoils[_i].spoil ();
  for (unsigned round = 0; round < 2; round++)
    {
      open_set ();
      assert_broken ("a", spoils[_i].word);
      assert_broken ("b", spoils[_i].word);
      close_set ();
    }
  open_set ();
  expected = picture (0, &length);
  create ("c"); /* a new one is right */
  write_pattern (0, 0, 1000, 3);
  assert_snapshot ("c", 0, expected, length);
  remount ();
  assert_broken ("b", spoils[_i].word);
  assert_snapshot ("c", 0, expected, length);
  ck_assert_int_eq (snapshots_remove (set, "a"), 0);
  ck_assert_int_eq (snapshots_remove (set, "b"), 0);
  wait_gone (1);
  wait_gone (2);
  assert_snapshot ("c", 0, expected, length);
  close_set ();
}
END_TEST

/* Only the disk that was changed breaks its snapshots; they are broken as a whole. */
START_TEST (test_other_disk_changed)
{
  g_autoptr (Snapshot) a = NULL;
  g_autofree char *broken = NULL;
  uint8_t byte;

  add_image ("vm1.img", SIZE, 1);
  add_image ("vm2.img", SIZE, 3);
  open_set ();
  create ("a");
  close_set ();
  spoil_shrink ();
  open_set ();
  a = snapshots_find (set, "a");
  broken = snapshot_dup_broken (a);
  ck_assert_ptr_nonnull (broken);
  ck_assert_ptr_nonnull (strstr (broken, "vm1.img"));
  ck_assert_int_eq (snapshot_read (a, 0, &byte, 1, 0), -EIO);
  g_clear_pointer (&a, snapshot_unref);
  close_set ();
}
END_TEST

/* Bytes in the overlay of the middle one of three snapshots; each has an L2 table at cluster 4.
 * NULL: the file is removed. lazy: it is noticed when that part is read. */
static const struct
{
  const char *what;
  uint64_t offset;
  const char *bytes;
  size_t length;
  bool lazy;
} damages[] = {
  { "missing", 0, NULL, 0, false },
  { "magic", 0, "XXXX", 4, false },
  { "size", 24, "\0\0\0\0\0\0\x02\0", 8, false },
  { "L1 entry", 3 * 0x20000, "\x80\0\0\0\xff\0\0\0", 8, false },
  { "L1 entry, unaligned", 3 * 0x20000, "\x80\0\0\0\0\x08\x02\0", 8, false },
  { "L2 entry", 4 * 0x20000, "\x80\0\0\0\xff\0\0\0", 8, true },
  { "L2 bits", 4 * 0x20000 + 8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, true },
};

START_TEST (test_overlay_damaged)
{
  g_autofree uint8_t *expected = NULL;
  size_t length;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  create ("a");
  write_pattern (0, 0, 10000, 2);
  create ("b");
  write_pattern (0, 0, 500000, 3);
  expected = picture (0, &length);
  create ("c");
  write_pattern (0, 0, 500000, 4);
  close_set ();

  if (damages[_i].bytes == NULL)
    ck_assert_int_eq (unlink (overlay_path (2, "vm1.img")), 0);
  else
    test_poke (overlay_path (2, "vm1.img"), damages[_i].offset, damages[_i].bytes,
               damages[_i].length);
  for (unsigned round = 0; round < 2; round++)
    {
      open_set ();
      assert_snapshot ("c", 0, expected, SIZE);
      if (damages[_i].lazy)
        {
          g_autoptr (Snapshot) b = snapshots_find (set, "b");
          uint8_t byte;

          ck_assert_int_eq (snapshot_read (b, 0, &byte, 1, 0), -EIO);
        }
      assert_broken ("b", damages[_i].lazy ? "overlay" : "vm1.img.qcow2");
      if (!damages[_i].lazy)
        assert_broken ("a", "vm1.img.qcow2");
      write_pattern (0, MIB + round, 1000, 5); /* guests do not notice */
      assert_snapshot ("c", 0, expected, SIZE);
      close_set ();
    }
  open_set ();
  ck_assert_int_eq (snapshots_remove (set, "a"), 0);
  ck_assert_int_eq (snapshots_remove (set, "b"), 0);
  wait_gone (1);
  wait_gone (2);
  assert_snapshot ("c", 0, expected, SIZE);
  close_set ();
  assert_qemu_reads (3, "vm1.img", expected, SIZE);
}
END_TEST

/* The newest overlay is read whole at the start: a guest's write must not find it damaged, nor
 * save one block over another. Here two clusters have one place. */
START_TEST (test_newest_overlap)
{
  uint8_t entry[16];
  int fd;

  add_image ("vm1.img", SIZE, 1);
  open_set ();
  create ("a");
  write_pattern (0, 0, 4096, 2);
  close_set ();
  fd = open (overlay_path (1, "vm1.img"), O_RDONLY | O_CLOEXEC);
  ck_assert_int_eq (pread (fd, entry, sizeof entry, 4 * 0x20000), sizeof entry);
  close (fd);
  test_poke (overlay_path (1, "vm1.img"), 4 * 0x20000 + 16, entry, sizeof entry);
  open_set ();
  assert_broken ("a", "cannot read the tables of overlay 'vm1.img.qcow2'");
  write_pattern (0, 131072, 4096, 3);
  close_set ();
}
END_TEST

/* --- a block device --- */

START_TEST (test_block_device)
{
  g_autofree uint8_t *expected = NULL;
  g_autofree char *device = NULL;
  size_t length;

  test_make_file (test_path ("backing"), 2 * MIB + 512, 1);
  device = test_loop_attach (test_path ("backing"), "snapshots of a block device");
  if (device == NULL)
    return;
  images[n_images++] = (SnapshotsImage){ "disk", device };
  assert_not_opened (NULL, EINVAL, "store=DIR");

  open_set ();
  expected = test_load (device, &length);
  if (length == 0) /* GLib goes by st_size */
    {
      g_free (expected);
      expected = test_load (test_path ("backing"), &length);
    }
  create ("a");
  write_pattern (0, 1000, MIB, 2);
  ck_assert_int_eq (disk_allocate (snapshots_disk (set, 0),
                                   FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, MIB + 77, 100000),
                    0);
  ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), MIB), -EPERM);
  create ("b");
  assert_snapshot ("a", 0, expected, 2 * MIB + 512);
  remount ();
  write_pattern (0, 2 * MIB, 512, 3);
  assert_snapshot ("a", 0, expected, 2 * MIB + 512);
  ck_assert_int_eq (snapshots_remove (set, "b"), 0);
  wait_gone (2);
  assert_snapshot ("a", 0, expected, 2 * MIB + 512);
  close_set ();
  assert_qemu_reads (1, "disk", expected, 2 * MIB + 512);
}
END_TEST

static TCase *
snapshots_case (Suite *suite, const char *name)
{
  TCase *tcase = tcase_create (name);

  tcase_add_checked_fixture (tcase, set_up, test_tear_down);
  tcase_set_timeout (tcase, 120);
  suite_add_tcase (suite, tcase);
  return tcase;
}

static Suite *
snapshots_suite (void)
{
  Suite *suite = suite_create ("snapshots");
  TCase *verbs = snapshots_case (suite, "verbs");
  TCase *again = snapshots_case (suite, "remount");
  TCase *merge = snapshots_case (suite, "merge");
  TCase *size = snapshots_case (suite, "sizes");
  TCase *disks = snapshots_case (suite, "disks");
  TCase *changed = snapshots_case (suite, "changed");

  tcase_add_loop_test (verbs, test_names, 0, G_N_ELEMENTS (names));
  tcase_add_test (verbs, test_max_snapshots);
  tcase_add_test (verbs, test_rename);
  tcase_add_test (verbs, test_find);
  tcase_add_test (verbs, test_remove_referenced);
  tcase_add_test (again, test_remount);
  tcase_add_test (again, test_mtimes);
  tcase_add_test (again, test_mtimes_after_kill);
  tcase_add_test (again, test_emptied);
  tcase_add_loop_test (again, test_memory_after_kill, 0, 2);
  tcase_add_test (again, test_ids);
  tcase_add_loop_test (merge, test_merge, 0, 2 * G_N_ELEMENTS (merges));
  tcase_add_test (merge, test_survey_merge);
  tcase_add_test (merge, test_survey_mkdir);
  tcase_add_test (merge, test_counters);
  tcase_add_loop_test (merge, test_space, 0, 3);
  tcase_add_loop_test (merge, test_remove_several, 0, G_N_ELEMENTS (removal_orders));
  tcase_add_loop_test (size, test_resized, 0, 2 * G_N_ELEMENTS (growths));
  tcase_add_test (size, test_shrunk_within_granule);
  tcase_add_test (disks, test_disk_added);
  tcase_add_test (disks, test_disk_missing);
  tcase_add_test (disks, test_default_store);
  tcase_add_test (disks, test_abandon);
  tcase_add_test (disks, test_open_twice);
  tcase_add_test (disks, test_block_device);
  tcase_add_loop_test (changed, test_image_changed, 0, G_N_ELEMENTS (spoils));
  tcase_add_test (changed, test_other_disk_changed);
  tcase_add_loop_test (changed, test_overlay_damaged, 0, G_N_ELEMENTS (damages));
  tcase_add_test (changed, test_newest_overlap);
  return suite;
}

int
main (void)
{
  return test_main (snapshots_suite ());
}
