/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The qcow2 structures against the bytes of the specification (QEMU, docs/interop/qcow2).
 *
 * Tables say which bytes stand where, and which change of them must be refused.
 * Two independent readers: qemu-img checks what we wrote, and we read what QEMU wrote. */
#include "base/fail.h"
#include "base/io.h"
#include "base/units.h"
#include "overlay/be.h"
#include "overlay/qcow2-map.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIB (1024 * TIB)
#define COPIED (UINT64_C (1) << 63)

/* --- the header --- */

/* Granule 4k, size 1 GiB + 1, backing file x.img, raw; dirty. What is not here is zero. */
static const struct
{
  const char *what;
  size_t offset, length;
  uint8_t bytes[8];
} header_bytes[] = {
  { "magic", 0, 4, { 'Q', 'F', 'I', 0xfb } },
  { "version", 4, 4, { 0, 0, 0, 3 } },
  { "backing_file_offset", 8, 8, { 0, 0, 0, 0, 0, 0, 0, 192 } },
  { "backing_file_size", 16, 4, { 0, 0, 0, 5 } },
  { "cluster_bits", 20, 4, { 0, 0, 0, 17 } },
  { "size", 24, 8, { 0, 0, 0, 0, 0x40, 0, 0x02, 0 } },
  { "crypt_method", 32, 4, { 0 } },
  { "l1_size", 36, 4, { 0, 0, 0, 2 } },
  { "l1_table_offset", 40, 8, { 0, 0, 0, 0, 0, 0x06, 0, 0 } },
  { "refcount_table_offset", 48, 8, { 0, 0, 0, 0, 0, 0x02, 0, 0 } },
  { "refcount_table_clusters", 56, 4, { 0, 0, 0, 1 } },
  { "nb_snapshots", 60, 4, { 0 } },
  { "snapshots_offset", 64, 8, { 0 } },
  { "incompatible_features", 72, 8, { 0, 0, 0, 0, 0, 0, 0, 0x11 } },
  { "compatible_features", 80, 8, { 0x80, 0, 0, 0, 0, 0, 0, 0x01 } },
  { "autoclear_features", 88, 8, { 0x80 } },
  { "refcount_order", 96, 4, { 0, 0, 0, 4 } },
  { "header_length", 100, 4, { 0, 0, 0, 112 } },
  { "compression_type", 104, 8, { 0 } },
  { "backing format: type", 112, 4, { 0xe2, 0x79, 0x2a, 0xca } },
  { "backing format: length", 116, 4, { 0, 0, 0, 3 } },
  { "backing format", 120, 8, { 'r', 'a', 'w' } },
  { "feature names: type", 128, 4, { 0x68, 0x03, 0xf8, 0x57 } },
  { "feature names: length", 132, 4, { 0, 0, 0, 48 } },
  { "feature: incompatible, bit 62", 136, 8, { 0, 62, 'f', 'l', 'e', 'e', 'c', 'e' } },
  { "feature name", 144, 8, { 'f', 's', '\'', 's', ' ', 'j', 'o', 'u' } },
  { "feature name", 152, 8, { 'r', 'n', 'a', 'l', ':', ' ', 'm', 'o' } },
  { "feature name", 160, 8, { 'u', 'n', 't', ' ', 'i', 't', ' ', 'w' } },
  { "feature name", 168, 8, { 'i', 't', 'h', ' ', 't', 'h', 'a', 't' } },
  { "feature name", 176, 6, { ' ', 'f', 'i', 'r', 's', 't' } },
  { "end of extensions", 184, 8, { 0 } },
  { "backing file name", 192, 8, { 'x', '.', 'i', 'm', 'g' } },
};

static Qcow2Header
make_header (uint64_t size, uint64_t granule)
{
  Qcow2Header header;

  ck_assert (qcow2_header_init (&header, size, granule));
  ck_assert (qcow2_header_set_backing (&header, "x.img", "raw"));
  return header;
}

START_TEST (test_header_bytes)
{
  Qcow2Header header = make_header (GIB + 1, 4096);
  uint8_t area[QCOW2_HEADER_AREA], expected[QCOW2_HEADER_AREA] = { 0 };

  memset (area, 0xff, sizeof area);
  qcow2_header_encode (&header, area);
  for (unsigned i = 0; i < G_N_ELEMENTS (header_bytes); i++)
    {
      test_assert_bytes (header_bytes[i].what, area + header_bytes[i].offset, header_bytes[i].bytes,
                         header_bytes[i].length);
      memcpy (expected + header_bytes[i].offset, header_bytes[i].bytes, header_bytes[i].length);
    }
  test_assert_bytes ("header area", area, expected, sizeof area);

  header.dirty = false;
  qcow2_header_encode (&header, area);
  ck_assert_uint_eq (area[79], 0x10);
}
END_TEST

static const struct
{
  size_t name_length;
  const char *format;
} backings[]
    = { { 1, "raw" }, { 5, "qcow2" }, { 7, "x" }, { 8, "fifteen-letters" }, { 1023, "raw" } };

START_TEST (test_header_round_trip)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *name = g_strnfill (backings[_i].name_length, 'n');
  uint8_t area[QCOW2_HEADER_AREA], again[QCOW2_HEADER_AREA];
  Qcow2Header header = make_header (123456789, 65536), out;

  for (unsigned bits = 0; bits < 8; bits++)
    {
      if ((bits & 5) == 4)
        continue; /* a journal of a clean image */
      header.dirty = bits & 1;
      header.broken = (bits & 2) != 0;
      header.journaled = (bits & 4) != 0;
      ck_assert (qcow2_header_set_backing (&header, name, backings[_i].format));
      qcow2_header_encode (&header, area);
      ck_assert_msg (qcow2_header_decode (area, "o", &out, &error), "%s",
                     error != NULL ? error->message : "");
      ck_assert_uint_eq (area[72], bits & 4 ? 0x40 : 0); /* ours: QEMU does not know it */
      ck_assert_uint_eq (area[79],
                         0x10 | (bits & 3)); /* extended L2; corrupt, bit 1; dirty, bit 0 */
      ck_assert_uint_eq (out.dirty, bits & 1);
      ck_assert_uint_eq (out.broken, bits >> 1 & 1);
      ck_assert_uint_eq (out.journaled, bits >> 2);
      ck_assert_str_eq (out.backing_name, name);
      ck_assert_str_eq (out.backing_format, backings[_i].format);
      ck_assert_uint_eq (out.size, 123456789 / 512 * 512 + 512);
      qcow2_header_encode (&out, again);
      test_assert_bytes ("encoded again", again, area, sizeof area);
    }
}
END_TEST

