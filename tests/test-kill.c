/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kill -9 between any two system calls.
 *
 * The sequence of steps.h runs in a process of its own, which is killed before its first call that
 * changes the store or an image; then again, before the second one; and so on until it comes to its
 * end. Then once more, killed in the middle of each write that is longer than a page, which is how
 * far the kernel may have come. After each death the set is opened here: all that had been
 * answered must be there, and what was under way wholly, or not at all. Merges go on and come to
 * their end, the set still works, is closed clean, and qemu-img finds nothing to complain about.
 * Some recoveries are killed in the same way.
 *
 *     test-kill [--long]      --long: every granule, copy method, recovery, and QEMU each time
 */
#include "base/units.h"
#include "calls.h"
#include "source/mark.h"
#include "steps.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PAGE 4096

/* What the process that dies leaves to those that look. */
typedef struct
{
  unsigned step;    /* under way; those before are answered */
  unsigned n_calls; /* seen so far */
  CallKind kind;    /* of the last one */
  bool ended;
} Trace;

/* Where a process dies. */
typedef struct
{
  uint64_t number; /* before this call, or within it */
  bool torn;       /* only calls that can be torn count */
} Death;

typedef struct
{
  uint64_t granule;
  DiskCopyMethod copy;
  unsigned second; /* the recovery after every n-th death is killed too; 0: none */
  unsigned qemu;   /* QEMU looks after every n-th */
} Form;

static bool is_long;

/* --- the process that dies --- */

static Trace *trace;

static CallFate
maybe_die (const Call *call, void *data)
{
  const Death *death = data;
  uint64_t half = 0;

  if (death->torn)
    {
      if (call->length <= PAGE || (call->kind != CALL_WRITE && call->kind != CALL_COPY))
        return (CallFate){ CALL_GO_ON, 0, 0 };
      half = (call->offset + call->length / 2) / PAGE * PAGE;
      half = half > call->offset ? half - call->offset : PAGE - call->offset % PAGE;
    }
  trace->kind = call->kind;
  if (__atomic_add_fetch (&trace->n_calls, 1, __ATOMIC_SEQ_CST) == death->number)
    return (CallFate){ CALL_DIE, 0, half };
  return (CallFate){ CALL_GO_ON, 0, 0 };
}

static Trace *
map_trace (const char *dir)
{
  g_autofree char *path = g_build_filename (dir, "trace", NULL);
  int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  void *at = MAP_FAILED;

  if (fd >= 0 && ftruncate (fd, sizeof (Trace)) == 0)
    at = mmap (NULL, sizeof (Trace), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd >= 0)
    close (fd);
  return at == MAP_FAILED ? NULL : at;
}

static bool
recover (Bench *bench)
{
  if (!bench_open (bench))
    return false;
  bench_settle (bench);
  return bench_close (bench);
}

static bool
run_steps (Bench *bench)
{
  for (trace->step = 0; trace->step < n_steps; trace->step++)
    if (bench_run (bench, trace->step) < 0)
      return false;
  return true;
}

/* test-kill --die DIR GRANULE COPY NUMBER TORN RECOVERY. Not under libcheck. */
static int
child_main (char **argv)
{
  Bench *bench = bench_new (argv[0], strtoull (argv[1], NULL, 10), (DiskCopyMethod) atoi (argv[2]),
                            DISK_CBW_BREAK_SNAPSHOT);
  Death death = { strtoull (argv[3], NULL, 10), atoi (argv[4]) != 0 };
  bool is_recovery = atoi (argv[5]) != 0, ok;

  trace = map_trace (argv[0]);
  if (trace == NULL)
    return 2;
  bench_watch (bench);
  calls_hook (1U << CALL_STORE | 1U << CALL_SOURCE, CALLS_CHANGES | 1U << CALL_XATTR, maybe_die,
              NULL, &death);
  ok = is_recovery ? recover (bench) : run_steps (bench);
  if (!ok)
    fprintf (stderr, "step %u: %s\n", trace->step, bench->error != NULL ? bench->error : "failed");
  trace->ended = ok;
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  if (bench->set == NULL)
    bench_free (bench);
  return ok ? 0 : 1;
}

/* --- those that look --- */

