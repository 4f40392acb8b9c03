/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A part of a file that can be brought to disk without the rest of it.
 *
 * Linux syncs a part by itself when that is written with RWF_DSYNC, but then the caller waits for
 * the disk from the first moment on; and when it is mapped, by msync(2). So the part is mapped, for
 * that alone: nobody reads or writes by the pages, no memory is behind them, and that the file may
 * be cut off does no harm.
 *
 * Offsets and lengths are in bytes; offsets count from the beginning of the file. Any number of
 * threads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct
{
  int fd;
  uint64_t offset;
  size_t length; /* 0: there is none */
  void *pages;
} SyncRange;

/* For a part of the file behind fd, which stays the caller's; offset is a multiple of 64 KiB. False
 * when it cannot be mapped: by this file system, or with so many others. */
bool sync_range_open (SyncRange *range, int fd, uint64_t offset, size_t length);
/* It may have been none. */
void sync_range_close (SyncRange *range);

/* Lets the disk begin with these bytes, which are in the range. Does not wait for it. */
void sync_range_begin (const SyncRange *range, uint64_t offset, size_t length);
/* On return 0 these bytes, and what is needed to find them, are on disk as they were at the call.
 * Blocks. -errno may tell of other bytes of the file too, and nobody else is told then. */
int sync_range_end (const SyncRange *range, uint64_t offset, size_t length);
