/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a loss of power can leave of the files in a log (power-log.h).
 *
 * Of each change that has begun and is not certain, a crash keeps all, nothing, or some sectors of
 * 512 bytes; whether the file grew by it is a question of its own (what was written beyond the
 * end is lost when it did not, and reads as zeros when it did alone). Any subset of changes is
 * possible: so they come to the disk in any order, but for changes of one sector, which
 * are one page of the kernel's memory. A directory keeps its changes up to some point, a move as
 * far as the other directory does, and a file those of its attributes. An mtime is the last one
 * that is certain.
 *
 * A crash state is a list of choices. Three ways to make them:
 *
 *     power_choices_all      one state after the other, until all have been
 *     power_choices_extreme  the store as at the last sync and the image as last written, and so on
 *     power_choices_random   from a seed; torn in any way
 */
#pragma once

#include "power-log.h"
#include "torture-random.h"

#define POWER_EXTREMES 4

typedef struct
{
  enum
  {
    POWER_ALL,
    POWER_EXTREME,
    POWER_RANDOM
  } way;
  unsigned extreme;
  Random random;
  GArray *digits; /* Digit: the choices so far; of power_choices_all only */
  unsigned at;    /* how many of them have been made in this state */
} PowerChoices;

PowerChoices *power_choices_all (void);
PowerChoices *power_choices_extreme (unsigned extreme);
PowerChoices *power_choices_random (uint64_t seed);
void power_choices_free (PowerChoices *choices);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (PowerChoices, power_choices_free)
/* To the next state of all; false when there is none. */
bool power_choices_next (PowerChoices *choices);

/* How many states all are at this moment, or limit + 1 if they are more than limit. */
unsigned power_count (PowerLog *log, uint64_t moment, unsigned limit);

/* Makes the directory path, which is not there yet, as the crash leaves the log's. Moments must not
 * go back from call to call. */
void power_crash (PowerLog *log, uint64_t moment, PowerChoices *choices, const char *path);
