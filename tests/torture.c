/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Torture: random operations on the whole engine below FUSE, against a model in memory.
 *
 * The program runs phases, each with a fresh store, until its time is over. Even phases are exact
 * (torture-exact.c): what one thread does is mirrored in byte arrays. Odd ones are concurrent
 * (torture-blocks.c): what may be in a snapshot follows from the versions that each block had
 * begun and done around the mkdir. Both hold threads at pause points to widen races.
 *
 * All is drawn from the seed, and each phase has a seed of its own, so a failed phase can be
 * replayed alone, with the number of operations in place of the time. Where several threads run,
 * the replay repeats what they do, not when. Ends at the first difference with status 1. */
#include "torture-phases.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define US_PER_S INT64_C (1000000)
/* A phase is over after this time at the latest, so that all kinds get their share. */
#define PHASE_US ((BED_IS_SLOW ? 10 : 3) * US_PER_S)
#define PHASE_MIN_US (US_PER_S / 4)

typedef struct
{
  int seconds;
  gint64 seed;
  int phase;      /* -1: all */
  int operations; /* 0: as many as there is time for */
  char *directory;
  char *copy;
} Options;

static void
parse (Options *options, int argc, char **argv)
{
  const GOptionEntry entries[] = {
    { "seconds", 0, 0, G_OPTION_ARG_INT, &options->seconds, "How long (10)", "N" },
    { "seed", 0, 0, G_OPTION_ARG_INT64, &options->seed, "Where random numbers start", "S" },
    { "phase", 0, 0, G_OPTION_ARG_INT, &options->phase, "Only this phase", "K" },
    { "operations", 0, 0, G_OPTION_ARG_INT, &options->operations,
      "End an exact phase after N operations, not by time", "N" },
    { "dir", 0, 0, G_OPTION_ARG_FILENAME, &options->directory, "Where to work; must exist", "DIR" },
    { "copy", 0, 0, G_OPTION_ARG_STRING, &options->copy, "auto, bounce or offload", "METHOD" },
    { 0 },
  };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (context, entries, NULL);
  if (!g_option_context_parse (context, &argc, &argv, &error))
    {
      fprintf (stderr, "torture: %s\n", error->message);
      exit (2);
    }
}

static void
parse_copy (const char *text, BedConfig *config)
{
  static const char *const names[] = { "auto", "bounce", "offload" };

  for (unsigned i = 0; i < G_N_ELEMENTS (names) && text != NULL; i++)
    if (strcmp (text, names[i]) == 0)
      {
        config->is_copy_given = true;
        config->copy = (DiskCopyMethod) i;
      }
  if (text != NULL && !config->is_copy_given)
    {
      fprintf (stderr, "torture: --copy is auto, bounce or offload\n");
      exit (2);
    }
}

static void
run_phase (BedConfig config, int64_t end)
{
  Random random = { random_mix (config.seed, config.phase) };
  int64_t now = g_get_monotonic_time ();
  Bed *bed;

  config.deadline = CLAMP (end, now + PHASE_MIN_US, now + PHASE_US);
  if (config.n_operations != 0 && config.phase % 2 == 0)
    config.deadline = INT64_MAX;
  bed = bed_new (&config, &random);
  if (config.phase % 2 == 0)
    torture_exact (bed, &random);
  else
    torture_blocks (bed, &random);
  bed_print (bed, config.phase % 2 == 0 ? "exact" : "concurrent");
  bed_free (bed);
}

int
main (int argc, char **argv)
{
  Options options = { .seconds = 10, .seed = g_random_int (), .phase = -1 };
  g_autofree char *made = NULL;
  g_autofree char *qemu_img = g_find_program_in_path ("qemu-img");
  BedConfig config = { .qemu_img = qemu_img, .program = argv[0] };
  int64_t now, end;

  parse (&options, argc, argv);
  parse_copy (options.copy, &config);
  printf ("torture: seed %" PRIi64 "\n", options.seed);
  if (qemu_img == NULL)
    printf ("torture: no qemu-img here, overlays are not compared with it\n");
  fflush (stdout);

  if (options.directory == NULL)
    made = g_dir_make_tmp ("torture-XXXXXX", NULL);
  config.directory = options.directory != NULL ? options.directory : made;
  config.seed = (uint64_t) options.seed;
  config.n_operations = (unsigned) options.operations;
  now = g_get_monotonic_time ();
  end = now + options.seconds * US_PER_S;
  if (options.phase >= 0)
    {
      config.phase = (unsigned) options.phase;
      run_phase (config, end);
    }
  else
    for (; config.phase < 2 || g_get_monotonic_time () < end; config.phase++)
      run_phase (config, config.phase == 0 ? now + (end - now) / 2 : end);

  if (made != NULL)
    rmdir (made);
  g_free (options.directory);
  g_free (options.copy);
  return 0;
}
