/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Static tracepoints: places in the program that bpftrace, perf and SystemTap can watch, by name
 * and with arguments, without a build of one's own (sys/sdt.h). One that nobody watches is one
 * instruction that does nothing, and without sys/sdt.h it is none.
 *
 * The provider is called fleecefs, and a tracepoint as its function here without trace_; the
 * arguments are the function's, in this order. The man page lists them, and tests/tracepoints.sh
 * compares. Tracepoints are for people: none may have an effect, and no argument may cost more than
 * what is at hand.
 *
 * image is the path of a source, offset and length are bytes, error is an errno value (0: none).
 */
#pragma once

#include <stdint.h>

#ifdef ENABLE_SDT
#define SDT_USE_VARIADIC 1
#include <sys/sdt.h>
#define TRACE(...) STAP_PROBEV (fleecefs, __VA_ARGS__)
#else
#define TRACE(...) ((void) 0)
#endif

/* --- a guest's write --- */

/* Old blocks are about to be copied: length bytes, not always in one piece, from offset on. What
 * follows in the same thread, with the same three arguments, is one of copy_done,
 * copy_read_fail and copy_write_fail. */
static inline void
trace_copy_start (const char *image, uint64_t offset, uint64_t length)
{
  TRACE (copy_start, image, offset, length);
}

/* They are in the overlay, and readers find them there. zero: so many of the bytes were zeros and
 * take no room. */
static inline void
trace_copy_done (const char *image, uint64_t offset, uint64_t length, uint64_t zero)
{
  TRACE (copy_done, image, offset, length, zero);
}

/* A write needed no copy: its blocks were saved before, or no snapshot has them. Not when
 * there is no snapshot at all. */
static inline void
trace_copy_skip (const char *image, uint64_t offset, uint64_t length)
{
  TRACE (copy_skip, image, offset, length);
}

/* The copy failed at the source. */
static inline void
trace_copy_read_fail (const char *image, uint64_t offset, uint64_t length, int error)
{
  TRACE (copy_read_fail, image, offset, length, error);
}

/* It failed at the overlay: at its data, its tables or its space. */
static inline void
trace_copy_write_fail (const char *image, uint64_t offset, uint64_t length, int error)
{
  TRACE (copy_write_fail, image, offset, length, error);
}

/* The kernel refused to copy by itself, and this disk's copies go through memory from here on. */
static inline void
trace_offload_fallback (const char *image, uint64_t offset, uint64_t length, int error)
{
  TRACE (offload_fallback, image, offset, length, error);
}

/* --- a read of a snapshot --- */

/* A reader of the snapshot of that number is about to read blocks at the source, all or some of the
 * length bytes from offset on: guests' first writes to them wait until frozen_read_done. */
static inline void
trace_frozen_read_start (const char *image, uint32_t snapshot, uint64_t offset, uint64_t length)
{
  TRACE (frozen_read_start, image, snapshot, offset, length);
}

/* It has. */
static inline void
trace_frozen_read_done (const char *image, uint32_t snapshot, uint64_t offset, uint64_t length,
                        int error)
{
  TRACE (frozen_read_done, image, snapshot, offset, length, error);
}

/* --- all disks --- */

/* Writes that begin from here on wait, for a freeze or a change of the chains. */
static inline void
trace_barrier_close (void)
{
  TRACE (barrier_close);
}

/* Those that were under way have ended. */
static inline void
trace_barrier_closed (void)
{
  TRACE (barrier_closed);
}

/* Writes go on. */
static inline void
trace_barrier_open (void)
{
  TRACE (barrier_open);
}

/* Two levels of the store, by their numbers, are about to be merged: the second belongs to a
 * snapshot that was removed. up: into it, else into the first. */
static inline void
trace_merge_start (uint32_t older, uint32_t removed, int up)
{
  TRACE (merge_start, older, removed, up);
}

/* That ended; ECANCELED: for now, or because nobody needs it any more. */
static inline void
trace_merge_done (uint32_t older, uint32_t removed, int up, int error)
{
  TRACE (merge_done, older, removed, up, error);
}
