/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copy before write: patterns of writes over granules, clusters and regions, and the parts
 * that the engine is made of.
 *
 * A pattern is played in three rounds, after three snapshots in a row, against a byte array.
 * Then each snapshot must read its bytes, each overlay must have just the granules that were
 * touched while it was the newest (a hole that was punched may be there or not), and qemu-img must
 * read from the overlays what the snapshots read.
 *
 * That a thread waits is seen by two things: it sleeps, and it has not done what comes after. */
#include "base/units.h"
#include "cow/barrier.h"
#include "cow/tracker.h"
#include "cow/write-clock.h"
#include "snapshot/merge.h"
#include "snapshot/snapshots.h"
#include "test-util.h"

#include <errno.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const uint64_t granules[] = { 4096, 65536 };

/* --- a disk, its snapshots, and what they must read --- */

#define N_SNAPSHOTS 3
#define ROOM (256 * KIB) /* a disk can grow by that */

typedef struct
{
  uint8_t *bytes;
  uint64_t size;
} Bytes;

static uint64_t granule;
static Snapshots *set;
static Bytes live;
static Bytes frozen[N_SNAPSHOTS];
/* A granule, while that was the newest snapshot. */
typedef enum
{
  UNTOUCHED,
  TOUCHED_HOLE, /* only by what leaves a hole as it is: it may be saved */
  TOUCHED,
} Touch;

static Touch *touched[N_SNAPSHOTS];
static uint32_t numbers[N_SNAPSHOTS]; /* of their directories in the store */
static unsigned n_frozen;

static const char *
snapshot_name (unsigned i)
{
  static const char *const names[] = { "a", "b", "c" };

  return names[i];
}

static void
open_set (DiskCopyMethod copy)
{
  g_autoptr (GError) error = NULL;
  SnapshotsConfig config = { .granule = granule, .max_snapshots = 100, .copy = copy };
  SnapshotsImage image = { "disk.img", test_path ("disk.img") };

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

/* A disk of the pattern, with a hole, and zeros that are data. */
static void
make_disk (uint64_t size, uint64_t hole_at, uint64_t zeros_at)
{
  const char *path = test_path ("disk.img");

  live = (Bytes){ g_malloc0 (size + ROOM), size };
  test_fill (live.bytes, size, 1, 0);
  memset (live.bytes + hole_at, 0, granule);
  memset (live.bytes + zeros_at, 0, granule);

  test_make_file (path, size, 0);
  test_poke (path, 0, live.bytes, hole_at);
  test_poke (path, hole_at + granule, live.bytes + hole_at + granule, size - hole_at - granule);
  n_frozen = 0;
}

static void
free_disk (void)
{
  g_free (live.bytes);
  for (unsigned i = 0; i < n_frozen; i++)
    {
      g_free (frozen[i].bytes);
      g_free (touched[i]);
    }
}

static void
freeze (void)
{
  Bytes *bytes = &frozen[n_frozen];
  g_autoptr (Chain) chain = NULL;

  ck_assert_int_eq (snapshots_create (set, snapshot_name (n_frozen), NULL), 0);
  chain = disk_chain (snapshots_disk (set, 0));
  numbers[n_frozen] = chain->layers[chain->n_layers - 1]->number;
  bytes->size = live.size;
  bytes->bytes = g_malloc0 (live.size + ROOM);
  memcpy (bytes->bytes, live.bytes, live.size);
  touched[n_frozen] = g_new0 (Touch, live.size / granule + 1);
  n_frozen++;
}

typedef enum
{
  WRITE,
  ZERO,
  PUNCH,
  MIXED, /* one after the other, by rounds */
  N_KINDS,
} Kind;

/* The granule is touched, and all of it is a hole of the source: is that no change? */
static Touch
touch (Kind kind, uint64_t at)
{
  int64_t data;

  if (kind == WRITE)
    return TOUCHED;
  data = lseek (source_fd (disk_source (snapshots_disk (set, 0))), (off_t) (at * granule),
                SEEK_DATA);
  return data < 0 || (uint64_t) data >= (at + 1) * granule ? TOUCHED_HOLE : TOUCHED;
}

static void
play (Kind kind, uint64_t from, uint64_t to, unsigned seed)
{
  Disk *disk = snapshots_disk (set, 0);
  g_autofree uint8_t *bytes = g_malloc (to - from);
  uint64_t end = kind == WRITE ? to : MIN (to, live.size);

  /* Up to the end of its last sector the snapshot has bytes: zeros, in the overlay. */
  if (n_frozen > 0)
    for (uint64_t i = from; i < MIN (end, units_round_up (frozen[n_frozen - 1].size, 512));
         i = (i / granule + 1) * granule)
      {
        Touch *at = &touched[n_frozen - 1][i / granule];

        *at = MAX (*at, touch (kind, i / granule));
      }
  test_fill (bytes, to - from, seed, from);
  if (kind == WRITE)
    ck_assert_int_eq (disk_write (disk, bytes, to - from, from, IO_SYNC_NONE), to - from);
  else
    ck_assert_int_eq (
        disk_allocate (disk,
                       FALLOC_FL_KEEP_SIZE
                           | (kind == ZERO ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE),
                       from, to - from),
        0);

  if (kind == WRITE)
    memcpy (live.bytes + from, bytes, to - from);
  else if (from < end)
    memset (live.bytes + from, 0, end - from);
  live.size = MAX (live.size, end);
}

static void
assert_live (void)
{
  g_autofree uint8_t *bytes = g_malloc (live.size + 1);

  ck_assert_int_eq (disk_read (snapshots_disk (set, 0), bytes, live.size + 1, 0), live.size);
  test_assert_bytes ("live", bytes, live.bytes, live.size);
}

static void
assert_frozen (unsigned i)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, snapshot_name (i));
  g_autofree uint8_t *bytes = g_malloc (frozen[i].size + 1);

  ck_assert_ptr_nonnull (snapshot);
  ck_assert_uint_eq (snapshot_size (snapshot, 0), frozen[i].size);
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, frozen[i].size + 1, 0), frozen[i].size);
  test_assert_bytes (snapshot_name (i), bytes, frozen[i].bytes, frozen[i].size);
}

static bool
is_zero (const uint8_t *bytes, uint64_t length)
{
  for (uint64_t i = 0; i < length; i++)
    if (bytes[i] != 0)
      return false;
  return true;
}

/* Overlay i has the granules that were touched, those of zeros without data. */
static void
assert_saved (unsigned i)
{
  g_autoptr (Chain) chain = disk_chain (snapshots_disk (set, 0));
  Overlay *overlay = chain->layers[i]->overlay;
  uint64_t n = units_div_up (frozen[i].size, granule);

  ck_assert_int_eq (overlay_prepare (overlay, 0, units_div_up (n, 32), false), 0);
  for (uint64_t at = 0; at < units_round_up (n, 32); at++)
    {
      Qcow2Cluster mapping = overlay_lookup (overlay, at / 32);
      bool data = mapping.data >> at % 32 & 1, zero = mapping.zero >> at % 32 & 1;
      Touch touch = at < n ? touched[i][at] : UNTOUCHED;

      ck_assert_msg ((data || zero) == (touch == TOUCHED) || (zero && touch == TOUCHED_HOLE),
                     "snapshot %s, granule %u: saved %d, touched %d", snapshot_name (i),
                     (unsigned) at, data || zero, touch);
      if (data || zero)
        ck_assert_msg (zero == is_zero (frozen[i].bytes + at * granule, granule),
                       "snapshot %s, granule %u: data %d, zero %d", snapshot_name (i),
                       (unsigned) at, data, zero);
    }
}

