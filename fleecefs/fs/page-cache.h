/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel has cached of snapshots' files, and who has it dropped.
 *
 * A file that nothing refers to any more loses its pages in the call that took the last
 * reference: rmdir(2), and that takes 0.1 s for each GiB. But a file system can ask the kernel to
 * drop them, and while the kernel does so it holds a reference. So that is asked for before the
 * answer to rmdir, which then need not wait. A snapshot that breaks loses its pages in the same
 * way.
 *
 * Another process asks (page-dropper.h); here it is only told. Without it nothing of a snapshot may
 * be cached, for nobody could drop it: page_cache_is_kept().
 */
#pragma once

#include "fs/tree.h"

#include <stdbool.h>

typedef struct _PageCache PageCache;

/* The tree must outlive it. With a device of the connection it starts the process, and no thread
 * may exist; with -1, or when the process cannot be had, nothing is cached. */
PageCache *page_cache_new (const Tree *tree, int device);
/* NULL is allowed, here and in page_cache_end(). */
void page_cache_free (PageCache *cache);

/* Has the process end, and with it its hold on the connection. Does not block. From here on the
 * other functions do nothing. */
void page_cache_end (PageCache *cache);

/* May the kernel cache files of snapshots that are opened now? */
bool page_cache_is_kept (PageCache *cache);

/* Has the pages of the snapshot's files dropped, soon. Waits for the process to take that in, for
 * some seconds at most, but not for the kernel. */
void page_cache_drop (PageCache *cache, Snapshot *snapshot);

/* The same, unless the process is behind; does not block. */
void page_cache_drop_if_idle (PageCache *cache, Snapshot *snapshot);