START_TEST (test_header_backing_too_long)
{
  g_autofree char *name = g_strnfill (1024, 'n');
  Qcow2Header header = make_header (MIB, 4096);

  ck_assert (!qcow2_header_set_backing (&header, name, "raw"));
  ck_assert (!qcow2_header_set_backing (&header, "x", "sixteen--letters"));
}
END_TEST

/* Each is one change of the header above, which makes it another one than we write. */
static const struct
{
  const char *what;
  size_t offset, width; /* 4 or 8 */
  uint64_t value;
} header_mutations[] = {
  { "magic", 0, 4, 0x514649fc },
  { "version 2", 4, 4, 2 },
  { "version 4", 4, 4, 4 },
  { "no backing file", 8, 8, 0 },
  { "backing name in the header", 8, 8, 80 },
  { "backing name in the extensions", 8, 8, 120 },
  { "backing name at the area's end", 8, 8, QCOW2_HEADER_AREA - 4 },
  { "backing name far away", 8, 8, UINT64_MAX },
  { "backing name of no length", 16, 4, 0 },
  { "backing name too long", 16, 4, 1024 },
  { "backing name much too long", 16, 4, UINT32_MAX },
  { "cluster_bits 16", 20, 4, 16 },
  { "cluster_bits 18 with tables for 17", 20, 4, 18 },
  { "cluster_bits 22", 20, 4, 22 },
  { "cluster_bits 0", 20, 4, 0 },
  { "cluster_bits 64", 20, 4, 64 },
  { "size not in sectors", 24, 8, 0x40000201 },
  { "size for another L1", 24, 8, 3 * GIB },
  { "size too large", 24, 8, UINT64_C (1) << 62 },
  { "size negative", 24, 8, UINT64_MAX - 511 },
  { "AES", 32, 4, 1 },
  { "LUKS", 32, 4, 2 },
  { "l1_size 0", 36, 4, 0 },
  { "l1_size 1", 36, 4, 1 },
  { "l1_size 3", 36, 4, 3 },
  { "l1_table_offset 0", 40, 8, 0 },
  { "l1_table_offset unaligned", 40, 8, 0x60200 },
  { "l1_table_offset elsewhere", 40, 8, 0x80000 },
  { "refcount_table_offset elsewhere", 48, 8, 0x40000 },
  { "refcount_table_clusters 0", 56, 4, 0 },
  { "refcount_table_clusters 2", 56, 4, 2 },
  { "an internal snapshot", 60, 4, 1 },
  { "a snapshot table", 64, 8, 0x80000 },
  { "no extended L2", 72, 8, 0x01 },
  { "external data file", 72, 8, 0x15 },
  { "compression type bit", 72, 8, 0x19 },
  { "unknown incompatible bit", 72, 8, 0x31 },
  { "unknown high incompatible bit", 72, 8, COPIED >> 2 | 0x11 },
  { "a journal of a clean image", 72, 8, COPIED >> 1 | 0x10 },
  { "an old journal of a clean image", 72, 8, COPIED | 0x10 },
  { "no lazy refcounts", 80, 8, 0 },
  { "unknown compatible bit", 80, 8, 3 },
  { "unknown high compatible bit", 80, 8, COPIED >> 1 | COPIED | 1 },
  { "bitmaps", 88, 8, COPIED | 1 },
  { "raw external data", 88, 8, COPIED | 2 },
  { "opened for writing by another program", 88, 8, 0 },
  { "an autoclear bit alone", 80, 8, 1 },
  { "8-bit refcounts", 96, 4, 3 },
  { "64-bit refcounts", 96, 4, 6 },
  { "header_length 104", 100, 4, 104 },
  { "header_length 120", 100, 4, 120 },
  { "zstd", 104, 4, 0x01000000 },
  { "no backing format", 112, 4, 0 },
  { "another extension", 112, 4, 0x6803f857 },
  { "backing format of no length", 116, 4, 0 },
  { "backing format cut", 116, 4, 2 },
  { "backing format with a NUL", 116, 4, 4 },
  { "backing format too long", 116, 4, 16 },
  { "backing format much too long", 116, 4, UINT32_MAX },
  { "another extension after it", 128, 4, 0x6803f856 },
};

/* The bit of a journal that has no log, which is not written any more. */
START_TEST (test_header_old_journal)
{
  g_autoptr (GError) error = NULL;
  Qcow2Header header = make_header (GIB, 4096), out;
  uint8_t area[QCOW2_HEADER_AREA];

  qcow2_header_encode (&header, area);
  be_store64 (area + 72, COPIED | 0x11);
  ck_assert (qcow2_header_decode (area, "o.qcow2", &out, &error));
  ck_assert (out.dirty && out.journaled);
}
END_TEST

/* That of a program that did not know how to see that another one has written. */
START_TEST (test_header_unwatched)
{
  g_autoptr (GError) error = NULL;
  Qcow2Header header = make_header (GIB, 4096), out;
  uint8_t area[QCOW2_HEADER_AREA];

  qcow2_header_encode (&header, area);
  be_store64 (area + 80, 1);
  be_store64 (area + 88, 0);
  ck_assert (qcow2_header_decode (area, "o.qcow2", &out, &error));
}
END_TEST

START_TEST (test_header_mutation)
{
  g_autoptr (GError) error = NULL;
  Qcow2Header header = make_header (GIB + 1, 4096), out;
  uint8_t area[QCOW2_HEADER_AREA];

  qcow2_header_encode (&header, area);
  if (header_mutations[_i].width == 4)
    be_store32 (area + header_mutations[_i].offset, (uint32_t) header_mutations[_i].value);
  else
    be_store64 (area + header_mutations[_i].offset, header_mutations[_i].value);
  ck_assert_msg (!qcow2_header_decode (area, "dir/o.qcow2", &out, &error), "accepted: %s",
                 header_mutations[_i].what);
  ck_assert_int_eq (fail_code (error), EINVAL);
  ck_assert_ptr_nonnull (strstr (error->message, "dir/o.qcow2"));
}
END_TEST

