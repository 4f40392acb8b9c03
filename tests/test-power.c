/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loss of power: what fleecefs did is recorded below it (power-log.h), crashed at every moment in
 * all ways or in random ones (power-crash.h), and each time what was promised must hold
 * (power-check.c).
 *
 * POWER_STATES=N in the environment tries N random states for each test, POWER_SEED=S the
 * same ones again (of tests with several threads: if the threads happen to run the same way);
 * POWER_DEEP=N looks closer at one in N states. */
#include "base/pause.h"
#include "base/units.h"
#include "overlay/qcow2-log.h"
#include "power-bed.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define N_WRITERS 4
#define LOG_SIZE (16 * KIB) /* three copies of one granule */

static Bed *bed;

static const BedConfig small = { 1, 256 * KIB, 4 * KIB, DISK_COPY_BOUNCE };
static const BedConfig medium = { 1, 2 * MIB, 4 * KIB, DISK_COPY_BOUNCE };
static const BedConfig reserving = { 1, 256 * KIB, 4 * KIB, DISK_COPY_AUTO };
static const BedConfig two_disks = { 2, MIB + 4 * KIB, 4 * KIB, DISK_COPY_BOUNCE };

static const BedEffort thorough = { 32, 30, 60 };
static const BedEffort all_of_one_copy = { 400, 30, 60 };
static const BedEffort usual = { 2, 25, 30 };

/* The library's warnings: that snapshots are broken is expected here. */
static GLogWriterOutput
discard_log (G_GNUC_UNUSED GLogLevelFlags level, G_GNUC_UNUSED const GLogField *fields,
             G_GNUC_UNUSED gsize n_fields, G_GNUC_UNUSED gpointer data)
{
  return G_LOG_WRITER_HANDLED;
}

static void
crash (const char *name, const BedEffort *effort)
{
  power_try (bed, name, effort);
  bed_free (bed);
}

/* --- what names a crash leaves --- */

/* Which of the three files, by its bytes, has that name after the crash; '-': none. */
static char
file_at (const char *directory, const char *name)
{
  g_autofree char *path = g_build_filename (directory, name, NULL);
  g_autofree char *text = NULL;

  return g_file_get_contents (path, &text, NULL, NULL) ? text[0] : '-';
}

/* All states of a crash at the last moment, as names in/x, in/y, in/z, z. */
static char *
names_after (PowerLog *log)
{
  g_autoptr (PowerChoices) choices = power_choices_all ();
  const GArray *moments = power_log_moments (log);
  uint64_t moment = g_array_index (moments, uint64_t, moments->len - 1);
  GString *states = g_string_new (NULL);
  unsigned n = 0;

  do
    {
      g_autofree char *name = g_strdup_printf ("crash%u", n++);
      const char *path = test_path (name);

      power_crash (log, moment, choices, path);
      g_string_append_printf (states, "%c%c%c%c ", file_at (path, "in/x"), file_at (path, "in/y"),
                              file_at (path, "in/z"), file_at (path, "z"));
    }
  while (power_choices_next (choices));
  ck_assert_uint_eq (power_count (log, moment, 100), n);
  return g_string_free (states, FALSE);
}

/* Two names are exchanged, and a third file is moved to where they are. */
START_TEST (names)
{
  static const char *const no_sources[] = { NULL };
  bool synced = _i == 1;
  g_autofree char *states = NULL;
  const char *x, *y;
  PowerLog *log;

  ck_assert_int_eq (g_mkdir_with_parents (test_path ("live/in"), 0700), 0);
  x = test_path ("live/in/x");
  y = test_path ("live/in/y");
  ck_assert (g_file_set_contents (x, "1", 1, NULL) && g_file_set_contents (y, "2", 1, NULL)
             && g_file_set_contents (test_path ("live/z"), "3", 1, NULL));
  log = power_log_new (test_path ("live"), no_sources);
  ck_assert_int_eq (renameat2 (AT_FDCWD, x, AT_FDCWD, y, RENAME_EXCHANGE), 0);
  ck_assert_int_eq (renameat (AT_FDCWD, test_path ("live/z"), AT_FDCWD, test_path ("live/in/z")),
                    0);
  if (synced)
    {
      int fd = open (test_path ("live/in"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

      ck_assert_int_eq (fsync (fd), 0);
      close (fd);
    }
  power_log_stop (log);
  states = names_after (log);
  ck_assert_str_eq (states, synced ? "213- " : "12-3 21-3 213- ");
  power_log_free (log);
}
END_TEST

/* --- durability=power --- */

START_TEST (first_writes)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 4 * KIB);
  bed_write (bed, 0, 130 * KIB, 512); /* the same cluster, not a whole granule */
  bed_flush (bed, 0);
  bed_write (bed, 0, 8 * KIB, 4 * KIB);
  bed_zero (bed, 0, 16 * KIB, 4 * KIB);
  bed_close (bed);
  crash ("first writes", &thorough);
}
END_TEST