/* Runs it; true when it was killed, false when it came to its end. */
static bool
run_child (const Bench *bench, Death death, bool is_recovery)
{
  g_autofree char *number = g_strdup_printf ("%" G_GUINT64_FORMAT, (guint64) death.number);
  g_autofree char *granule = g_strdup_printf ("%" G_GUINT64_FORMAT, (guint64) bench->granule);
  g_autofree char *copy = g_strdup_printf ("%d", (int) bench->copy);
  const char *argv[] = {
    "/proc/self/exe",        "--die", bench->dir, granule, copy, number, death.torn ? "1" : "0",
    is_recovery ? "1" : "0", NULL
  };
  g_autoptr (GError) error = NULL;
  int status;

  memset (trace, 0, sizeof *trace);
  ck_assert_msg (g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL,
                               &status, &error),
                 "%s", error != NULL ? error->message : "");
  if (WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL)
    return true;
  ck_assert_msg (WIFEXITED (status) && WEXITSTATUS (status) == 0 && trace->ended,
                 "the process failed at step %u with status 0x%x", trace->step, (unsigned) status);
  return false;
}

/* A byte that a write under way at the moment of death has reached, or has not. */
static char *
check_torn (const Model *before, const Model *after, const Picture *now, unsigned disk)
{
  const Picture *b = &before->live[disk], *a = &after->live[disk];

  if (now->size < MIN (a->size, b->size) || now->size > MAX (a->size, b->size))
    return g_strdup_printf ("live disk %u has a size that it never had", disk);
  for (uint64_t i = 0; i < now->size; i++)
    if (now->bytes[i] != b->bytes[i] && now->bytes[i] != a->bytes[i])
      return g_strdup_printf ("live disk %u: byte %" G_GUINT64_FORMAT " was never 0x%02x", disk,
                              (guint64) i, now->bytes[i]);
  return NULL;
}

/* The model at the moment of death, with the images as they are found now. */
static Model *
model_at_death (const Bench *bench, unsigned step, char **out_wrong)
{
  Model *model = model_new (bench->granule), *after = model_new (bench->granule);
  Model *found = model_new (bench->granule);

  for (unsigned i = 0; i < step; i++)
    model_apply (model, i);
  for (unsigned i = 0; i <= step && i < n_steps; i++)
    model_apply (after, i);
  for (unsigned i = 0; i < STEPS_DISKS && *out_wrong == NULL; i++)
    if (!model_load_live (found, bench, i))
      *out_wrong = g_strdup_printf ("the image of disk %u cannot be read", i);
    else
      {
        *out_wrong = check_torn (model, after, &found->live[i], i);
        if (*out_wrong == NULL)
          *out_wrong = !model_load_live (model, bench, i) ? g_strdup ("lost") : NULL;
      }
  model_free (after);
  model_free (found);
  return model;
}

static bool
is_there (const Bench *bench, const char *name)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (bench->set, name);

  return snapshot != NULL;
}

/* A verb that was under way: brings the model to what it has come to. */
static void
follow_verb (Model *model, const Bench *bench, unsigned step)
{
  bool done = false;

  if (step == n_steps)
    return;
  switch (steps[step].kind)
    {
    case STEP_MKDIR:
      done = is_there (bench, steps[step].name);
      break;
    case STEP_RENAME:
      done = is_there (bench, steps[step].to);
      break;
    case STEP_RMDIR:
    case STEP_RMDIR_HOLD:
      done = !is_there (bench, steps[step].name);
      break;
    default:
      break;
    }
  if (done)
    model_apply (model, step);
}

/* A closed store leaves nothing at the images. */
static char *
check_no_marks (const Bench *bench)
{
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    if (getxattr (bench->images[i].path, MARK_NAME, NULL, 0) >= 0)
      return g_strdup_printf ("the image of disk %u still has a mark", i);
  return NULL;
}

/* The set works as before: a snapshot, writes, and all others stay what they were. */
static char *
use_it (Model *model, Bench *bench)
{
  static const unsigned again[] = { 1, 3, 4 }; /* a few writes, and a snapshot, of the sequence */

  if (snapshots_create (bench->set, "a", NULL) != 0 && !is_there (bench, "a"))
    return g_strdup ("mkdir does not work");
  if (model_find (model, "a") == NULL)
    model_apply (model, 2);
  for (unsigned i = 0; i < G_N_ELEMENTS (again); i++)
    {
      if (bench_run (bench, again[i]) < 0)
        return g_strdup ("writing does not work");
      model_apply (model, again[i]);
    }
  return model_check (model, bench, false);
}

