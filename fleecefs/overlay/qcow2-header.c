/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/qcow2-header.h"

#include "base/fail.h"
#include "base/units.h"
#include "base/zero.h"
#include "overlay/be.h"

#include <errno.h>

/* Places in the header, in bytes. */
enum
{
  AT_MAGIC = 0,
  AT_VERSION = 4,
  AT_BACKING_OFFSET = 8,
  AT_BACKING_SIZE = 16,
  AT_CLUSTER_BITS = 20,
  AT_SIZE = 24,
  AT_CRYPT_METHOD = 32,
  AT_L1_SIZE = 36,
  AT_L1_OFFSET = 40,
  AT_REFCOUNT_TABLE_OFFSET = 48,
  AT_REFCOUNT_TABLE_CLUSTERS = 56,
  AT_N_SNAPSHOTS = 60,
  AT_SNAPSHOTS_OFFSET = 64,
  AT_INCOMPATIBLE = 72,
  AT_COMPATIBLE = 80,
  AT_AUTOCLEAR = 88,
  AT_REFCOUNT_ORDER = 96,
  AT_HEADER_LENGTH = 100,
  AT_COMPRESSION = 104, /* and padding */
  HEADER_LENGTH = 112,
};

#define MAGIC UINT32_C (0x514649fb)
#define VERSION 3
#define INCOMPATIBLE_DIRTY (UINT64_C (1) << 0)
#define INCOMPATIBLE_CORRUPT (UINT64_C (1) << 1)
#define INCOMPATIBLE_EXTENDED_L2 (UINT64_C (1) << 4)
/* Ours, not in the format. An image has the first one where the program that wrote it did not know
 * of logs; that program refuses the other one. */
#define INCOMPATIBLE_OLD_JOURNAL (UINT64_C (1) << 63)
#define JOURNAL_BIT 62
#define INCOMPATIBLE_JOURNAL (UINT64_C (1) << JOURNAL_BIT)
#define COMPATIBLE_LAZY_REFCOUNTS (UINT64_C (1) << 0)
/* Ours too. Who opens an image for writing takes away the autoclear bits that it does not know, and
 * keeps the compatible ones: so these two tell that another program may have written. An image has
 * neither where the program that wrote it did not know of them. */
#define COMPATIBLE_WATCHED (UINT64_C (1) << 63)
#define AUTOCLEAR_UNTOUCHED (UINT64_C (1) << 63)
#define REFCOUNT_ORDER 4
#define EXTENSION_BACKING_FORMAT UINT32_C (0xe2792aca)
#define EXTENSION_FEATURE_NAMES UINT32_C (0x6803f857)
#define EXTENSION_END 0
#define FEATURE_NAME 46
#define TORN_NAME "?"                     /* ours have a slash */
#define CLUSTER_BITS_MIN 17               /* granule 4k */
#define CLUSTER_BITS_MAX 21               /* granule 64k */
#define L1_SIZE_MAX (UINT32_C (32) << 17) /* 32 MiB of entries: what QEMU opens */

bool
qcow2_header_init (Qcow2Header *header, uint64_t size, uint64_t granule)
{
  uint64_t cluster = granule * QCOW2_GRANULES_PER_CLUSTER;
  uint64_t n_data, n_l2, n_blocks;

  if (size > INT64_MAX - MIB)
    return false;
  *header = (Qcow2Header){
    .cluster_bits = (unsigned) __builtin_ctzll (cluster),
    .size = units_round_up (size, 512),
    .dirty = true,
  };
  n_data = units_div_up (header->size, cluster);
  n_l2 = units_div_up (n_data, qcow2_l2_entries (header));
  if (n_l2 > L1_SIZE_MAX)
    return false;

  /* One block more than data and L2 tables need, for the fixed part and the blocks themselves. */
  n_blocks = units_div_up (n_data + n_l2, qcow2_block_span (header) - 1) + 1;
  header->l1_size = (uint32_t) n_l2;
  header->refcount_table_clusters = (uint32_t) units_div_up (n_blocks * 8, cluster);
  header->refcount_table_offset = cluster;
  header->l1_offset = (2 + (uint64_t) header->refcount_table_clusters) * cluster;
  return true;
}

bool
qcow2_header_set_backing (Qcow2Header *header, const char *name, const char *format)
{
  return g_strlcpy (header->backing_name, name, sizeof header->backing_name)
             < sizeof header->backing_name
         && g_strlcpy (header->backing_format, format, sizeof header->backing_format)
                < sizeof header->backing_format;
}

