/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All that people and programs are told of a set, gathered in one go.
 *
 * Names and levels are those of one moment; states, bytes in the store and counters are looked up
 * right after it, each once. */
#pragma once

#include "snapshot/snapshots.h"

typedef struct
{
  const char *name;   /* the set's */
  const char *source; /* path of the image; the set's. Any bytes */
  bool has_size;      /* the image could be asked */
  uint64_t size;      /* bytes, then */
  bool is_block;
  char *moved; /* source_find_move() */
  uint64_t counts[COUNTER_N];
  uint64_t n_read_waits; /* writes that waited for frozen reads */
  unsigned n_held;       /* writes, see disk_n_held() */
} SurveyDisk;

/* A disk of a snapshot. */
typedef struct
{
  bool present;  /* the disk was there; else nothing else is set */
  uint64_t size; /* bytes, at the snapshot */
  uint64_t kept; /* bytes of its overlay in the store */
  char *broken;  /* why, or NULL */
} SurveyImage;

typedef struct
{
  uint32_t id;
  char *name;
  struct timespec created;
  unsigned n_levels; /* that its reads may go through, its own included */
  uint64_t kept;     /* bytes, of all disks */
  char *broken;      /* which disks are and why, or NULL */
  const char *lost;  /* the survey's loss, if that is this one's and it is not broken; else NULL */
  SurveyImage *images; /* one for each disk */
} SurveySnapshot;

typedef struct
{
  /* constant; the set's */
  const char *store;
  unsigned max_snapshots;
  bool durable;

  unsigned n_disks;
  SurveyDisk *disks;
  GPtrArray *snapshots; /* SurveySnapshot *, oldest first */
  unsigned n_broken;    /* snapshots, of these */
  unsigned n_lost;      /* the same */
  char *loss;           /* see snapshots_find_loss(), or NULL */

  unsigned n_levels;     /* all */
  unsigned n_removed;    /* of these, the ones whose snapshot has no name any more */
  uint64_t removed_kept; /* bytes that these take */

  bool is_merging;
  char *merge_into;                /* the snapshot that stays; NULL: by now it has no name */
  uint64_t merge_done, merge_size; /* bytes of its disks: gone through, all */

  uint64_t n_freeze_waits; /* writes that waited for a freeze, or for a merge to begin or end */

  bool has_space; /* the file system of the store could be asked */
  SpaceUsage space;
  unsigned percent; /* see space_percent() */
  bool percent_is_overlay;
} Survey;

/* Gathers. Looks at the store's files, so it blocks when the store hangs. */
Survey *survey_new (Snapshots *set);
/* Frees it. */
void survey_free (Survey *survey);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Survey, survey_free)
