/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a phase of the torture stands on: a directory with images and a store, a set of snapshots
 * with random parameters, and the end of the program at the first difference.
 *
 * Two things are checked here for every kind of phase, with the set closed: the images are
 * what the model says, and qemu-img reads from each overlay what the snapshot was. */
#pragma once

#include "snapshot/snapshots.h"
#include "torture-random.h"

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BED_MAX_DISKS 3
#define BED_BLOCK UINT64_C (512)

/* ThreadSanitizer takes ten times the time: smaller disks and longer phases then. */
#if defined __has_feature
#if __has_feature(thread_sanitizer)
#define BED_IS_SLOW 1
#endif
#endif
#if defined __SANITIZE_THREAD__
#define BED_IS_SLOW 1
#elif !defined BED_IS_SLOW
#define BED_IS_SLOW 0
#endif

typedef struct
{
  uint64_t seed; /* of the program */
  unsigned phase;
  bool is_copy_given; /* copy below counts */
  DiskCopyMethod copy;
  const char *directory; /* for the phase's own */
  const char *qemu_img;  /* NULL: not there */
  const char *program;   /* that can replay the phase */
  int64_t deadline;      /* monotonic, us: the phase starts nothing new after it */
  unsigned n_operations; /* an exact phase ends after so many; 0: any number */
} BedConfig;

typedef struct
{
  /* constant */
  BedConfig config;
  uint64_t seed; /* of the phase */
  char *directory;
  char *store;
  unsigned n_disks;
  char *names[BED_MAX_DISKS];
  char *paths[BED_MAX_DISKS];
  SnapshotsConfig set_config;

  Snapshots *set; /* NULL when closed */

  /* what the phase did */
  atomic_ulong n_operations;
  atomic_ulong n_made;  /* snapshots */
  unsigned long n_gone; /* levels dropped or merged; counted by bed_close() */
  atomic_ulong n_bytes; /* compared */
} Bed;

/* Bytes that the model gives away for a comparison. */
typedef struct
{
  uint8_t *bytes; /* g_free() */
  uint64_t size;
} BedBytes;

/* What the snapshot with this id holds of the disk; id 0: the live disk. bytes is NULL when the
 * model does not know the id; size is then 1 if it cannot. */
typedef BedBytes (*BedExpect) (void *data, uint32_t id, unsigned disk);

/* A directory and parameters, drawn from random. The images are not there yet. */
Bed *bed_new (const BedConfig *config, Random *random);
/* Removes the directory too. The set is closed. */
void bed_free (Bed *bed);

/* Writes the image of a disk, before the first bed_open(). Zero blocks become holes. */
void bed_write_image (Bed *bed, unsigned disk, const uint8_t *bytes, uint64_t size);

/* Opens the set. */
void bed_open (Bed *bed);
/* Closes it, and compares the images, and the overlays too if with_overlays. */
void bed_close (Bed *bed, bool with_overlays, BedExpect expect, void *data);

/* The comparison of bed_close(), for a set that somebody else has closed. */
void bed_compare_closed (Bed *bed, bool with_overlays, BedExpect expect, void *data);
/* The same of the overlays of a set whose owner was killed: without any repair qemu-img reads from
 * them what the snapshots were, and what it repairs in a copy is no more than refcounts. */
void bed_compare_killed (Bed *bed, BedExpect expect, void *data);
/* Removes a directory in that of the bed, and what is in it. */
void bed_remove (const char *directory);

/* True when the phase has no time left. */
bool bed_is_late (const Bed *bed);

/* Compares length bytes that were read from offset on; what names the subject. Ends the program at
 * a difference. */
void bed_compare (Bed *bed, const char *what, unsigned disk, uint64_t offset, const uint8_t *got,
                  const uint8_t *expected, uint64_t length);

/* Ends the program: says what is wrong and how to replay the phase. May be called by
 * several threads; the first one counts. */
void bed_fail (const Bed *bed, const char *format, ...) G_GNUC_PRINTF (2, 3) G_GNUC_NORETURN;

/* bed_fail() unless r is the wanted result of an operation. */
void bed_expect (const Bed *bed, const char *what, int64_t r, int64_t wanted);

/* One line on the phase. */
void bed_print (const Bed *bed, const char *mode);