/* The set is closed: QEMU reads the chain as the snapshot. */
static void
assert_qemu_reads (unsigned i)
{
  g_autofree char *name
      = g_strdup_printf ("disk.img.fleece/snapshots/%06u/disk.img.qcow2", numbers[i]);
  g_autofree char *output = NULL;
  g_autofree uint8_t *bytes = NULL;
  size_t length;

  ck_assert_msg (test_run (&output, "qemu-img", "check", "-f", "qcow2", test_path (name), NULL)
                     == 0,
                 "%s", output);
  g_free (g_steal_pointer (&output));
  ck_assert_msg (test_run (&output, "qemu-img", "convert", "-f", "qcow2", "-O", "raw",
                           test_path (name), test_path ("converted"), NULL)
                     == 0,
                 "%s", output);
  bytes = test_load (test_path ("converted"), &length);
  ck_assert_uint_eq (length, units_round_up (frozen[i].size, 512));
  test_assert_bytes (name, bytes, frozen[i].bytes, length); /* zeros after the end */
}

/* --- patterns --- */

/* A place: bytes after the start of these units, or after the end of the disk. */
typedef struct
{
  unsigned region, cluster, granule;
  int byte;
  bool end;
} At;

typedef struct
{
  At from, to;
} Op;

#define N_OPS 4

/* R is the size of a region, C of a cluster, G of a granule. */
#define R(n) .region = n
#define C(n) .cluster = n
#define G(n) .granule = n
#define B(n) .byte = n
#define END .end = true

static const struct
{
  const char *what;
  Op ops[N_OPS];
} patterns[] = {
  { "granule: full", { { { G (3) }, { G (4) } } } },
  { "granule: left part", { { { G (3) }, { G (3), B (100) } } } },
  { "granule: right part", { { { G (4), B (-100) }, { G (4) } } } },
  { "granule: middle", { { { G (3), B (100) }, { G (4), B (-100) } } } },
  { "granule: one byte", { { { G (3), B (1) }, { G (3), B (2) } } } },
  { "granule: adjacent parts",
    { { { G (3) }, { G (3), B (1000) } }, { { G (3), B (1000) }, { G (4) } } } },
  { "granule: right, then left",
    { { { G (4), B (-100) }, { G (4) } }, { { G (3) }, { G (3), B (100) } } } },
  { "granule: part, then full",
    { { { G (3), B (5) }, { G (3), B (6) } }, { { G (3) }, { G (4) } } } },
  { "granules: adjacent",
    { { { G (3) }, { G (4) } }, { { G (4) }, { G (5) } }, { { G (2) }, { G (3) } } } },
  { "granules: across", { { { G (4), B (-100) }, { G (4), B (100) } } } },
  { "granules: a byte more on both sides", { { { G (3), B (-1) }, { G (4), B (1) } } } },
  { "granules: overlapping writes",
    { { { G (3), B (10) }, { G (5) } }, { { G (4) }, { G (6), B (-5) } } } },
  { "granules: with gaps",
    { { { G (1) }, { G (2) } }, { { G (5), B (7) }, { G (6) } }, { { G (0) }, { G (8) } } } },
  { "cluster: full", { { { C (1) }, { C (2) } } } },
  { "cluster: left part", { { { C (1) }, { C (1), G (5) } } } },
  { "cluster: right part", { { { C (1), G (27), B (3) }, { C (2) } } } },
  { "cluster: middle", { { { C (1), G (5) }, { C (1), G (9), B (9) } } } },
  { "cluster: hole and zeros", { { { C (1), G (6) }, { C (1), G (16) } } } },
  { "clusters: across", { { { C (2), B (-100) }, { C (2), B (100) } } } },
  { "clusters: a granule more on both sides", { { { C (1), G (31) }, { C (2), G (1) } } } },
  { "clusters: adjacent", { { { C (0), G (20) }, { C (1) } }, { { C (1) }, { C (1), G (12) } } } },
  { "regions: across", { { { R (1), B (-100) }, { R (1), B (100) } } } },
  { "regions: across by granules", { { { R (1), B (-65536) }, { R (1), G (1), B (1) } } } },
  { "regions: part of the first, all of the next", { { { R (1), B (-1) }, { END } } } },
  { "tail: last byte", { { { END, B (-1) }, { END } } } },
  { "tail: part of the last granule", { { { END, B (-1234) }, { END, B (-1000) } } } },
  { "tail: last two granules", { { { END, B (-5000) }, { END } } } },
  { "tail: over the end", { { { END, B (-100) }, { END, B (5000) } } } },
  { "tail: from the end on", { { { END }, { END, B (1) } } } },
  { "tail: to the end of the sector", { { { END }, { END, B (300) } } } },
  { "tail: past the end", { { { END, B (100000) }, { END, B (100100) } } } },
  { "everything", { { { 0 }, { END } } } },
  { "everything, twice", { { { 0 }, { END } }, { { 0 }, { END } } } },
};

#undef R
#undef C
#undef G
#undef B
#undef END

static uint64_t first_size;

static uint64_t
place (const At *at)
{
  Geometry geometry = geometry_new (granule);
  uint64_t start = at->end ? first_size
                           : at->region * geometry_region_size (&geometry)
                                 + (at->cluster * 32 + at->granule) * granule;

  return start + (uint64_t) at->byte;
}

/* All operations of a pattern, in order or backwards. */
static void
play_pattern (unsigned pattern, Kind kind, unsigned round)
{
  for (unsigned i = 0; i < N_OPS; i++)
    {
      const Op *op = &patterns[pattern].ops[round % 2 == 0 ? i : N_OPS - 1 - i];

      if (place (&op->from) != place (&op->to))
        play (kind == MIXED ? (Kind) (round % 3) : kind, place (&op->from), place (&op->to),
              2 + round);
    }
}

static void
run_pattern (unsigned pattern, Kind kind, DiskCopyMethod copy)
{
  Geometry geometry = geometry_new (granule);

  first_size = geometry_region_size (&geometry) + (2 * 32 + 5) * granule + 1234;
  make_disk (first_size, 40 * granule, 45 * granule);
  open_set (copy);
  for (unsigned round = 0; round < N_SNAPSHOTS; round++)
    {
      freeze ();
      play_pattern (pattern, kind, round);
      for (unsigned i = 0; i < n_frozen; i++)
        assert_frozen (i);
      assert_live ();
      play_pattern (pattern, WRITE, round + 1); /* saves nothing new, but what it grew to */
    }
  for (unsigned i = 0; i < N_SNAPSHOTS; i++)
    {
      assert_frozen (i);
      assert_saved (i);
    }
  assert_live ();
  close_set ();
}

/* _i counts through granules, kinds and patterns. */
START_TEST (test_pattern)
{
  unsigned i = (unsigned) _i / G_N_ELEMENTS (granules);
  Kind kind = (Kind) (i % N_KINDS);

  granule = granules[(unsigned) _i % G_N_ELEMENTS (granules)];
  run_pattern (i / N_KINDS, kind, DISK_COPY_BOUNCE);
  if (kind == MIXED && test_have ("qemu-img"))
    for (unsigned s = 0; s < N_SNAPSHOTS; s++)
      assert_qemu_reads (s);
  free_disk ();
}
END_TEST

