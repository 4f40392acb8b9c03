/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log of durable overlays: what it gives back when tables or bytes on disk lack it, and since
 * when it does not.
 *
 * A loss of power is made by hand, as in test-journal. All orders in which writes can reach the
 * disk are test-power's business. */
#include "base/crc64.h"
#include "base/fail.h"
#include "base/pause.h"
#include "base/units.h"
#include "calls.h"
#include "overlay/be.h"
#include "overlay/overlay.h"
#include "overlay/qcow2-log.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define GRANULE (4 * KIB)
#define CLUSTER (32 * GRANULE)
#define SIZE (4 * MIB)
#define STEP (QCOW2_JOURNAL_RECORD + GRANULE) /* of a change of one granule */
#define PER_LAP 7
#define LOG_SIZE (QCOW2_JOURNAL_RECORD + PER_LAP * STEP + 100)

/* Where such an overlay has what. */
#define L1_OFFSET (3 * CLUSTER)
#define LOG_OFFSET (4 * CLUSTER)
#define L2_OFFSET (5 * CLUSTER)
#define DATA_OFFSET (6 * CLUSTER)

static int dir_fd = -1;
static const char *path;
static Overlay *overlay;
static pthread_mutex_t meta = PTHREAD_MUTEX_INITIALIZER; /* as stripe.meta and stripe.lock */

static void
make_overlay (uint64_t log_size)
{
  g_autoptr (GError) error = NULL;

  qcow2_log_size = log_size;
  overlay = overlay_create (dir_fd, "o.qcow2", SIZE, GRANULE, "disk.img", "raw", &error);
  ck_assert_ptr_nonnull (overlay);
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
}

static void
set_up (void)
{
  test_set_up ();
  dir_fd = open (test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  path = test_path ("o.qcow2");
  test_make_file (test_path ("disk.img"), SIZE, 1);
  make_overlay (LOG_SIZE);
}

static void
tear_down (void)
{
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  g_clear_pointer (&overlay, overlay_free);
  close (dir_fd);
  test_tear_down ();
}

/* The bytes of the granules of the set, one after another. */
static unsigned
fill (uint64_t cluster, uint32_t data, uint8_t *bytes)
{
  unsigned n = 0;

  for (unsigned i = 0; i < 32; i++)
    if (data >> i & 1)
      test_fill (bytes + n++ * GRANULE, GRANULE, 2, (cluster * 32 + i) * GRANULE);
  return n;
}

/* Up to the point where the guest's write is issued, but for the entry and overlay_log_done(). */
static int
begin_save (uint64_t cluster, uint32_t data, uint32_t zero)
{
  uint8_t bytes[4 * GRANULE];

  ck_assert_int_eq (overlay_prepare (overlay, cluster, 1, true), 0);
  pthread_mutex_lock (&meta);
  if (data != 0)
    overlay_reserve (overlay, cluster, 1);
  pthread_mutex_unlock (&meta);
  ck_assert (overlay_may_log (overlay, cluster, data));
  fill (cluster, data, bytes);
  return overlay_log (overlay, cluster, data, zero, bytes);
}

static void
end_save (uint64_t cluster, uint32_t data, uint32_t zero)
{
  pthread_mutex_lock (&meta);
  ck_assert_int_eq (overlay_record (overlay, cluster, 1, &data, &zero), 0);
  overlay_log_done (overlay);
  overlay_publish (overlay, cluster, 1, &data, &zero);
  pthread_mutex_unlock (&meta);
}

static void
save (uint64_t cluster, uint32_t data, uint32_t zero)
{
  ck_assert_int_eq (begin_save (cluster, data, zero), 0);
  end_save (cluster, data, zero);
}

static uint64_t
place (uint64_t cluster)
{
  return overlay_lookup (overlay, cluster).host_offset;
}

static void
lose_entry (uint64_t cluster)
{
  test_poke (path, L2_OFFSET + 16 * cluster, (uint8_t[16]){ 0 }, 16);
}

static void
lose_bytes (uint64_t offset, uint64_t length)
{
  g_autofree uint8_t *zeros = g_malloc0 (length);

  test_poke (path, offset, zeros, length);
}

static void
reopen (void)
{
  g_autoptr (GError) error = NULL;

  g_clear_pointer (&overlay, overlay_free);
  overlay = overlay_open (dir_fd, "o.qcow2", SIZE, GRANULE, &error);
  ck_assert_msg (overlay != NULL, "%s", error != NULL ? error->message : "");
  ck_assert_int_eq (overlay_prepare (overlay, 0, 32, false), 0);
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
        fill (cluster, UINT32_C (1) << i, expected);
        ck_assert_int_eq (overlay_read (overlay, bytes, GRANULE, mapping.host_offset + i * GRANULE),
                          0);
        test_assert_bytes ("a granule", bytes, expected, GRANULE);
      }
}