/* What was in a hole is saved as a bit, and there is no data to wait for. */
START_TEST (holes)
{
  bed = bed_new (&medium);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 300 * KIB, 4 * KIB);
  bed_write (bed, 0, 252 * KIB, 8 * KIB);
  bed_mkdir (bed, "b");
  bed_write (bed, 0, 300 * KIB, 8 * KIB);
  bed_close (bed);
  crash ("holes", &thorough);
}
END_TEST

/* A hole of several regions is cut off: its entries are on disk before a guest can have other bytes
 * there. */
START_TEST (cut_hole)
{
  bed = bed_new (&medium);
  bed_open (bed, true);
  bed_resize (bed, 0, 4 * MIB);
  bed_mkdir (bed, "a");
  bed_resize (bed, 0, MIB);
  bed_resize (bed, 0, 4 * MIB);
  bed_write (bed, 0, 3 * MIB, 8 * KIB);
  bed_flush (bed, 0);
  bed_close (bed);
  crash ("cut hole", &usual);
}
END_TEST

/* Writes of before the snapshot that no guest has flushed. */
START_TEST (unflushed)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_write (bed, 0, 0, 8 * KIB);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 4 * KIB, 8 * KIB);
  bed_mkdir (bed, "b");
  bed_write (bed, 0, 0, 4 * KIB);
  crash ("unflushed", &thorough);
}
END_TEST

static void
write_some (unsigned disk, unsigned first, unsigned n)
{
  for (unsigned i = first; i < first + n; i++)
    bed_write (bed, disk, i * 32 * KIB, (i % 3 + 1) * 4 * KIB);
}

/* One granule is moved: down, and up. */
START_TEST (small_merge)
{
  bool up = _i == 1;

  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 4 * KIB);
  bed_mkdir (bed, "b");
  bed_write (bed, 0, 32 * KIB, up ? 96 * KIB : 4 * KIB);
  bed_mkdir (bed, "c");
  bed_rmdir (bed, "b");
  power_log_wait_removed (bed->log, 1);
  crash (up ? "small merge up" : "small merge down", &thorough);
}
END_TEST

/* Merges down: the snapshot that goes has less. */
START_TEST (merge_down)
{
  bed = bed_new (&medium);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  write_some (0, 0, 40);
  bed_mkdir (bed, "b");
  write_some (0, 30, 15);
  bed_mkdir (bed, "c");
  write_some (0, 0, 5);
  bed_rmdir (bed, "b");
  power_log_wait_removed (bed->log, 1);
  write_some (0, 35, 3);
  bed_rmdir (bed, "c");
  write_some (0, 44, 3);
  power_log_wait_removed (bed->log, 2);
  bed_rename (bed, "a", "d");
  bed_close (bed);
  crash ("merge down", &usual);
}
END_TEST

/* Merges up: the snapshot that goes has more, and the older one moves to its level. */
START_TEST (merge_up)
{
  bed = bed_new (&medium);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  write_some (0, 0, 5);
  bed_mkdir (bed, "b");
  write_some (0, 0, 50);
  bed_mkdir (bed, "c");
  write_some (0, 2, 5);
  bed_rmdir (bed, "b");
  power_log_wait_removed (bed->log, 1);
  bed_rename (bed, "a", "d");
  write_some (0, 40, 10);
  bed_rmdir (bed, "d");
  power_log_wait_removed (bed->log, 2);
  write_some (0, 20, 10);
  bed_mkdir (bed, "e");
  bed_close (bed);
  crash ("merge up", &usual);
}
END_TEST

/* What goes up takes the place of some that was saved there by one write with others. */
START_TEST (overwriting_merge)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 4 * KIB);
  bed_mkdir (bed, "b");
  bed_write (bed, 0, 0, 96 * KIB);
  bed_mkdir (bed, "c");
  bed_rmdir (bed, "b");
  power_log_wait_removed (bed->log, 1);
  crash ("overwriting merge", &thorough);
}
END_TEST

