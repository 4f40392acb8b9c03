/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/own-host.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57 /* Linux 5.6 */
#endif

#define OOM_FILE "/proc/self/oom_score_adj"
#define OOM_SCORE (-900)

/* Lowers the score; one that is lower already, from a service manager, stays. */
static void
be_killed_last (void)
{
  g_autofree char *text = NULL;
  FILE *file;

  if (!g_file_get_contents (OOM_FILE, &text, NULL, NULL) || atoi (text) <= OOM_SCORE)
    return;
  file = fopen (OOM_FILE, "we");
  if (file == NULL)
    return;
  fprintf (file, "%d", OOM_SCORE);
  if (fclose (file) != 0)
    g_info ("cannot write " OOM_FILE ": %s", g_strerror (errno));
}

static void
keep_memory (void)
{
  const struct rlimit all = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };

  /* Under a limit later allocations would fail. */
  if (setrlimit (RLIMIT_MEMLOCK, &all) != 0
      || mlockall (MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
    g_info ("cannot lock memory: %s", g_strerror (errno));
}

void
own_host_prepare (void)
{
  if (prctl (PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0)
    {
      g_info ("cannot be an I/O flusher: %s", g_strerror (errno));
      return;
    }
  be_killed_last ();
  keep_memory ();
}