/* The other ways of copying; which granules are zeros is then for the kernel to know. */
START_TEST (test_pattern_offload)
{
  DiskCopyMethod copy = _i % 2 == 0 ? DISK_COPY_AUTO : DISK_COPY_OFFLOAD;
  Geometry geometry;

  granule = granules[(unsigned) _i / 2 % G_N_ELEMENTS (granules)];
  geometry = geometry_new (granule);
  first_size = geometry_region_size (&geometry) + (2 * 32 + 5) * granule + 1234;
  make_disk (first_size, 40 * granule, 45 * granule);
  open_set (copy);
  for (unsigned round = 0; round < N_SNAPSHOTS; round++)
    {
      freeze ();
      play_pattern ((unsigned) _i / 2, WRITE, round);
    }
  for (unsigned s = 0; s < N_SNAPSHOTS; s++)
    assert_frozen (s);
  assert_live ();
  close_set ();
  free_disk ();
}
END_TEST

/* What QEMU's own test of fleecing writes (tests/qemu-iotests/222): before the snapshot, after
 * it, and the zeros of its last part. */
static const struct
{
  uint64_t offset, length;
} iotest[] = {
  { 0, 64 * KIB },       { MIB, 64 * KIB },       { 32 * MIB, 64 * KIB },  { 0x3ff0000, 64 * KIB },
  { 0, 64 * KIB },       { 0xf8000, 64 * KIB },   { 0x2008000, 64 * KIB }, { 0x3fe0000, 64 * KIB },
  { 0xf8000, 32 * KIB }, { 0x2010000, 32 * KIB }, { 0x3fe0000, 64 * KIB },
};

START_TEST (test_iotest_222)
{
  granule = granules[_i];
  test_make_file (test_path ("disk.img"), 64 * MIB, 0);
  live = (Bytes){ g_malloc0 (64 * MIB + ROOM), 64 * MIB };
  n_frozen = 0;
  open_set (DISK_COPY_AUTO);
  for (unsigned i = 0; i < 4; i++)
    play (WRITE, iotest[i].offset, iotest[i].offset + iotest[i].length, 1 + i);
  freeze ();
  for (unsigned i = 4; i < 8; i++)
    play (WRITE, iotest[i].offset, iotest[i].offset + iotest[i].length, 9 - i);
  assert_frozen (0);
  assert_saved (0);
  freeze ();
  for (unsigned i = 8; i < 11; i++)
    play (ZERO, iotest[i].offset, iotest[i].offset + iotest[i].length, 1);
  assert_frozen (0);
  assert_frozen (1);
  assert_saved (1);
  assert_live ();
  close_set ();
  if (test_have ("qemu-img"))
    assert_qemu_reads (0);
  free_disk ();
}
END_TEST

/* --- resize, and requests that are wrong --- */

static const struct
{
  uint64_t sizes[N_SNAPSHOTS]; /* to truncate to, one after each snapshot */
} resizes[] = {
  { { 500000, 300000, 100 } },     { { 999999, 1000000, 1000002 } }, { { 0, 0, 1000001 } },
  { { 0, 1200000, 1 } },           { { 1200000, 500000, 1200000 } }, { { 4096, 4097, 4095 } },
  { { 999936, 1000448, 999937 } }, /* sectors */
};

START_TEST (test_resize)
{
  granule = granules[(unsigned) _i % G_N_ELEMENTS (granules)];
  make_disk (1000001, 3 * granule, 5 * granule);
  open_set (DISK_COPY_BOUNCE);
  for (unsigned round = 0; round < N_SNAPSHOTS; round++)
    {
      uint64_t size = resizes[(unsigned) _i / G_N_ELEMENTS (granules)].sizes[round];

      freeze ();
      ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), size), 0);
      if (size < live.size)
        memset (live.bytes + size, 0, live.size - size);
      live.size = size;
      assert_live ();
      play (WRITE, size, size + 10000, 2 + round); /* bytes that no snapshot may show */
      for (unsigned i = 0; i < n_frozen; i++)
        assert_frozen (i);
      assert_live ();
    }
  close_set ();
  for (unsigned i = 0; i < N_SNAPSHOTS && test_have ("qemu-img"); i++)
    assert_qemu_reads (i);
  free_disk ();
}
END_TEST

static const struct
{
  int mode;
  uint64_t offset, length;
  int expected;
} bad_allocations[] = {
  { 0, 0, 0, -EINVAL },
  { FALLOC_FL_ZERO_RANGE, 5, 0, -EINVAL },
  { FALLOC_FL_COLLAPSE_RANGE, 0, 65536, -EOPNOTSUPP },
  { FALLOC_FL_INSERT_RANGE, 0, 65536, -EOPNOTSUPP },
  { FALLOC_FL_UNSHARE_RANGE, 0, 65536, -EOPNOTSUPP },
  { FALLOC_FL_ZERO_RANGE, INT64_MAX, 1, -EFBIG },
  { FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 1, INT64_MAX, -EFBIG },
  { FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, UINT64_MAX, UINT64_MAX, -EFBIG },
};

START_TEST (test_bad_allocate)
{
  granule = 4096;
  make_disk (1000001, 3 * granule, 5 * granule);
  open_set (DISK_COPY_BOUNCE);
  freeze ();
  ck_assert_int_eq (disk_allocate (snapshots_disk (set, 0), bad_allocations[_i].mode,
                                   bad_allocations[_i].offset, bad_allocations[_i].length),
                    bad_allocations[_i].expected);
  ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), (uint64_t) INT64_MAX + 1), -EFBIG);
  assert_live ();
  assert_frozen (0);
  assert_saved (0); /* nothing */
  close_set ();
  free_disk ();
}
END_TEST

/* Parts of a snapshot, of any offset and length, from the source and the overlays. */
START_TEST (test_read_parts)
{
  static const uint64_t edges[]
      = { 0, 1, 4095, 4096, 4097, 131071, 131072, 200000, 999999, 1000001 };
  g_autofree uint8_t *bytes = g_malloc (1000001 + 10);
  g_autoptr (Snapshot) snapshot = NULL;

  granule = 4096;
  make_disk (1000001, 3 * granule, 5 * granule);
  open_set (DISK_COPY_BOUNCE);
  freeze ();
  for (uint64_t at = 0; at < 1000001 - 5000; at += 3 * 4096)
    play (WRITE, at, at + 5000, 2);
  snapshot = snapshots_find (set, "a");
  for (unsigned i = 0; i < G_N_ELEMENTS (edges); i++)
    for (unsigned j = i; j < G_N_ELEMENTS (edges); j++)
      {
        uint64_t length = edges[j] - edges[i];

        bytes[length] = 0xee;
        ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, length, edges[i]), length);
        test_assert_bytes ("a part", bytes, frozen[0].bytes + edges[i], length);
        ck_assert_uint_eq (bytes[length], 0xee);
      }
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, 10, 1000000), 1);
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, 10, 1000001), 0);
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, 10, UINT64_MAX - 5), 0);
  g_clear_pointer (&snapshot, snapshot_unref);
  close_set ();
  free_disk ();
}
END_TEST

/* --- holes --- */

