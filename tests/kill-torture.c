/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fleecefs is killed at random moments, again and again on the same disks and snapshots.
 *
 *     kill-torture --program FLEECEFS [--kills N] [--seed S] [--phase K] [--dir DIR] [--loop]
 *
 * Writers give blocks versions (torture-versions.h) through the mount while snapshots are made,
 * renamed, removed, merged away and read. Then comes SIGKILL: some microseconds after a verb began,
 * after a removal, after so many writes, while it starts or while it ends. After each kill the
 * images are compared with what was answered, now and then qemu-img reads the snapshots from the
 * store; then it is started and all snapshots are compared with what they must be.
 *
 * A phase has its own disks, store and parameters, at most KILLS_PER_PHASE kills, and an end
 * without one. All is drawn from the seed; a replay of a phase repeats what is done, not when. */
#include "kill-check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KILLS_PER_PHASE 20
/* In so many cases of a hundred. */
#define WITH_QEMU_IMG 20
#define WITH_MERGES_AWAITED 30
#define WITH_QUIET_SNAPSHOT 30

/* What is under way when the kill comes. */
typedef enum
{
  MOMENT_WRITES,
  MOMENT_MKDIR,
  MOMENT_RMDIR,
  MOMENT_RENAME,
  MOMENT_MERGE,
  MOMENT_START,
  MOMENT_UNMOUNT, /* with nothing going on */
  MOMENT_SIGNAL,  /* the end by SIGTERM, under load */
  N_MOMENTS,
} Moment;

static const struct
{
  const char *name;
  unsigned weight; /* sum: 100 */
} moments[N_MOMENTS] = {
  [MOMENT_WRITES] = { "writes", 14 },  [MOMENT_MKDIR] = { "mkdir", 24 },
  [MOMENT_RMDIR] = { "rmdir", 12 },    [MOMENT_RENAME] = { "rename", 8 },
  [MOMENT_MERGE] = { "merge", 16 },    [MOMENT_START] = { "start", 12 },
  [MOMENT_UNMOUNT] = { "unmount", 8 }, [MOMENT_SIGNAL] = { "end by signal", 6 },
};

typedef struct
{
  int kills;
  gint64 seed;
  int phase; /* -1: all */
  char *program;
  char *directory;
  gboolean with_loop;
} Options;

typedef struct
{
  Random *random;
  Mount mount;
  Versions versions;
  Witnesses witnesses;
  Load load;
} Phase;

/* Of the whole run. */
static CheckCounts counts;
static unsigned long n_kills[N_MOMENTS], n_closed;

static Moment
pick_moment (Random *random)
{
  unsigned at = (unsigned) random_below (random, 100), moment = 0;

  while (at >= moments[moment].weight)
    at -= moments[moment++].weight;
  return (Moment) moment;
}

/* From 0 to a bit more than what it usually takes. */
static int64_t
pick_spin (Random *random, int64_t usual)
{
  return (int64_t) random_below (random, (uint64_t) usual * 4 / 3 + 2);
}

/* Under load, at the moment. False when the daemon had ended before the kill. */
static bool
kill_under_load (Phase *phase, Moment moment)
{
  static const LoadEvent events[N_MOMENTS] = {
    [MOMENT_WRITES] = LOAD_WRITTEN, [MOMENT_SIGNAL] = LOAD_WRITTEN, [MOMENT_MKDIR] = LOAD_MKDIR,
    [MOMENT_RMDIR] = LOAD_RMDIR,    [MOMENT_RENAME] = LOAD_RENAME,  [MOMENT_MERGE] = LOAD_REMOVED,
  };
  LoadEvent event = events[moment];
  Load *load = &phase->load;
  bool killed = true;
  unsigned n = 1 + (unsigned) random_below (phase->random, event == LOAD_WRITTEN ? 2000 : 4);

  load_start (load, phase->random, event, n);
  if (moment == MOMENT_SIGNAL)
    killed = mount_end (&phase->mount, true, pick_spin (phase->random, phase->mount.usual_end));
  else
    {
      /* What is written meanwhile and how long a merge takes: about as long as a few verbs. */
      LoadEvent like = event == LOAD_REMOVED || event == LOAD_WRITTEN ? LOAD_MKDIR : event;

      mount_spin (pick_spin (phase->random, atomic_load (&load->usual[like])));
      mount_kill (&phase->mount);
    }
  load_join (load);
  mount_clear_away (&phase->mount);
  return killed;
}

/* Starts it, and checks what is there. */
static void
start (Phase *phase)
{
  mount_start (&phase->mount);
  check_mount (&phase->load, phase->random, &counts);
  load_level_marks (&phase->load);
  if (random_percent (phase->random, WITH_MERGES_AWAITED))
    check_await_merges (&phase->load);
  if (random_percent (phase->random, WITH_QUIET_SNAPSHOT)
      && witnesses_count (&phase->witnesses) < phase->mount.bed->set_config.max_snapshots)
    load_make (&phase->load);
}