static void
close_clean (void)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (overlay_close (g_steal_pointer (&overlay), "disk.img", "raw", &error), "%s",
                 error != NULL ? error->message : "");
  if (test_have ("qemu-img"))
    ck_assert_int_eq (test_run (NULL, "qemu-img", "check", "-q", "-f", "qcow2", path, NULL), 0);
  else
    test_skip ("QEMU's view", "no qemu-img");
}

/* --- what is given back --- */

static const struct
{
  uint32_t data, zero;
} sets[]
    = { { 1, 0 }, { 0x80000000, 0 }, { 0xf0, 0 }, { 0, 1 }, { 0, 0xffffffff }, { 0x501, 0xf0 } };

/* Loop: sets, by whether the entry, the bytes or both are lost. */
START_TEST (test_given_back)
{
  uint32_t data = sets[_i / 3].data, zero = sets[_i / 3].zero;

  save (3, data, zero);
  ck_assert_uint_eq (data == 0 ? DATA_OFFSET : place (3), DATA_OFFSET);
  if (_i % 3 != 0)
    lose_entry (3);
  if (_i % 3 != 1 && data != 0)
    lose_bytes (place (3), CLUSTER);
  reopen ();
  assert_saved (3, data, zero);

  /* In the file too: the journal, which says where the log is, counts no more. */
  g_clear_pointer (&overlay, overlay_free);
  test_poke (path, QCOW2_JOURNAL_OFFSET, (uint8_t[16]){ 0 }, 16);
  reopen ();
  assert_saved (3, data, zero);
  close_clean ();
}
END_TEST

/* Several, of one cluster, too. */
START_TEST (test_several)
{
  for (unsigned i = 0; i < PER_LAP; i++)
    save (i % 3, UINT32_C (1) << i, 0);
  lose_bytes (DATA_OFFSET, 3 * CLUSTER);
  for (unsigned i = 0; i < 3; i++)
    lose_entry (i);
  reopen ();
  assert_saved (0, 0x49, 0);
  assert_saved (1, 0x12, 0);
  assert_saved (2, 0x24, 0);
}
END_TEST

/* A log that could not be the size that was wanted, and none for large granules. */
START_TEST (test_shapes)
{
  g_autoptr (GError) error = NULL;

  ck_assert (overlay_has_log (overlay, 4));
  ck_assert (!overlay_has_log (overlay, 5));
  g_clear_pointer (&overlay, overlay_free);
  ck_assert_int_eq (unlink (path), 0);
  overlay = overlay_create (dir_fd, "o.qcow2", SIZE, 64 * KIB, "disk.img", "raw", &error);
  ck_assert_ptr_nonnull (overlay);
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  ck_assert (!overlay_has_log (overlay, 1));
}
END_TEST

/* --- what is not --- */

/* One change of three is torn, in its record or in its bytes: it and what follows do not count. */
START_TEST (test_torn)
{
  for (unsigned i = 0; i < 3; i++)
    save (i, 1, 0);
  for (unsigned i = 0; i < 3; i++)
    lose_entry (i);
  test_spoil (path, LOG_OFFSET + QCOW2_JOURNAL_RECORD + STEP + (unsigned) _i * 8 + 7);
  reopen ();
  assert_saved (0, 1, 0);
  assert_saved (1, 0, 0);
  assert_saved (2, 0, 0);
}
END_TEST

