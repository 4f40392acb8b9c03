/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The journal of durable overlays: what it gives back when the tables on disk lack it.
 *
 * A loss of power is made by hand: the overlay is freed as a kill leaves it, and in the file
 * entries of the L2 table, or bytes, are as they were before. All orders in which writes can reach
 * the disk are test-power's business. */
#include "base/crc64.h"
#include "base/fail.h"
#include "base/pause.h"
#include "base/units.h"
#include "overlay/be.h"
#include "overlay/overlay.h"
#include "overlay/qcow2-log.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRANULE (4 * KIB)
#define CLUSTER (32 * GRANULE)
#define SIZE (4 * MIB)

/* Where the L1 table of such an overlay has its only entry, and the L2 table its place. */
#define L1_OFFSET (3 * CLUSTER)
#define L2_OFFSET (4 * CLUSTER)

static int dir_fd = -1;
static const char *path;
static Overlay *overlay;

static void
set_up (void)
{
  g_autoptr (GError) error = NULL;

  test_set_up ();
  dir_fd = open (test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  path = test_path ("o.qcow2");
  test_make_file (test_path ("disk.img"), SIZE, 1);
  overlay = overlay_create (dir_fd, "o.qcow2", SIZE, GRANULE, "disk.img", "raw", &error);
  ck_assert_ptr_nonnull (overlay);
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
}

static void
tear_down (void)
{
  g_clear_pointer (&overlay, overlay_free);
  close (dir_fd);
  test_tear_down ();
}

/* Saves granules of one cluster up to the point where the guest's write is issued, but for
 * overlay_journal_done(). */
static void
begin_save (uint64_t cluster, uint32_t data, uint32_t zero)
{
  uint8_t bytes[GRANULE];

  ck_assert_int_eq (overlay_prepare (overlay, cluster, 1, true), 0);
  if (data != 0)
    overlay_reserve (overlay, cluster, 1);
  for (unsigned i = 0; i < 32; i++)
    if (data >> i & 1)
      {
        test_fill (bytes, GRANULE, 2, (cluster * 32 + i) * GRANULE);
        ck_assert_int_eq (overlay_write (overlay, cluster * 32 + i, 1, bytes), 0);
      }
  ck_assert_int_eq (overlay_journal (overlay, cluster, 1, &data, &zero), 0);
}

static void
save (uint64_t cluster, uint32_t data, uint32_t zero)
{
  begin_save (cluster, data, zero);
  ck_assert_int_eq (overlay_record (overlay, cluster, 1, &data, &zero), 0);
  overlay_journal_done (overlay);
  overlay_publish (overlay, cluster, 1, &data, &zero);
}

/* The place of a cluster that is saved. */
static uint64_t
place (uint64_t cluster)
{
  return overlay_lookup (overlay, cluster).host_offset;
}

/* The overlay's process is gone, and the entry of that cluster never got to disk. */
static void
lose_entry (uint64_t cluster)
{
  static const uint8_t none[16];

  g_clear_pointer (&overlay, overlay_free);
  test_poke (path, L2_OFFSET + 16 * cluster, none, sizeof none);
}

static void
reopen (void)
{
  g_autoptr (GError) error = NULL;

  overlay = overlay_open (dir_fd, "o.qcow2", SIZE, GRANULE, &error);
  ck_assert_msg (overlay != NULL, "%s", error != NULL ? error->message : "");
  ck_assert_int_eq (overlay_prepare (overlay, 0, 32, false), 0);
}

static void
assert_refused (const char *reason)
{
  g_autoptr (GError) error = NULL;

  ck_assert_ptr_null (overlay_open (dir_fd, "o.qcow2", SIZE, GRANULE, &error));
  ck_assert_msg (g_str_has_suffix (error->message, reason), "%s", error->message);
}

static void
assert_saved (uint64_t cluster, uint32_t data, uint32_t zero)
{
  Qcow2Cluster mapping = overlay_lookup (overlay, cluster);
  uint8_t bytes[GRANULE], expected[GRANULE];

  ck_assert_uint_eq (mapping.data, data);
  ck_assert_uint_eq (mapping.zero, zero);
  for (unsigned i = 0; i < 32; i++)
    if (data >> i & 1)
      {
        test_fill (expected, GRANULE, 2, (cluster * 32 + i) * GRANULE);
        ck_assert_int_eq (overlay_read (overlay, bytes, GRANULE, mapping.host_offset + i * GRANULE),
                          0);
        test_assert_bytes ("a granule", bytes, expected, GRANULE);
      }
}

static void
assert_qemu (bool opens)
{
  g_autofree char *output = NULL;
  int status;

  if (!test_have ("qemu-img"))
    {
      test_skip ("QEMU's view", "no qemu-img");
      return;
    }
  status = test_run (&output, "qemu-img", "check", "-q", "-f", "qcow2", path, NULL);
  ck_assert_msg ((status == 0) == opens, "qemu-img check: %d, %s", status, output);
  if (!opens)
    ck_assert_msg (strstr (output, "fleecefs") != NULL, "QEMU says: %s", output);
}

static void
close_clean (void)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (overlay_close (g_steal_pointer (&overlay), "disk.img", "raw", &error), "%s",
                 error != NULL ? error->message : "");
}

