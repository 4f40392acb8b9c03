/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The time of the last write to a disk, fit to be the mtime of its snapshots.
 *
 * The kernel's clock stands still for milliseconds, so two disks' contents could
 * have one mtime. This clock does not: a write after a freeze has a time strictly
 * greater than any before it. Times are nanoseconds since the epoch. It never
 * goes back, even when the host's clock does.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

typedef struct
{
  _Atomic int64_t last;  /* the last write */
  _Atomic int64_t floor; /* the next write is at least this */
} WriteClock;

/* Starts with the time of the last write known; later writes get a later time. */
void write_clock_init (WriteClock *clock, int64_t last);

/* A write takes place; called inside the write section, any number of threads. */
void write_clock_tick (WriteClock *clock);

/* The time of the last write. */
int64_t write_clock_last (const WriteClock *clock);

/* With the barrier closed: the time of the last write; from now on, writes get a later one. */
int64_t write_clock_freeze (WriteClock *clock);