/* The first record is torn, or another's. */
START_TEST (test_no_lap)
{
  save (3, 1, 0);
  lose_entry (3);
  test_spoil (path, LOG_OFFSET + (unsigned) _i * 8 + 7);
  reopen ();
  assert_saved (3, 0, 0);
}
END_TEST

/* Behind the changes of a lap stand those of the one before. */
START_TEST (test_lap_before)
{
  for (unsigned i = 0; i < PER_LAP + 1; i++)
    save (i, 1, 0);
  for (unsigned i = 0; i < PER_LAP + 1; i++)
    lose_entry (i);
  reopen ();
  for (unsigned i = 0; i < PER_LAP; i++)
    assert_saved (i, 0, 0);
  assert_saved (PER_LAP, 1, 0);
}
END_TEST

/* Bytes that changed after overlay_renew() stay. */
START_TEST (test_renewed)
{
  static const uint8_t other[GRANULE] = { 1, 2, 3 };
  uint8_t bytes[GRANULE];

  save (3, 3, 0);
  ck_assert_int_eq (overlay_renew (overlay), 0);
  ck_assert_int_eq (overlay_write (overlay, 3 * 32, 1, other), 0);
  save (4, 1, 0);
  reopen ();
  assert_saved (4, 1, 0);
  ck_assert_int_eq (overlay_read (overlay, bytes, GRANULE, place (3)), 0);
  test_assert_bytes ("what was overwritten", bytes, other, GRANULE);
}
END_TEST

/* A session that was closed, and one that was not. */
START_TEST (test_sessions)
{
  struct stat before, after;

  save (3, 1, 0);
  ck_assert_int_eq (stat (path, &before), 0);
  close_clean ();
  ck_assert_int_eq (stat (path, &after), 0);
  ck_assert_int_lt (after.st_blocks, before.st_blocks); /* those of the log are given back */
  reopen ();
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  save (4, 1, 0);
  lose_bytes (place (4), GRANULE);
  reopen ();
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  save (5, 1, 0);
  lose_bytes (place (5), GRANULE);
  reopen ();
  for (unsigned i = 3; i < 6; i++)
    assert_saved (i, 1, 0);
  close_clean ();
}
END_TEST

/* --- a full log --- */

static void *
save_one (G_GNUC_UNUSED void *data)
{
  save (20, 1, 0);
  return NULL;
}

/* No new lap while what was added is not in its place. */
START_TEST (test_full_waits)
{
  size_t length;
  g_autofree uint8_t *before = NULL, *after = NULL;
  pthread_t thread;

  ck_assert_int_eq (begin_save (0, 1, 0), 0);
  for (unsigned i = 1; i < PER_LAP; i++)
    save (i, 1, 0);
  before = test_load (path, &length);
  pause_watch ("log:full");
  ck_assert_int_eq (pthread_create (&thread, NULL, save_one, NULL), 0);
  pause_wait_reached ("log:full");
  pause_release ("log:full");
  after = test_load (path, &length);
  test_assert_bytes ("the log", after + LOG_OFFSET, before + LOG_OFFSET, LOG_SIZE);
  end_save (0, 1, 0);
  pthread_join (thread, NULL);
  assert_saved (20, 1, 0);
}
END_TEST

static atomic_uint n_syncs, n_parts; /* of the overlay, and of parts of it */
static atomic_int sync_errnum, part_errnum, write_errnum;
static uint64_t write_fails_from; /* this offset */

static CallFate
decide (const Call *call, G_GNUC_UNUSED void *data)
{
  bool part = call->kind == CALL_SYNC && call->length > 0;
  int errnum = part                               ? part_errnum
               : call->kind == CALL_SYNC          ? sync_errnum
               : call->offset >= write_fails_from ? write_errnum
                                                  : 0;

  n_syncs += call->kind == CALL_SYNC && !part;
  n_parts += part;
  return (CallFate){ errnum != 0 ? CALL_FAIL : CALL_GO_ON, errnum, 0 };
}