/* Guests write what neither level has, before a merge in either direction and before its end. */
START_TEST (written_merge)
{
  bool up = _i == 1;

  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, (up ? 4 : 96) * KIB);
  bed_mkdir (bed, "b");
  bed_write (bed, 0, 0, (up ? 96 : 4) * KIB);
  if (!up)
    bed_write (bed, 0, 96 * KIB, 4 * KIB);
  pause_arm ("merge:step");
  pause_arm ("merge:copied");
  bed_rmdir (bed, "b");
  pause_wait_reached ("merge:step");
  bed_write (bed, 0, 104 * KIB, 4 * KIB);
  pause_release ("merge:step");
  pause_wait_reached ("merge:copied");
  bed_write (bed, 0, 112 * KIB, 4 * KIB);
  pause_release ("merge:copied");
  power_log_wait_removed (bed->log, 1);
  bed_write (bed, 0, 120 * KIB, 4 * KIB);
  crash ("written merge", &thorough);
}
END_TEST

/* A journal that one write fills, of which all entries are younger than the last sync when the next
 * write makes it begin anew. */
START_TEST (full_journal)
{
  qcow2_journal_records = 9;
  bed = bed_new (&medium);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, MIB);
  bed_write (bed, 0, MIB, 4 * KIB);
  bed_write (bed, 0, MIB + 256 * KIB, 4 * KIB);
  crash ("full journal", &thorough);
  qcow2_journal_records = QCOW2_JOURNAL_RECORDS;
}
END_TEST

START_TEST (sizes)
{
  bed = bed_new (&medium);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_resize (bed, 0, 3 * MIB);
  bed_write (bed, 0, 2 * MIB + 64 * KIB, 8 * KIB);
  bed_mkdir (bed, "b");
  bed_resize (bed, 0, MIB + 1000);
  bed_flush (bed, 0);
  bed_mkdir (bed, "c");
  bed_resize (bed, 0, 2 * MIB);
  bed_write (bed, 0, MIB, 4 * KIB);
  bed_zero (bed, 0, 64 * KIB, 512 * KIB);
  bed_rmdir (bed, "b");
  power_log_wait_removed (bed->log, 1);
  bed_close (bed);
  crash ("sizes", &usual);
}
END_TEST

/* --- several writers --- */

static void *
write_own (void *data)
{
  unsigned own = GPOINTER_TO_UINT (data);

  for (unsigned i = 0; i < 12; i++)
    bed_write (bed, i % bed->config.n_disks, (i * N_WRITERS + own) * 20 * KIB, 8 * KIB);
  return NULL;
}

static void
write_together (void)
{
  pthread_t threads[N_WRITERS];

  for (unsigned i = 0; i < N_WRITERS; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, write_own, GUINT_TO_POINTER (i)), 0);
  for (unsigned i = 0; i < N_WRITERS; i++)
    pthread_join (threads[i], NULL);
}

START_TEST (writers)
{
  bed = bed_new (&two_disks);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  write_together ();
  bed_flush (bed, 1);
  bed_mkdir (bed, "b");
  write_together ();
  bed_rmdir (bed, "a");
  bed_close (bed);
  crash ("writers", &usual);
}
END_TEST

static void
write_second_cluster (G_GNUC_UNUSED void *data)
{
  bed_write (bed, 0, 132 * KIB, 4 * KIB);
}

/* A sync that has begun before a writer came must not do for it. */
START_TEST (shared_sync)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 512); /* the table is there */
  power_log_interject (bed->log, CALL_STORE, CALL_SYNC, 1, write_second_cluster, NULL);
  bed_write (bed, 0, 8 * KIB, 4 * KIB);
  ck_assert (power_log_join (bed->log));
  crash ("shared sync", &thorough);
}
END_TEST

static void
overwrite (G_GNUC_UNUSED void *data)
{
  bed_write (bed, 0, 8 * KIB, 4 * KIB);
}

/* While a writer waits for its entry to be on disk another comes to the same granule. */
START_TEST (second_writer)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 512);
  power_log_interject (bed->log, CALL_STORE, CALL_SYNC, 1, overwrite, NULL);
  bed_write (bed, 0, 10 * KIB, 512);
  ck_assert (power_log_join (bed->log));
  crash ("second writer", &thorough);
}
END_TEST

static void
write_before_freeze (G_GNUC_UNUSED void *data)
{
  bed_write (bed, 0, 64 * KIB, 4 * KIB);
}