/* A disk of 40 granules and 100 bytes: one letter for each granule (the last one in part). In
 * the disk: d data, z zeros that are data, . hole. After the snapshot: w written over,
 * p punched, - left alone. What the snapshot shows: D or a hole. */
static const struct
{
  const char *disk, *after, *shown;
} hole_tables[] = {
  { "dddddddddddddddddddddddddddddddddddddddd"
    "d",
    "-----------------------------------------",
    "DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD"
    "D" },
  { "........................................"
    ".",
    "-----------------------------------------",
    "........................................"
    "." },
  { "dddd....dddd............................"
    "d",
    "-----------------------------------------",
    "DDDD....DDDD............................"
    "D" },
  { "dddd....dddd............................"
    "d",
    "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
    "DDDD....DDDD............................"
    "D" },
  { "dddd....dddd............................"
    "d",
    "ppppppppppppppppppppppppppppppppppppppppp",
    "DDDD....DDDD............................"
    "D" },
  { "dzdz..zzdddddddddddddddddddddddddddddddd"
    "z",
    "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
    "D.D.....DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD"
    "." },
  { "dd..dd..dd..dd..dd..dd..dd..dd..dd..dd.."
    "d",
    "-w-w-w-w-w-w-w-w-w-w-w-w-w-w-w-w-w-w-w-w-",
    "DD..DD..DD..DD..DD..DD..DD..DD..DD..DD.."
    "D" },
  { "........................................"
    ".",
    "wwwwwwwwwwwwwwwwwwww---------------------",
    "........................................"
    "." },
  { "dddddddddddddddddddddddddddddddddddddddd"
    "d",
    "pppppppppp------------------------------p",
    "DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD"
    "D" },
};

START_TEST (test_holes)
{
  const char *disk = hole_tables[_i].disk, *after = hole_tables[_i].after;
  const char *shown = hole_tables[_i].shown;
  uint64_t size = 40 * 4096 + 100;
  uint8_t block[4096];
  g_autoptr (Snapshot) snapshot = NULL;

  granule = 4096;
  test_make_file (test_path ("disk.img"), size, 0);
  live = (Bytes){ g_malloc0 (size + ROOM), size };
  n_frozen = 0;
  for (unsigned i = 0; i <= 40; i++)
    {
      uint64_t length = i < 40 ? 4096 : 100;

      test_fill (block, length, 1, i * 4096);
      if (disk[i] == 'z')
        memset (block, 0, length);
      if (disk[i] == '.')
        continue;
      test_poke (test_path ("disk.img"), i * 4096, block, length);
      memcpy (live.bytes + i * 4096, block, length);
    }
  open_set (DISK_COPY_BOUNCE);
  freeze ();
  for (unsigned i = 0; i <= 40; i++)
    if (after[i] != '-')
      play (after[i] == 'w' ? WRITE : PUNCH, i * 4096, i * 4096 + (i < 40 ? 4096 : 100), 2);

  snapshot = snapshots_find (set, "a");
  for (unsigned i = 0; i <= 40; i++)
    {
      uint64_t at = i * 4096 + i % 3, data = i, hole = i;
      int64_t to_data, to_hole;

      while (data <= 40 && shown[data] == '.')
        data++;
      while (hole <= 40 && shown[hole] == 'D')
        hole++;
      to_data = data > 40 ? -ENXIO : (int64_t) MAX (data * 4096, at);
      to_hole = hole > 40 ? (int64_t) size : (int64_t) MAX (hole * 4096, at);
      ck_assert_int_eq (snapshot_seek (snapshot, 0, at, SEEK_DATA), to_data);
      ck_assert_int_eq (snapshot_seek (snapshot, 0, at, SEEK_HOLE), to_hole);
    }
  ck_assert_int_eq (snapshot_seek (snapshot, 0, size, SEEK_DATA), -ENXIO);
  ck_assert_int_eq (snapshot_seek (snapshot, 0, size, SEEK_HOLE), -ENXIO);
  ck_assert_int_eq (snapshot_seek (snapshot, 0, UINT64_MAX, SEEK_HOLE), -ENXIO);
  ck_assert_int_eq (snapshot_seek (snapshot, 0, 0, SEEK_SET), -EINVAL);
  ck_assert_int_eq (snapshot_seek (snapshot, 0, 0, 99), -EINVAL);
  assert_frozen (0);
  assert_saved (0);
  g_clear_pointer (&snapshot, snapshot_unref);
  close_set ();
  free_disk ();
}
END_TEST

/* Who discards a hole, or zeroes it, has nothing saved for that, be it as large as it may; a
 * granule of data in it is saved. Not a byte is taken for it in the store. */
START_TEST (test_punch_of_holes)
{
  static const int modes[]
      = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
  const uint64_t size = 64 * GIB + 100, data_at = 20 * GIB + 8 * 4096;
  g_autoptr (Chain) chain = NULL;
  g_autoptr (Snapshot) snapshot = NULL;
  Disk *disk;
  Overlay *overlay;
  uint8_t bytes[3 * 4096] = { 0 }, expected[3 * 4096] = { 0 };
  uint64_t next = 0, before;
  int errnum;

  granule = 4096;
  test_make_file (test_path ("disk.img"), size, 0);
  if (_i / 2 != 0)
    {
      test_fill (expected + 4096, 4096, 1, data_at);
      test_poke (test_path ("disk.img"), data_at, expected + 4096, 4096);
    }
  open_set (DISK_COPY_AUTO);
  ck_assert_int_eq (snapshots_create (set, "a", NULL), 0);
  disk = snapshots_disk (set, 0);
  chain = disk_chain (disk);
  overlay = chain->layers[0]->overlay;
  before = overlay_allocated (overlay);
  if (modes[_i % 2] & FALLOC_FL_PUNCH_HOLE) /* else the source would have to take blocks */
    ck_assert_int_eq (disk_allocate (disk, modes[0], 0, size), 0);
  else
    ck_assert_int_eq (disk_allocate (disk, modes[1], 20 * GIB, 16 * MIB), 0);
  if (_i / 2 == 0)
    {
      ck_assert (!overlay_next (overlay, &next, size / (32 * 4096) + 1, &errnum));
      ck_assert_uint_eq (overlay_allocated (overlay), before);
    }
  else
    {
      ck_assert (overlay_next (overlay, &next, size / (32 * 4096) + 1, &errnum));
      ck_assert_uint_eq (next, data_at / 4096 / 32);
      next++;
      ck_assert_uint_eq (overlay_lookup (overlay, next - 1).data, UINT32_C (1) << 8);
    }
  ck_assert_uint_eq (disk_count (disk, COUNTER_COPIES), _i / 2);
  snapshot = snapshots_find (set, "a");
  ck_assert_int_eq (snapshot_read (snapshot, 0, bytes, sizeof bytes, data_at - 4096), sizeof bytes);
  test_assert_bytes ("a", bytes, expected, sizeof bytes);
  ck_assert_int_eq (disk_read (disk, bytes, 4096, data_at), 4096);
  ck_assert (is_zero (bytes, 4096));
  g_clear_pointer (&snapshot, snapshot_unref);
  g_clear_pointer (&chain, chain_unref);
  close_set ();
}
END_TEST

/* As by a kill. */
static void
reopen (DiskCopyMethod copy)
{
  merge_stop (set);
  snapshots_abandon (set);
  open_set (copy);
}

