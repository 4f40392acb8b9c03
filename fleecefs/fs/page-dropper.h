/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process that has the kernel drop pages of files.
 *
 * Who asks for that (FUSE_NOTIFY_INVAL_INODE) waits in the kernel for each page that an unanswered
 * read holds, and no signal ends the wait. A thread of the daemon would so keep a daemon that was
 * killed from its end: its devices stay open, therefore the kernel does not end the requests that
 * nobody answers any more, and for one of these the thread waits. So another process asks, called
 * fleecefs-drop. It holds a device of its own to the same connection (a clone), a socket by which
 * it is told the numbers of nodes, and standard output and error; it has no privilege, and few
 * threads.
 *
 * When the daemon is gone, however it went, so are its devices, and the kernel ends what was read
 * from them. What nobody had read is left, for the clone keeps the connection. So at the end of the
 * socket this process reads that and answers ENOTCONN, until its threads are back. Then it ends,
 * and with the last device the connection does. Nothing else may end it before: it has no
 * PR_SET_PDEATHSIG, is in no group or session with the daemon, and takes no signal but SIGKILL.
 * When that hits both at once, as of a control group, and the kernel waits for a read that nobody
 * had read, the connection stays, until it is ended by force (fleecectl umount --force, or --dead).
 */
#pragma once

#include <stdint.h>

/* Forks; no thread may exist. device: one of the connection. Returns the socket: each packet to it
 * is one node number (uint64_t), which is queued at once, however long the kernel takes; the end of
 * the socket, or of its use (shutdown(2)), is the end of the process. Returns -1 and errno when
 * there is none. */
int page_dropper_start (int device);