/* The table of feature names, in which QEMU looks up what it does not know, for its message. It is
 * always there, so that the name of the backing file stays where it is when the bits change: they
 * are in one sector, and it may be in another. */
static uint8_t *
encode_feature_names (uint8_t *at)
{
  static const char name[FEATURE_NAME] = "fleecefs's journal: mount it with that first";

  be_store32 (at, EXTENSION_FEATURE_NAMES);
  be_store32 (at + 4, 2 + sizeof name);
  at[8] = 0; /* incompatible */
  at[9] = JOURNAL_BIT;
  memcpy (at + 10, name, sizeof name);
  return at + 8 + 2 + sizeof name;
}

void
qcow2_header_encode (const Qcow2Header *header, uint8_t area[static QCOW2_HEADER_AREA])
{
  size_t format_length = strlen (header->backing_format);
  size_t name_length = strlen (header->backing_name);
  uint8_t *at = area + HEADER_LENGTH;

  memset (area, 0, QCOW2_HEADER_AREA);
  be_store32 (area + AT_MAGIC, MAGIC);
  be_store32 (area + AT_VERSION, VERSION);
  be_store32 (area + AT_CLUSTER_BITS, header->cluster_bits);
  be_store64 (area + AT_SIZE, header->size);
  be_store32 (area + AT_L1_SIZE, header->l1_size);
  be_store64 (area + AT_L1_OFFSET, header->l1_offset);
  be_store64 (area + AT_REFCOUNT_TABLE_OFFSET, header->refcount_table_offset);
  be_store32 (area + AT_REFCOUNT_TABLE_CLUSTERS, header->refcount_table_clusters);
  be_store64 (area + AT_INCOMPATIBLE, INCOMPATIBLE_EXTENDED_L2
                                          | (header->dirty ? INCOMPATIBLE_DIRTY : 0)
                                          | (header->broken ? INCOMPATIBLE_CORRUPT : 0)
                                          | (header->journaled ? INCOMPATIBLE_JOURNAL : 0));
  be_store64 (area + AT_COMPATIBLE, COMPATIBLE_LAZY_REFCOUNTS | COMPATIBLE_WATCHED);
  be_store64 (area + AT_AUTOCLEAR, AUTOCLEAR_UNTOUCHED);
  be_store32 (area + AT_REFCOUNT_ORDER, REFCOUNT_ORDER);
  be_store32 (area + AT_HEADER_LENGTH, HEADER_LENGTH);

  be_store32 (at, EXTENSION_BACKING_FORMAT);
  be_store32 (at + 4, (uint32_t) format_length);
  memcpy (at + 8, header->backing_format, format_length);
  at += 8 + units_round_up (format_length, 8);
  at = encode_feature_names (at);
  be_store32 (at, EXTENSION_END);
  at += 8;

  be_store64 (area + AT_BACKING_OFFSET, (uint64_t) (at - area));
  be_store32 (area + AT_BACKING_SIZE, (uint32_t) name_length);
  memcpy (at, header->backing_name, name_length);
}

static bool
damaged (const char *path, const char *what, GError **error)
{
  return fail (error, EINVAL, "overlay '%s' is damaged or not ours: %s", path, what);
}

/* Reads the extensions. QEMU puts its own table of feature names there when it repairs an image.
 * *out_end: the first byte after them. */
static bool
decode_extensions (const uint8_t *area, const char *path, Qcow2Header *out, uint32_t *out_end,
                   GError **error)
{
  uint32_t at = HEADER_LENGTH, type, length, padded;

  while (at <= QCOW2_HEADER_AREA - 8 && (type = be_load32 (area + at)) != EXTENSION_END)
    {
      length = be_load32 (area + at + 4);
      at += 8;
      padded = (uint32_t) units_round_up (length, 8);
      if (length > QCOW2_HEADER_AREA - at || padded > QCOW2_HEADER_AREA - at
          || !zero_check (area + at + length, padded - length))
        return damaged (path, "an extension of the header has a bad length", error);
      if (type == EXTENSION_BACKING_FORMAT && length < sizeof out->backing_format
          && memchr (area + at, '\0', length) == NULL)
        memcpy (out->backing_format, area + at, length);
      else if (type != EXTENSION_FEATURE_NAMES)
        return damaged (path, "unknown extension of the header", error);
      at += padded;
    }
  if (at > QCOW2_HEADER_AREA - 8)
    return damaged (path, "the extensions of the header have no end", error);
  *out_end = at + 8;
  return true;
}

