/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The program fleecefs on the images and the store of a bed: started, killed and ended, and what is
 * read and written through its mount.
 *
 * The process that uses this becomes a reaper of its descendants, so the daemon, which runs in the
 * background, is its child once the command has returned. To be started, killed and ended by one
 * thread; the verbs of the mount may be used by many. */
#pragma once

#include "torture-writer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct
{
  /* constant */
  Bed *bed;
  const char *program;
  bool foreground;     /* -f; what it says then gets into messages */
  char *point;         /* where it is mounted */
  char *messages;      /* a file with what the program said */
  int loop;            /* holds the loop device of the last disk; -1: it is a file */
  int64_t usual_start; /* us that a start and an end take about */
  int64_t usual_end;

  /* while it is mounted, else -1: by the name of the mountpoint one may reach what is below it */
  int root;
  int live[BED_MAX_DISKS];
  atomic_bool has_ended; /* from just before a kill or an end on: errors are to be expected */
} Mount;

/* The bed's images are there. with_loop: the last disk is to be a loop device if there is one to
 * be had. */
void mount_init (Mount *mount, Bed *bed, const char *program, bool with_loop, bool foreground);
/* Nothing runs. */
void mount_clear (Mount *mount);

/* Mounts; returns when it answers. */
void mount_start (Mount *mount);
/* Begins to mount, and after so many microseconds kills what serves. True when it was killed. */
bool mount_start_and_kill (Mount *mount, int64_t after);

/* Kills the daemon, and returns when it is gone. Other threads may still use what is left of
 * the mount; mount_clear_away() takes that away when they do not any more. After mount_end() too.
 */
void mount_kill (Mount *mount);
void mount_clear_away (Mount *mount);

/* Unmounts or, by_signal, sends SIGTERM; after so many microseconds kills; after < 0: waits for the
 * end. True when it was killed, false when the end came first (without an error). */
bool mount_end (Mount *mount, bool by_signal, int64_t after);

/* Keeps the CPU busy for some microseconds. */
void mount_spin (int64_t us);

/* The live disks, for a Writer; data is the mount. */
extern const WriterVerbs mount_verbs;
