/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How far ahead of a reader the kernel asks for the pages of a snapshot's file.
 *
 * The kernel's default for FUSE is 128 KiB, and whoever copies a snapshot then waits for most of
 * its requests. More has to be allowed by the reply to INIT (verbs.c), and set before it at the
 * mount's own /sys/class/bdi/MAJOR:MINOR/read_ahead_kb, which only root may.
 */
#pragma once

#include <sys/types.h>

#define READ_AHEAD (1U << 20) /* bytes; one request */

/* Sets it for the mount of that number; before the first request is answered. Where that is not
 * permitted the default stays. */
void read_ahead_raise (dev_t device);
