/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which process serves which mount, so that one can be told from the other without asking either: a
 * daemon may hang, and its files may be closed to who asks.
 *
 * The daemon holds an empty file in memory (memfd_create(2)) whose name has the device number of
 * its mount, as /proc/self/mountinfo gives it. /proc/PID/fd shows that name to root, and to the
 * user whose process it is. The processes that help the daemon do not hold it. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* From now on this process says that it serves that mount, until its end. Its children would say so
 * too, so it forks no more. Returns false and errno when it cannot. */
bool beacon_light (dev_t device);

/* The mount that a process serves; false when it says none. Reads /proc. */
bool beacon_read (pid_t pid, dev_t *out_device);

/* The processes that serve a mount of that user (pid_t), as far as they are seen from here: one,
 * or none. What other users' processes say does not count, but for those of root. Reads all of
 * /proc. */
GArray *beacon_find (dev_t device, uid_t owner);
