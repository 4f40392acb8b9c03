/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of .fleecefs tell, each in its way: gathered here and nowhere else. */
#pragma once

#include "fs/tree.h"
#include "snapshot/survey.h"

typedef struct
{
  const char *version; /* of fleecefs */
  pid_t pid;           /* of the process that serves */
  struct timespec now;
  struct timespec mounted;
  Survey *survey;
  GPtrArray *warnings; /* char *: what somebody should do something about, a sentence each */
} Facts;

/* Gathers; may block as survey_new() does. */
Facts *facts_new (const Tree *tree);
void facts_free (Facts *facts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Facts, facts_free)

/* A moment as all of them write it, and the extended attributes: UTC, to the second, as in
 * 2026-11-22T10:00:00Z. A new string. */
char *facts_time (struct timespec when);

/* A counter of disks: its names, and what it counts. */
typedef struct
{
  const char *json;   /* in status.json */
  const char *metric; /* in metrics, without fleecefs_ and _total */
  const char *help;
} FactsCounter;

/* The description of a counter. */
const FactsCounter *facts_counter (Counter counter);
