/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One fixed sequence of all that a set of snapshots can do, for tests that disturb it at every
 * system call, and the model that tells what must be there after any of its steps.
 *
 * Two disks: writes of all sorts, mkdir, mv, rmdir of the oldest, a middle and the newest
 * snapshot with merges in both directions and a write during one, growth and shrink, a remount.
 * The bytes that a step writes depend on the step, so every block in a wrong place or of a wrong
 * time shows. The model is a plain byte array for each disk and each snapshot of it.
 *
 * Nothing here uses libcheck: the sequence also runs in processes that are to be killed.
 */
#pragma once

#include "snapshot/snapshots.h"

#define STEPS_DISKS 2
#define STEPS_NAMES 8

typedef enum
{
  STEP_OPEN,
  STEP_CLOSE,
  STEP_WRITE,
  STEP_ZERO, /* writes zeros */
  STEP_PUNCH,
  STEP_TRUNCATE, /* to length */
  STEP_FLUSH,
  STEP_MKDIR,
  STEP_RENAME,
  STEP_RMDIR,
  STEP_RMDIR_HOLD, /* the merge that follows is held when it has copied, */
  STEP_RELEASE,    /* until here */
  STEP_SETTLE,     /* waits until no merge is left to do */
  STEP_READ,       /* a snapshot whole */
} StepKind;

typedef struct
{
  StepKind kind;
  const char *name, *to; /* of a snapshot */
  unsigned disk;
  unsigned at, n;             /* offset and length: granules */
  unsigned at_bytes, n_bytes; /* and bytes more */
} Step;

extern const Step steps[];
extern const unsigned n_steps;

/* --- what the sequence runs on --- */

typedef struct
{
  /* chosen by the test */
  char *dir; /* absolute */
  uint64_t granule;
  DiskCopyMethod copy;
  DiskCbwError on_cbw_error;

  SnapshotsImage images[STEPS_DISKS];
  char *store;
  Snapshots *set; /* NULL while closed */
  bool held;      /* between STEP_RMDIR_HOLD and STEP_RELEASE, if there was a merge */
  char *error;    /* what the last STEP_OPEN or STEP_CLOSE said, or NULL */
} Bench;

/* A bench in the directory, which exists; nothing is opened or made. */
Bench *bench_new (const char *dir, uint64_t granule, DiskCopyMethod copy,
                  DiskCbwError on_cbw_error);
/* The set must be closed. */
void bench_free (Bench *bench);
/* Makes the images, with known bytes and a hole; false: errno. */
bool bench_make_images (const Bench *bench);
/* Removes images and store. */
void bench_clean (const Bench *bench);
/* Tells the double (calls.h) what is store and what source. */
void bench_watch (const Bench *bench);

/* Runs one step. Returns 0, or the number of bytes written, or -errno; of STEP_READ, 0 if all
 * was read, whatever it was. A step of a set that is not open does nothing and returns 0. */
int64_t bench_run (Bench *bench, unsigned step);
/* Opens and starts the set; closes it. On failure there is a reason in bench->error. */
bool bench_open (Bench *bench);
bool bench_close (Bench *bench);
/* What STEP_RELEASE does. */
void bench_let_go (Bench *bench);
/* Waits until the background thread has nothing to do. */
void bench_settle (Bench *bench);

/* --- the model --- */

typedef struct
{
  uint8_t *bytes;
  uint64_t size;
} Picture;

typedef struct
{
  char name[16]; /* empty: none */
  bool is_broken;
  Picture images[STEPS_DISKS];
} ModelSnapshot;

typedef struct
{
  uint64_t granule;
  Picture live[STEPS_DISKS];
  ModelSnapshot snapshots[STEPS_NAMES];
} Model;

/* The images as bench_make_images() makes them, no snapshots. */
Model *model_new (uint64_t granule);
void model_free (Model *model);
/* The step has been done. */
void model_apply (Model *model, unsigned step);
/* A snapshot of that name, or NULL. */
ModelSnapshot *model_find (Model *model, const char *name);
/* Takes a live disk as it is now, where the model cannot know it; false: it cannot be read, or
 * its size is neither of those before and after the step. */
bool model_load_live (Model *model, const Bench *bench, unsigned disk);

/* Compares the open set with the model, every byte of every snapshot and of the live disks. A
 * snapshot that is broken in the model must be broken, others must not; where may_break, one that
 * says so and reads errors becomes broken in the model. Returns NULL, or what is wrong. */
char *model_check (Model *model, const Bench *bench, bool may_break);
/* Is the snapshot, as far as it can be read, that of the model? Each disk is read whole;
 * *out_errors counts those that gave an error. Returns NULL, or what is wrong. */
char *model_check_read (Model *model, const Bench *bench, const char *name, unsigned *out_errors);

/* The set is closed and was settled: qemu-img finds every overlay clean, and reads in each the
 * bytes of its snapshot, unless it is broken. Returns NULL, or what is wrong. */
char *model_check_qemu (const Model *model, const Bench *bench);