static void
watch (void)
{
  n_syncs = n_parts = 0;
  sync_errnum = part_errnum = write_errnum = 0;
  write_fails_from = 0;
  calls_watch (CALL_STORE, path);
  calls_hook (1U << CALL_STORE, 1U << CALL_SYNC | 1U << CALL_WRITE, decide, NULL, NULL);
}

/* What a small copy costs: one sync of what was written; with a new lap, a sync and one more. */
START_TEST (test_cost)
{
  save (0, 1, 0);
  watch ();
  for (unsigned i = 1; i < PER_LAP; i++)
    save (i, 1, 0);
  ck_assert_uint_eq (n_syncs, 0);
  ck_assert_uint_eq (n_parts, PER_LAP - 1);
  save (PER_LAP, 1, 0);
  ck_assert_uint_eq (n_syncs, 1);
  ck_assert_uint_eq (n_parts, PER_LAP + 1);
}
END_TEST

/* When the sync before a new lap fails the log stays, nothing more is saved, and nothing is read
 * whose bytes may be in the log only. Another start brings them back. */
START_TEST (test_sync_fails)
{
  uint8_t bytes[GRANULE];

  for (unsigned i = 0; i < PER_LAP; i++)
    save (i, 1, 0);
  watch ();
  sync_errnum = ENOSPC;
  ck_assert_int_eq (begin_save (20, 1, 0), -ENOSPC);
  sync_errnum = 0;
  ck_assert_int_eq (begin_save (20, 1, 0), -ENOSPC);
  ck_assert_int_eq (overlay_sync (overlay), -ENOSPC);
  ck_assert_int_eq (overlay_renew (overlay), -ENOSPC);
  ck_assert_int_eq (overlay_read (overlay, bytes, GRANULE, place (3)), 0);
  ck_assert_int_eq (overlay_check (overlay), -EIO);
  calls_hook (0, 0, NULL, NULL, NULL);
  for (unsigned i = 0; i < PER_LAP; i++)
    lose_bytes (place (i), GRANULE);
  reopen ();
  for (unsigned i = 0; i < PER_LAP; i++)
    assert_saved (i, 1, 0);
}
END_TEST

/* The same of what was written to the log: an error of another's bytes may have come with it. */
START_TEST (test_part_fails)
{
  save (0, 1, 0);
  watch ();
  part_errnum = EIO;
  ck_assert_int_eq (begin_save (1, 1, 0), -EIO);
  part_errnum = 0;
  ck_assert_int_eq (begin_save (2, 1, 0), -EIO);
  ck_assert_int_eq (overlay_sync (overlay), -EIO);
}
END_TEST

/* An error of the write itself is that of one copy. */
START_TEST (test_write_fails)
{
  save (0, 1, 0);
  watch ();
  write_errnum = ENOSPC;
  ck_assert_int_eq (begin_save (1, 1, 0), -ENOSPC);
  write_errnum = 0;
  save (2, 1, 0);
  calls_hook (0, 0, NULL, NULL, NULL);
  lose_entry (2);
  reopen ();
  assert_saved (0, 1, 0);
  assert_saved (1, 0, 0);
  assert_saved (2, 1, 0);
}
END_TEST

/* So is one of a place: the log goes on, into its next lap too. What it has of that copy is right.
 */
START_TEST (test_place_fails)
{
  save (0, 1, 0);
  watch ();
  write_fails_from = DATA_OFFSET;
  write_errnum = ENOSPC;
  ck_assert_int_eq (begin_save (1, 1, 0), -ENOSPC);
  write_errnum = 0;
  for (unsigned i = 2; i < PER_LAP + (unsigned) _i; i++)
    save (i, 1, 0);
  ck_assert_uint_eq (n_syncs, (unsigned) _i);
  reopen ();
  for (unsigned i = 0; i < PER_LAP + (unsigned) _i; i++)
    assert_saved (i, i != 1 || _i == 0, 0);
}
END_TEST

