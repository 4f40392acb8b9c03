/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What fleecefs did to its files, and since when each change of them is certain to survive a loss
 * of power.
 *
 * A log starts with a picture of a directory and all below it, and hears every call by which the
 * library changes or syncs something there (calls.h). Time is counted in moments: each begin and
 * end of a call is one, and so is each power_log_mark(). A change is certain
 *
 *     of bytes or size   since the end of an fsync or fdatasync of the file that began after the
 *                        change had ended; the same of bytes that are all in what a
 *                        sync_range_end() (sync-range.h) was asked for
 *     of an mtime        the same, but fsync only
 *     of an attribute    as of an mtime
 *     of a name          the same of the directory that it is in. So a new file's own fsync is not
 *                        enough for its name: ext4 and xfs give more than that, POSIX does not
 *
 * A change that has begun and is not certain may be on disk or not (power-crash.h). Names and
 * extended attributes change when their call returns; a directory keeps the order of its changes,
 * as journals do, and so does a file with those of its attributes. An exchange of two names, and a
 * move to another directory, are on disk as a whole or not at all: a sync of either directory makes
 * the move certain, and what came before it in the other one.
 *
 * One log at a time. The library's threads may make calls while one listens. */
#pragma once

#include "calls.h"

#include <glib.h>
#include <string.h>

#define POWER_NEVER UINT64_MAX
#define POWER_SECTOR 512

typedef struct _PowerNode PowerNode;

typedef enum
{
  POWER_BYTES,
  POWER_ZEROS,
  POWER_SIZE, /* offset is the new size */
} PowerKind;

/* A change of a file. */
typedef struct
{
  uint64_t begun; /* moments; begun is POWER_NEVER when the call failed */
  uint64_t ended; /* POWER_NEVER: in flight */
  uint64_t certain;
  int64_t mtime; /* of the file after it, ns */
  PowerKind kind;
  uint64_t offset, length; /* bytes */
  uint64_t reach;          /* the file has at least this size after it; 0: any */
  bool grows;              /* it had less before */
  uint8_t *bytes;
} PowerChange;

/* A change of a directory: a name that goes, or one that comes, or both at once. */
typedef struct
{
  uint64_t begun; /* moments */
  uint64_t certain;
  char *gone, *come;    /* or NULL */
  PowerNode *node;      /* that came */
  PowerNode *exchanged; /* what has the name gone from then on; NULL: nothing */
  PowerNode *other;     /* of a move: the other directory, */
  guint other_index;    /* and which of its changes this is; else NULL */
} PowerNameChange;

/* A change of an extended attribute. */
typedef struct
{
  uint64_t begun; /* moments */
  uint64_t certain;
  char *name;
  GBytes *value; /* NULL: it is removed */
} PowerAttribute;

/* From that moment on the file has at least this mtime. */
typedef struct
{
  uint64_t certain;
  int64_t mtime; /* ns */
} PowerMtime;

struct _PowerNode
{
  bool is_directory;
  CallPlace place;

  /* of a file */
  uint8_t *base; /* before the changes */
  uint64_t base_size, base_capacity;
  GPtrArray *changes;    /* PowerChange *, in the order of their begin */
  GArray *mtimes;        /* PowerMtime */
  GPtrArray *attributes; /* PowerAttribute *, in order */
  uint64_t size;         /* now */

  /* of a directory */
  GHashTable *base_names;  /* char * to PowerNode * */
  GPtrArray *name_changes; /* PowerNameChange *, in order */
  uint64_t state;          /* the last crash state that had it, */
  guint cut;               /* with so many of the changes; for power-crash.c */
};

typedef struct _PowerLog PowerLog;

/* A copy of n bytes. */
static inline uint8_t *
power_duplicate (const uint8_t *bytes, uint64_t n)
{
  return n == 0 ? NULL : memcpy (g_malloc (n), bytes, n);
}

/* A thing to do at a call, in a thread of its own, before the call is made. */
typedef void (*PowerInterjection) (void *data);

/* Takes the picture and listens. What is below path belongs to the store; sources (NULL at the
 * end) are files in it that are the disks' images. */
PowerLog *power_log_new (const char *path, const char *const *sources);
/* Stops listening; the log can be read then. */
void power_log_stop (PowerLog *log);
void power_log_free (PowerLog *log);

/* A moment for the test's own events. */
uint64_t power_log_tick (PowerLog *log);
/* One at which crashes are tried, too: something has been promised. */
uint64_t power_log_mark (PowerLog *log);
/* The root directory. */
PowerNode *power_log_root (PowerLog *log);
/* The moments at which to crash (uint64_t): just before the end of each sync, and the marks.
 * Between them nothing becomes certain and nothing is promised, so what can be left by a crash
 * at any moment can be left by one at the next of these, too. */
const GArray *power_log_moments (PowerLog *log);

/* How many calls of the kind there were. */
unsigned power_log_count (PowerLog *log, CallKind kind);

/* Waits until n layers of the store have been removed since the log was made. */
void power_log_wait_removed (PowerLog *log, unsigned n);

/* The next call of that kind and place fails. */
void power_log_fail (PowerLog *log, CallPlace place, CallKind kind, int errnum);

/* At the nth (from 1) call from now on of that kind and place by the calling thread, func
 * is run to its end or until it sleeps, waiting for somebody; then the call is made.
 * power_log_join() waits for its end; false if it never began. */
void power_log_interject (PowerLog *log, CallPlace place, CallKind kind, unsigned nth,
                          PowerInterjection func, void *data);
bool power_log_join (PowerLog *log);