/* One kill, or a start and an end when that was faster. */
static bool
kill_once (Phase *phase, Moment moment)
{
  Mount *mount = &phase->mount;
  bool killed;

  if (moment == MOMENT_START)
    killed = mount_start_and_kill (mount, pick_spin (phase->random, mount->usual_start));
  else
    {
      start (phase);
      if (moment == MOMENT_UNMOUNT)
        killed = mount_end (mount, false, pick_spin (phase->random, mount->usual_end));
      else
        killed = kill_under_load (phase, moment);
    }
  mount_clear_away (mount);
  n_kills[moment] += killed;
  n_closed += !killed;
  check_images (&phase->load, random_percent (phase->random, WITH_QEMU_IMG), !killed, &counts);
  return killed;
}

/* An end without a kill leaves nothing. */
static void
end_phase (Phase *phase)
{
  mount_start (&phase->mount);
  check_mount (&phase->load, phase->random, &counts);
  check_await_merges (&phase->load);
  mount_end (&phase->mount, false, -1);
  mount_clear_away (&phase->mount);
  check_closed (&phase->load);
}

static void
run_phase (const BedConfig *config, const Options *options, unsigned kills)
{
  Random random = { random_mix (config->seed, config->phase) };
  Bed *bed = bed_new (config, &random);
  Phase *phase = g_new0 (Phase, 1);

  phase->random = &random;
  versions_init (&phase->versions, bed, &random,
                 options->with_loop             ? VERSIONS_FIXED_SIZE
                 : random_percent (&random, 50) ? VERSIONS_ODD_SIZE
                                                : VERSIONS_LIKE_OTHERS);
  witnesses_init (&phase->witnesses, &phase->versions);
  mount_init (&phase->mount, bed, options->program, options->with_loop,
              random_percent (&random, 50));
  load_init (&phase->load, &phase->mount, &phase->versions, &phase->witnesses, &random);
  for (unsigned k = 0; k < kills;)
    k += kill_once (phase, pick_moment (&random));
  end_phase (phase);
  bed_print (bed, "kills");

  load_clear (&phase->load);
  mount_clear (&phase->mount);
  witnesses_clear (&phase->witnesses);
  versions_clear (&phase->versions);
  g_free (phase);
  bed_free (bed);
}

static void
print_counts (void)
{
  unsigned long sum = 0;

  for (unsigned i = 0; i < N_MOMENTS; i++)
    sum += n_kills[i];
  printf ("%lu kills survived:", sum);
  for (unsigned i = 0; i < N_MOMENTS; i++)
    printf (" %s %lu%s", moments[i].name, n_kills[i], i + 1 < N_MOMENTS ? "," : "\n");
  printf ("in flight: %lu blocks and sizes; mkdir: %lu done, %lu not, %lu just returned; "
          "rmdir: %lu done, %lu not; rename: %lu done, %lu not; %lu layers without a snapshot\n",
          counts.n_writes, counts.n_made, counts.n_unmade, counts.n_returned, counts.n_removed,
          counts.n_unremoved, counts.n_renamed, counts.n_unrenamed, counts.n_layers);
  printf ("%lu snapshots compared as a whole, %lu stores read by qemu-img, %lu ends before the "
          "kill came\n",
          counts.n_compared, counts.n_stores, n_closed);
}

static void
parse (Options *options, int argc, char **argv)
{
  const GOptionEntry entries[] = {
    { "program", 0, 0, G_OPTION_ARG_FILENAME, &options->program, "What to run", "FLEECEFS" },
    { "kills", 0, 0, G_OPTION_ARG_INT, &options->kills, "How many (10)", "N" },
    { "seed", 0, 0, G_OPTION_ARG_INT64, &options->seed, "Where random numbers start", "S" },
    { "phase", 0, 0, G_OPTION_ARG_INT, &options->phase, "Only this phase", "K" },
    { "dir", 0, 0, G_OPTION_ARG_FILENAME, &options->directory, "Where to work; must exist", "DIR" },
    { "loop", 0, 0, G_OPTION_ARG_NONE, &options->with_loop, "Every second phase has a loop device",
      NULL },
    { 0 },
  };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (context, entries, NULL);
  if (!g_option_context_parse (context, &argc, &argv, &error) || options->program == NULL
      || options->directory == NULL)
    {
      fprintf (stderr, "kill-torture: %s\n",
               error != NULL ? error->message : "needs --program and --dir");
      exit (2);
    }
}

int
main (int argc, char **argv)
{
  Options options = { .kills = 10, .seed = g_random_int (), .phase = -1 };
  g_autofree char *qemu_img = g_find_program_in_path ("qemu-img");
  BedConfig config = { .qemu_img = qemu_img, .program = argv[0] };
  gboolean with_loop;
  int n_per_phase;

  parse (&options, argc, argv);
  printf ("kill-torture: seed %" PRIi64 "\n", options.seed);
  if (qemu_img == NULL)
    printf ("kill-torture: no qemu-img here, stores are not read by it\n");
  fflush (stdout);

  config.directory = options.directory;
  config.seed = (uint64_t) options.seed;
  with_loop = options.with_loop;
  n_per_phase = CLAMP (options.kills / 2, 1, KILLS_PER_PHASE);
  for (int left = options.kills; left > 0; left -= n_per_phase, config.phase++)
    if (options.phase < 0 || options.phase == (int) config.phase)
      {
        options.with_loop = with_loop && config.phase % 2 == 1;
        run_phase (&config, &options, (unsigned) MIN (left, n_per_phase));
      }
  print_counts ();
  g_free (options.program);
  g_free (options.directory);
  return 0;
}