static ssize_t
read_granule (const char *name, uint64_t at, uint8_t *bytes)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (set, name);

  return snapshot_read (snapshot, 0, bytes, 4096, at);
}

/* An older snapshot that is larger, and lacks what another program has cut off before the newer
 * one: a shrink does not make zeros of it. */
START_TEST (test_shrink_after_a_cut)
{
  uint8_t bytes[4096], data[4096];

  granule = 4096;
  test_make_file (test_path ("disk.img"), 8 * MIB, 0);
  test_fill (data, 4096, 1, 0);
  test_poke (test_path ("disk.img"), 6 * MIB, data, 4096);
  open_set (DISK_COPY_AUTO);
  ck_assert_int_eq (snapshots_create (set, "a", NULL), 0);
  ck_assert_int_eq (truncate (test_path ("disk.img"), 4 * MIB), 0);
  ck_assert_int_eq (snapshots_create (set, "b", NULL), 0);
  ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), MIB), 0);
  ck_assert_int_eq (read_granule ("b", 2 * MIB, bytes), 4096);
  ck_assert_int_eq (read_granule ("a", 6 * MIB, bytes), -EIO);
  close_set ();
}
END_TEST

/* Holes that come and go, in disks that shrink and grow, with kills, against a byte array. */
START_TEST (test_random_holes)
{
  GRand *random = g_rand_new_with_seed ((guint32) _i);
  const int32_t room = 6 * MIB;
  bool removed = false;

  granule = granules[_i % 2];
  live = (Bytes){ g_malloc0 ((size_t) room + ROOM), 3 * MIB + 1001 };
  n_frozen = 0;
  test_make_file (test_path ("disk.img"), live.size, 0);
  open_set (_i % 5 == 0 ? DISK_COPY_OFFLOAD : DISK_COPY_BOUNCE);
  for (unsigned step = 0; step < 160; step++)
    {
      uint64_t from = (uint64_t) g_rand_int_range (random, 0, room);
      uint64_t to = from + (uint64_t) g_rand_int_range (random, 1, MIB);
      int what = g_rand_int_range (random, 0, 100);

      if (g_rand_boolean (random))
        from = from / 4096 * 4096;
      if (step % 40 == 10 && n_frozen < N_SNAPSHOTS)
        freeze ();
      else if (what < 35)
        play (WRITE, from, MIN (from + (to - from) / 8 + 1, (uint64_t) room), 2 + step % 4);
      else if (what < 65 && to > from)
        play (what < 50 ? ZERO : PUNCH, from, to, 1);
      else if (what < 90)
        {
          ck_assert_int_eq (disk_truncate (snapshots_disk (set, 0), from), 0);
          if (from < live.size)
            memset (live.bytes + from, 0, live.size - from);
          live.size = from;
        }
      else if (what < 95 && n_frozen > 0)
        reopen (DISK_COPY_BOUNCE);
      else
        {
          close_set ();
          open_set (DISK_COPY_BOUNCE);
        }
      if (step == 130 && _i % 3 == 0)
        {
          ck_assert_int_eq (snapshots_remove (set, "b"), 0);
          removed = true;
        }
      for (unsigned i = 0; i < n_frozen && step % 4 == 0; i++)
        if (i != 1 || !removed)
          assert_frozen (i);
      assert_live ();
    }
  close_set ();
  for (unsigned i = 0; i < N_SNAPSHOTS && !removed && test_have ("qemu-img"); i++)
    assert_qemu_reads (i);
  free_disk ();
  g_rand_free (random);
}
END_TEST

/* Granules that the source has a hole in, or data, for a part, with all ways to copy. A hole counts
 * when it is all of a granule, wherever its bytes are; what was written behind the end of the
 * snapshot, into its last granule, is no data of it. */
START_TEST (test_holes_within_granules)
{
  const uint64_t block = 4096, size = 6 * 65536 + 100;
  /* Data of the image, in blocks; and where data and holes are then. */
  static const struct
  {
    uint64_t from, to;
  } data[] = { { 1, 2 }, { 31, 33 }, { 64, 72 } }, shown[] = { { 0, 3 }, { 4, 5 } };
  uint8_t bytes[8 * 4096];
  g_autoptr (Snapshot) snapshot = NULL;

  granule = 65536;
  test_make_file (test_path ("disk.img"), size, 0);
  live = (Bytes){ g_malloc0 (size + ROOM), size };
  n_frozen = 0;
  for (gsize i = 0; i < G_N_ELEMENTS (data); i++)
    {
      uint64_t at = data[i].from * block, length = (data[i].to - data[i].from) * block;

      test_fill (bytes, length, 1, at);
      test_poke (test_path ("disk.img"), at, bytes, length);
      memcpy (live.bytes + at, bytes, length);
    }
  open_set ((DiskCopyMethod) _i);
  freeze ();
  play (WRITE, 6 * granule + 2 * block, 6 * granule + 3 * block, 2);
  snapshot = snapshots_find (set, "a");
  for (int round = 0; round < 2; round++)
    {
      for (gsize i = 0; i < G_N_ELEMENTS (shown); i++)
        {
          int64_t from = (int64_t) (shown[i].from * granule),
                  to = (int64_t) (shown[i].to * granule);
          uint64_t before = i == 0 ? 0 : shown[i - 1].to * granule;

          ck_assert_int_eq (snapshot_seek (snapshot, 0, before, SEEK_DATA), from);
          ck_assert_int_eq (snapshot_seek (snapshot, 0, (uint64_t) from, SEEK_HOLE), to);
          ck_assert_int_eq (snapshot_seek (snapshot, 0, (uint64_t) from + 5, SEEK_HOLE), to);
        }
      ck_assert_int_eq (snapshot_seek (snapshot, 0, 5 * granule, SEEK_DATA), -ENXIO);
      ck_assert_int_eq (snapshot_seek (snapshot, 0, size - 1, SEEK_HOLE), (int64_t) size - 1);
      play (PUNCH, 0, 2 * granule, 2);
      play (WRITE, 3 * granule + 5, 4 * granule, 2);
      play (WRITE, 4 * granule, 5 * granule, 2);
      play (WRITE, size - 50, size, 2);
    }
  assert_frozen (0);
  g_clear_pointer (&snapshot, snapshot_unref);
  close_set ();
  free_disk ();
}
END_TEST

/* --- barrier --- */

typedef struct
{
  Barrier *barrier;
  sem_t started;
  pid_t id;
  atomic_bool done;
  pthread_t thread;
} Walker;

static void *
enter_and_leave (void *data)
{
  Walker *walker = data;
  unsigned slot;

  walker->id = gettid ();
  sem_post (&walker->started);
  slot = barrier_enter (walker->barrier);
  atomic_store (&walker->done, true);
  barrier_leave (walker->barrier, slot);
  return NULL;
}

static void *
close_and_open (void *data)
{
  Walker *walker = data;

  walker->id = gettid ();
  sem_post (&walker->started);
  barrier_close (walker->barrier);
  atomic_store (&walker->done, true);
  barrier_open (walker->barrier);
  return NULL;
}

/* Starts it, and is back when it sleeps or has ended. */
static void
start_walker (Walker *walker, Barrier *barrier, void *(*run) (void *) )
{
  walker->barrier = barrier;
  atomic_init (&walker->done, false);
  sem_init (&walker->started, 0, 0);
  ck_assert_int_eq (pthread_create (&walker->thread, NULL, run, walker), 0);
  while (sem_wait (&walker->started) != 0)
    ;
  test_wait_asleep (walker->id);
}

