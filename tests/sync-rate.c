/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many syncs of overlays a thousand first writes cost with durability=power, for one writer and
 * for sixteen at a time. `make sync-rate`; the directory, on a real disk, is the argument. */
#include "base/units.h"
#include "calls.h"
#include "snapshot/snapshots.h"
#include "test-util.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define GRANULE (4 * KIB)
#define WRITES 2048 /* of each measurement */
#define MAX_WRITERS 16

typedef struct
{
  Snapshots *set;
  unsigned n_snapshots, n_writers;
  atomic_uint next;
  atomic_uint n_syncs;
} Rate;

static CallFate
count (const Call *call, void *data)
{
  Rate *rate = data;

  if (g_str_has_suffix (call->path, ".qcow2"))
    rate->n_syncs++;
  return (CallFate){ CALL_GO_ON, 0, 0 };
}

/* Granules in an order that spreads them, each once: an odd factor modulo a power of two. */
static void *
write_first (void *data)
{
  Rate *rate = data;
  uint8_t bytes[GRANULE];
  unsigned i;

  memset (bytes, 0x55, sizeof bytes);
  while ((i = rate->next++) < WRITES)
    if (disk_write (snapshots_disk (rate->set, 0), bytes, GRANULE,
                    (uint64_t) (i * 1237 % WRITES) * GRANULE, IO_SYNC_NONE)
        != GRANULE)
      abort ();
  return NULL;
}

/* First writes after a new snapshot. Returns the seconds that they took. */
static double
run (Rate *rate)
{
  g_autofree char *name = g_strdup_printf ("%u", ++rate->n_snapshots);
  pthread_t threads[MAX_WRITERS];
  gint64 begun;

  if (snapshots_create (rate->set, name, NULL) != 0)
    abort ();
  rate->next = 0;
  rate->n_syncs = 0;
  begun = g_get_monotonic_time ();
  for (unsigned i = 0; i < rate->n_writers; i++)
    if (pthread_create (&threads[i], NULL, write_first, rate) != 0)
      abort ();
  for (unsigned i = 0; i < rate->n_writers; i++)
    pthread_join (threads[i], NULL);
  return (double) (g_get_monotonic_time () - begun) / 1e6;
}

/* Counted and timed apart: who counts looks at every write. */
static void
measure (Rate *rate, unsigned n_writers)
{
  unsigned n_syncs;
  double seconds;

  rate->n_writers = n_writers;
  calls_hook (1U << CALL_STORE, 1U << CALL_SYNC, count, NULL, rate);
  run (rate);
  n_syncs = rate->n_syncs;
  calls_hook (0, 0, NULL, NULL, NULL);
  seconds = run (rate);
  printf ("depth %2u: %4.0f syncs for 1000 first writes of 4 KiB, %.0f writes a second\n",
          rate->n_writers, n_syncs * 1000.0 / WRITES, WRITES / seconds);
}

int
main (int argc, char **argv)
{
  g_autofree char *directory
      = g_build_filename (argc > 1 ? argv[1] : ".", "sync-rate-XXXXXX", NULL);
  g_autofree char *image = NULL, *store = NULL;
  g_autofree uint8_t *bytes = g_malloc (WRITES * GRANULE);
  SnapshotsConfig config = { .max_snapshots = 10, .copy = DISK_COPY_AUTO, .durable = true };
  SnapshotsImage images[1] = { { "disk", NULL } };
  g_autoptr (GError) error = NULL;
  Rate rate = { 0 };
  char *absolute;
  const char *remove[] = { "rm", "-rf", NULL, NULL };

  if (g_mkdtemp (directory) == NULL || (absolute = realpath (directory, NULL)) == NULL)
    abort ();
  remove[2] = absolute;
  images[0].path = image = g_build_filename (absolute, "disk", NULL);
  config.store = store = g_build_filename (absolute, "store", NULL);
  test_fill (bytes, WRITES * GRANULE, 1, 0);
  if (!g_file_set_contents (image, (const char *) bytes, WRITES * GRANULE, &error))
    {
      fprintf (stderr, "sync-rate: %s\n", error->message);
      return 1;
    }
  rate.set = snapshots_open (&config, images, 1, &error);
  if (rate.set == NULL || !snapshots_start (rate.set, &error))
    {
      fprintf (stderr, "sync-rate: %s\n", error->message);
      return 1;
    }
  calls_watch (CALL_STORE, store);
  measure (&rate, 1);
  measure (&rate, MAX_WRITERS);
  calls_forget ();
  if (!snapshots_close (rate.set, &error))
    fprintf (stderr, "sync-rate: %s\n", error->message);
  g_spawn_sync (NULL, (char **) remove, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                NULL);
  free (absolute);
  return 0;
}