/* Ours, and nobody else has written to it? */
static bool
check_touched (const uint8_t *area, const char *path, GError **error)
{
  uint64_t compatible = be_load64 (area + AT_COMPATIBLE);
  uint64_t autoclear = be_load64 (area + AT_AUTOCLEAR);
  bool watched = (compatible & COMPATIBLE_WATCHED) != 0;

  if ((compatible & ~COMPATIBLE_WATCHED) != COMPATIBLE_LAZY_REFCOUNTS
      || (autoclear & ~AUTOCLEAR_UNTOUCHED) != 0 || (autoclear != 0 && !watched))
    return damaged (path, "another kind of qcow2", error);
  return !watched || autoclear != 0
         || fail (error, EINVAL, "another program has opened overlay '%s' for writing", path);
}

static bool
decode_backing (const uint8_t *area, const char *path, Qcow2Header *out, GError **error)
{
  uint64_t name_offset = be_load64 (area + AT_BACKING_OFFSET);
  uint32_t name_length = be_load32 (area + AT_BACKING_SIZE);
  uint32_t end = 0;

  if (!decode_extensions (area, path, out, &end, error))
    return false;
  if (out->backing_format[0] == '\0')
    return damaged (path, "no format of its backing file", error);
  if (name_length == 0 || name_length > QCOW2_BACKING_NAME_MAX || name_offset < end
      || name_offset > QCOW2_HEADER_AREA - name_length)
    return damaged (path, "bad name of its backing file", error);
  /* A name longer than its sector may be half the one and half the other after a loss of power.
   * It is for others, and written anew; it must only not look the same as the right one, and be one
   * that can be written until then. */
  if (memchr (area + name_offset, '\0', name_length) == NULL)
    memcpy (out->backing_name, area + name_offset, name_length);
  else
    strcpy (out->backing_name, TORN_NAME);
  return true;
}

bool
qcow2_header_decode (const uint8_t area[static QCOW2_HEADER_AREA], const char *path,
                     Qcow2Header *out, GError **error)
{
  uint64_t incompatible = be_load64 (area + AT_INCOMPATIBLE);
  uint64_t journals = incompatible & (INCOMPATIBLE_OLD_JOURNAL | INCOMPATIBLE_JOURNAL);
  uint64_t size = be_load64 (area + AT_SIZE);
  uint32_t cluster_bits = be_load32 (area + AT_CLUSTER_BITS);
  Qcow2Header expected;

  if (be_load32 (area + AT_MAGIC) != MAGIC || be_load32 (area + AT_VERSION) != VERSION)
    return damaged (path, "not a qcow2 version 3 image", error);
  if ((incompatible & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | journals))
          != INCOMPATIBLE_EXTENDED_L2
      || (journals != 0 && (incompatible & INCOMPATIBLE_DIRTY) == 0))
    return damaged (path, "unknown or missing features", error);
  if (cluster_bits < CLUSTER_BITS_MIN || cluster_bits > CLUSTER_BITS_MAX)
    return damaged (path, "bad cluster size", error);
  if (be_load32 (area + AT_REFCOUNT_ORDER) != REFCOUNT_ORDER
      || be_load32 (area + AT_HEADER_LENGTH) != HEADER_LENGTH
      || be_load32 (area + AT_CRYPT_METHOD) != 0 || be_load32 (area + AT_N_SNAPSHOTS) != 0
      || be_load64 (area + AT_SNAPSHOTS_OFFSET) != 0 || be_load64 (area + AT_COMPRESSION) != 0)
    return damaged (path, "another kind of qcow2", error);
  if (!check_touched (area, path, error))
    return false;

  if (size % 512 != 0
      || !qcow2_header_init (&expected, size,
                             (UINT64_C (1) << cluster_bits) / QCOW2_GRANULES_PER_CLUSTER))
    return damaged (path, "bad size", error);
  if (be_load32 (area + AT_L1_SIZE) != expected.l1_size
      || be_load64 (area + AT_L1_OFFSET) != expected.l1_offset
      || be_load64 (area + AT_REFCOUNT_TABLE_OFFSET) != expected.refcount_table_offset
      || be_load32 (area + AT_REFCOUNT_TABLE_CLUSTERS) != expected.refcount_table_clusters)
    return damaged (path, "tables are not where they belong", error);

  *out = expected;
  out->dirty = (incompatible & INCOMPATIBLE_DIRTY) != 0;
  out->broken = (incompatible & INCOMPATIBLE_CORRUPT) != 0;
  out->journaled = journals != 0;
  return decode_backing (area, path, out, error);
}
