/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In the I/O path of its own host: a loop device over the live file, a file system on it,
 * and memory that runs short.
 *
 * The kernel frees memory by writing out what was written to that file system, and each of
 * these writes comes to this process as a request. So a thread here that waits for memory
 * must not wait for such a write: it would wait for itself. This is no rare case. Any
 * page that it touches for the first time can be the one (the buffer of a request, an L2
 * table), and so can a page of the page cache under the source or an overlay. What helps:
 *
 *   - PR_SET_IO_FLUSHER: memory that the kernel looks for on behalf of this process it takes
 *     from where no write must be waited for, and it does not hold this process up for what
 *     others have written too fast. It is an attribute of a thread, and threads that are
 *     started later have it too. It covers every allocation, also those of libraries,
 *     so the I/O path needs no list of places that may allocate.
 *   - mlockall(2): memory that was touched once stays, the program itself too. Nothing
 *     is touched ahead of its use, so this takes no more memory than there is work:
 *     the man page says how much.
 *   - oom_score_adj: other processes are killed first, for with this one all go that use
 *     the disks. Not never (-1000): alone in a cgroup that is too small it would
 *     hang there for ever.
 */
#pragma once

/* For the thread that is going to start all others. Does what this process may do: all of it
 * needs CAP_SYS_RESOURCE. Without that it changes nothing, and whoever mounts must not use the
 * live files for file systems of the same host. */
void own_host_prepare (void);
