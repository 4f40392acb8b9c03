/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overload-meter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S UINT64_C (1000000000)

uint64_t
waits_now (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * NS_PER_S + (uint64_t) now.tv_nsec;
}

/* The highest bit, and the four below it. */
static unsigned
bucket_of (uint64_t wait)
{
  unsigned high;

  if (wait < 16)
    return (unsigned) wait;
  high = 63 - (unsigned) __builtin_clzll (wait);
  return (high - 3) * 16 + (unsigned) (wait >> (high - 4) & 15);
}

/* Where the next bucket begins. */
static uint64_t
bucket_end (unsigned bucket)
{
  if (bucket < 16)
    return bucket + 1;
  return (UINT64_C (17) + bucket % 16) << (bucket / 16 - 1);
}

void
waits_note (Waits *waits, uint64_t begin)
{
  uint64_t wait = waits_now () - begin;

  waits->n++;
  waits->worst = MAX (waits->worst, wait);
  waits->buckets[bucket_of (wait)]++;
}

void
waits_add (Waits *sum, const Waits *waits)
{
  sum->n += waits->n;
  sum->worst = MAX (sum->worst, waits->worst);
  for (unsigned i = 0; i < WAITS_BUCKETS; i++)
    sum->buckets[i] += waits->buckets[i];
}

uint64_t
waits_percentile (const Waits *waits, double share)
{
  uint64_t seen = 0;

  for (unsigned i = 0; i < WAITS_BUCKETS; i++)
    {
      seen += waits->buckets[i];
      if ((double) seen >= share * (double) waits->n)
        return MIN (bucket_end (i), waits->worst);
    }
  return waits->worst;
}

static unsigned
count_entries (const char *path)
{
  g_autoptr (GDir) directory = g_dir_open (path, 0, NULL);
  unsigned n = 0;

  while (directory != NULL && g_dir_read_name (directory) != NULL)
    n++;
  return n;
}

/* The number behind a word of /proc/PID/status. */
static uint64_t
status_number (const char *status, const char *word)
{
  const char *at = strstr (status, word);

  return at == NULL ? 0 : strtoull (at + strlen (word), NULL, 10);
}

void
usage_look (Usage *usage, pid_t pid, const char *store)
{
  g_autofree char *status_path = g_strdup_printf ("/proc/%d/status", (int) pid);
  g_autofree char *fd_path = g_strdup_printf ("/proc/%d/fd", (int) pid);
  g_autofree char *layers_path = g_build_filename (store, "snapshots", NULL);
  g_autofree char *status = NULL;

  if (!g_file_get_contents (status_path, &status, NULL, NULL))
    return;
  usage->threads = MAX (usage->threads, (unsigned) status_number (status, "\nThreads:"));
  usage->memory_kib = MAX (usage->memory_kib, status_number (status, "\nVmHWM:"));
  usage->descriptors = MAX (usage->descriptors, count_entries (fd_path));
  usage->layers = MAX (usage->layers, count_entries (layers_path));
}