/* The first sector of one header, the rest of another. Whatever is left of the name, the image
 * opens, the name is not taken for one that needs no writing, and what is written of it can be
 * read. */
static void
check_torn (const uint8_t *first, const uint8_t *rest, const char *name)
{
  uint8_t area[QCOW2_HEADER_AREA];
  Qcow2Header out, again;

  memcpy (area, rest, sizeof area);
  memcpy (area, first, 512);
  ck_assert (qcow2_header_decode (area, "o.qcow2", &out, NULL));
  ck_assert_str_ne (out.backing_name, name);
  qcow2_header_encode (&out, area);
  ck_assert (qcow2_header_decode (area, "o.qcow2", &again, NULL));
  ck_assert_str_eq (again.backing_name, out.backing_name);
}

START_TEST (test_header_backing_torn)
{
  g_autofree char *name = g_strnfill (900, 'n');
  Qcow2Header header = make_header (GIB, 4096);
  uint8_t area[QCOW2_HEADER_AREA], before[QCOW2_HEADER_AREA];

  qcow2_header_encode (&header, before);
  ck_assert (qcow2_header_set_backing (&header, name, "raw"));
  qcow2_header_encode (&header, area);
  check_torn (area, before, name);
  check_torn (before, area, name);
}
END_TEST

/* A header whose bits change is in one sector, whatever the name of the backing file. */
START_TEST (test_header_bits)
{
  g_autofree char *name = g_strnfill (1023, 'n');
  Qcow2Header header = make_header (GIB, 4096);
  uint8_t before[QCOW2_HEADER_AREA], area[QCOW2_HEADER_AREA];

  ck_assert (qcow2_header_set_backing (&header, name, "qcow2"));
  qcow2_header_encode (&header, before);
  for (unsigned bits = 0; bits < 8; bits++)
    {
      header.dirty = bits & 1;
      header.broken = (bits & 2) != 0;
      header.journaled = (bits & 4) != 0;
      qcow2_header_encode (&header, area);
      test_assert_bytes ("the other sectors", area + 512, before + 512, sizeof area - 512);
    }
}
END_TEST

/* --- geometry --- */

static const uint64_t granules[] = { 4096, 8192, 16384, 32768, 65536 };
static const uint64_t sizes[]
    = { 1, 511, 512, 513, MIB, GIB - 1, GIB, GIB + 1, TIB, 16 * TIB, PIB, 4 * PIB };

/* _i counts through both tables. What QEMU demands, and that the refcounts reach over the
 * largest file that there can be. */
START_TEST (test_geometry)
{
  uint64_t granule = granules[(unsigned) _i % G_N_ELEMENTS (granules)];
  uint64_t size = sizes[(unsigned) _i / G_N_ELEMENTS (granules)];
  uint64_t cluster = 32 * granule;
  Qcow2Header header = make_header (size, granule);
  uint64_t span = cluster / 2, per_table = cluster / 16;
  uint64_t n_data, n_most, n_blocks, first;

  ck_assert_uint_eq (UINT64_C (1) << header.cluster_bits, cluster);
  ck_assert_uint_eq (qcow2_cluster_size (&header), cluster);
  ck_assert_uint_eq (qcow2_l2_entries (&header), per_table);
  ck_assert_uint_eq (qcow2_block_span (&header), span);
  ck_assert_uint_eq (header.size % 512, 0);
  ck_assert_uint_ge (header.size, size);
  ck_assert_uint_lt (header.size - size, 512);
  ck_assert (header.dirty);

  /* L1 is as long as the size needs, and no longer. */
  n_data = (header.size + cluster - 1) / cluster;
  ck_assert_uint_ge ((uint64_t) header.l1_size * per_table, n_data);
  ck_assert_uint_lt ((uint64_t) (header.l1_size - 1) * per_table, n_data);

  /* One after the other: header, refcount table, block 0, L1, the rest. */
  first = qcow2_first_free (&header);
  ck_assert_uint_eq (header.refcount_table_offset, cluster);
  ck_assert_uint_eq (qcow2_refcount_block (&header, 0), 1 + header.refcount_table_clusters);
  ck_assert_uint_eq (header.l1_offset, (2 + (uint64_t) header.refcount_table_clusters) * cluster);
  ck_assert_uint_ge (first * cluster, header.l1_offset + 8 * (uint64_t) header.l1_size);
  ck_assert_uint_lt ((first - 1) * cluster, header.l1_offset + 8 * (uint64_t) header.l1_size);
  ck_assert_uint_le (first, span); /* the fixed part is before block 1 */

  /* Every cluster that a full image can have is counted. */
  n_blocks = header.refcount_table_clusters * cluster / 8;
  n_most = first + n_data + header.l1_size;
  n_most += n_most / (span - 1) + 1;
  ck_assert_uint_ge (n_blocks, (n_most + span - 1) / span);
  for (uint64_t k = 1; k < 5; k++)
    ck_assert_uint_eq (qcow2_refcount_block (&header, k), k * span);
}
END_TEST

static const struct
{
  uint64_t size, granule;
  bool fits;
} limits[] = {
  { 4 * PIB, 4096, true },
  { 4 * PIB + 1, 4096, false },
  { 16 * PIB, 8192, true },
  { 16 * PIB + 1, 8192, false },
  { 64 * PIB, 16384, true },
  { 64 * PIB + 1, 16384, false },
  { 256 * PIB, 32768, true },
  { 256 * PIB + 1, 32768, false },
  { 1024 * PIB, 65536, true },
  { 1024 * PIB + 1, 65536, false },
  { INT64_MAX, 4096, false },
  { INT64_MAX, 65536, false },
  { (uint64_t) INT64_MAX + 1, 65536, false },
  { UINT64_MAX - 511, 65536, false },
  { UINT64_MAX, 4096, false },
};

START_TEST (test_too_large)
{
  Qcow2Header header;

  ck_assert (qcow2_header_init (&header, limits[_i].size, limits[_i].granule) == limits[_i].fits);
}
END_TEST

/* --- entries, in memory and in the file --- */

static Qcow2Header map_header;
static int map_fd = -1;
static GroupSync map_sync; /* of nobody who is durable */

