/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The header of a qcow2 image, and where we put things in the file.
 *
 * Source: QEMU, docs/interop/qcow2 ("Header", "Header extensions"). We write and
 * accept one shape only: version 3, extended L2 entries, 16-bit refcounts, no
 * internal snapshots, no encryption, a backing file with its format. So a
 * cluster is 32 subclusters, which are our granules.
 *
 * The layout of an overlay, in clusters:
 *
 *     0                     header, and at 64 KiB the journal (qcow2-journal.h)
 *     1 ...                 refcount table (large enough for ever)
 *     then                  refcount block 0
 *     then                  L1 table (large enough for the virtual size)
 *     then                  L2 tables and data in order of arrival; and, of an overlay that is
 *                           durable and not closed, the log (qcow2-log.h)
 *     k * block_span        refcount block k, for k > 0
 *
 * where one refcount block counts block_span clusters. With the places of all
 * refcount blocks fixed, refcounts can be written at close without a search.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define QCOW2_GRANULES_PER_CLUSTER 32
#define QCOW2_HEADER_AREA                                                                          \
  2048 /* bytes at the start of the file that hold header, extensions, name */
#define QCOW2_BACKING_NAME_MAX 1023

typedef struct
{
  unsigned cluster_bits;
  uint64_t size;    /* virtual, bytes, a multiple of 512 */
  uint32_t l1_size; /* entries */
  uint64_t l1_offset;
  uint64_t refcount_table_offset;
  uint32_t refcount_table_clusters;
  bool dirty;     /* refcounts are not valid: the image was not closed */
  bool broken;    /* the format's "corrupt" bit: its snapshot lacks old blocks */
  bool journaled; /* the tables may lack what the journal or its log has; QEMU refuses such an image
                   */
  char backing_name[QCOW2_BACKING_NAME_MAX + 1];
  char backing_format[16];
} Qcow2Header;

/* Bytes in a cluster. */
static inline uint64_t
qcow2_cluster_size (const Qcow2Header *header)
{
  return UINT64_C (1) << header->cluster_bits;
}

/* Entries in an L2 table, which fills a cluster: 16 bytes each. */
static inline uint64_t
qcow2_l2_entries (const Qcow2Header *header)
{
  return qcow2_cluster_size (header) / 16;
}

/* Clusters that one refcount block counts: 16 bits each. */
static inline uint64_t
qcow2_block_span (const Qcow2Header *header)
{
  return qcow2_cluster_size (header) / 2;
}

/* The cluster of refcount block k. */
static inline uint64_t
qcow2_refcount_block (const Qcow2Header *header, uint64_t k)
{
  return k == 0 ? 1 + header->refcount_table_clusters : k * qcow2_block_span (header);
}

/* The first cluster after the fixed part. */
static inline uint64_t
qcow2_first_free (const Qcow2Header *header)
{
  uint64_t l1_bytes = (uint64_t) header->l1_size * 8;

  return header->l1_offset / qcow2_cluster_size (header)
         + (l1_bytes + qcow2_cluster_size (header) - 1) / qcow2_cluster_size (header);
}

/* Fills in everything but the backing file for a new, dirty image of size bytes
 * (rounded up to 512) and granules of granule bytes. False when the size is
 * beyond what the format can map. */
bool qcow2_header_init (Qcow2Header *header, uint64_t size, uint64_t granule);

/* Sets the backing file. False when the name is too long. */
bool qcow2_header_set_backing (Qcow2Header *header, const char *name, const char *format);

/* Writes the header, its extensions and the backing name as they are in the file. */
void qcow2_header_encode (const Qcow2Header *header, uint8_t area[static QCOW2_HEADER_AREA]);

/* Reads and checks: accepted is what qcow2_header_encode() writes for an image made by
 * qcow2_header_init(), as long as no other program has opened it for writing. path is for the
 * message. */
bool qcow2_header_decode (const uint8_t area[static QCOW2_HEADER_AREA], const char *path,
                          Qcow2Header *out, GError **error);