static void
join_walker (Walker *walker)
{
  pthread_join (walker->thread, NULL);
  sem_destroy (&walker->started);
  ck_assert (atomic_load (&walker->done));
}

START_TEST (test_barrier_shared)
{
  Barrier *barrier = barrier_new ();
  unsigned slot = barrier_enter (barrier);
  Walker walkers[20];

  for (unsigned i = 0; i < 20; i++) /* nobody waits for anybody */
    {
      start_walker (&walkers[i], barrier, enter_and_leave);
      join_walker (&walkers[i]);
    }
  barrier_leave (barrier, slot);
  barrier_close (barrier);
  barrier_open (barrier);
  barrier_free (barrier);
}
END_TEST

/* A closer waits for who is inside, and others wait for the closer. */
START_TEST (test_barrier_closer_waits)
{
  Barrier *barrier = barrier_new ();
  unsigned slot = barrier_enter (barrier);
  Walker closer, late;

  start_walker (&closer, barrier, close_and_open);
  ck_assert (!atomic_load (&closer.done));
  start_walker (&late, barrier, enter_and_leave);
  ck_assert (!atomic_load (&late.done));
  ck_assert (!atomic_load (&closer.done));
  barrier_leave (barrier, slot);
  join_walker (&closer);
  join_walker (&late);
  barrier_free (barrier);
}
END_TEST

START_TEST (test_barrier_enterers_wait)
{
  Barrier *barrier = barrier_new ();
  Walker walkers[20];

  barrier_close (barrier);
  for (unsigned i = 0; i < 20; i++)
    start_walker (&walkers[i], barrier, i % 7 == 3 ? close_and_open : enter_and_leave);
  for (unsigned i = 0; i < 20; i++)
    ck_assert (!atomic_load (&walkers[i].done));
  barrier_open (barrier);
  for (unsigned i = 0; i < 20; i++)
    join_walker (&walkers[i]);
  barrier_free (barrier);
}
END_TEST

/* Closings that follow one another at once let those in who waited. */
START_TEST (test_barrier_admits_between_closings)
{
  Barrier *barrier = barrier_new ();

  for (unsigned round = 0; round < 50; round++)
    {
      Walker walkers[10];

      barrier_close (barrier);
      for (unsigned i = 0; i < 10; i++)
        start_walker (&walkers[i], barrier, enter_and_leave);
      barrier_open (barrier);
      barrier_close (barrier);
      for (unsigned i = 0; i < 10; i++)
        ck_assert (atomic_load (&walkers[i].done));
      barrier_open (barrier);
      for (unsigned i = 0; i < 10; i++)
        join_walker (&walkers[i]);
    }
  barrier_free (barrier);
}
END_TEST

typedef struct
{
  Barrier *barrier;
  atomic_int n_inside;
  atomic_bool stop;
  unsigned n_closed; /* changed with the barrier closed, looked at inside */
  atomic_bool wrong;
} Traffic;

static void *
go_in_and_out (void *data)
{
  Traffic *traffic = data;

  while (!atomic_load (&traffic->stop))
    {
      unsigned slot = barrier_enter (traffic->barrier);
      unsigned before = traffic->n_closed;

      atomic_fetch_add (&traffic->n_inside, 1);
      sched_yield ();
      if (traffic->n_closed != before)
        atomic_store (&traffic->wrong, true);
      atomic_fetch_sub (&traffic->n_inside, 1);
      barrier_leave (traffic->barrier, slot);
    }
  return NULL;
}

START_TEST (test_barrier_traffic)
{
  Traffic traffic = { .barrier = barrier_new () };
  pthread_t threads[5];

  for (unsigned i = 0; i < 5; i++)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, go_in_and_out, &traffic), 0);
  for (unsigned i = 0; i < 300; i++)
    {
      barrier_close (traffic.barrier);
      if (atomic_load (&traffic.n_inside) != 0)
        atomic_store (&traffic.wrong, true);
      traffic.n_closed++;
      barrier_open (traffic.barrier);
    }
  atomic_store (&traffic.stop, true);
  for (unsigned i = 0; i < 5; i++)
    pthread_join (threads[i], NULL);
  ck_assert (!atomic_load (&traffic.wrong));
  barrier_free (traffic.barrier);
}
END_TEST

typedef struct
{
  Barrier *barrier;
  atomic_bool *stop;
  uint32_t seed;
} Slow;

/* Sections of 0.8 to 1.2 s, one after the other. */
static void *
stay_inside (void *data)
{
  Slow *slow = data;
  g_autoptr (GRand) random = g_rand_new_with_seed (slow->seed);

  while (!atomic_load (slow->stop))
    {
      unsigned slot = barrier_enter (slow->barrier);

      g_usleep ((gulong) g_rand_int_range (random, 800, 1200) * 1000);
      barrier_leave (slow->barrier, slot);
    }
  return NULL;
}

/* A slow store: each write takes longer than the barrier may be held, and all end. */
START_TEST (test_barrier_slow_sections)
{
  enum
  {
    N_SLOW = 16,
  };
  Barrier *barrier = barrier_new ();
  atomic_bool stop = false;
  pthread_t threads[N_SLOW];
  Slow slow[N_SLOW];

  for (unsigned i = 0; i < N_SLOW; i++)
    {
      slow[i] = (Slow){ barrier, &stop, i };
      ck_assert_int_eq (pthread_create (&threads[i], NULL, stay_inside, &slow[i]), 0);
      g_usleep (60000);
    }
  for (unsigned i = 0; i < 2; i++)
    {
      barrier_close (barrier);
      barrier_open (barrier);
      g_usleep (500000);
    }
  atomic_store (&stop, true);
  for (unsigned i = 0; i < N_SLOW; i++)
    pthread_join (threads[i], NULL);
  barrier_free (barrier);
}
END_TEST

/* --- granule sets and geometry --- */

static void
assert_set (const GranuleSet *set_, const bool *naive)
{
  bool any = false;
  unsigned first = 0, n, at = 0;

  for (unsigned i = 0; i < GRANULE_SET_MAX; i++)
    {
      if (granule_set_has (set_, i) != naive[i])
        ck_abort_msg ("granule %u", i);
      any = any || naive[i];
    }
  ck_assert (granule_set_is_empty (set_) == !any);

  while ((n = granule_set_next_run (set_, &first)) > 0)
    {
      while (at < first)
        if (naive[at++])
          ck_abort_msg ("run at %u comes too late", first);
      for (; at < first + n; at++)
        if (!naive[at])
          ck_abort_msg ("%u is not in the run at %u", at, first);
      if (at < GRANULE_SET_MAX && naive[at])
        ck_abort_msg ("the run at %u is too short", first);
      first += n;
    }
  while (at < GRANULE_SET_MAX)
    if (naive[at++])
      ck_abort_msg ("no run at %u", at - 1);
}

/* All ranges that begin at _i. */
START_TEST (test_set_range)
{
  unsigned first = (unsigned) _i;

  for (unsigned n = 0; first + n <= GRANULE_SET_MAX; n++)
    {
      bool naive[GRANULE_SET_MAX] = { false };
      GranuleSet range = granule_set_range (first, n);

      for (unsigned i = first; i < first + n; i++)
        naive[i] = true;
      assert_set (&range, naive);
    }
}
END_TEST