/* The guest writes when mkdir has synced the image and not frozen it yet. */
START_TEST (before_freeze)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  power_log_interject (bed->log, CALL_STORE, CALL_CREATE, 1, write_before_freeze, NULL);
  bed_mkdir (bed, "b");
  ck_assert (power_log_join (bed->log));
  bed_write (bed, 0, 0, 4 * KIB);
  crash ("before freeze", &thorough);
}
END_TEST

static void
write_after_freeze (G_GNUC_UNUSED void *data)
{
  bed_frozen (bed);
  bed_write (bed, 0, 0, 4 * KIB);
  bed_write (bed, 0, 64 * KIB, 4 * KIB);
}

/* And when it has frozen it and not written the record. */
START_TEST (after_freeze)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 8 * KIB);
  power_log_interject (bed->log, CALL_SOURCE, CALL_SYNC, 2, write_after_freeze, NULL);
  bed_mkdir (bed, "b");
  ck_assert (power_log_join (bed->log));
  crash ("after freeze", &thorough);
}
END_TEST

/* A copy fails, the guest's write goes on: that the snapshot is broken is on disk before it. */
START_TEST (break_mark)
{
  bed = bed_new (&small);
  bed->may_break = true;
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 512);
  power_log_fail (bed->log, CALL_STORE, CALL_WRITE, ENOSPC);
  bed_write (bed, 0, 64 * KIB, 4 * KIB);
  bed_close (bed);
  crash ("break mark", &thorough);
}
END_TEST

/* The store's file system is full, of inodes or of blocks: what changes the manifest takes the
 * place of the spare, and what it replaces is the next one. */
START_TEST (full_store)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 4 * KIB);
  power_log_fail (bed->log, CALL_STORE, CALL_CREATE, ENOSPC);
  bed_rename (bed, "a", "b");
  bed_mkdir (bed, "c");
  bed_write (bed, 0, 32 * KIB, 4 * KIB);
  power_log_fail (bed->log, CALL_STORE, CALL_WRITE, ENOSPC);
  bed_rename (bed, "c", "d");
  power_log_fail (bed->log, CALL_STORE, CALL_CREATE, ENOSPC);
  bed_rmdir (bed, "b");
  bed_write (bed, 0, 64 * KIB, 4 * KIB);
  power_log_fail (bed->log, CALL_STORE, CALL_CREATE, ENOSPC);
  bed_close (bed);
  crash ("full store", &usual);
}
END_TEST

/* --- sessions --- */

static void
do_things (const char *a, const char *b, const char *c)
{
  bed_mkdir (bed, a);
  write_some (0, 0, 10);
  bed_mkdir (bed, b);
  write_some (0, 5, 30);
  bed_mkdir (bed, c);
  write_some (0, 20, 10);
  bed_rmdir (bed, b);
}

START_TEST (remounts)
{
  bed = bed_new (&medium);
  bed_open (bed, true);
  do_things ("a", "b", "c");
  bed_close (bed);
  bed_open (bed, true);
  write_some (0, 30, 4);
  bed_kill (bed);
  bed_open (bed, true);
  write_some (0, 28, 4);
  bed_close (bed);
  crash ("remounts", &usual);
}
END_TEST

/* A copy of which the sync did not come, and a kill: the next start finds bytes and a record in
 * memory that are not on disk. Or it finds no space for the entry, and breaks nothing for that. */
START_TEST (killed_copy)
{
  bed = bed_new (&small);
  bed->on_cbw_error = DISK_CBW_BREAK_GUEST_WRITE;
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 4 * KIB);
  power_log_fail (bed->log, CALL_STORE, CALL_SYNC, EIO);
  bed_write_refused (bed, 0, 8 * KIB, 4 * KIB);
  bed_kill (bed);
  if (_i == 2)
    {
      power_log_fail (bed->log, CALL_STORE, CALL_WRITE, ENOSPC);
      bed_open_refused (bed, true, ENOSPC);
    }
  bed_open (bed, _i > 0);
  crash ("killed copy", &all_of_one_copy);
}
END_TEST

/* Two in a row: the first, which is made by hand, takes an entry that the journal has; the second
 * comes while the next start brings it back. */
START_TEST (lost_entry)
{
  static const uint8_t none[16];

  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 4 * KIB);
  bed_kill (bed);
  test_poke (test_path ("live/store/snapshots/000001/disk0.img.qcow2"), 4 * 128 * KIB, none,
             sizeof none); /* the only L2 table stands behind header, refcounts and L1 */
  bed_open (bed, _i == 1);
  crash ("lost entry", &all_of_one_copy);
}
END_TEST