/* No space for the log: copies do without. */
START_TEST (test_no_space)
{
  uint8_t bytes[GRANULE];
  const uint32_t one = 1, none = 0;

  save (0, 1, 0);
  reopen ();
  watch ();
  write_fails_from = LOG_OFFSET;
  write_errnum = ENOSPC;
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  write_errnum = 0;
  ck_assert (!overlay_has_log (overlay, 1) && !overlay_may_log (overlay, 0, 2));
  ck_assert_int_eq (overlay_prepare (overlay, 3, 1, true), 0);
  overlay_reserve (overlay, 3, 1);
  fill (3, 1, bytes);
  ck_assert_int_eq (overlay_write (overlay, 3 * 32, 1, bytes), 0);
  ck_assert_int_eq (overlay_journal (overlay, 3, 1, &one, &none), 0);
  overlay_journal_done (overlay);
  lose_entry (3);
  reopen ();
  assert_saved (0, 1, 0);
  assert_saved (3, 1, 0);
  close_clean ();
}
END_TEST

static CallFate
end_space (const Call *call, void *data)
{
  const uint64_t *end = data;

  if (call->offset >= *end)
    return (CallFate){ CALL_FAIL, ENOSPC, 0 };
  return (CallFate){ call->offset + call->length > *end ? CALL_SHORT : CALL_GO_ON, 0,
                     *end - call->offset };
}

/* There is not enough of it: copies get what the log took. */
START_TEST (test_little_space)
{
  struct stat before, after;
  uint64_t end;

  save (0, 1, 0);
  close_clean ();
  reopen ();
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  ck_assert_int_eq (stat (path, &before), 0);
  qcow2_log_size = QCOW2_LOG_SIZE;
  end = (uint64_t) before.st_size + 2 * CLUSTER;
  watch ();
  calls_hook (1U << CALL_STORE, 1U << CALL_WRITE, end_space, NULL, &end);
  ck_assert_int_eq (overlay_prepare (overlay, 3, 1, true), 0);
  calls_hook (0, 0, NULL, NULL, NULL);
  ck_assert (!overlay_has_log (overlay, 1));
  ck_assert_int_eq (stat (path, &after), 0);
  ck_assert_int_lt (after.st_blocks, before.st_blocks + (blkcnt_t) (CLUSTER / 512));
  close_clean ();
}
END_TEST

static bool l2_fails;

static CallFate
refuse_holes (const Call *call, G_GNUC_UNUSED void *data)
{
  bool in_l1 = call->offset >= L1_OFFSET && call->offset < L1_OFFSET + CLUSTER;
  bool in_l2 = call->offset >= L2_OFFSET && call->offset < L2_OFFSET + CLUSTER;

  return (CallFate){ in_l1 || (l2_fails && in_l2) ? CALL_FAIL : CALL_GO_ON, ENOSPC, 0 };
}

/* There is no space for the first table, nor for the entry that says where it is, also when the
 * overlay is closed. Loop: which of the two fails first. */
START_TEST (test_no_table)
{
  l2_fails = _i == 1;
  watch ();
  calls_hook (1U << CALL_STORE, 1U << CALL_WRITE, refuse_holes, NULL, NULL);
  ck_assert_int_eq (overlay_prepare (overlay, 3, 1, true), -ENOSPC);
  close_clean ();
}
END_TEST

static CallFate
refuse_journal (const Call *call, G_GNUC_UNUSED void *data)
{
  return (CallFate){ call->offset == QCOW2_JOURNAL_OFFSET ? CALL_FAIL : CALL_GO_ON, ENOSPC, 0 };
}

/* The log began and the journal did not, at first: no place is lost. */
START_TEST (test_begun_again)
{
  save (0, 1, 0);
  close_clean ();
  reopen ();
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  watch ();
  calls_hook (1U << CALL_STORE, 1U << CALL_WRITE, refuse_journal, NULL, NULL);
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq (overlay_prepare (overlay, 3, 1, true), -ENOSPC);
  calls_hook (0, 0, NULL, NULL, NULL);
  save (3, 1, 0);
  close_clean ();
}
END_TEST

