/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The refcounts of an overlay.
 *
 * Source: QEMU, docs/interop/qcow2 ("Host cluster management"). While an overlay
 * is open its refcounts are not kept (lazy refcounts, dirty bit). They are simple
 * at close: every cluster from the header to the end of the file is used once,
 * since clusters are only ever appended; but for those that a kill has leaked.
 */
#pragma once

#include "overlay/qcow2-header.h"

/* Takes the space in which qcow2_refcount_write() will put the counts of the clusters from first to
 * end - 1, so that it cannot fail for want of it. A file system that takes none in advance is no
 * error. The size of the file stays. Returns 0 or -errno. */
int qcow2_refcount_prepare (int fd, const Qcow2Header *header, uint64_t first, uint64_t end);

/* Writes the refcount table and the blocks for a file of n_clusters, and cuts or
 * extends the file to that. leaks (uint64_t, ascending) are clusters that nothing refers to: they
 * count zero and their space is given back. Returns 0 or -errno. */
int qcow2_refcount_write (int fd, const Qcow2Header *header, uint64_t n_clusters,
                          const GArray *leaks);

/* Gives back the space of those clusters. Where the file system cannot make holes it stays taken;
 * nothing else is wrong. */
void qcow2_refcount_give_back (int fd, const Qcow2Header *header, const GArray *leaks);