/* The same with a log, which has the bytes as well: these are lost, or the entry is, or both. */
START_TEST (lost_place)
{
  static const uint8_t none[4 * KIB];
  const char *path = test_path ("live/store/snapshots/000001/disk0.img.qcow2");

  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 4 * KIB);
  bed_kill (bed);
  if (_i / 2 != 0)
    test_poke (path, 5 * 128 * KIB, none, 16); /* the log stands before the table */
  if (_i / 2 != 1)
    test_poke (path, 6 * 128 * KIB, none, sizeof none);
  bed_open (bed, _i % 2 == 1);
  crash ("lost place", &all_of_one_copy);
}
END_TEST

/* A log that is full three times over, by writes that do not end before it is. */
START_TEST (full_log)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  for (unsigned i = 0; i < 8; i++)
    bed_write (bed, 0, (i * 5 + 1) * 4 * KIB, 4 * KIB);
  crash ("full log", &thorough);
}
END_TEST

/* The table is there, and a new cluster is where the file did not reach before. */
START_TEST (new_room)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 4 * KIB);
  bed_close (bed);
  bed_open (bed, true);
  bed_write (bed, 0, 128 * KIB, 4 * KIB);
  crash ("new room", &all_of_one_copy);
}
END_TEST

/* The end of the file cannot be moved ahead of the writes. */
START_TEST (no_room)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  power_log_fail (bed->log, CALL_STORE, CALL_TRUNCATE, EFBIG);
  bed_write (bed, 0, 0, 4 * KIB);
  bed_write (bed, 0, 128 * KIB, 4 * KIB);
  crash ("no room", &all_of_one_copy);
}
END_TEST

/* A merge overwrites what went to the log of the level that stays. */
START_TEST (log_merge)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 4 * KIB);
  bed_mkdir (bed, "b");
  bed_write (bed, 0, 32 * KIB, 96 * KIB);
  bed_write (bed, 0, 0, 4 * KIB);
  bed_mkdir (bed, "c");
  bed_rmdir (bed, "b");
  power_log_wait_removed (bed->log, 1);
  crash ("log merge", &thorough);
}
END_TEST

/* Headers that are written anew in an overlay that is clean. */
START_TEST (relink)
{
  bed = bed_new (&small);
  bed_open (bed, true);
  bed_mkdir (bed, "a");
  write_some (0, 0, 3);
  bed_mkdir (bed, "b");
  bed_close (bed);
  bed_open (bed, true);
  bed_mkdir (bed, "c");
  bed_close (bed);
  crash ("relink", &usual);
}
END_TEST

/* Places in an overlay that were taken for data and got none: here because the file system does not
 * share blocks, and the blocks, which are no hole, turn out to be zeros. */
START_TEST (reserved)
{
  bed = bed_new (&reserving);
  bed_open (bed, true);
  bed_write_zeros (bed, 0, 0, 256 * KIB);
  bed_mkdir (bed, "a");
  bed_write (bed, 0, 0, 256 * KIB);
  bed_close (bed);
  crash ("reserved", &thorough);
}
END_TEST

/* durability=process: broken, until it was closed. */
START_TEST (process)
{
  bed = bed_new (&medium);
  bed_open (bed, false);
  do_things ("a", "b", "c");
  bed_flush (bed, 0);
  bed_rename (bed, "a", "d");
  write_some (0, 30, 4);
  bed_close (bed);
  bed_open (bed, false);
  bed_close (bed);
  crash ("process", &usual);
}
END_TEST

/* A session that kept nothing durable, ended in either way, and then one that does. */
START_TEST (process_then_power)
{
  bool killed = _i == 1;

  bed = bed_new (&medium);
  bed_open (bed, false);
  do_things ("a", "b", "c");
  power_log_wait_removed (bed->log, 1);
  (killed ? bed_kill : bed_close) (bed);
  bed_open (bed, true);
  write_some (0, 0, 3);
  write_some (0, 30, 4);
  bed_rmdir (bed, "c");
  write_some (0, 50, 4);
  bed_close (bed);
  crash (killed ? "process, killed, power" : "process, closed, power", &usual);
}
END_TEST

START_TEST (power_then_process)
{
  bed = bed_new (&medium);
  bed_open (bed, true);
  do_things ("a", "b", "c");
  bed_kill (bed);
  bed_open (bed, false);
  write_some (0, 0, 3);
  bed_close (bed);
  crash ("power, killed, process", &usual);
}
END_TEST

/* --- other shapes --- */