/* No log beyond the limits of the space. */
START_TEST (test_limits)
{
  Space *space = space_new (test_dir, QCOW2_LOG_SIZE, 0);

  save (0, 1, 0);
  reopen ();
  ck_assert_ptr_nonnull (space);
  overlay_set_space (overlay, space);
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  ck_assert (!overlay_has_log (overlay, 1));
  close_clean ();
  space_free (space);
}
END_TEST

/* --- several writers --- */

static CallFate
refuse_header (const Call *call, G_GNUC_UNUSED void *data)
{
  return (CallFate){ call->offset == 0 ? CALL_FAIL : CALL_GO_ON, EIO, 0 };
}

/* The header could not be written when it was to say that the image is changed; another write of it
 * said so then, and nothing was changed. */
START_TEST (test_marked_late)
{
  save (0, 1, 0);
  close_clean ();
  reopen ();
  ck_assert_int_eq (overlay_make_durable (overlay), 0);
  watch ();
  calls_hook (1U << CALL_STORE, 1U << CALL_WRITE, refuse_header, NULL, NULL);
  ck_assert_int_eq (overlay_prepare (overlay, 3, 1, true), -EIO);
  calls_hook (0, 0, NULL, NULL, NULL);
  ck_assert_int_eq (overlay_set_backing (overlay, "other.img", "raw"), 0);
  close_clean ();
  reopen ();
  ck_assert (!overlay_is_dirty (overlay));
}
END_TEST

/* What the log of a session that was killed took is not kept for the next ones. */
START_TEST (test_killed_often)
{
  struct stat before, after;

  save (0, 1, 0);
  ck_assert_int_eq (stat (path, &before), 0);
  for (unsigned i = 1; i < 6; i++)
    {
      reopen ();
      ck_assert_int_eq (overlay_make_durable (overlay), 0);
      save (i, 1, 0);
    }
  ck_assert_int_eq (stat (path, &after), 0);
  ck_assert_int_le (after.st_blocks, before.st_blocks + 5 * (blkcnt_t) (2 * GRANULE / 512));
  reopen ();
  for (unsigned i = 0; i < 6; i++)
    assert_saved (i, 1, 0);
  close_clean ();
}
END_TEST

#define N_WRITERS 8

static char order[16];

static void
note_order (const Call *call, G_GNUC_UNUSED ssize_t result, G_GNUC_UNUSED int errnum,
            G_GNUC_UNUSED void *data)
{
  const char *word = call->kind == CALL_SYNC       ? "sync "
                     : call->offset >= DATA_OFFSET ? "place "
                                                   : "log ";

  g_strlcat (order, word, sizeof order);
}

/* The disk has begun with the log when the bytes are written to their place. */
START_TEST (test_order)
{
  save (0, 1, 0);
  watch ();
  calls_hook (1U << CALL_STORE, 1U << CALL_SYNC | 1U << CALL_WRITE, NULL, note_order, NULL);
  ck_assert_int_eq (begin_save (1, 1, 0), 0);
  calls_hook (0, 0, NULL, NULL, NULL);
  ck_assert_str_eq (order, "log place sync ");
  end_save (1, 1, 0);
}
END_TEST

static void *
save_own (void *data)
{
  save (GPOINTER_TO_UINT (data), 1, 0);
  return NULL;
}