/* --- what is given back --- */

static const struct
{
  uint32_t data, zero;
} sets[] = {
  { 1, 0 }, { 0x80000000, 0 }, { 0xffffffff, 0 },
  { 0, 1 }, { 0, 0xffffffff }, { 0x55005a0f, 0x00aa0000 },
};

START_TEST (test_entry)
{
  save (3, sets[_i].data, sets[_i].zero);
  assert_qemu (false);
  lose_entry (3);
  reopen ();
  assert_saved (3, sets[_i].data, sets[_i].zero);

  /* In the file too: without the journal, which counts no more. */
  g_clear_pointer (&overlay, overlay_free);
  test_poke (path, QCOW2_JOURNAL_OFFSET, (uint8_t[16]){ 0 }, 16);
  reopen ();
  assert_saved (3, sets[_i].data, sets[_i].zero);
  close_clean ();
  assert_qemu (true);
}
END_TEST

/* Of several changes of one cluster, and in the middle of a journal. */
START_TEST (test_entries)
{
  for (unsigned i = 0; i < 20; i++)
    save (i % 5, UINT32_C (1) << i, 0);
  lose_entry (2);
  reopen ();
  for (unsigned i = 0; i < 5; i++)
    assert_saved (i, UINT32_C (0x8421) << i, 0);
}
END_TEST

/* A table that has some of it, from a time when the rest was not there. */
START_TEST (test_half)
{
  uint8_t entry[16] = { 0 };

  save (3, 0x0f, 0xf0);
  be_store64 (entry, place (3) | UINT64_C (1) << 63);
  be_store32 (entry + 8, 0x10);
  be_store32 (entry + 12, 0x03);
  g_clear_pointer (&overlay, overlay_free);
  test_poke (path, L2_OFFSET + 16 * 3, entry, sizeof entry);
  reopen ();
  assert_saved (3, 0x0f, 0xf0);
}
END_TEST

/* --- what is not --- */

/* Bytes that did not get to disk, and a record that did. Others are whole. */
START_TEST (test_bytes_lost)
{
  uint64_t at;

  save (3, 0x30, 0);
  save (3, 0x0c, 0);
  at = place (3) + 5 * GRANULE + (unsigned) _i * 512;
  lose_entry (3);
  test_poke (path, at, (uint8_t[512]){ 0 }, 512);
  reopen ();
  assert_saved (3, 0x0c, 0);
}
END_TEST

/* The file ends before: its new length did not get there. */
START_TEST (test_end_lost)
{
  uint64_t end;

  save (3, 0x3, 0);
  save (4, 0x3, 0);
  end = place (4) + GRANULE;
  lose_entry (4);
  ck_assert_int_eq (truncate (path, (off_t) end), 0);
  reopen ();
  assert_saved (3, 0x3, 0);
  assert_saved (4, 0, 0);
}
END_TEST

/* A record of which a part got there. */
START_TEST (test_record_torn)
{
  save (3, 0x1, 0);
  save (4, 0x1, 0);
  lose_entry (3);
  test_spoil (path, QCOW2_JOURNAL_OFFSET + QCOW2_JOURNAL_RECORD + (unsigned) _i * 8 + 7);
  reopen ();
  assert_saved (3, 0, 0);
  assert_saved (4, 0x1, 0);
}
END_TEST

/* The table did not get there, so the sync that the guest waited for did not end. */
START_TEST (test_table_lost)
{
  save (3, 0x1, 0);
  g_clear_pointer (&overlay, overlay_free);
  test_poke (path, L1_OFFSET, (uint8_t[8]){ 0 }, 8);
  reopen ();
  assert_saved (3, 0, 0);
  close_clean ();
  assert_qemu (true);
}
END_TEST

/* Records of a session before. Their entries are in the tables, unless they never counted. */
START_TEST (test_session)
{
  save (3, 0x1, 0);
  g_clear_pointer (&overlay, overlay_free);
  reopen ();
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  lose_entry (3);
  reopen ();
  assert_saved (3, 0, 0);
}
END_TEST

static void *
save_first (G_GNUC_UNUSED void *data)
{
  save (1, 1, 0);
  return NULL;
}

/* Two first writes to an overlay that was closed clean: who comes later does not begin the journal
 * that has the other's record. */
