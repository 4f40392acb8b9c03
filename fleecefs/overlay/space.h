/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The space that the overlays of one store may take together.
 *
 * Two limits, each of which may be 0 for none: max_overlay, the bytes that all overlay
 * files together have allocated in their file system (as du counts: old blocks and tables, all
 * disks, all snapshots, also removed ones until they are merged or closed); and reserve, the bytes
 * that stay free in the file system (for ordinary users, as df counts).
 *
 * Who is to write new blocks takes their bytes first and says when they are written.
 * The bytes come out of a grant, one atomic subtraction. When it is used up, a look at
 * the real state (one fstat() for each overlay and one statvfs()) makes the next, of SPACE_GRANT
 * at most, or what is asked for at once: what was given back meanwhile, in whatever way, is in it.
 * So max_overlay holds but for what the file system rounds up, and what merges copy; reserve also
 * but for what others write to the file system between two looks: SPACE_GRANT and what is in flight
 * at most is ours of it.
 *
 * Without limits nothing is counted. All functions are thread safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SPACE_GRANT (UINT64_C (16) << 20)

/* Beyond all errno values: why space_take() refuses. space_errno() before anybody else sees it. */
enum
{
  SPACE_MAX_OVERLAY = 0x4001,
  SPACE_RESERVE,
};

typedef struct _Space Space;

/* A space without overlays, in the file system of the directory. NULL with errno when that cannot
 * be opened. */
Space *space_new (const char *directory, uint64_t max_overlay, uint64_t reserve);
/* Frees it; no overlay is in it any more. NULL is allowed. */
void space_free (Space *space);

/* The file behind fd counts, until it is removed. */
void space_add (Space *space, int fd);
void space_remove (Space *space, int fd);

/* Takes bytes that are to be allocated. Returns 0, -SPACE_MAX_OVERLAY or -SPACE_RESERVE; then
 * nothing was taken. NULL has no limits. */
int space_take (Space *space, uint64_t bytes);
/* They are allocated, or will not be. */
void space_done (Space *space, uint64_t bytes);

/* A merge is about to copy bytes from one overlay to another; at its end one of the two goes. Till
 * then they count once for space_take() and max_overlay. NULL has no limits. */
void space_add_twice (Space *space, uint64_t bytes);
/* The end: what was given back is, and the rest counts. One merge at a time. */
void space_end_twice (Space *space);

typedef struct
{
  uint64_t kept;        /* bytes that the overlays take */
  uint64_t max_overlay; /* 0: no limit */
  uint64_t free, total; /* of the file system, for ordinary users */
  uint64_t reserve;
} SpaceUsage;

/* How it is now; the grant ends, so that writers notice when somebody else has filled the file
 * system. Returns 0 or -errno. */
int space_look (Space *space, SpaceUsage *out);

/* How full, in percent, by the limit that is nearer; *out_is_overlay: that is max_overlay. */
unsigned space_percent (const SpaceUsage *usage, bool *out_is_overlay);

/* The level of alarm, 0 or the percentage 80 or 95 that is reached, when it was `before` and now
 * percent are used. It falls 5 percent later than it rose, so that it does not flicker. */
unsigned space_alarm (unsigned before, unsigned percent);

/* -errno for a negative result of space_take(); other results as they are. */
int space_errno (int result);
/* What to say of an errno value, or of one of ours, when overlays cannot be written. */
const char *space_strerror (int errnum);
