/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What goes on in a mount while it is killed: writers on the live disks, one thread that makes,
 * renames and removes snapshots, readers that compare snapshots with their witnesses. All of them
 * go on until the mount fails them, which it may from mount.has_ended on. */
#pragma once

#include "kill-mount.h"
#include "kill-view.h"

#include <semaphore.h>

#define LOAD_N_WRITERS 4
#define LOAD_N_READERS 2

/* What can be waited for. */
typedef enum
{
  LOAD_WRITTEN, /* a writer has done an operation */
  LOAD_MKDIR,   /* is about to be called */
  LOAD_RMDIR,
  LOAD_RENAME,
  LOAD_REMOVED, /* rmdir has returned: a merge may begin */
  LOAD_N_EVENTS,
} LoadEvent;

/* The verb that was not done with when the mount ended. */
typedef struct
{
  LoadEvent verb; /* LOAD_MKDIR, _RMDIR, _RENAME; LOAD_N_EVENTS: none */
  unsigned n_name, n_to;
  Witness *witness;  /* of _RMDIR and _RENAME, a reference */
  bool has_returned; /* _MKDIR: it returned, but nobody has looked at all of the snapshot */
} LoadPending;

typedef struct
{
  /* constant */
  Mount *mount;
  Versions *versions;
  Witnesses *witnesses;
  unsigned run;

  /* of the thread with the verbs while there is one, and the main thread else */
  LoadPending pending;
  VersionsMoment low, high; /* bounds of a pending snapshot */
  unsigned n_names;

  _Atomic int64_t usual[LOAD_N_EVENTS]; /* us that a verb takes about */
  atomic_int awaited;                   /* a LoadEvent */
  atomic_int n_awaited;
  sem_t reached;

  pthread_t threads[LOAD_N_WRITERS + LOAD_N_READERS + 1];
  void *workers;
} Load;

/* Nothing runs yet. And its end, with no thread left. */
void load_init (Load *load, Mount *mount, Versions *versions, Witnesses *witnesses, Random *random);
void load_clear (Load *load);

/* After a start, with nothing else going on: makes the marks equal on all disks. */
void load_level_marks (Load *load);
/* Makes a snapshot and its witness; its bounds are exact when nobody writes. False when the mount
 * ended meanwhile. */
bool load_make (Load *load);

/* Starts the threads; returns after the event has come n times. */
void load_start (Load *load, Random *random, LoadEvent event, unsigned n);
/* Waits for their end, which comes with that of the mount. */
void load_join (Load *load);
