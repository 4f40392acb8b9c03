/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What must hold after a kill, before and after the next start. Ends the program at the first
 * thing that does not. */
#pragma once

#include "kill-load.h"

/* What kills did. */
typedef struct
{
  unsigned long n_writes;               /* blocks and sizes in flight */
  unsigned long n_made, n_unmade;       /* mkdir in flight: then the snapshot was there, or not */
  unsigned long n_returned;             /* mkdir had returned, its snapshot was not looked at yet */
  unsigned long n_removed, n_unremoved; /* rmdir in flight */
  unsigned long n_renamed, n_unrenamed; /* rename in flight */
  unsigned long n_layers;               /* layers without a snapshot, half-made ones too */
  unsigned long n_compared;             /* snapshots compared as a whole */
  unsigned long n_stores;               /* stores of killed daemons that qemu-img read */
} CheckCounts;

/* Nothing runs: the images hold every write that was answered, and what was in flight is known
 * from now on. with_overlays: qemu-img reads the snapshots from the store. was_closed: the daemon
 * had time to close it. */
void check_images (Load *load, bool with_overlays, bool was_closed, CheckCounts *counts);

/* It has been started: the snapshots are those that must be there, each is right, and so are the
 * live disks. What was pending is settled. */
void check_mount (Load *load, Random *random, CheckCounts *counts);

/* Waits until the store has no more layers than there are snapshots. */
void check_await_merges (Load *load);

/* It has been closed without a kill: all of the store is clean and right, and no file in it
 * takes more than what a disk needs. */
void check_closed (Load *load);