static const BedConfig shapes[] = {
  { 1, 2 * MIB, 4 * KIB, DISK_COPY_OFFLOAD },
  { 1, 2 * MIB, 4 * KIB, DISK_COPY_AUTO },
  { 1, 2 * MIB, 64 * KIB, DISK_COPY_BOUNCE },
};
static const char *const shape_names[] = { "offload", "auto", "granule 64k" };

START_TEST (shape)
{
  bed = bed_new (&shapes[_i]);
  bed_open (bed, true);
  do_things ("a", "b", "c");
  bed_write (bed, 0, MIB, 512 * KIB);
  bed_zero (bed, 0, MIB, 64 * KIB);
  bed_mkdir (bed, "e");
  bed_write (bed, 0, MIB - 256 * KIB, 512 * KIB);
  bed_close (bed);
  if (shapes[_i].copy == DISK_COPY_OFFLOAD && power_log_count (bed->log, CALL_COPY) < 10)
    test_skip ("copies inside the kernel", "the file system of the tests refuses them");
  crash (shape_names[_i], &usual);
}
END_TEST

static void
set_up_log (void)
{
  qcow2_log_size = LOG_SIZE;
  test_set_up ();
}

static void
set_up_journal (void)
{
  qcow2_log_size = 0;
  test_set_up ();
}

static void
add_with (Suite *suite, const char *name, const TTest *test, int n, SFun set_up)
{
  TCase *tcase = tcase_create (name);

  tcase_add_checked_fixture (tcase, set_up, test_tear_down);
  tcase_set_timeout (tcase, g_getenv ("POWER_STATES") != NULL ? 36000 : 120);
  tcase_add_loop_test (tcase, test, 0, n);
  suite_add_tcase (suite, tcase);
}

static void
add (Suite *suite, const char *name, const TTest *test, int n)
{
  add_with (suite, name, test, n, set_up_log);
}

/* All copies go by the journal. */
static void
add_journal (Suite *suite, const char *name, const TTest *test, int n)
{
  add_with (suite, name, test, n, set_up_journal);
}

static Suite *
suite (void)
{
  Suite *suite = suite_create ("power");

  add (suite, "names", names, 2);
  add (suite, "first-writes", first_writes, 1);
  add (suite, "holes", holes, 1);
  add (suite, "cut-hole", cut_hole, 1);
  add (suite, "unflushed", unflushed, 1);
  add (suite, "small-merge", small_merge, 2);
  add (suite, "merge-down", merge_down, 1);
  add (suite, "merge-up", merge_up, 1);
  add (suite, "overwriting-merge", overwriting_merge, 1);
  add (suite, "written-merge", written_merge, 2);
  add_journal (suite, "full-journal", full_journal, 1);
  add (suite, "sizes", sizes, 1);
  add (suite, "writers", writers, 1);
  add (suite, "shared-sync", shared_sync, 1);
  add (suite, "second-writer", second_writer, 1);
  add (suite, "before-freeze", before_freeze, 1);
  add (suite, "after-freeze", after_freeze, 1);
  add (suite, "break-mark", break_mark, 1);
  add (suite, "full-store", full_store, 1);
  add (suite, "remounts", remounts, 1);
  add_journal (suite, "killed-copy", killed_copy, 3);
  add_journal (suite, "lost-entry", lost_entry, 2);
  add (suite, "lost-place", lost_place, 6);
  add (suite, "full-log", full_log, 1);
  add (suite, "new-room", new_room, 1);
  add (suite, "no-room", no_room, 1);
  add (suite, "log-merge", log_merge, 1);
  add_journal (suite, "journal-first-writes", first_writes, 1);
  add_journal (suite, "journal-holes", holes, 1);
  add_journal (suite, "journal-overwriting-merge", overwriting_merge, 1);
  add_journal (suite, "journal-written-merge", written_merge, 2);
  add_journal (suite, "journal-writers", writers, 1);
  add_journal (suite, "journal-shared-sync", shared_sync, 1);
  add_journal (suite, "journal-second-writer", second_writer, 1);
  add_journal (suite, "journal-remounts", remounts, 1);
  add (suite, "relink", relink, 1);
  add (suite, "reserved", reserved, 1);
  add (suite, "process", process, 1);
  add (suite, "process-then-power", process_then_power, 2);
  add (suite, "power-then-process", power_then_process, 1);
  add (suite, "shape", shape, G_N_ELEMENTS (shapes));
  return suite;
}

int
main (void)
{
  g_log_set_writer_func (discard_log, NULL, NULL);
  test_in_memory ();
  return test_main (suite ());
}