START_TEST (test_begun_twice)
{
  pthread_t thread;

  save (0, 1, 0);
  close_clean ();
  reopen ();
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  pause_arm ("overlay:clean");
  ck_assert_int_eq (pthread_create (&thread, NULL, save_first, NULL), 0);
  pause_wait_reached ("overlay:clean");
  save (3, 1, 0);
  pause_release ("overlay:clean");
  pthread_join (thread, NULL);
  lose_entry (3);
  reopen ();
  assert_saved (1, 1, 0);
  assert_saved (3, 1, 0);
}
END_TEST

/* The header does not say that there is a journal while one of a session before may stand there on
 * disk: places that its records name may be others' by now. */
START_TEST (test_begun_first)
{
  pthread_t thread;
  size_t length;
  g_autofree uint8_t *before = NULL, *now = NULL;

  save (0, 1, 0);
  close_clean ();
  before = test_load (path, &length);
  reopen ();
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  pause_arm ("sync:begun");
  ck_assert_int_eq (pthread_create (&thread, NULL, save_first, NULL), 0);
  pause_wait_reached ("sync:begun");
  now = test_load (path, &length);
  ck_assert_mem_ne (now + QCOW2_JOURNAL_OFFSET, before + QCOW2_JOURNAL_OFFSET,
                    QCOW2_JOURNAL_RECORD);
  test_assert_bytes ("the header", now, before, QCOW2_HEADER_AREA);
  pause_release ("sync:begun");
  pthread_join (thread, NULL);
  lose_entry (1);
  reopen ();
  assert_saved (1, 1, 0);
}
END_TEST

/* --- a full journal --- */

START_TEST (test_full)
{
  qcow2_journal_records = 9 + (unsigned) _i;
  for (unsigned i = 0; i < 32; i++)
    for (unsigned j = 0; j < 4; j++)
      save (i, UINT32_C (1) << j, 0);
  lose_entry (31);
  reopen ();
  for (unsigned i = 0; i < 31; i++)
    assert_saved (i, 0xf, 0);
  /* What was saved since it began anew, one change at least. */
  ck_assert_uint_eq (overlay_lookup (overlay, 31).data & 0x8, 0x8);
  qcow2_journal_records = QCOW2_JOURNAL_RECORDS;
}
END_TEST

static void *
save_one (G_GNUC_UNUSED void *data)
{
  save (20, 0x1, 0);
  return NULL;
}

/* It does not begin anew while an entry is not in its table. */
START_TEST (test_full_waits)
{
  static const uint32_t one = 1, none = 0;
  size_t length;
  g_autofree uint8_t *before = NULL, *after = NULL;
  pthread_t thread;

  qcow2_journal_records = 9;
  begin_save (0, 1, 0);
  for (unsigned i = 1; i < 8; i++)
    save (i, 1, 0);
  before = test_load (path, &length);
  pause_watch ("journal:full");
  ck_assert_int_eq (pthread_create (&thread, NULL, save_one, NULL), 0);
  pause_wait_reached ("journal:full");
  pause_release ("journal:full");
  after = test_load (path, &length);
  test_assert_bytes ("the journal", after + QCOW2_JOURNAL_OFFSET, before + QCOW2_JOURNAL_OFFSET,
                     9 * QCOW2_JOURNAL_RECORD);

  ck_assert_int_eq (overlay_record (overlay, 0, 1, &one, &none), 0);
  overlay_journal_done (overlay);
  overlay_publish (overlay, 0, 1, &one, &none);
  pthread_join (thread, NULL);
  assert_saved (20, 1, 0);
  qcow2_journal_records = QCOW2_JOURNAL_RECORDS;
}
END_TEST

/* It begins anew after a sync only: when that fails, what stands there may be what the tables lack.
 */
START_TEST (test_full_fails)
{
  const Qcow2Change change = { .cluster = 1, .zero = 1 };
  size_t length;
  g_autofree uint8_t *before = NULL, *after = NULL;
  Qcow2Journal journal;
  GroupSync sync;
  int fd = open (path, O_RDWR | O_CLOEXEC);

  qcow2_journal_records = 9;
  group_sync_init (&sync, fd);
  qcow2_journal_init (&journal, fd, GRANULE, &sync);
  ck_assert_int_eq (qcow2_journal_begin (&journal, (Qcow2Run){ 0 }), 0);
  for (unsigned i = 1; i < 9; i++)
    {
      ck_assert_int_eq (qcow2_journal_add (&journal, &change, 1), 0);
      qcow2_journal_done (&journal);
    }
  before = test_load (path, &length);
  sync.error = -EIO;
  for (unsigned i = 0; i < 3; i++)
    ck_assert_int_eq (qcow2_journal_add (&journal, &(Qcow2Change){ .cluster = 2, .zero = 2 }, 1),
                      -EIO);
  after = test_load (path, &length);
  test_assert_bytes ("the journal", after + QCOW2_JOURNAL_OFFSET, before + QCOW2_JOURNAL_OFFSET,
                     QCOW2_JOURNAL_SIZE);
  qcow2_journal_clear (&journal);
  group_sync_clear (&sync);
  close (fd);
  qcow2_journal_records = QCOW2_JOURNAL_RECORDS;
}
END_TEST