static const struct
{
  unsigned first, n;
} ranges[] = {
  { 0, 0 },   { 0, 1 },     { 0, 32 },  { 0, 33 },   { 0, 256 },  { 1, 31 },  { 31, 1 },
  { 31, 2 },  { 32, 32 },   { 32, 64 }, { 33, 62 },  { 63, 1 },   { 64, 1 },  { 95, 66 },
  { 100, 3 }, { 127, 129 }, { 255, 1 }, { 224, 32 }, { 200, 56 }, { 5, 250 },
};

/* Each range with each other. */
START_TEST (test_set_pairs)
{
  unsigned a = (unsigned) _i / G_N_ELEMENTS (ranges), b = (unsigned) _i % G_N_ELEMENTS (ranges);
  GranuleSet x = granule_set_range (ranges[a].first, ranges[a].n);
  GranuleSet y = granule_set_range (ranges[b].first, ranges[b].n);
  GranuleSet sum = x, difference = x;
  bool naive_sum[GRANULE_SET_MAX], naive_difference[GRANULE_SET_MAX], overlaps = false;

  granule_set_add (&sum, &y);
  granule_set_subtract (&difference, &y);
  for (unsigned i = 0; i < GRANULE_SET_MAX; i++)
    {
      bool in_x = i >= ranges[a].first && i < ranges[a].first + ranges[a].n;
      bool in_y = i >= ranges[b].first && i < ranges[b].first + ranges[b].n;

      naive_sum[i] = in_x || in_y;
      naive_difference[i] = in_x && !in_y;
      overlaps = overlaps || (in_x && in_y);
    }
  assert_set (&sum, naive_sum);
  assert_set (&difference, naive_difference);
  ck_assert (granule_set_overlaps (&x, &y) == overlaps);
}
END_TEST

static const struct
{
  uint64_t granule, offset, end;
  Piece piece;
} pieces[] = {
  { 4096, 0, 1, { 0, 0, 1, 0, 1 } },
  { 4096, 0, 4096, { 0, 0, 4096, 0, 1 } },
  { 4096, 4095, 4097, { 0, 4095, 2, 0, 2 } },
  { 4096, 4096, 4097, { 0, 4096, 1, 1, 1 } },
  { 4096, 0, 5 * MIB, { 0, 0, MIB, 0, 256 } },
  { 4096, MIB - 1, MIB + 1, { 0, MIB - 1, 1, 255, 1 } },
  { 4096, MIB, MIB + 1, { 1, MIB, 1, 0, 1 } },
  { 4096, 3 * MIB + 10000, 9 * MIB, { 3, 3 * MIB + 10000, MIB - 10000, 2, 254 } },
  { 32768, 0, 9 * MIB, { 0, 0, MIB, 0, 32 } },
  { 65536, 0, 9 * MIB, { 0, 0, 2 * MIB, 0, 32 } },
  { 65536, 2 * MIB - 1, 9 * MIB, { 0, 2 * MIB - 1, 1, 31, 1 } },
  { 65536, 5 * MIB, 5 * MIB + 65537, { 2, 5 * MIB, 65537, 16, 2 } },
  { 4096, INT64_MAX - 1, INT64_MAX, { INT64_MAX / MIB, INT64_MAX - 1, 1, 255, 1 } },
};

START_TEST (test_piece)
{
  Geometry geometry = geometry_new (pieces[_i].granule);
  Piece piece = geometry_piece (&geometry, pieces[_i].offset, pieces[_i].end);

  ck_assert_uint_eq (piece.region, pieces[_i].piece.region);
  ck_assert_uint_eq (piece.offset, pieces[_i].piece.offset);
  ck_assert_uint_eq (piece.length, pieces[_i].piece.length);
  ck_assert_uint_eq (piece.first, pieces[_i].piece.first);
  ck_assert_uint_eq (piece.n, pieces[_i].piece.n);
}
END_TEST

/* --- tracker --- */

static const unsigned orders[][3]
    = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

/* Three claims and three reads in one stripe, ended in every order. */
START_TEST (test_tracker_lists)
{
  Tracker *tracker = tracker_new ();
  Stripe *stripe = tracker_stripe (tracker, 5);
  TrackerEntry claims[3], reads[3];
  GranuleSet all = granule_set_range (0, GRANULE_SET_MAX);

  lock_acquire (&stripe->lock);
  for (unsigned i = 0; i < 3; i++)
    {
      claims[i] = (TrackerEntry){ .region = 5, .granules = granule_set_range (i * 10, 5) };
      reads[i] = (TrackerEntry){ .region = 5, .granules = granule_set_range (i * 10, 5) };
      stripe_claim (stripe, &claims[i]);
      stripe_begin_read (stripe, &reads[i]);
      ck_assert_uint_eq (stripe->n_reads, i + 1);
    }
  for (unsigned step = 0; step <= 3; step++)
    {
      GranuleSet unclaimed = stripe_unclaimed (stripe, 5, &all);
      GranuleSet elsewhere = stripe_unclaimed (stripe, 5 + 64, &all); /* perhaps the same stripe */

      for (unsigned i = 0; i < GRANULE_SET_MAX; i++)
        {
          bool claimed = false;

          for (unsigned later = step; later < 3; later++)
            claimed = claimed || i / 5 == orders[_i][later] * 2;
          ck_assert (granule_set_has (&unclaimed, i) == !claimed);
          ck_assert (granule_set_has (&elsewhere, i));
        }
      if (step == 3)
        break;
      stripe_end_claim (stripe, &claims[orders[_i][step]]);
      stripe_end_read (stripe, &reads[orders[_i][step]]);
      ck_assert_uint_eq (stripe->n_reads, 2 - step);
    }
  ck_assert_ptr_null (stripe->claims);
  ck_assert_ptr_null (stripe->reads);
  stripe_wait_reads (stripe, 5, &all);
  lock_release (&stripe->lock);
  tracker_free (tracker);
}
END_TEST

/* A thread that waits for the reads of a range. */
typedef struct
{
  Stripe *stripe;
  GranuleSet range;
  sem_t started;
  pid_t id;
  bool done; /* under stripe->lock */
} Waiter;

static void *
wait_for_reads (void *data)
{
  Waiter *waiter = data;

  waiter->id = gettid ();
  sem_post (&waiter->started);
  lock_acquire (&waiter->stripe->lock);
  stripe_wait_reads (waiter->stripe, 7, &waiter->range);
  waiter->done = true;
  lock_release (&waiter->stripe->lock);
  return NULL;
}

/* The reads that are there; the waiter wants granules 10 to 19 of region 7. */
static const struct
{
  uint64_t region;
  unsigned first, n;
  bool waits;
} waits[] = {
  { 7, 10, 10, true }, { 7, 0, 11, true },   { 7, 19, 1, true },    { 7, 0, 256, true },
  { 7, 0, 10, false }, { 7, 20, 10, false }, { 71, 10, 10, false }, { 7, 100, 0, false },
};