/* All that come while one writes share the next write, or as many as fit. */
START_TEST (test_shared)
{
  pthread_t threads[N_WRITERS];

  save (0, 1, 0);
  watch ();
  pause_arm ("log:writing");
  ck_assert_int_eq (pthread_create (&threads[0], NULL, save_own, GUINT_TO_POINTER (1)), 0);
  pause_wait_reached ("log:writing");
  for (unsigned i = 1; i < 6; i++)
    {
      pause_watch ("log:wait");
      ck_assert_int_eq (pthread_create (&threads[i], NULL, save_own, GUINT_TO_POINTER (i + 1)), 0);
      pause_wait_reached ("log:wait");
      pause_release ("log:wait");
    }
  pause_release ("log:writing");
  for (unsigned i = 0; i < 6; i++)
    pthread_join (threads[i], NULL);
  ck_assert_uint_eq (n_syncs, 0);
  ck_assert_uint_eq (n_parts, 2);
  calls_hook (0, 0, NULL, NULL, NULL);
  lose_bytes (DATA_OFFSET, 8 * CLUSTER);
  reopen ();
  for (unsigned i = 0; i < 7; i++)
    assert_saved (i, 1, 0);
}
END_TEST

static void *
save_many (void *data)
{
  unsigned own = GPOINTER_TO_UINT (data);

  for (unsigned i = 0; i < 32; i++)
    save (i, UINT32_C (1) << own | UINT32_C (0x100) << own, 0);
  return NULL;
}

/* Many laps, and every change is in its place or in the log. */
START_TEST (test_many)
{
  pthread_t threads[N_WRITERS];

  for (unsigned i = 0; i < N_WRITERS; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, save_many, GUINT_TO_POINTER (i)), 0);
  for (unsigned i = 0; i < N_WRITERS; i++)
    pthread_join (threads[i], NULL);
  reopen ();
  for (unsigned i = 0; i < 32; i++)
    assert_saved (i, 0xffff, 0);
  close_clean ();
}
END_TEST

/* --- hostile logs --- */

static const struct
{
  const char *what;
  uint64_t cluster, host_offset;
  uint32_t data, zero;
} hostile[] = {
  { "a cluster beyond the disk", 32, 7 * CLUSTER, 1, 0 },
  { "a cluster far beyond it", UINT64_MAX, 7 * CLUSTER, 1, 0 },
  { "data and zeros", 3, 7 * CLUSTER, 3, 2 },
  { "data nowhere", 3, 0, 1, 0 },
  { "data in the header", 3, CLUSTER / 4, 1, 0 },
  { "data in the refcount table", 3, CLUSTER, 1, 0 },
  { "data in the L2 table", 3, L2_OFFSET, 1, 0 },
  { "data where other data is", 3, 6 * CLUSTER, 1, 0 },
  { "data in another place than its table says", 0, 7 * CLUSTER, 1, 0 },
  { "data between places", 3, 7 * CLUSTER + 512, 1, 0 },
  { "data beyond the end", 3, UINT64_C (1) << 40, 1, 0 },
};

static void
poke_change (uint64_t lap, unsigned i)
{
  Qcow2Change change
      = { hostile[i].cluster, hostile[i].host_offset, hostile[i].data, hostile[i].zero };
  uint8_t bytes[QCOW2_JOURNAL_RECORD + 2 * GRANULE] = { 0 };
  uint64_t length = (unsigned) __builtin_popcount (change.data) * GRANULE;

  qcow2_journal_encode (lap, &change, crc64 (0, bytes + QCOW2_JOURNAL_RECORD, length), bytes);
  test_poke (path, LOG_OFFSET + QCOW2_JOURNAL_RECORD, bytes, QCOW2_JOURNAL_RECORD + length);
}

static void
assert_refused (const char *what)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (overlay_open (dir_fd, "o.qcow2", SIZE, GRANULE, &error) == NULL, "%s", what);
  ck_assert_msg (g_str_has_suffix (error->message, "is damaged: bad journal"), "%s",
                 error->message);
}

START_TEST (test_hostile)
{
  size_t length;
  g_autofree uint8_t *bytes = NULL;

  save (0, 1, 0);
  save (1, 1, 0); /* takes cluster 7, and loses it */
  lose_entry (1);
  bytes = test_load (path, &length);
  g_clear_pointer (&overlay, overlay_free);
  poke_change (be_load64 (bytes + LOG_OFFSET + 8), (unsigned) _i);
  assert_refused (hostile[_i].what);
}
END_TEST

