/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mapping of a qcow2 image with extended L2 entries, in memory and in the file.
 *
 * Source: QEMU, docs/interop/qcow2 ("Cluster mapping", "Extended L2 Entries").
 *
 * For each cluster of 32 granules there is an entry: where the cluster stands in
 * the file (0: nowhere), which granules have data there, which read as zeros. L2
 * tables are kept in memory as long as the map lives; those that are in the file
 * are loaded when first needed. An entry takes 24 bytes of memory, and a table only the
 * pages of those that are in use.
 *
 * Looking up takes no lock. An entry changes in three steps, which the caller puts
 * in order: reserve (a place in the file, in memory only), record (the entry in the
 * file), publish (the entry in memory). For one cluster, reserve and record exclude each
 * other (the caller's stripe.meta), and so do publish and publish (its stripe.lock); see
 * base/lock.h.
 */
#pragma once

#include "overlay/qcow2-header.h"
#include "overlay/qcow2-journal.h"

typedef struct _Qcow2Map Qcow2Map;

/* A cluster's mapping. Bit i stands for granule i of the cluster. */
typedef struct
{
  uint64_t host_offset; /* in the file, bytes; 0: none, then data is 0 */
  uint32_t data;        /* granules with their bytes at host_offset + i * granule */
  uint32_t zero;        /* granules that read as zeros */
} Qcow2Cluster;

/* The map of a new image: empty. Sync is for fd, and outlives the map. */
Qcow2Map *qcow2_map_new (int fd, const Qcow2Header *header, GroupSync *sync);

/* For a new image: takes the space that qcow2_map_finish() needs while nothing is saved. Returns 0
 * or -errno. */
int qcow2_map_make_first_room (Qcow2Map *map);

/* The map of an image in the file: reads the L1 table, and of a dirty image all tables. Of one with
 * a journal, whose file is synced, they get what they lack, on disk; the header is the caller's to
 * change then. Fails on I/O errors, on tables that point outside the file, into the fixed part, or
 * two at one place, and on a file that is longer than there is reason for: memory is bounded by
 * what the tables hold. */
Qcow2Map *qcow2_map_load (int fd, const Qcow2Header *header, GroupSync *sync, const char *path,
                          GError **error);

/* Gives back the space of what nothing in a loaded image refers to. Nobody makes room yet, and no
 * journal or log counts any more. */
void qcow2_map_give_back (Qcow2Map *map);

/* From now on a table is on disk before anything refers to it. */
void qcow2_map_make_durable (Qcow2Map *map);
/* Begins the journal of a durable image, and with_log its log of QCOW2_LOG_SIZE if there is space
 * for it, before its header says that there is one. Nobody makes room yet. On return 0 no record of
 * a session before can count any more; else it may be called again. Blocks, but not for a new
 * image. -errno. */
int qcow2_map_begin_journal (Qcow2Map *map, bool with_log);

/* Frees the memory. */
void qcow2_map_free (Qcow2Map *map);

/* Loads all tables. Before the first change of an image that was clean: only then it is known
 * that nothing of it stands where something else does. Returns 0 or -errno, as qcow2_map_prepare().
 */
int qcow2_map_load_all (Qcow2Map *map);

/* Makes sure that lookups of these clusters can answer: loads their L2 tables and,
 * with create, makes missing ones (in the file too), and takes the space that
 * qcow2_map_finish() needs for what can be reserved then. May block on the file. Returns
 * 0 or -errno (-EUCLEAN: the table is damaged, or shares a place with another one). */
int qcow2_map_prepare (Qcow2Map *map, uint64_t cluster, uint64_t n_clusters, bool create);

/* True when qcow2_map_prepare (..., false) would have nothing to do. */
bool qcow2_map_prepared (Qcow2Map *map, uint64_t cluster, uint64_t n_clusters);

/* The mapping of a cluster, whose table is prepared. What is published stays. */
Qcow2Cluster qcow2_map_lookup (Qcow2Map *map, uint64_t cluster);

/* Gives each of the clusters that has no place in the file one, adjacent where
 * possible. Prepared with create before. */
void qcow2_map_reserve (Qcow2Map *map, uint64_t cluster, uint64_t n_clusters);

/* On return 0 the bytes of granules of data, which are written and not recorded yet, are on disk
 * with what qcow2_map_record() is to be told of them: after a loss of power the image has them.
 * qcow2_map_journal_done() must follow that. Blocks. At most 8 clusters. -errno. */
int qcow2_map_journal (Qcow2Map *map, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                       const uint32_t *zero);
void qcow2_map_journal_done (Qcow2Map *map);

/* True when a copy of these granules of a cluster, which is reserved if it has data, can go by the
 * log: it is small, and the file has its place and table on disk. */
bool qcow2_map_may_log (Qcow2Map *map, uint64_t cluster, uint32_t data);
/* Has it one, for copies of so many granules? */
bool qcow2_map_has_log (const Qcow2Map *map, unsigned n_granules);
/* The same as qcow2_map_journal() for such a copy, whose bytes are not written yet: they are here,
 * one granule after another, and are in their place then. qcow2_map_log_done() must follow
 * qcow2_map_record(). */
int qcow2_map_log (Qcow2Map *map, uint64_t cluster, uint32_t data, uint32_t zero,
                   const void *bytes);
void qcow2_map_log_done (Qcow2Map *map);
/* Syncs the file. On return 0 bytes that were recorded before may be overwritten. -errno. */
int qcow2_map_renew_log (Qcow2Map *map);

/* Writes the entries of the clusters to the file: the granules of data and zero (one word for each
 * cluster) change to that, the others stay. At most 8 clusters. Returns 0 or -errno. */
int qcow2_map_record (Qcow2Map *map, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                      const uint32_t *zero);

/* The same change in memory. Who sees a granule in a lookup also sees its bytes in the file. */
void qcow2_map_publish (Qcow2Map *map, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                        const uint32_t *zero);

/* The first cluster at or after *cluster and before limit that has anything saved. False when
 * there is none up to *cluster, which is limit, or less when *out_errno says why it stopped. Loads
 * tables. */
bool qcow2_map_next (Qcow2Map *map, uint64_t *cluster, uint64_t limit, int *out_errno);

/* Writes the entries that were reserved but never recorded, so that no cluster
 * is leaked; then the refcounts, and cuts the file to its end. Needs no space that is not taken
 * already, where the file system writes in place. Returns 0 or -errno. */
int qcow2_map_finish (Qcow2Map *map);