START_TEST (test_tracker_wait)
{
  Tracker *tracker = tracker_new ();
  Stripe *stripe = tracker_stripe (tracker, 7);
  TrackerEntry other = { .region = 7, .granules = granule_set_range (200, 1) };
  TrackerEntry read = { .region = waits[_i].region,
                        .granules = granule_set_range (waits[_i].first, waits[_i].n) };
  Waiter waiter = { .stripe = stripe, .range = granule_set_range (10, 10) };
  pthread_t thread;

  sem_init (&waiter.started, 0, 0);
  lock_acquire (&stripe->lock);
  stripe_begin_read (stripe, &other);
  stripe_begin_read (stripe, &read);
  lock_release (&stripe->lock);
  ck_assert_int_eq (pthread_create (&thread, NULL, wait_for_reads, &waiter), 0);
  while (sem_wait (&waiter.started) != 0)
    ;
  if (waits[_i].waits)
    {
      test_wait_asleep (waiter.id);
      lock_acquire (&stripe->lock);
      ck_assert (!waiter.done);
      stripe_end_read (stripe, &other); /* wakes it, but not for good */
      lock_release (&stripe->lock);
      test_wait_asleep (waiter.id);
      lock_acquire (&stripe->lock);
      ck_assert (!waiter.done);
      stripe_end_read (stripe, &read);
      lock_release (&stripe->lock);
      pthread_join (thread, NULL);
    }
  else
    {
      pthread_join (thread, NULL);
      lock_acquire (&stripe->lock);
      stripe_end_read (stripe, &read);
      stripe_end_read (stripe, &other);
      lock_release (&stripe->lock);
    }
  ck_assert (waiter.done);
  ck_assert_uint_eq (stripe->n_reads, 0);
  sem_destroy (&waiter.started);
  tracker_free (tracker);
}
END_TEST

/* --- write clock --- */

static int64_t
coarse_now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_REALTIME_COARSE, &ts);
  return ts.tv_sec * INT64_C (1000000000) + ts.tv_nsec;
}

/* Where the clock starts, in seconds from now. */
static const int clock_starts[] = { -1000000, -1, 0, 3600 };

START_TEST (test_clock)
{
  WriteClock clock;
  int64_t start = coarse_now () + clock_starts[_i] * INT64_C (1000000000), last = start;

  write_clock_init (&clock, start);
  ck_assert_int_eq (write_clock_last (&clock), start);
  write_clock_tick (&clock);
  ck_assert_int_gt (write_clock_last (&clock), start);

  /* Much faster than the kernel's clock moves. */
  for (unsigned i = 0; i < 10000; i++)
    {
      int64_t frozen_at = write_clock_freeze (&clock);

      ck_assert_int_ge (frozen_at, last);
      ck_assert_int_eq (write_clock_last (&clock), frozen_at);
      ck_assert_int_eq (write_clock_freeze (&clock), frozen_at); /* no write in between */
      write_clock_tick (&clock);
      ck_assert_int_gt (write_clock_last (&clock), frozen_at);
      last = write_clock_last (&clock);
      write_clock_tick (&clock);
      ck_assert_int_ge (write_clock_last (&clock), last);
      last = write_clock_last (&clock);
    }
  if (clock_starts[_i] <= 0)
    ck_assert_int_le (last, coarse_now () + 20001); /* not ahead of time by more than it must */
}
END_TEST

typedef struct
{
  WriteClock *clock;
  atomic_bool *stop;
  bool went_back;
} Ticker;

static void *
tick (void *data)
{
  Ticker *ticker = data;
  int64_t before = 0;

  while (!atomic_load (ticker->stop))
    {
      int64_t now;

      write_clock_tick (ticker->clock);
      now = write_clock_last (ticker->clock);
      ticker->went_back = ticker->went_back || now < before;
      before = now;
    }
  return NULL;
}

START_TEST (test_clock_threads)
{
  WriteClock clock;
  atomic_bool stop = false;
  Ticker tickers[4];
  pthread_t threads[4];
  int64_t before = 0;

  write_clock_init (&clock, coarse_now ());
  for (unsigned i = 0; i < 4; i++)
    {
      tickers[i] = (Ticker){ &clock, &stop, false };
      ck_assert_int_eq (pthread_create (&threads[i], NULL, tick, &tickers[i]), 0);
    }
  for (unsigned i = 0; i < 20000; i++)
    {
      int64_t now = write_clock_last (&clock);

      if (now < before)
        tickers[0].went_back = true;
      before = now;
    }
  atomic_store (&stop, true);
  for (unsigned i = 0; i < 4; i++)
    {
      pthread_join (threads[i], NULL);
      ck_assert (!tickers[i].went_back);
    }
}
END_TEST

static Suite *
cow_suite (void)
{
  Suite *suite = suite_create ("cow");
  TCase *pattern = test_case (suite, "patterns", 120);
  TCase *requests = test_case (suite, "requests", 120);
  TCase *barrier = test_case (suite, "barrier", 120);
  TCase *sets = test_case (suite, "granule sets", 60);
  TCase *tracker = test_case (suite, "tracker", 120);
  TCase *clock = test_case (suite, "write clock", 60);

  tcase_add_loop_test (pattern, test_pattern, 0,
                       (int) (G_N_ELEMENTS (patterns) * N_KINDS * G_N_ELEMENTS (granules)));
  tcase_add_loop_test (pattern, test_pattern_offload, 0, (int) (G_N_ELEMENTS (patterns) * 2));
  tcase_add_loop_test (pattern, test_iotest_222, 0, G_N_ELEMENTS (granules));
  tcase_add_loop_test (requests, test_resize, 0,
                       (int) (G_N_ELEMENTS (resizes) * G_N_ELEMENTS (granules)));
  tcase_add_loop_test (requests, test_bad_allocate, 0, G_N_ELEMENTS (bad_allocations));
  tcase_add_test (requests, test_read_parts);
  tcase_add_loop_test (requests, test_holes, 0, G_N_ELEMENTS (hole_tables));
  tcase_add_loop_test (requests, test_punch_of_holes, 0, 4);
  tcase_add_test (requests, test_shrink_after_a_cut);
  tcase_add_loop_test (requests, test_random_holes, 0, 30);
  tcase_add_loop_test (requests, test_holes_within_granules, DISK_COPY_AUTO, DISK_COPY_OFFLOAD + 1);
  tcase_add_test (barrier, test_barrier_shared);
  tcase_add_test (barrier, test_barrier_closer_waits);
  tcase_add_test (barrier, test_barrier_enterers_wait);
  tcase_add_test (barrier, test_barrier_admits_between_closings);
  tcase_add_test (barrier, test_barrier_traffic);
  barrier = test_case (suite, "slow sections", 30);
  tcase_add_test (barrier, test_barrier_slow_sections);
  tcase_add_loop_test (sets, test_set_range, 0, GRANULE_SET_MAX + 1);
  tcase_add_loop_test (sets, test_set_pairs, 0,
                       (int) (G_N_ELEMENTS (ranges) * G_N_ELEMENTS (ranges)));
  tcase_add_loop_test (sets, test_piece, 0, G_N_ELEMENTS (pieces));
  tcase_add_loop_test (tracker, test_tracker_lists, 0, G_N_ELEMENTS (orders));
  tcase_add_loop_test (tracker, test_tracker_wait, 0, G_N_ELEMENTS (waits));
  tcase_add_loop_test (clock, test_clock, 0, G_N_ELEMENTS (clock_starts));
  tcase_add_test (clock, test_clock_threads);
  return suite;
}

int
main (void)
{
  return test_main (cow_suite ());
}
