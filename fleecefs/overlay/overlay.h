/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An overlay: the qcow2 image that keeps one disk's old blocks for one snapshot.
 *
 * Callers know granules, clusters of 32 granules, and sets of them; where things
 * stand in the file is this folder's business. Saving granules goes:
 *
 *     overlay_prepare (create)       tables exist; may block
 *     [stripe.meta] overlay_reserve  a place for each cluster with data
 *     overlay_write                  the bytes, no lock held
 *     overlay_journal                durable: bytes and entries are on disk; may block
 *      or both, of a small copy to a durable one, if overlay_may_log():
 *     overlay_log                    bytes and entries are on disk elsewhere, and the bytes in
 *                                    their place; may block
 *     [stripe.meta] overlay_record   the entries, in the file
 *     overlay_journal_done           durable; or overlay_log_done
 *     [stripe.lock] overlay_publish  the entries, for lookups
 *
 * After a kill between any two of them the file is a valid image that has the
 * granule or has it not. Of a durable overlay that is true after a loss of power too, once it was
 * opened here: no entry is written before what it points to is on disk, and what the tables lack
 * then stands in a journal (qcow2-journal.h), or with its bytes in a log (qcow2-log.h). Who moves
 * granules from one overlay to another does so without them, with an overlay_settle() before the
 * entries and one at the end; and with an overlay_renew() before it overwrites any. Between opening
 * for change and overlay_close() the dirty bit is set: refcounts are not kept, QEMU would repair
 * them.
 *
 * I/O functions return 0 or -errno.
 */
#pragma once

#include "overlay/qcow2-map.h"
#include "overlay/space.h"

typedef struct _Overlay Overlay;

/* Makes NAME in the directory, locked, empty, dirty, not synced. size is the
 * snapshot's in bytes; beyond it, up to the next 512, it reads as zeros. */
Overlay *overlay_create (int dir_fd, const char *name, uint64_t size, uint64_t granule,
                         const char *backing_name, const char *backing_format, GError **error);

/* Opens NAME, locked. It must be a regular file that this program made and have
 * the given granule and size. EBUSY, and who it is, while another program has it locked; its bytes
 * are not looked at then. */
Overlay *overlay_open (int dir_fd, const char *name, uint64_t size, uint64_t granule,
                       GError **error);

/* The overlay counts in the space, which outlives it. Before anybody else knows it. */
void overlay_set_space (Overlay *overlay, Space *space);
/* That of overlay_set_space(), or NULL. */
Space *overlay_space (const Overlay *overlay);

/* Makes the image clean with that backing file, on disk, and frees it. With nothing changed
 * since it was opened, that is no I/O. On failure it is freed and stays dirty. */
bool overlay_close (Overlay *overlay, const char *backing_name, const char *backing_format,
                    GError **error);

/* Frees without writing; for an overlay that is removed. NULL is allowed. */
void overlay_free (Overlay *overlay);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Overlay, overlay_free)

/* Writes the name of the backing file now. */
int overlay_set_backing (Overlay *overlay, const char *name, const char *format);
/* The name of the backing file that the overlay was opened with. Before anybody else knows it. */
const char *overlay_backing (const Overlay *overlay);

/* Writes into the header that the snapshot of this overlay is broken; it needs no space. On return
 * it stands there (durable: on disk), whoever wrote it. Takes no lock of the engine. */
int overlay_mark_broken (Overlay *overlay);
/* Was it marked, now or before it was opened? */
bool overlay_is_marked_broken (const Overlay *overlay);

/* All that was written before the call is on disk; concurrent callers share the work. An
 * error stays (group-sync.h). */
int overlay_sync (Overlay *overlay);
/* Makes it durable from now on, and syncs what is there. Called before other threads use it. */
int overlay_make_durable (Overlay *overlay);
/* As overlay_sync() for a durable overlay; nothing for others. */
int overlay_settle (Overlay *overlay);
/* Has it been changed since it was closed last? */
bool overlay_is_dirty (const Overlay *overlay);
/* As overlay_settle(), and after a loss of power nothing writes the bytes of now again: they may
 * change. */
int overlay_renew (Overlay *overlay);

/* Bytes that the file takes in its file system. */
uint64_t overlay_allocated (const Overlay *overlay);

/* The descriptor, for copy_file_range(). */
int overlay_fd (const Overlay *overlay);

/* See qcow2_map_load_all(). */
int overlay_load (Overlay *overlay);
/* See qcow2_map_prepare(); create also loads all of a clean image and marks it dirty. */
int overlay_prepare (Overlay *overlay, uint64_t cluster, uint64_t n_clusters, bool create);
/* See qcow2_map_prepared(). */
bool overlay_prepared (Overlay *overlay, uint64_t cluster, uint64_t n_clusters);
/* See qcow2_map_lookup(). */
Qcow2Cluster overlay_lookup (Overlay *overlay, uint64_t cluster);
/* The granules of the cluster that are saved here. */
uint32_t overlay_saved (Overlay *overlay, uint64_t cluster);
/* See qcow2_map_next(). */
bool overlay_next (Overlay *overlay, uint64_t *cluster, uint64_t limit, int *out_errno);

/* See qcow2_map_reserve(). */
void overlay_reserve (Overlay *overlay, uint64_t cluster, uint64_t n_clusters);
/* The place in the file of n adjacent granules from granule on, whose clusters are
 * reserved; *out_n (at most n) of them are adjacent in the file. */
uint64_t overlay_place (Overlay *overlay, uint64_t granule, uint64_t n, uint64_t *out_n);
/* Writes whole granules to their reserved places. */
int overlay_write (Overlay *overlay, uint64_t granule, uint64_t n, const void *buffer);
/* See qcow2_map_journal(), for a durable overlay; nothing for others. */
int overlay_journal (Overlay *overlay, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                     const uint32_t *zero);
/* See qcow2_journal_done(); the same. */
void overlay_journal_done (Overlay *overlay);
/* Does a copy of so many granules go by overlay_log(), if overlay_may_log() says so then? */
bool overlay_has_log (const Overlay *overlay, unsigned n_granules);
/* See qcow2_map_may_log(), qcow2_map_log(), qcow2_log_done(). */
bool overlay_may_log (Overlay *overlay, uint64_t cluster, uint32_t data);
int overlay_log (Overlay *overlay, uint64_t cluster, uint32_t data, uint32_t zero,
                 const void *bytes);
void overlay_log_done (Overlay *overlay);
/* See qcow2_map_record(). */
int overlay_record (Overlay *overlay, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                    const uint32_t *zero);
/* See qcow2_map_publish(). */
void overlay_publish (Overlay *overlay, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                      const uint32_t *zero);
/* Reads bytes from a place that a lookup gave. They count when overlay_check() is 0 then. */
int overlay_read (Overlay *overlay, void *buffer, size_t length, uint64_t host_offset);
/* -EIO when something that was written to the file did not get to its disk, now or ever before:
 * Linux drops it from memory, and gives what the disk has, or zeros. Does not block. */
int overlay_check (Overlay *overlay);
