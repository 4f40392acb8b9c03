/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel has cached of snapshots' files, and who drops it.
 *
 * A file that nothing refers to any more loses its pages in the call that took the last
 * reference: rmdir(2), and that takes 0.1 s for each GiB. But a file system can ask the kernel to
 * drop them (fuse_lowlevel_notify_inval_inode), and while the kernel does so it holds a reference.
 * So a thread of ours asks, beginning before the answer to rmdir, which then need not wait.
 */
#pragma once

#include "fs/fuse-compat.h"
#include "fs/tree.h"

typedef struct _PageCache PageCache;

/* The tree and the session must outlive it. */
PageCache *page_cache_new (struct fuse_session *session, const Tree *tree);
/* Frees it; no thread of its is left. NULL is allowed. */
void page_cache_free (PageCache *cache);

/* Has the kernel drop the pages of the snapshot's files. Blocks for that, and for reads of them
 * that are under way: not for the thread of a request. */
void page_cache_drop (PageCache *cache, Snapshot *snapshot);

/* The same by a thread of its own, which has begun on return. There are a few at most; if none can
 * be had nothing is done. Not to be called while a read of the files may hang: that would keep
 * umount(2) waiting for the thread. */
void page_cache_drop_aside (PageCache *cache, Snapshot *snapshot);
/* Waits for these threads. There is no request any more, nor the connection. */
void page_cache_settle (PageCache *cache);