/* --- hostile journals --- */

static const struct
{
  const char *what;
  uint64_t cluster, host_offset;
  uint32_t data, zero;
} hostile[] = {
  { "a cluster beyond the disk", 32, 6 * CLUSTER, 1, 0 },
  { "a cluster far beyond it", UINT64_MAX, 6 * CLUSTER, 1, 0 },
  { "data and zeros", 3, 6 * CLUSTER, 3, 2 },
  { "data nowhere", 3, 0, 1, 0 },
  { "data in the header", 3, CLUSTER / 4, 1, 0 },
  { "data in the refcount table", 3, CLUSTER, 1, 0 },
  { "data in the L2 table", 3, L2_OFFSET, 1, 0 },
  { "data where other data is", 3, 5 * CLUSTER, 1, 0 },
  { "data in another place than its table says", 0, 6 * CLUSTER, 2, 0 },
  { "data between places", 3, 6 * CLUSTER + 512, 1, 0 },
};

static uint64_t
check_at (uint64_t offset)
{
  size_t length;
  g_autofree uint8_t *bytes = test_load (path, &length);

  return offset + GRANULE <= length ? crc64 (0, bytes + offset, GRANULE) : 0;
}

static void
poke_record (uint64_t session, uint64_t cluster, uint64_t host_offset, uint32_t data, uint32_t zero)
{
  Qcow2Change change = { cluster, host_offset, data, zero };
  uint8_t record[QCOW2_JOURNAL_RECORD];
  unsigned first = (unsigned) __builtin_ctz (data | UINT32_C (1) << 31);

  qcow2_journal_encode (session, &change, check_at (host_offset + first * GRANULE), record);
  test_poke (path, QCOW2_JOURNAL_OFFSET + QCOW2_JOURNAL_RECORD, record, sizeof record);
}

START_TEST (test_hostile)
{
  size_t length;
  g_autofree uint8_t *bytes = NULL;
  uint64_t session;

  save (0, 1, 0);
  ck_assert_uint_eq (place (0), 5 * CLUSTER);
  save (1, 1, 0); /* takes cluster 6, and loses it */
  lose_entry (1);
  bytes = test_load (path, &length);
  session = be_load64 (bytes + QCOW2_JOURNAL_OFFSET + 8);
  for (unsigned i = 1; i < 3; i++)
    test_poke (path, QCOW2_JOURNAL_OFFSET + i * QCOW2_JOURNAL_RECORD, (uint8_t[8]){ 0 }, 8);

  poke_record (session, 3, 6 * CLUSTER, 1, 0); /* the form is right */
  reopen ();
  ck_assert_uint_eq (overlay_lookup (overlay, 3).data, 1);
  g_clear_pointer (&overlay, overlay_free);

  test_poke (path, 0, bytes, 2048);
  test_poke (path, L2_OFFSET + 16 * 3, (uint8_t[16]){ 0 }, 16);
  poke_record (session, hostile[_i].cluster, hostile[_i].host_offset, hostile[_i].data,
               hostile[_i].zero);
  assert_refused ("is damaged: bad journal");
}
END_TEST

static Suite *
suite (void)
{
  Suite *suite = suite_create ("journal");
  TCase *back = tcase_create ("given-back"), *lost = tcase_create ("lost");
  TCase *full = tcase_create ("full"), *bad = tcase_create ("hostile");
  TCase *cases[] = { back, lost, full, bad };

  for (unsigned i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      tcase_add_checked_fixture (cases[i], set_up, tear_down);
      suite_add_tcase (suite, cases[i]);
    }
  tcase_add_loop_test (back, test_entry, 0, G_N_ELEMENTS (sets));
  tcase_add_test (back, test_entries);
  tcase_add_test (back, test_half);
  tcase_add_loop_test (lost, test_bytes_lost, 0, 8);
  tcase_add_test (lost, test_end_lost);
  tcase_add_loop_test (lost, test_record_torn, 0, 8);
  tcase_add_test (lost, test_table_lost);
  tcase_add_test (lost, test_session);
  tcase_add_test (back, test_begun_twice);
  tcase_add_test (back, test_begun_first);
  tcase_add_loop_test (full, test_full, 0, 4);
  tcase_add_test (full, test_full_waits);
  tcase_add_test (full, test_full_fails);
  tcase_add_loop_test (bad, test_hostile, 0, G_N_ELEMENTS (hostile));
  return suite;
}

int
main (void)
{
  qcow2_log_size = 0; /* what goes by the log is test-log's business */
  test_in_memory ();
  return test_main (suite ());
}