/* A change whose bytes would end behind the log is none. */
START_TEST (test_too_long)
{
  Qcow2Change change = { 3, 7 * CLUSTER, UINT32_MAX, 0 };
  uint8_t record[QCOW2_JOURNAL_RECORD];
  size_t length;
  g_autofree uint8_t *bytes = NULL;

  save (0, 1, 0);
  bytes = test_load (path, &length);
  qcow2_journal_encode (be_load64 (bytes + LOG_OFFSET + 8), &change, 0, record);
  test_poke (path, LOG_OFFSET + QCOW2_JOURNAL_RECORD + STEP, record, sizeof record);
  reopen ();
  assert_saved (0, 1, 0);
  assert_saved (3, 0, 0);
}
END_TEST

static const struct
{
  Qcow2Run run;
  bool opens;
} runs[] = {
  { { LOG_OFFSET, QCOW2_LOG_SIZE_MAX + 1 }, false },
  { { LOG_OFFSET, UINT64_MAX }, false },
  { { UINT64_MAX - 100, LOG_SIZE }, false },
  { { 0, LOG_SIZE }, true },                  /* no lap there */
  { { UINT64_C (1) << 40, LOG_SIZE }, true }, /* nothing at all */
  { { LOG_OFFSET, 10 }, true },
};

/* A log that is said to be elsewhere. */
START_TEST (test_elsewhere)
{
  uint8_t record[QCOW2_JOURNAL_RECORD];

  save (0, 1, 0);
  g_clear_pointer (&overlay, overlay_free);
  qcow2_journal_encode_first (1, runs[_i].run, record);
  test_poke (path, QCOW2_JOURNAL_OFFSET, record, sizeof record);
  if (runs[_i].opens)
    reopen ();
  else
    assert_refused ("a log elsewhere");
}
END_TEST

static Suite *
suite (void)
{
  Suite *suite = suite_create ("log");
  TCase *back = tcase_create ("given-back"), *lost = tcase_create ("lost");
  TCase *full = tcase_create ("full"), *many = tcase_create ("many");
  TCase *bad = tcase_create ("hostile");
  TCase *cases[] = { back, lost, full, many, bad };

  for (unsigned i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      tcase_add_checked_fixture (cases[i], set_up, tear_down);
      tcase_set_timeout (cases[i], 20); /* a mutant may hang */
      suite_add_tcase (suite, cases[i]);
    }
  tcase_add_loop_test (back, test_given_back, 0, 3 * G_N_ELEMENTS (sets));
  tcase_add_test (back, test_several);
  tcase_add_test (back, test_shapes);
  tcase_add_loop_test (lost, test_torn, 0, 16);
  tcase_add_loop_test (lost, test_no_lap, 0, 2);
  tcase_add_test (lost, test_lap_before);
  tcase_add_test (lost, test_renewed);
  tcase_add_test (lost, test_sessions);
  tcase_add_test (full, test_full_waits);
  tcase_add_test (full, test_cost);
  tcase_add_test (full, test_sync_fails);
  tcase_add_test (full, test_part_fails);
  tcase_add_test (full, test_write_fails);
  tcase_add_loop_test (full, test_place_fails, 0, 2);
  tcase_add_test (full, test_no_space);
  tcase_add_test (full, test_little_space);
  tcase_add_test (full, test_begun_again);
  tcase_add_test (full, test_limits);
  tcase_add_test (many, test_order);
  tcase_add_loop_test (full, test_no_table, 0, 2);
  tcase_add_test (full, test_marked_late);
  tcase_add_test (full, test_killed_often);
  tcase_add_test (many, test_shared);
  tcase_add_test (many, test_many);
  tcase_add_loop_test (bad, test_hostile, 0, G_N_ELEMENTS (hostile));
  tcase_add_test (bad, test_too_long);
  tcase_add_loop_test (bad, test_elsewhere, 0, G_N_ELEMENTS (runs));
  return suite;
}

int
main (void)
{
  test_in_memory ();
  return test_main (suite ());
}
