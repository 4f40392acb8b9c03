/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The check of the order of locks: each thread counts what it holds of each class. */
#include "base/lock.h"

#ifdef FLEECE_LOCK_ORDER

#include <glib.h>

static const char *const names[LOCK_N_CLASSES] = {
  [LOCK_VERBS] = "verbs",     [LOCK_CLOSER] = "closer",     [LOCK_SECTION] = "section",
  [LOCK_BARRIER] = "barrier", [LOCK_SET] = "set",           [LOCK_ENTRIES] = "entries",
  [LOCK_STRIPE] = "stripe",   [LOCK_NOTE] = "note",         [LOCK_HEADER] = "header",
  [LOCK_TABLES] = "tables",   [LOCK_JOURNAL] = "journal",   [LOCK_DATA_LOG] = "data log",
  [LOCK_ERRORS] = "errors",       [LOCK_GROUP] = "group",       [LOCK_SPACE] = "space",
  [LOCK_JOBS] = "jobs",       [LOCK_JOB] = "job",           [LOCK_LANE] = "lane",
  [LOCK_PAGES] = "pages",     [LOCK_MESSAGES] = "messages", [LOCK_TEST] = "test",
};

static const bool forbids_io[LOCK_N_CLASSES] = {
  [LOCK_BARRIER] = true, [LOCK_SET] = true,      [LOCK_STRIPE] = true, [LOCK_DATA_LOG] = true,
  [LOCK_GROUP] = true,   [LOCK_JOBS] = true,     [LOCK_JOB] = true,    [LOCK_LANE] = true,
  [LOCK_PAGES] = true,   [LOCK_MESSAGES] = true,
};

static __thread unsigned held[LOCK_N_CLASSES];

/* Not g_error(): the log has a lock. */
#define FAIL(...) (g_printerr ("lock order: " __VA_ARGS__), abort ())

void
lock_order_take (LockClass class, bool next)
{
  for (unsigned other = class; other < LOCK_N_CLASSES; other++)
    if (held[other] > 0 && !(next && other == class))
      FAIL ("'%s' is taken while '%s' is held\n", names[class], names[other]);
  held[class]++;
}

void
lock_order_drop (LockClass class)
{
  if (held[class] == 0)
    FAIL ("'%s' is released by a thread that does not hold it\n", names[class]);
  held[class]--;
}

void
lock_order_check_io (void)
{
  for (unsigned class = 0; class < LOCK_N_CLASSES; class ++)
    if (held[class] > 0 && forbids_io[class])
      FAIL ("disk I/O while '%s' is held\n", names[class]);
}

void
lock_order_check_none (void)
{
  for (unsigned class = 0; class < LOCK_N_CLASSES; class ++)
    if (held[class] > 0)
      FAIL ("a reply is sent while '%s' is held\n", names[class]);
}

#endif
