/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the process holds and may do: at the start nothing that it was not given on purpose, and
 * while it serves nothing that requests do not need.
 *
 * Served with are the descriptors that were opened at the start, and a store that belongs to
 * the mounter (base/trust.h). So no capability is needed, by root neither: each one is
 * dropped, from the bounding set too. There is one exception, CAP_DAC_OVERRIDE, for root with an
 * image that its mode does not let root write: a note at the image (cow/note.c) needs it. That is
 * the use of it: who breaks into a daemon of root's cannot load modules, mount, trace others or
 * pass over the modes of their files. Such a one is still root to the files that root owns; run
 * fleecefs as another user if that is too much.
 *
 * no_new_privs holds for all threads, and so does a filter of system calls, that refuses what
 * would take over another program or the host (syscall-filter.h). Unmounting needs a
 * privilege: that is the work of another process (unmounter.h).
 *
 * Core dumps would hold a guest's data, and go where the image's mode means nothing. There are
 * none, unless root raises the limit, as by prlimit(1). The process stays dumpable for the
 * kernel: else an ordinary user's second fleecefs could not tell who has the image, and who
 * may trace it may read the image anyway. */
#pragma once

#include <stdint.h>

/* A set of capabilities with this one (CAP_SYS_ADMIN, ...) in it; 0 is the empty one. */
#define PRIVILEGE(capability) (UINT64_C (1) << (capability))

/* First of all, before anything is opened: closes the descriptors above standard error, opens
 * /dev/null for standard streams that are closed, sets the umask to 077 and the limit of
 * core dumps to 0. */
void privilege_clean_start (void);

/* Closes all descriptors above standard error but this one; -1: really all. */
void privilege_close_but (int fd);

/* Drops all capabilities but these from the calling thread, for threads and programs that it starts
 * too. Without capabilities it changes nothing. */
void privilege_drop_but (uint64_t capabilities);

/* For the thread that is going to serve and to start all others: drops all capabilities but these,
 * and sets no_new_privs and the filter. */
void privilege_drop (uint64_t capabilities);