/* Checks all that the head of this file says. NULL, or what is wrong. */
static char *
look (Bench *bench, unsigned step, bool with_qemu)
{
  char *wrong = NULL;
  Model *model = model_at_death (bench, step, &wrong);

  if (wrong == NULL && !bench_open (bench))
    wrong = g_strdup (bench->error);
  if (wrong == NULL)
    {
      follow_verb (model, bench, step);
      wrong = model_check (model, bench, false);
    }
  if (wrong == NULL)
    {
      bench_settle (bench);
      wrong = model_check (model, bench, false);
    }
  if (wrong == NULL)
    wrong = use_it (model, bench);
  if (bench->set != NULL && !bench_close (bench) && wrong == NULL)
    wrong = g_strdup (bench->error);
  if (wrong == NULL)
    wrong = check_no_marks (bench);
  if (wrong == NULL && with_qemu)
    wrong = model_check_qemu (model, bench);
  model_free (model);
  return wrong;
}

/* Kills the recovery before its first, second... call, until one comes to its end. The store
 * changes from death to death, as it does where a machine crashes again and again. Returns the
 * number of deaths. */
static unsigned
kill_recoveries (const Bench *bench, uint64_t number)
{
  unsigned n = 0;

  /* Not from the start each time: from death to death it gets further, or stays. */
  for (Death death = { 1 + number % 3, false }; run_child (bench, death, true); death.number++)
    n++;
  return n;
}

static unsigned n_deaths, n_second_deaths, n_looks_of_qemu;

/* One life and death. False: it came to its end. */
static bool
one_death (Bench *bench, const Form *form, Death death)
{
  bool with_qemu = form->qemu != 0 && death.number % form->qemu == 0 && test_have ("qemu-img");
  g_autofree char *wrong = NULL;
  bool died;
  unsigned step;
  CallKind kind;

  bench_clean (bench);
  ck_assert_msg (bench_make_images (bench), "%s", strerror (errno));
  died = run_child (bench, death, false);
  step = died ? trace->step : n_steps;
  kind = trace->kind;
  if (died && form->second != 0 && death.number % form->second == 0)
    n_second_deaths += kill_recoveries (bench, death.number);
  wrong = look (bench, step, with_qemu || !died);
  ck_assert_msg (wrong == NULL, "killed %s call %u (%s), in step %u: %s",
                 death.torn ? "within" : "before", (unsigned) death.number, calls_kind_name (kind),
                 step, wrong);
  n_deaths += died;
  n_looks_of_qemu += with_qemu;
  return died;
}

static const Form forms[] = {
  { 4 * KIB, DISK_COPY_BOUNCE, 40, 32 },
  /* long */
  { 4 * KIB, DISK_COPY_OFFLOAD, 1, 1 },
  { 16 * KIB, DISK_COPY_BOUNCE, 1, 1 },
  { 16 * KIB, DISK_COPY_OFFLOAD, 1, 1 },
  { 64 * KIB, DISK_COPY_BOUNCE, 4, 1 },
  { 64 * KIB, DISK_COPY_OFFLOAD, 4, 1 },
};

START_TEST (test_every_call)
{
  const Form *form = &forms[_i];
  Bench *bench = bench_new (test_dir, form->granule, form->copy, DISK_CBW_BREAK_SNAPSHOT);

  trace = map_trace (test_dir);
  ck_assert_ptr_nonnull (trace);
  n_deaths = n_second_deaths = n_looks_of_qemu = 0;
  for (unsigned torn = 0; torn < 2; torn++)
    for (Death death = { 1, torn != 0 }; one_death (bench, form, death);)
      death.number++;
  printf ("granule %uk, %s: killed %u times, %u more while it recovered; QEMU looked %u times\n",
          (unsigned) (form->granule / KIB), form->copy == DISK_COPY_BOUNCE ? "bounce" : "offload",
          n_deaths, n_second_deaths, n_looks_of_qemu);
  fflush (stdout);
  ck_assert_uint_gt (n_deaths, 100);
  munmap (trace, sizeof *trace);
  bench_free (bench);
}
END_TEST

static Suite *
suite (void)
{
  Suite *s = suite_create ("kill");
  TCase *tcase = test_case (s, "kill", is_long ? 7200 : 0);

  tcase_add_loop_test (tcase, test_every_call, 0, is_long ? G_N_ELEMENTS (forms) : 1);
  return s;
}

int
main (int argc, char **argv)
{
  if (argc == 8 && strcmp (argv[1], "--die") == 0)
    return child_main (argv + 2);
  is_long = argc == 2 && strcmp (argv[1], "--long") == 0;
  /* Every step syncs; what a sync is worth is not the question here. */
  test_in_memory ();
  return test_main (suite ());
}
