/* SPDX-License-Identifier: GPL-2.0-or-later */
/* -o io_uring: requests come through io_uring(7) and not by reads of /dev/fuse (Linux 6.14, libfuse
 * 3.18). All of it is libfuse's work; here is only whether it can be had.
 *
 * libfuse then has a thread for each processor, beside those of the loop, and the kernel gives a
 * request to that of the processor where it was made. The thread works on one after the other of
 * those that it has taken, and nobody else can answer one of them meanwhile: the lock of its
 * ring is held. So lanes (lane.h) leave no thread free; the manual says what that means for guests.
 *
 * What is in a lane may be answered by the thread of another ring, which waits for that lock. There
 * is no circle: a thread takes from a queue only after it entered the lane when that was empty, so
 * what others queued since, and a thread that has queued something enters lanes only later.
 */
#pragma once

#include "fs/fuse-compat.h"

#include <glib.h>
#include <stdbool.h>

/* Fails when this kernel is known to have no io_uring for FUSE, or to have it switched off. */
bool ring_check (GError **error);

/* Logs, if *expected, that the request did not come as the user wished; *expected is false from
 * then on. libfuse goes on without io_uring where it cannot start it, and says that to nobody. For
 * any thread. */
void ring_expect (fuse_req_t req, int *expected);
