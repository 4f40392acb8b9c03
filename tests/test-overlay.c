/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Overlays: made, filled by the calling sequence of overlay.h, closed, and read back,
 * by ourselves and by qemu-img.
 *
 * A disk is the file "disk.img"; an overlay over it keeps granules of another pattern and
 * zeros, in a scheme that has every mix within a cluster and its edges. A kill is
 * overlay_free() in the middle of the sequence: the file is as a kill leaves it. */
#include "base/fail.h"
#include "base/units.h"
#include "overlay/overlay.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t granules[] = { 4096, 8192, 16384, 32768, 65536 };

/* Sizes, in clusters and bytes. */
static const struct
{
  uint64_t n_clusters, n_bytes;
} sizes[] = { { 0, 0 }, { 0, 512 }, { 0, 1000001 }, { 1, 0 }, { 3, 0 }, { 9, 5 * 4096 + 3 } };

#define N_SHAPES (int) (G_N_ELEMENTS (granules) * G_N_ELEMENTS (sizes))

static int dir_fd = -1;

static void
set_up (void)
{
  test_set_up ();
  dir_fd = open (test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
tear_down (void)
{
  close (dir_fd);
  test_tear_down ();
}

/* --- saving --- */

static Overlay *
create (const char *name, uint64_t size, uint64_t granule, const char *backing)
{
  g_autoptr (GError) error = NULL;
  const char *format = g_str_has_suffix (backing, ".qcow2") ? "qcow2" : "raw";
  Overlay *overlay = overlay_create (dir_fd, name, size, granule, backing, format, &error);

  ck_assert_msg (overlay != NULL, "%s", error != NULL ? error->message : "");
  return overlay;
}

static Overlay *
reopen (const char *name, uint64_t size, uint64_t granule)
{
  g_autoptr (GError) error = NULL;
  Overlay *overlay = overlay_open (dir_fd, name, size, granule, &error);

  ck_assert_msg (overlay != NULL, "%s", error != NULL ? error->message : "");
  return overlay;
}

static void
close_clean (Overlay *overlay, const char *backing)
{
  g_autoptr (GError) error = NULL;
  const char *format = g_str_has_suffix (backing, ".qcow2") ? "qcow2" : "raw";

  ck_assert_msg (overlay_close (overlay, backing, format, &error), "%s",
                 error != NULL ? error->message : "");
}

/* The whole sequence, for granules of one cluster: the bytes of `data` from buffer, which has
 * the whole cluster; zeros. */
static void
save_cluster (Overlay *overlay, uint64_t granule, uint64_t cluster, uint32_t data, uint32_t zero,
              const uint8_t *buffer)
{
  ck_assert_int_eq (overlay_prepare (overlay, cluster, 1, true), 0);
  if (data != 0)
    overlay_reserve (overlay, cluster, 1);
  for (unsigned i = 0; i < 32; i++)
    if (data >> i & 1)
      ck_assert_int_eq (overlay_write (overlay, cluster * 32 + i, 1, buffer + i * granule), 0);
  ck_assert_int_eq (overlay_record (overlay, cluster, 1, &data, &zero), 0);
  overlay_publish (overlay, cluster, 1, &data, &zero);
}

/* Which granules of a cluster are saved, as data and as zeros: by turns all, none, some. */
static void
scheme (unsigned salt, uint64_t cluster, uint32_t *data, uint32_t *zero)
{
  static const struct
  {
    uint32_t data, zero;
  } by_cluster[] = {
    { 0x80010005, 0x00100002 }, { 0xffffffff, 0 }, { 0, 0xffffffff }, { 0, 0 },
    { 0x0000ffff, 0xffff0000 }, { 0, 0x80000001 }, { 0x7ffffffe, 0 },
  };
  unsigned i = (unsigned) ((cluster + salt) % G_N_ELEMENTS (by_cluster));

  *data = by_cluster[i].data;
  *zero = by_cluster[i].zero;
}

/* Saves by the scheme, and changes what is expected to be read, which has whole clusters. */
static void
save_scheme (Overlay *overlay, uint64_t size, uint64_t granule, unsigned seed, uint8_t *expected)
{
  uint64_t n_granules = units_div_up (size, granule);
  g_autofree uint8_t *buffer = g_malloc (32 * granule);

  for (uint64_t cluster = 0; cluster * 32 < n_granules; cluster++)
    {
      uint64_t here = MIN (n_granules - cluster * 32, 32);
      uint32_t within = UINT32_MAX >> (32 - here), data, zero;
      uint64_t start = cluster * 32 * granule;

      test_fill (buffer, 32 * granule, seed, start);
      if (size < start + 32 * granule) /* the rest of the last granule is zeros */
        memset (buffer + (size - start), 0, start + 32 * granule - size);
      scheme (seed, cluster, &data, &zero);
      save_cluster (overlay, granule, cluster, data & within, zero & within, buffer);
      for (unsigned i = 0; i < here; i++)
        if (data >> i & 1)
          memcpy (expected + start + i * granule, buffer + i * granule, granule);
        else if (zero >> i & 1)
          memset (expected + start + i * granule, 0, granule);
    }
}

/* The bytes that the overlay gives for its saved granules are the expected ones, and it has no
 * others. */
static void
assert_reads (Overlay *overlay, uint64_t size, uint64_t granule, unsigned seed,
              const uint8_t *expected)
{
  uint64_t n_granules = units_div_up (size, granule), next = 0;
  g_autofree uint8_t *bytes = g_malloc (granule);
  int errnum;

  for (uint64_t cluster = 0; cluster * 32 < n_granules; cluster++)
    {
      uint64_t here = MIN (n_granules - cluster * 32, 32);
      uint32_t within = UINT32_MAX >> (32 - here), data, zero;
      Qcow2Cluster mapping;

      scheme (seed, cluster, &data, &zero);
      if (((data | zero) & within) != 0)
        {
          ck_assert (overlay_next (overlay, &next, UINT64_MAX, &errnum));
          ck_assert_uint_eq (next, cluster);
          next++;
        }
      ck_assert_int_eq (overlay_prepare (overlay, cluster, 1, false), 0);
      mapping = overlay_lookup (overlay, cluster);
      ck_assert_uint_eq (mapping.data, data & within);
      ck_assert_uint_eq (mapping.zero, zero & within);
      ck_assert_uint_eq (overlay_saved (overlay, cluster), (data | zero) & within);
      for (unsigned i = 0; i < here; i++)
        if (data >> i & 1)
          {
            ck_assert_int_eq (
                overlay_read (overlay, bytes, granule, mapping.host_offset + i * granule), 0);
            test_assert_bytes ("a saved granule", bytes, expected + (cluster * 32 + i) * granule,
                               granule);
          }
    }
  ck_assert (!overlay_next (overlay, &next, UINT64_MAX, &errnum));
  ck_assert_int_eq (errnum, 0);
}

/* --- QEMU's view --- */

static void
assert_clean (const char *name)
{
  g_autofree char *output = NULL;

  ck_assert_msg (test_run (&output, "qemu-img", "check", "-f", "qcow2", test_path (name), NULL)
                     == 0,
                 "%s: %s", name, output);
}

/* The image reads as expected; after size, up to the next 512, come zeros. */
static void
assert_qemu_reads (const char *name, uint64_t size, const uint8_t *expected)
{
  g_autofree char *output = NULL;
  g_autofree uint8_t *bytes = NULL;
  size_t length;

  ck_assert_msg (test_run (&output, "qemu-img", "convert", "-f", "qcow2", "-O", "raw",
                           test_path (name), test_path ("converted"), NULL)
                     == 0,
                 "%s: %s", name, output);
  bytes = test_load (test_path ("converted"), &length);
  ck_assert_uint_eq (length, units_round_up (size, 512));
  test_assert_bytes (name, bytes, expected, size);
  for (size_t i = size; i < length; i++)
    ck_assert_uint_eq (bytes[i], 0);
}

static bool
without_qemu (void)
{
  if (test_have ("qemu-img"))
    return false;
  test_skip ("overlays read by QEMU", "no qemu-img");
  return true;
}

/* --- shapes --- */

static uint64_t shape_granule, shape_size;

static void
shape (int i)
{
  shape_granule = granules[(unsigned) i % G_N_ELEMENTS (granules)];
  shape_size = sizes[(unsigned) i / G_N_ELEMENTS (granules)].n_clusters * 32 * shape_granule
               + sizes[(unsigned) i / G_N_ELEMENTS (granules)].n_bytes;
}

/* The disk, and its bytes with room for the last cluster. */
static uint8_t *
make_disk (uint64_t size)
{
  uint8_t *expected = g_malloc0 (size + 32 * 65536);

  test_make_file (test_path ("disk.img"), size, 1);
  test_fill (expected, size, 1, 0);
  return expected;
}

START_TEST (test_shape)
{
  g_autofree uint8_t *expected = NULL;
  Overlay *overlay;

  shape (_i);
  expected = make_disk (shape_size);
  overlay = create ("o.qcow2", shape_size, shape_granule, "disk.img");
  save_scheme (overlay, shape_size, shape_granule, 2, expected);
  assert_reads (overlay, shape_size, shape_granule, 2, expected);
  close_clean (overlay, "disk.img");

  overlay = reopen ("o.qcow2", shape_size, shape_granule);
  assert_reads (overlay, shape_size, shape_granule, 2, expected);
  close_clean (overlay, "disk.img");
  if (without_qemu ())
    return;
  assert_clean ("o.qcow2");
  assert_qemu_reads ("o.qcow2", shape_size, expected);
}
END_TEST

/* Made and closed without a granule: reads as the disk. */
START_TEST (test_empty)
{
  g_autofree uint8_t *expected = NULL;

  shape (_i);
  expected = make_disk (shape_size);
  close_clean (create ("o.qcow2", shape_size, shape_granule, "disk.img"), "disk.img");
  if (without_qemu ())
    return;
  assert_clean ("o.qcow2");
  assert_qemu_reads ("o.qcow2", shape_size, expected);
}
END_TEST

START_TEST (test_info)
{
  g_autofree uint8_t *expected = NULL;
  g_autofree char *output = NULL;
  g_autofree char *size = NULL;
  g_autofree char *cluster = NULL;

  shape (_i);
  expected = make_disk (shape_size);
  close_clean (create ("o.qcow2", shape_size, shape_granule, "other.img"), "disk.img");
  if (without_qemu ())
    return;
  ck_assert_int_eq (
      test_run (&output, "qemu-img", "info", "--output=json", test_path ("o.qcow2"), NULL), 0);
  size = g_strdup_printf ("\"virtual-size\": %" G_GUINT64_FORMAT ",",
                          units_round_up (shape_size, 512));
  cluster = g_strdup_printf ("\"cluster-size\": %" G_GUINT64_FORMAT ",", 32 * shape_granule);
  for (unsigned i = 0; i < 9; i++)
    {
      const char *wanted[] = {
        size,
        cluster,
        "\"format\": \"qcow2\"",
        "\"backing-filename\": \"disk.img\"",
        "\"backing-filename-format\": \"raw\"",
        "\"extended-l2\": true",
        "\"lazy-refcounts\": true",
        "\"refcount-bits\": 16",
        "\"dirty-flag\": false",
      };

      ck_assert_msg (strstr (output, wanted[i]) != NULL, "no %s in %s", wanted[i], output);
    }
}
END_TEST

/* Three overlays, each over the next, all with the scheme shifted: what one lacks the next has. */
START_TEST (test_chain)
{
  static const char *const names[] = { "1.qcow2", "2.qcow2", "3.qcow2", "disk.img" };
  g_autofree uint8_t *expected = NULL;

  shape (_i);
  expected = make_disk (shape_size);
  for (unsigned i = 3; i-- > 0;)
    {
      Overlay *overlay = create (names[i], shape_size, shape_granule, "disk.img");

      if (i < 2)
        ck_assert_int_eq (overlay_set_backing (overlay, names[i + 1], "qcow2"), 0);
      save_scheme (overlay, shape_size, shape_granule, 2 + i, expected);
      close_clean (overlay, names[i + 1]);
      if (without_qemu ())
        return;
      assert_clean (names[i]);
      assert_qemu_reads (names[i], shape_size, expected);
    }
}
END_TEST

/* --- reopened --- */

typedef struct
{
  struct stat st;
  uint8_t *bytes;
  size_t length;
} Picture;

static Picture
take_picture (const char *name)
{
  Picture picture;

  ck_assert_int_eq (stat (test_path (name), &picture.st), 0);
  picture.bytes = test_load (test_path (name), &picture.length);
  return picture;
}

static void
assert_as_before (const char *name, const Picture *before)
{
  Picture now = take_picture (name);

  ck_assert_int_eq (now.st.st_mtim.tv_sec, before->st.st_mtim.tv_sec);
  ck_assert_int_eq (now.st.st_mtim.tv_nsec, before->st.st_mtim.tv_nsec);
  ck_assert_uint_eq (now.length, before->length);
  test_assert_bytes (name, now.bytes, before->bytes, before->length);
  g_free (now.bytes);
}

#define SIZE 1000001

static uint8_t *
make_overlay (void)
{
  uint8_t *expected = make_disk (SIZE);
  Overlay *overlay = create ("o.qcow2", SIZE, 4096, "disk.img");

  save_scheme (overlay, SIZE, 4096, 2, expected);
  close_clean (overlay, "disk.img");
  return expected;
}

START_TEST (test_unchanged)
{
  g_autofree uint8_t *expected = make_overlay ();
  Picture before = take_picture ("o.qcow2");
  Overlay *overlay = reopen ("o.qcow2", SIZE, 4096);

  assert_reads (overlay, SIZE, 4096, 2, expected);
  ck_assert_int_eq (overlay_set_backing (overlay, "disk.img", "raw"), 0);
  close_clean (overlay, "disk.img");
  assert_as_before ("o.qcow2", &before);

  overlay_free (reopen ("o.qcow2", SIZE, 4096));
  assert_as_before ("o.qcow2", &before);
  g_free (before.bytes);
}
END_TEST

/* Only the backing file changes: at once, or at close. */
START_TEST (test_backing_changed)
{
  g_autofree uint8_t *expected = make_overlay ();
  Overlay *overlay = reopen ("o.qcow2", SIZE, 4096);
  g_autofree char *too_long = g_strnfill (1024, 'x');

  ck_assert_int_eq (rename (test_path ("disk.img"), test_path ("moved.img")), 0);
  ck_assert_int_eq (overlay_set_backing (overlay, too_long, "raw"), -ENAMETOOLONG);
  if (_i == 0)
    {
      ck_assert_int_eq (overlay_set_backing (overlay, "moved.img", "raw"), 0);
      overlay_free (overlay);
    }
  else
    close_clean (overlay, "moved.img");
  overlay = reopen ("o.qcow2", SIZE, 4096);
  assert_reads (overlay, SIZE, 4096, 2, expected);
  overlay_free (overlay);
  if (without_qemu ())
    return;
  assert_clean ("o.qcow2");
  assert_qemu_reads ("o.qcow2", SIZE, expected);
}
END_TEST

START_TEST (test_more_after_reopen)
{
  g_autofree uint8_t *expected = make_disk (SIZE);
  g_autofree uint8_t *buffer = g_malloc (32 * 4096);

  for (uint64_t cluster = 0; cluster < 7; cluster++)
    {
      Overlay *overlay = cluster == 0 ? create ("o.qcow2", SIZE, 4096, "disk.img")
                                      : reopen ("o.qcow2", SIZE, 4096);

      test_fill (buffer, 32 * 4096, 3, cluster * 32 * 4096);
      save_cluster (overlay, 4096, cluster, 0x00f0f00f, 0x0f000000, buffer);
      for (unsigned i = 0; i < 32; i++)
        if (0x00f0f00f >> i & 1)
          memcpy (expected + (cluster * 32 + i) * 4096, buffer + i * 4096, 4096);
        else if (0x0f000000 >> i & 1)
          memset (expected + (cluster * 32 + i) * 4096, 0, 4096);
      if (cluster % 3 == 2)
        overlay_free (overlay); /* a kill in between does not matter */
      else
        close_clean (overlay, "disk.img");
    }
  if (without_qemu ())
    return;
  assert_clean ("o.qcow2");
  assert_qemu_reads ("o.qcow2", SIZE, expected);
}
END_TEST

/* Adjacent places: clusters reserved together are written and placed as one run. */
START_TEST (test_place)
{
  g_autofree uint8_t *bytes = g_malloc (40 * 4096);
  g_autofree uint8_t *back = g_malloc (40 * 4096);
  Overlay *overlay;
  uint64_t n, place;

  g_free (make_disk (SIZE));
  overlay = create ("o.qcow2", SIZE, 4096, "disk.img");
  ck_assert_int_eq (overlay_prepare (overlay, 0, 7, true), 0);
  overlay_reserve (overlay, 0, 2);
  overlay_reserve (overlay, 5, 1); /* comes before cluster 2 in the file */
  overlay_reserve (overlay, 1, 2);

  place = overlay_place (overlay, 30, 100, &n);
  ck_assert_uint_eq (n, 34);
  ck_assert_uint_eq (place, overlay_lookup (overlay, 0).host_offset + 30 * 4096);
  place = overlay_place (overlay, 63, 1, &n);
  ck_assert_uint_eq (n, 1);
  overlay_place (overlay, 63, 2, &n);
  ck_assert_uint_eq (n, 1);

  test_fill (bytes, 40 * 4096, 2, 0);
  ck_assert_int_eq (overlay_write (overlay, 50, 40, bytes), 0); /* over the gap */
  ck_assert_int_eq (
      overlay_read (overlay, back, 14 * 4096, overlay_lookup (overlay, 1).host_offset + 18 * 4096),
      0);
  ck_assert_int_eq (
      overlay_read (overlay, back + 14 * 4096, 26 * 4096, overlay_lookup (overlay, 2).host_offset),
      0);
  test_assert_bytes ("over the gap", back, bytes, 40 * 4096);
  close_clean (overlay, "disk.img");
  if (!without_qemu ())
    assert_clean ("o.qcow2");
}
END_TEST

/* --- kills --- */

typedef enum
{
  KILL_CREATED,
  KILL_PREPARED,
  KILL_RESERVED,
  KILL_WRITTEN,
  KILL_RECORDED,
  KILL_PUBLISHED,
  KILL_REOPENED,    /* after a clean close and one more change */
  KILL_ZERO_BESIDE, /* recorded zeros in a cluster whose place another thread has reserved, but
                       not yet written */
  KILL_NEIGHBOUR,   /* recorded a cluster and, with it, one whose place is not yet written */
  N_KILLS
} Kill;

/* The saved granules that the file must have: 3 in cluster 1, by its bits; cluster 0 is
 * saved whole and long done. */
static void
run_until (Kill kill, uint32_t *out_data, uint32_t *out_zero)
{
  static const uint32_t all = UINT32_MAX, none = 0, three[] = { 8, 0 }, no[] = { 0, 0 };
  g_autofree uint8_t *bytes = g_malloc (32 * 4096);
  Overlay *overlay = create ("o.qcow2", SIZE, 4096, "disk.img");

  *out_data = *out_zero = 0;
  if (kill != KILL_CREATED)
    {
      test_fill (bytes, 32 * 4096, 2, 0);
      save_cluster (overlay, 4096, 0, all, none, bytes);
    }
  if (kill == KILL_REOPENED)
    {
      close_clean (overlay, "disk.img");
      overlay = reopen ("o.qcow2", SIZE, 4096);
    }
  test_fill (bytes, 4096, 2, 35 * 4096);
  if (kill >= KILL_PREPARED)
    ck_assert_int_eq (overlay_prepare (overlay, 1, 2, true), 0);
  if (kill >= KILL_RESERVED)
    overlay_reserve (overlay, 1, 1);
  if (kill == KILL_ZERO_BESIDE)
    {
      *out_zero = 8;
      ck_assert_int_eq (overlay_record (overlay, 1, 1, &none, out_zero), 0);
      overlay_free (overlay);
      return;
    }
  if (kill >= KILL_WRITTEN)
    ck_assert_int_eq (overlay_write (overlay, 35, 1, bytes), 0);
  if (kill == KILL_NEIGHBOUR)
    {
      overlay_reserve (overlay, 2, 1);
      ck_assert_int_eq (overlay_record (overlay, 1, 2, three, no), 0);
      *out_data = 8;
    }
  else if (kill >= KILL_RECORDED)
    {
      ck_assert_int_eq (overlay_record (overlay, 1, 1, three, no), 0);
      *out_data = 8;
    }
  if (kill == KILL_PUBLISHED || kill == KILL_REOPENED)
    overlay_publish (overlay, 1, 1, three, no);
  overlay_free (overlay);
}

static uint8_t
read_byte (const char *name, size_t offset)
{
  size_t length;
  g_autofree uint8_t *bytes = test_load (test_path (name), &length);

  ck_assert_uint_lt (offset, length);
  return bytes[offset];
}

/* What the disk shows after the kill. */
static uint8_t *
expect_after (Kill kill, uint32_t data, uint32_t zero)
{
  uint8_t *expected = g_malloc0 (SIZE);

  test_fill (expected, SIZE, 1, 0);
  if (kill != KILL_CREATED)
    test_fill (expected, 32 * 4096, 2, 0);
  if (data != 0)
    test_fill (expected + 35 * 4096, 4096, 2, 35 * 4096);
  if (zero != 0)
    memset (expected + 35 * 4096, 0, 4096);
  return expected;
}

START_TEST (test_kill_and_open)
{
  g_autofree uint8_t *expected = NULL;
  g_autofree uint8_t *bytes = g_malloc (4096);
  uint32_t data, zero;
  Qcow2Cluster mapping;
  Overlay *overlay;

  g_free (make_disk (SIZE));
  run_until ((Kill) _i, &data, &zero);
  ck_assert_uint_eq (read_byte ("o.qcow2", 79), 0x11); /* extended L2, dirty */
  expected = expect_after ((Kill) _i, data, zero);

  overlay = reopen ("o.qcow2", SIZE, 4096);
  ck_assert_int_eq (overlay_prepare (overlay, 0, 8, false), 0);
  ck_assert_uint_eq (overlay_saved (overlay, 0), _i == KILL_CREATED ? 0 : UINT32_MAX);
  mapping = overlay_lookup (overlay, 1);
  ck_assert_uint_eq (mapping.data, data);
  ck_assert_uint_eq (mapping.zero, zero);
  if (data != 0)
    {
      ck_assert_int_eq (overlay_read (overlay, bytes, 4096, mapping.host_offset + 3 * 4096), 0);
      test_assert_bytes ("the granule", bytes, expected + 35 * 4096, 4096);
    }
  for (uint64_t cluster = 2; cluster < 8; cluster++)
    ck_assert_uint_eq (overlay_saved (overlay, cluster), 0);

  /* It goes on: another granule, then closed clean. */
  test_fill (bytes, 4096, 3, 5 * 32 * 4096);
  test_fill (expected + 5 * 32 * 4096, 4096, 3, 5 * 32 * 4096);
  save_cluster (overlay, 4096, 5, 1, 0, bytes);
  close_clean (overlay, "disk.img");
  ck_assert_uint_eq (read_byte ("o.qcow2", 79), 0x10);
  if (without_qemu ())
    return;
  assert_clean ("o.qcow2");
  assert_qemu_reads ("o.qcow2", SIZE, expected);
}
END_TEST

/* A cluster that a kill leaked between two others is given back at the close, and stays so. */
START_TEST (test_leak_stays_free)
{
  g_autofree uint8_t *bytes = g_malloc0 (32 * 4096);
  Overlay *overlay;

  g_free (make_disk (SIZE));
  overlay = create ("o.qcow2", SIZE, 4096, "disk.img");
  ck_assert_int_eq (overlay_prepare (overlay, 1, 1, true), 0);
  overlay_reserve (overlay, 1, 1);
  ck_assert_int_eq (overlay_write (overlay, 32, 1, bytes), 0);
  save_cluster (overlay, 4096, 2, 1, 0, bytes);
  overlay_free (overlay);

  for (uint64_t cluster = 3; cluster < 6; cluster++)
    {
      overlay = reopen ("o.qcow2", SIZE, 4096);
      save_cluster (overlay, 4096, cluster, 1, 0, bytes);
      close_clean (overlay, "disk.img");
      if (!without_qemu ())
        assert_clean ("o.qcow2");
    }
}
END_TEST

/* QEMU sees that it was not closed, repairs it without complaint, and reads the same. */
START_TEST (test_kill_and_repair)
{
  g_autofree uint8_t *expected = NULL;
  g_autofree char *info = NULL;
  g_autofree char *output = NULL;
  uint32_t data, zero;

  if (without_qemu ())
    return;
  g_free (make_disk (SIZE));
  run_until ((Kill) _i, &data, &zero);
  expected = expect_after ((Kill) _i, data, zero);
  ck_assert_int_eq (
      test_run (&info, "qemu-img", "info", "--output=json", test_path ("o.qcow2"), NULL), 0);
  ck_assert_ptr_nonnull (strstr (info, "\"dirty-flag\": true"));
  ck_assert_msg (test_run (&output, "qemu-img", "check", "-r", "all", "-f", "qcow2",
                           test_path ("o.qcow2"), NULL)
                     == 0,
                 "%s", output);
  assert_clean ("o.qcow2");
  assert_qemu_reads ("o.qcow2", SIZE, expected);
}
END_TEST

/* --- what is refused --- */

static void
replace_by_link (void)
{
  ck_assert_int_eq (rename (test_path ("o.qcow2"), test_path ("real.qcow2")), 0);
  ck_assert_int_eq (symlink ("real.qcow2", test_path ("o.qcow2")), 0);
}

static void
replace_by_fifo (void)
{
  ck_assert_int_eq (unlink (test_path ("o.qcow2")), 0);
  ck_assert_int_eq (mkfifo (test_path ("o.qcow2"), 0600), 0);
}

static void
replace_by_directory (void)
{
  ck_assert_int_eq (unlink (test_path ("o.qcow2")), 0);
  ck_assert_int_eq (mkdir (test_path ("o.qcow2"), 0700), 0);
}

static void
remove_it (void)
{
  ck_assert_int_eq (unlink (test_path ("o.qcow2")), 0);
}

static void
make_it_empty (void)
{
  ck_assert_int_eq (truncate (test_path ("o.qcow2"), 0), 0);
}

static void
cut_the_header (void)
{
  ck_assert_int_eq (truncate (test_path ("o.qcow2"), 2047), 0);
}

static void
cut_l1 (void)
{
  ck_assert_int_eq (truncate (test_path ("o.qcow2"), 3 * 0x20000), 0);
}

static void
cut_l2 (void)
{
  ck_assert_int_eq (truncate (test_path ("o.qcow2"), 4 * 0x20000), 0);
}

static void
replace_by_raw (void)
{
  test_make_file (test_path ("o.qcow2"), MIB, 1);
}

/* Whether QEMU is there is asked before. */
static void
qemu_create (const char *options)
{
  ck_assert_int_eq (unlink (test_path ("o.qcow2")), 0);
  ck_assert_int_eq (test_run (NULL, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                              test_path ("disk.img"), "-o", options, test_path ("o.qcow2"),
                              "1000448", NULL),
                    0);
}

static void
qemu_plain (void)
{
  qemu_create ("compat=1.1");
}

static void
qemu_old (void)
{
  qemu_create ("compat=0.10");
}

static void
qemu_eager (void)
{
  qemu_create ("extended_l2=on,cluster_size=128k");
}

static void
qemu_refcounts (void)
{
  qemu_create ("extended_l2=on,cluster_size=128k,refcount_bits=8");
}

static void
qemu_zstd (void)
{
  qemu_create ("extended_l2=on,cluster_size=128k,compression_type=zstd");
}

static void
leave_it (void)
{
}

static void
run_qemu_io (const char *how, const char *command)
{
  g_autofree char *output = NULL;
  int status = test_run (&output, "qemu-io", how, "-f", "qcow2", "-c", command,
                         test_path ("o.qcow2"), NULL);

  ck_assert_msg (status == 0, "qemu-io: %s", output);
}

static void
write_by_qemu (void)
{
  run_qemu_io ("--cache=writeback", "write -P 7 0 4k");
}

/* Who only reads it leaves no trace. */
START_TEST (test_read_by_qemu)
{
  g_autofree uint8_t *expected = NULL;
  Overlay *overlay;

  if (without_qemu ())
    return;
  expected = make_overlay ();
  run_qemu_io ("-r", "read 0 64k");
  assert_clean ("o.qcow2");
  overlay = reopen ("o.qcow2", SIZE, 4096);
  assert_reads (overlay, SIZE, 4096, 2, expected);
  overlay_free (overlay);
}
END_TEST

/* QEMU's own image, when it has the one shape that we know, is read back. */
START_TEST (test_reads_qemus)
{
  Overlay *overlay;
  Qcow2Cluster mapping;
  uint8_t bytes[4096], expected[4096];

  if (without_qemu ())
    return;
  g_free (make_overlay ());
  qemu_create ("extended_l2=on,cluster_size=128k,lazy_refcounts=on");
  ck_assert_int_eq (test_run (NULL, "qemu-io", "-f", "qcow2", "-c", "write -P 0x41 148k 8k", "-c",
                              "write -z 512k 4k", test_path ("o.qcow2"), NULL),
                    0);

  overlay = reopen ("o.qcow2", SIZE, 4096);
  ck_assert_int_eq (overlay_prepare (overlay, 0, 8, false), 0);
  for (uint64_t cluster = 0; cluster < 8; cluster++)
    ck_assert_uint_eq (overlay_saved (overlay, cluster), cluster == 1   ? 3U << 5
                                                         : cluster == 4 ? 1U
                                                                        : 0U);
  mapping = overlay_lookup (overlay, 1);
  ck_assert_uint_eq (mapping.data, 3U << 5);
  ck_assert_uint_eq (overlay_lookup (overlay, 4).zero, 1);
  memset (expected, 0x41, sizeof expected);
  for (unsigned i = 5; i < 7; i++)
    {
      ck_assert_int_eq (overlay_read (overlay, bytes, 4096, mapping.host_offset + i * 4096), 0);
      test_assert_bytes ("QEMU's granule", bytes, expected, 4096);
    }
  overlay_free (overlay);
}
END_TEST

static const struct
{
  const char *what;
  void (*spoil) (void);
  uint64_t size, granule; /* to open it with */
  bool needs_qemu;
  int errnum;
  const char *message;
} refusals[] = {
  { "a symbolic link", replace_by_link, SIZE, 4096, false, ELOOP, "cannot open" },
  { "a FIFO", replace_by_fifo, SIZE, 4096, false, EINVAL, "not a regular file" },
  { "a directory", replace_by_directory, SIZE, 4096, false, EISDIR, "cannot open" },
  { "missing", remove_it, SIZE, 4096, false, ENOENT, "cannot open" },
  { "empty", make_it_empty, SIZE, 4096, false, EIO, "cannot read the header" },
  { "header cut", cut_the_header, SIZE, 4096, false, EIO, "cannot read the header" },
  { "L1 cut", cut_l1, SIZE, 4096, false, EIO, "cannot read the L1 table" },
  { "L2 cut", cut_l2, SIZE, 4096, false, EINVAL, "damaged" },
  { "raw", replace_by_raw, SIZE, 4096, false, EINVAL, "not ours" },
  { "another granule", leave_it, SIZE, 8192, false, EINVAL, "another granule" },
  { "size too small", leave_it, SIZE - 512, 4096, false, EINVAL, "another size" },
  { "size too large", leave_it, SIZE + 512, 4096, false, EINVAL, "another size" },
  { "written by QEMU", write_by_qemu, SIZE, 4096, true, EINVAL, "another program has opened" },
  { "QEMU's default", qemu_plain, SIZE, 4096, true, EINVAL, "not ours" },
  { "QEMU's version 2", qemu_old, SIZE, 4096, true, EINVAL, "not ours" },
  { "QEMU's with eager refcounts", qemu_eager, SIZE, 4096, true, EINVAL, "not ours" },
  { "QEMU's with 8-bit refcounts", qemu_refcounts, SIZE, 4096, true, EINVAL, "not ours" },
  { "QEMU's with zstd", qemu_zstd, SIZE, 4096, true, EINVAL, "not ours" },
};

START_TEST (test_refused)
{
  g_autoptr (GError) error = NULL;
  Overlay *overlay;

  if (refusals[_i].needs_qemu && without_qemu ())
    return;
  g_free (make_overlay ());
  refusals[_i].spoil ();
  overlay = overlay_open (dir_fd, "o.qcow2", refusals[_i].size, refusals[_i].granule, &error);
  ck_assert_msg (overlay == NULL, "opened: %s", refusals[_i].what);
  ck_assert_msg (strstr (error->message, "'o.qcow2'") != NULL, "%s", error->message);
  ck_assert_msg (strstr (error->message, refusals[_i].message) != NULL, "no '%s' in: %s",
                 refusals[_i].message, error->message);
  ck_assert_msg (fail_code (error) == refusals[_i].errnum, "%s", error->message);
}
END_TEST

START_TEST (test_opened_twice)
{
  g_autoptr (GError) error = NULL;
  Overlay *overlay;

  g_free (make_overlay ());
  overlay = reopen ("o.qcow2", SIZE, 4096);
  ck_assert_ptr_null (overlay_open (dir_fd, "o.qcow2", SIZE, 4096, &error));
  ck_assert_int_eq (fail_code (error), EBUSY);
  g_clear_error (&error);
  /* Whatever its owner is writing at this moment. */
  test_poke (test_path ("o.qcow2"), 0, "\0", 1);
  ck_assert_ptr_null (overlay_open (dir_fd, "o.qcow2", SIZE, 4096, &error));
  ck_assert_int_eq (fail_code (error), EBUSY);
  test_poke (test_path ("o.qcow2"), 0, "Q", 1);
  overlay_free (overlay);
  overlay_free (reopen ("o.qcow2", SIZE, 4096));
  overlay_free (NULL);
}
END_TEST

static const struct
{
  const char *what;
  bool exists;
  uint64_t size;
  size_t backing_length;
  int errnum;
} not_made[] = {
  { "a file is there", true, MIB, 5, EEXIST },
  { "too large", false, UINT64_C (1) << 53, 5, EFBIG },
  { "backing name too long", false, MIB, 1024, ENAMETOOLONG },
};

START_TEST (test_not_made)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *backing = g_strnfill (not_made[_i].backing_length, 'b');

  if (not_made[_i].exists)
    test_make_file (test_path ("o.qcow2"), 100, 1);
  ck_assert_ptr_null (
      overlay_create (dir_fd, "o.qcow2", not_made[_i].size, 4096, backing, "raw", &error));
  ck_assert_int_eq (fail_code (error), not_made[_i].errnum);
  ck_assert_ptr_nonnull (strstr (error->message, "'o.qcow2'"));
  ck_assert_int_eq (access (test_path ("o.qcow2"), F_OK), not_made[_i].exists ? 0 : -1);
}
END_TEST

static TCase *
overlay_case (Suite *suite, const char *name)
{
  TCase *tcase = tcase_create (name);

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_set_timeout (tcase, 60);
  suite_add_tcase (suite, tcase);
  return tcase;
}

static Suite *
overlay_suite (void)
{
  Suite *suite = suite_create ("overlay");
  TCase *shapes = overlay_case (suite, "shapes");
  TCase *again = overlay_case (suite, "reopened");
  TCase *kills = overlay_case (suite, "killed");
  TCase *refused = overlay_case (suite, "refused");

  tcase_add_loop_test (shapes, test_shape, 0, N_SHAPES);
  tcase_add_loop_test (shapes, test_empty, 0, N_SHAPES);
  tcase_add_loop_test (shapes, test_info, 0, N_SHAPES);
  tcase_add_loop_test (shapes, test_chain, 0, N_SHAPES);
  tcase_add_test (again, test_unchanged);
  tcase_add_loop_test (again, test_backing_changed, 0, 2);
  tcase_add_test (again, test_more_after_reopen);
  tcase_add_test (again, test_place);
  tcase_add_test (again, test_reads_qemus);
  tcase_add_loop_test (kills, test_kill_and_open, 0, N_KILLS);
  tcase_add_test (kills, test_leak_stays_free);
  tcase_add_loop_test (kills, test_kill_and_repair, 0, N_KILLS);
  tcase_add_test (refused, test_read_by_qemu);
  tcase_add_loop_test (refused, test_refused, 0, G_N_ELEMENTS (refusals));
  tcase_add_test (refused, test_opened_twice);
  tcase_add_loop_test (refused, test_not_made, 0, G_N_ELEMENTS (not_made));
  return suite;
}

int
main (void)
{
  return test_main (overlay_suite ());
}