/* A map of 16 GiB in granules of 4k: 16 L2 tables; the first free cluster is 4. */
/* The map of the image as one that was closed: its tables are read when they are needed. */
static Qcow2Map *
load_map (const char *path, GError **error)
{
  Qcow2Header closed = map_header;

  closed.dirty = false;
  return qcow2_map_load (map_fd, &closed, &map_sync, path, error);
}

static Qcow2Map *
make_map (void)
{
  map_header = make_header (16 * GIB, 4096);
  map_fd = open (test_path ("o.qcow2"), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  ck_assert_int_ge (map_fd, 0);
  ck_assert_uint_eq (qcow2_first_free (&map_header), 4);
  ck_assert_int_eq (ftruncate (map_fd, 4 * 0x20000), 0);
  return qcow2_map_new (map_fd, &map_header, &map_sync);
}

static void
close_map (Qcow2Map *map)
{
  qcow2_map_free (map);
  close (map_fd);
  map_fd = -1;
}

static void
assert_file (const char *what, uint64_t offset, const uint8_t *expected, size_t length)
{
  uint8_t bytes[64];

  ck_assert_int_eq (io_read_full (map_fd, bytes, length, offset), 0);
  test_assert_bytes (what, bytes, expected, length);
}

static void
assert_mapping (Qcow2Map *map, uint64_t cluster, uint64_t host_offset, uint32_t data, uint32_t zero)
{
  Qcow2Cluster mapping = qcow2_map_lookup (map, cluster);

  ck_assert_uint_eq (mapping.host_offset, host_offset);
  ck_assert_uint_eq (mapping.data, data);
  ck_assert_uint_eq (mapping.zero, zero);
}

/* One after the other on one map. Cluster 5 is entry 5 of the table at 0x80000; cluster 8191
 * its last; cluster 8193 entry 1 of the next. */
static const struct
{
  uint64_t cluster;
  bool reserve;
  uint32_t data, zero; /* to record and publish */
  uint64_t entry_at;   /* in the file */
  uint8_t entry[16];
} steps[] = {
  { 5, true, 0x00000001, 0, 0x80050, { 0x80, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 } },
  { 5, true, 0, 0x80000000, 0x80050, { 0x80, 0, 0, 0, 0, 0x0a, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 1 } },
  { 5,
    true,
    0x7ffffffe,
    0,
    0x80050,
    { 0x80, 0, 0, 0, 0, 0x0a, 0, 0, 0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff } },
  { 6, false, 0, 0x00000104, 0x80060, { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x04, 0, 0, 0, 0 } },
  { 6,
    true,
    0x00000002,
    0,
    0x80060,
    { 0x80, 0, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0x01, 0x04, 0, 0, 0, 2 } },
  { 6,
    true,
    0x00000004,
    0,
    0x80060, /* a zero that becomes data: a merge upwards */
    { 0x80, 0, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0x01, 0x00, 0, 0, 0, 6 } },
  { 6,
    true,
    0,
    0x00000002,
    0x80060, /* and data that becomes zeros */
    { 0x80, 0, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 4 } },
  { 8191,
    true,
    0xffffffff,
    0,
    0x9fff0,
    { 0x80, 0, 0, 0, 0, 0x0e, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff } },
  { 8193,
    true,
    0x00010000,
    0x00000001,
    0x100010,
    { 0x80, 0, 0, 0, 0, 0x12, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0 } },
};

START_TEST (test_entry_bytes)
{
  static const uint8_t l1[24] = { [0] = 0x80, [5] = 0x08, [8] = 0x80, [13] = 0x10 };
  Qcow2Map *map = make_map (), *loaded;
  g_autoptr (GError) error = NULL;
  uint64_t cluster = 0;
  int errnum;

  for (unsigned i = 0; i < G_N_ELEMENTS (steps); i++)
    {
      g_autofree char *what = g_strdup_printf ("entry after step %u", i);
      Qcow2Cluster before, after;

      ck_assert_int_eq (qcow2_map_prepare (map, steps[i].cluster, 1, true), 0);
      before = qcow2_map_lookup (map, steps[i].cluster);
      if (steps[i].reserve)
        qcow2_map_reserve (map, steps[i].cluster, 1);
      ck_assert_int_eq (qcow2_map_record (map, steps[i].cluster, 1, &steps[i].data, &steps[i].zero),
                        0);
      assert_file (what, steps[i].entry_at, steps[i].entry, 16);

      /* It can be looked up only when it is published. */
      after = qcow2_map_lookup (map, steps[i].cluster);
      ck_assert_uint_eq (after.data, before.data);
      ck_assert_uint_eq (after.zero, before.zero);
      qcow2_map_publish (map, steps[i].cluster, 1, &steps[i].data, &steps[i].zero);
      assert_mapping (map, steps[i].cluster, be_load64 (steps[i].entry) & ~COPIED,
                      be_load32 (steps[i].entry + 12), be_load32 (steps[i].entry + 8));
    }
  assert_file ("L1", map_header.l1_offset, l1, sizeof l1);

  /* What is in the file is what a new map reads. The data that was not written reaches to here. */
  ck_assert_int_eq (ftruncate (map_fd, 10 * 0x20000), 0);
  loaded = load_map ("o", &error);
  ck_assert_msg (loaded != NULL, "%s", error != NULL ? error->message : "");
  ck_assert (!qcow2_map_prepared (loaded, 0, 1));
  ck_assert (qcow2_map_prepared (loaded, 2 * 8192, 8192)); /* no table, none wanted */
  ck_assert_int_eq (qcow2_map_prepare (loaded, 0, 16 * 8192, false), 0);
  ck_assert (qcow2_map_prepared (loaded, 0, 16 * 8192));
  for (uint64_t i = 0; i < 16 * 8192; i++)
    {
      Qcow2Cluster mapping = qcow2_map_lookup (map, i);

      assert_mapping (loaded, i, mapping.host_offset, mapping.data, mapping.zero);
    }
  qcow2_map_free (loaded);

  /* Walking over what is saved, without having prepared anything. */
  loaded = load_map ("o", &error);
  for (unsigned i = 0; i < 4; i++, cluster++)
    {
      static const uint64_t saved[] = { 5, 6, 8191, 8193 };

      ck_assert (qcow2_map_next (loaded, &cluster, UINT64_MAX, &errnum));
      ck_assert_uint_eq (cluster, saved[i]);
    }
  ck_assert (!qcow2_map_next (loaded, &cluster, UINT64_MAX, &errnum));
  ck_assert_int_eq (errnum, 0);
  cluster = 7;
  ck_assert (!qcow2_map_next (loaded, &cluster, 8191, &errnum));
  ck_assert_int_eq (errnum, 0);
  ck_assert_uint_eq (cluster, 8191);
  ck_assert (qcow2_map_next (loaded, &cluster, 8192, &errnum));
  ck_assert_uint_eq (cluster, 8191);
  qcow2_map_free (loaded);
  close_map (map);
}
END_TEST

/* Several clusters in one record, adjacent in the file; the third has zeros and no place. */
START_TEST (test_entry_bytes_of_eight)
{
  static const uint32_t data[8] = { 1, 2, 0, 4, 5, 6, 7, 0x80000000 };
  static const uint32_t zero[8] = { 0, 0, 3, 0, 0, 0, 0, 1 };
  Qcow2Map *map = make_map ();
  uint8_t expected[16];

  ck_assert_int_eq (qcow2_map_prepare (map, 16, 8, true), 0);
  qcow2_map_reserve (map, 16, 2);
  qcow2_map_reserve (map, 19, 5);
  ck_assert_int_eq (qcow2_map_record (map, 16, 8, data, zero), 0);
  qcow2_map_publish (map, 16, 8, data, zero);
  for (unsigned i = 0; i < 8; i++)
    {
      uint64_t place = i == 2 ? 0 : (5 + (uint64_t) i - (i > 2)) << 17;

      assert_mapping (map, 16 + i, place, data[i], zero[i]);
      be_store64 (expected, place == 0 ? 0 : COPIED | place);
      be_store32 (expected + 8, zero[i]);
      be_store32 (expected + 12, data[i]);
      assert_file ("an entry", 0x80000 + 16 * (16 + i), expected, 16);
    }
  close_map (map);
}
END_TEST

/* --- damage --- */

/* The second L1 entry of an image with two L2 tables, at clusters 4 and 5, of a file of 70000
 * clusters. */
static const struct
{
  const char *what;
  uint64_t entry;
  bool good;
} l1_entries[] = {
  { "as it was", COPIED | 0xa0000, true },
  { "no table", 0, true },
  { "another place", COPIED | 0xc0000, true },
  { "the last cluster", COPIED | UINT64_C (69999) << 17, true },
  { "only the copied bit", COPIED, false },
  { "not copied", 0xa0000, false },
  { "unaligned", COPIED | 0xa0200, false },
  { "unaligned below a sector", COPIED | 0xa0001, false },
  { "reserved high bit", COPIED | UINT64_C (1) << 56 | 0xa0000, false },
  { "reserved bit 62", COPIED | UINT64_C (1) << 62 | 0xa0000, false },
  { "just outside the file", COPIED | UINT64_C (70000) << 17, false },
  { "far outside the file", COPIED | UINT64_C (1) << 50, false },
  { "two at one place", COPIED | 0x80000, false },
  { "in the header", COPIED | 0x0, false },
  { "in the refcount table", COPIED | 0x20000, false },
  { "in refcount block 0", COPIED | 0x40000, false },
  { "in L1", COPIED | 0x60000, false },
  { "in refcount block 1", COPIED | UINT64_C (65536) << 17, false },
};

START_TEST (test_l1_damage)
{
  g_autoptr (GError) error = NULL;
  Qcow2Map *map = make_map ();
  uint8_t entry_be[8];

  ck_assert_int_eq (qcow2_map_prepare (map, 0, 2 * 8192, true), 0);
  qcow2_map_free (map);
  ck_assert_int_eq (ftruncate (map_fd, 70000 * 0x20000L), 0);
  be_store64 (entry_be, l1_entries[_i].entry);
  ck_assert_int_eq (io_write_full (map_fd, entry_be, 8, map_header.l1_offset + 8), 0);

  map = load_map ("dir/o.qcow2", &error);
  ck_assert_msg ((map != NULL) == l1_entries[_i].good, "%s", l1_entries[_i].what);
  if (map != NULL)
    qcow2_map_free (map);
  else
    {
      ck_assert_int_eq (fail_code (error), EINVAL);
      ck_assert_ptr_nonnull (strstr (error->message, "dir/o.qcow2"));
      ck_assert_ptr_nonnull (strstr (error->message, "damaged"));
    }
  close (map_fd);
}
END_TEST

START_TEST (test_l1_cut)
{
  g_autoptr (GError) error = NULL;
  Qcow2Map *map = make_map ();

  qcow2_map_free (map);
  ck_assert_int_eq (ftruncate (map_fd, (off_t) map_header.l1_offset + 8 * 16 - 1), 0);
  ck_assert_ptr_null (load_map ("dir/o.qcow2", &error));
  ck_assert_ptr_nonnull (strstr (error->message, "dir/o.qcow2"));
  close (map_fd);
}
END_TEST

/* An L2 entry. The data cluster is 5, its table is 4, the file has 70000 clusters. */
static const struct
{
  const char *what;
  uint64_t offset, bits;
  bool good;
} l2_entries[] = {
  { "as it was", COPIED | 0xa0000, 1, true },
  { "nothing", 0, 0, true },
  { "zeros without a place", 0, UINT64_C (0xffffffff) << 32, true },
  { "zeros with a place", COPIED | 0xa0000, UINT64_C (0xffffffff) << 32, true },
  { "a place for nothing", COPIED | 0xa0000, 0, true },
  { "zeros and data", COPIED | 0xa0000, UINT64_C (0xfffffffe) << 32 | 1, true },
  { "both for one granule", COPIED | 0xa0000, UINT64_C (1) << 32 | 1, false },
  { "both for the last granule", COPIED | 0xa0000, COPIED | 0x80000000, false },
  { "data without a place", 0, 1, false },
  { "only the copied bit", COPIED, 0, false },
  { "not copied", 0xa0000, 1, false },
  { "compressed", UINT64_C (1) << 62 | 0xa0000, 1, false },
  { "compressed and copied", COPIED | UINT64_C (1) << 62 | 0xa0000, 1, false },
  { "the zero bit of short entries", COPIED | 0xa0000 | 1, 1, false },
  { "a reserved bit", COPIED | UINT64_C (1) << 56 | 0xa0000, 1, false },
  { "unaligned", COPIED | 0xa0200, 1, false },
  { "just outside the file", COPIED | UINT64_C (70000) << 17, 1, false },
  { "far outside the file", COPIED | UINT64_C (1) << 50, 1, false },
  { "in the header", COPIED | 0x0, 1, false },
  { "in L1", COPIED | 0x60000, 1, false },
  { "in refcount block 1", COPIED | UINT64_C (65536) << 17, 1, false },
};

START_TEST (test_l2_damage)
{
  static const uint32_t one = 1, none = 0;
  uint32_t data = (uint32_t) l2_entries[_i].bits, zero = (uint32_t) (l2_entries[_i].bits >> 32);
  Qcow2Map *map = make_map ();
  uint64_t cluster = 0;
  uint8_t entry_be[16];
  int errnum;

  ck_assert_int_eq (qcow2_map_prepare (map, 77, 1, true), 0);
  qcow2_map_reserve (map, 77, 1);
  ck_assert_int_eq (qcow2_map_record (map, 77, 1, &one, &none), 0);
  qcow2_map_free (map);
  ck_assert_int_eq (ftruncate (map_fd, 70000 * 0x20000L), 0);
  be_store64 (entry_be, l2_entries[_i].offset);
  be_store64 (entry_be + 8, l2_entries[_i].bits);
  ck_assert_int_eq (io_write_full (map_fd, entry_be, 16, 0x80000 + 16 * 77), 0);

  map = load_map ("o", NULL);
  ck_assert_ptr_nonnull (map);
  if (l2_entries[_i].good)
    {
      ck_assert_int_eq (qcow2_map_prepare (map, 77, 1, false), 0);
      assert_mapping (map, 77, l2_entries[_i].offset & ~COPIED, data, zero);
    }
  else
    {
      ck_assert_msg (qcow2_map_prepare (map, 77, 1, false) == -EUCLEAN, "%s", l2_entries[_i].what);
      ck_assert_int_eq (qcow2_map_prepare (map, 0, 8192, true), -EUCLEAN);
      ck_assert (!qcow2_map_prepared (map, 77, 1));
      ck_assert (!qcow2_map_next (map, &cluster, UINT64_MAX, &errnum));
      ck_assert_int_eq (errnum, EUCLEAN);
      ck_assert_uint_eq (cluster, 0); /* of the table that is damaged */
    }
  ck_assert_int_eq (qcow2_map_prepare (map, 8192, 1, false), 0); /* other tables are as before */
  close_map (map);
}
END_TEST

/* What two entries of an image can share. Cluster 77 is at 5, its table at 4; cluster 9000 is at 7,
 * its table at 6; the file has 8 clusters. What is written where: */
static const struct
{
  const char *what;
  uint64_t at, entry;
  bool same_table;
} overlaps[] = {
  { "two granules of two tables", 0xc0000 + 16 * (9000 - 8192), COPIED | 0xa0000, false },
  { "two granules of one table", 0x80000 + 16 * 78, COPIED | 0xa0000, true },
  { "a granule and its own table", 0x80000 + 16 * 77, COPIED | 0x80000, true },
  { "a granule and another table", 0x80000 + 16 * 77, COPIED | 0xc0000, true },
};

static void
make_overlap (uint64_t at, uint64_t entry)
{
  static const uint32_t one = 1, none = 0;
  Qcow2Map *map = make_map ();
  uint8_t entry_be[16];

  for (uint64_t cluster = 77; cluster <= 9000; cluster += 9000 - 77)
    {
      ck_assert_int_eq (qcow2_map_prepare (map, cluster, 1, true), 0);
      qcow2_map_reserve (map, cluster, 1);
      ck_assert_int_eq (qcow2_map_record (map, cluster, 1, &one, &none), 0);
    }
  qcow2_map_free (map);
  ck_assert_int_eq (ftruncate (map_fd, 8 * 0x20000L), 0);
  be_store64 (entry_be, entry);
  be_store64 (entry_be + 8, entry == 0 ? 0 : 2);
  ck_assert_int_eq (io_write_full (map_fd, entry_be, 16, at), 0);
}

/* In a closed image it is found when the second is read, at the latest before the first change. */
START_TEST (test_overlap)
{
  bool same = overlaps[_i].same_table;
  Qcow2Map *map;

  make_overlap (overlaps[_i].at, overlaps[_i].entry);
  map = load_map ("o", NULL);
  ck_assert_ptr_nonnull (map);
  ck_assert_int_eq (qcow2_map_prepare (map, 77, 1, false), same ? -EUCLEAN : 0);
  ck_assert_int_eq (qcow2_map_prepare (map, 9000, 1, false), same ? 0 : -EUCLEAN);
  ck_assert_int_eq (qcow2_map_load_all (map), -EUCLEAN);
  qcow2_map_free (map);

  map = load_map ("o", NULL);
  ck_assert_ptr_nonnull (map);
  ck_assert_int_eq (qcow2_map_prepare (map, 9000, 1, false), 0);
  ck_assert_int_eq (qcow2_map_prepare (map, 77, 1, false), -EUCLEAN);
  close_map (map);
}
END_TEST

/* In one that was not closed, when it is opened. */
START_TEST (test_overlap_dirty)
{
  g_autoptr (GError) error = NULL;

  make_overlap (overlaps[_i].at, overlaps[_i].entry);
  ck_assert_ptr_null (qcow2_map_load (map_fd, &map_header, &map_sync, "dir/o.qcow2", &error));
  ck_assert_str_eq (error->message, "overlay 'dir/o.qcow2' is damaged: bad L2 table");
  close (map_fd);
}
END_TEST

/* A table that is read after the file has grown: what it points to was not in the file. */
START_TEST (test_outside_then_grown)
{
  Qcow2Map *map;

  make_overlap (0xc0000 + 16 * (9000 - 8192), COPIED | 8 * 0x20000);
  map = load_map ("o", NULL);
  ck_assert_int_eq (qcow2_map_prepare (map, 77, 1, false), 0);
  qcow2_map_reserve (map, 78, 4); /* clusters 8 to 11 */
  ck_assert_int_eq (qcow2_map_prepare (map, 9000, 1, false), -EUCLEAN);
  close_map (map);
}
END_TEST

/* A file of a length that nothing explains: memory and the time to close it would go with it. The
 * two tables here can have 16384 clusters; there may be 2^20 that were lost. */
static const struct
{
  off_t n_clusters;
  bool clean, dirty; /* can be opened */
} lengths[] = {
  { 8, true, true },
  { 65536 + 9, true, true },
  { 1 << 20, true, true },
  { (1 << 20) + 4096, true, false }, /* too many lost */
  { (1 << 20) + 32768, false, false },
  { INT64_C (1) << 40, false, false },
};

START_TEST (test_length)
{
  for (unsigned dirty = 0; dirty < 2; dirty++)
    {
      g_autoptr (GError) error = NULL;
      Qcow2Map *map = NULL;

      if (dirty == 0)
        make_overlap (0x80000 + 16 * 78, 0);
      if (ftruncate (map_fd, lengths[_i].n_clusters * 0x20000) != 0)
        test_skip ("a file that long", g_strerror (errno));
      else
        {
          map = dirty ? qcow2_map_load (map_fd, &map_header, &map_sync, "o", &error)
                      : load_map ("o", &error);
          ck_assert ((map != NULL) == (dirty ? lengths[_i].dirty : lengths[_i].clean));
          if (map == NULL)
            ck_assert_str_eq (error->message, "overlay 'o' is damaged: the file is too long");
        }
      g_clear_pointer (&map, qcow2_map_free);
    }
  close (map_fd);
}
END_TEST

/* --- many clusters, from several threads --- */

#define N_CLUSTERS 131072
#define N_THREADS 4

typedef struct
{
  Qcow2Map *map;
  unsigned thread;
} Reserve;

/* Takes chunks of different lengths, each of which belongs to one thread; every one twice. */
static void *
reserve_chunks (void *data)
{
  const Reserve *reserve = data;
  unsigned turn = 0;

  for (uint64_t cluster = 0, n; cluster < N_CLUSTERS; cluster += n, turn++)
    {
      n = MIN (1 + turn % 13, N_CLUSTERS - cluster);
      if (turn % N_THREADS != reserve->thread)
        continue;
      qcow2_map_reserve (reserve->map, cluster, (n + 1) / 2);
      qcow2_map_reserve (reserve->map, cluster, n);
    }
  return NULL;
}

static int
compare (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return (x > y) - (x < y);
}

static void
finish_image (Qcow2Map *map)
{
  uint8_t area[QCOW2_HEADER_AREA];

  ck_assert_int_eq (qcow2_map_finish (map), 0);
  map_header.dirty = false;
  qcow2_header_encode (&map_header, area);
  ck_assert_int_eq (io_write_full (map_fd, area, sizeof area, 0), 0);
  test_make_file (test_path ("x.img"), map_header.size, 0);
}

static void
assert_qemu_check (void)
{
  g_autofree char *output = NULL;

  if (!test_have ("qemu-img"))
    test_skip ("qemu-img check", "no qemu-img");
  else
    ck_assert_msg (
        test_run (&output, "qemu-img", "check", "-f", "qcow2", test_path ("o.qcow2"), NULL) == 0,
        "%s", output);
}

START_TEST (test_reserve_threads)
{
  g_autofree uint64_t *places = g_new (uint64_t, N_CLUSTERS + 16);
  Reserve reserves[N_THREADS];
  pthread_t threads[N_THREADS];
  Qcow2Map *map = make_map (), *loaded;

  ck_assert_int_eq (qcow2_map_prepare (map, 0, N_CLUSTERS, true), 0);
  for (unsigned i = 0; i < N_THREADS; i++)
    {
      reserves[i] = (Reserve){ map, i };
      ck_assert_int_eq (pthread_create (&threads[i], NULL, reserve_chunks, &reserves[i]), 0);
    }
  for (unsigned i = 0; i < N_THREADS; i++)
    pthread_join (threads[i], NULL);

  for (uint64_t i = 0; i < N_CLUSTERS; i++)
    {
      Qcow2Cluster mapping = qcow2_map_lookup (map, i);

      ck_assert_uint_eq (mapping.host_offset & 0x1ffff, 0);
      ck_assert_uint_ge (mapping.host_offset >> 17, 4);
      ck_assert_uint_ne ((mapping.host_offset >> 17) % 65536, 0); /* a refcount block's */
      ck_assert_uint_eq (mapping.data | mapping.zero, 0);
      places[i] = mapping.host_offset;
    }
  for (uint64_t i = 0; i < 16; i++) /* the L2 tables are there too */
    {
      uint8_t entry_be[8];

      ck_assert_int_eq (io_read_full (map_fd, entry_be, 8, map_header.l1_offset + 8 * i), 0);
      places[N_CLUSTERS + i] = be_load64 (entry_be) & ~COPIED;
    }
  qsort (places, N_CLUSTERS + 16, sizeof *places, compare);
  for (uint64_t i = 1; i < N_CLUSTERS + 16; i++)
    ck_assert_uint_lt (places[i - 1], places[i]);
  ck_assert_uint_gt (places[N_CLUSTERS + 15] >> 17, 131072); /* past two refcount blocks */

  finish_image (map);
  assert_qemu_check ();

  loaded = load_map ("o", NULL);
  ck_assert_ptr_nonnull (loaded);
  ck_assert_int_eq (qcow2_map_prepare (loaded, 0, N_CLUSTERS, false), 0);
  for (uint64_t i = 0; i < N_CLUSTERS; i += 13)
    assert_mapping (loaded, i, qcow2_map_lookup (map, i).host_offset, 0, 0);
  qcow2_map_free (loaded);
  close_map (map);
}
END_TEST

/* The last cluster of the file: around refcount block 1, which is cluster 65536. */
static const uint64_t last_clusters[] = { 65534, 65535, 65537, 65538 };

START_TEST (test_finish_at_block)
{
  Qcow2Map *map = make_map ();
  uint64_t n = 0, last = 0;

  ck_assert_int_eq (qcow2_map_prepare (map, 0, 9 * 8192, true), 0);
  for (; last < last_clusters[_i]; n++)
    {
      qcow2_map_reserve (map, n, 1);
      last = qcow2_map_lookup (map, n).host_offset >> 17;
    }
  ck_assert_uint_eq (last, last_clusters[_i]);
  finish_image (map);
  ck_assert_int_eq (lseek (map_fd, 0, SEEK_END), (last + 1) << 17);
  assert_qemu_check ();
  close_map (map);
}
END_TEST

/* --- images that QEMU made --- */

/* Commands for qemu-io on an image of 1 GiB with clusters of 128k, and a cluster to look at. */
static const struct
{
  const char *commands[3];
  uint64_t cluster;
  bool has_place;
  uint32_t data, zero;
} qemu_images[] = {
  { { "write 0 4k" }, 0, true, 0x00000001, 0 },
  { { "write 0 128k" }, 0, true, 0xffffffff, 0 },
  { { "write 124k 4k" }, 0, true, 0x80000000, 0 },
  { { "write 132k 8k" }, 1, true, 0x00000006, 0 },
  { { "write 126k 4k" }, 0, true, 0x80000000, 0 },
  { { "write 126k 4k" }, 1, true, 0x00000001, 0 },
  { { "write -z 4k 8k" }, 0, false, 0, 0x00000006 },
  { { "write -z 0 128k" }, 0, false, 0, 0xffffffff },
  { { "write 0 4k", "write -z 8k 4k" }, 0, true, 0x00000001, 0x00000004 },
  { { "write 0 16k", "write -z 4k 4k" }, 0, true, 0x0000000d, 0x00000002 },
  { { "write -z 0 16k", "write 4k 4k" }, 0, true, 0x00000002, 0x0000000d },
  { { "write 1073737728 4k" }, 8191, true, 0x80000000, 0 },
  { { "write 0 4k" }, 1, false, 0, 0 },
};

START_TEST (test_read_qemu)
{
  const char *path = test_path ("o.qcow2"), *base = test_path ("x.img");
  const char *second = qemu_images[_i].commands[1] != NULL ? qemu_images[_i].commands[1] : "flush";
  g_autofree char *output = NULL;
  g_autoptr (GError) error = NULL;
  uint8_t bytes[112];
  Qcow2Cluster mapping;
  Qcow2Map *map;

  if (!test_have ("qemu-img") || !test_have ("qemu-io"))
    {
      test_skip ("images made by QEMU", "no qemu-img or qemu-io");
      return;
    }
  test_make_file (base, GIB, 0);
  ck_assert_msg (test_run (&output, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                           base, "-o", "extended_l2=on,cluster_size=128k", path, NULL)
                     == 0,
                 "%s", output);
  g_free (g_steal_pointer (&output));
  ck_assert_msg (test_run (&output, "qemu-io", "-f", "qcow2", "-c", qemu_images[_i].commands[0],
                           "-c", second, path, NULL)
                     == 0,
                 "%s", output);

  /* Where its tables are is its choice; the entries are the format's. */
  map_header = make_header (GIB, 4096);
  map_fd = open (path, O_RDWR | O_CLOEXEC);
  ck_assert_int_eq (io_read_full (map_fd, bytes, sizeof bytes, 0), 0);
  ck_assert_uint_eq (be_load32 (bytes + 20), map_header.cluster_bits);
  ck_assert_uint_eq (be_load32 (bytes + 36), map_header.l1_size);
  map_header.l1_offset = be_load64 (bytes + 40);
  map = load_map (path, &error);
  ck_assert_msg (map != NULL, "%s", error != NULL ? error->message : "");
  ck_assert_int_eq (qcow2_map_prepare (map, 0, 8192, false), 0);
  mapping = qcow2_map_lookup (map, qemu_images[_i].cluster);
  ck_assert_uint_eq (mapping.data, qemu_images[_i].data);
  ck_assert_uint_eq (mapping.zero, qemu_images[_i].zero);
  ck_assert ((mapping.host_offset != 0) == qemu_images[_i].has_place);
  close_map (map);
}
END_TEST

static Suite *
qcow2_suite (void)
{
  Suite *suite = suite_create ("qcow2");
  TCase *header = test_case (suite, "header", 0);
  TCase *geometry = test_case (suite, "geometry", 0);
  TCase *map = test_case (suite, "map", 0);
  TCase *many = test_case (suite, "many clusters", 120);
  TCase *qemu = test_case (suite, "made by QEMU", 60);

  tcase_add_test (header, test_header_bytes);
  tcase_add_loop_test (header, test_header_round_trip, 0, G_N_ELEMENTS (backings));
  tcase_add_test (header, test_header_backing_too_long);
  tcase_add_test (header, test_header_backing_torn);
  tcase_add_test (header, test_header_bits);
  tcase_add_test (header, test_header_old_journal);
  tcase_add_test (header, test_header_unwatched);
  tcase_add_loop_test (header, test_header_mutation, 0, G_N_ELEMENTS (header_mutations));
  tcase_add_loop_test (geometry, test_geometry, 0,
                       (int) (G_N_ELEMENTS (granules) * G_N_ELEMENTS (sizes)));
  tcase_add_loop_test (geometry, test_too_large, 0, G_N_ELEMENTS (limits));
  tcase_add_test (map, test_entry_bytes);
  tcase_add_test (map, test_entry_bytes_of_eight);
  tcase_add_loop_test (map, test_l1_damage, 0, G_N_ELEMENTS (l1_entries));
  tcase_add_test (map, test_l1_cut);
  tcase_add_loop_test (map, test_l2_damage, 0, G_N_ELEMENTS (l2_entries));
  tcase_add_loop_test (map, test_overlap, 0, G_N_ELEMENTS (overlaps));
  tcase_add_loop_test (map, test_overlap_dirty, 0, G_N_ELEMENTS (overlaps));
  tcase_add_test (map, test_outside_then_grown);
  tcase_add_loop_test (map, test_length, 0, G_N_ELEMENTS (lengths));
  tcase_add_test (many, test_reserve_threads);
  tcase_add_loop_test (many, test_finish_at_block, 0, G_N_ELEMENTS (last_clusters));
  tcase_add_loop_test (qemu, test_read_qemu, 0, G_N_ELEMENTS (qemu_images));
  return suite;
}

int
main (void)
{
  return test_main (qcow2_suite ());
}
