/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See steps.h. */
#include "steps.h"

#include "base/pause.h"
#include "base/units.h"
#include "calls.h"
#include "snapshot/broken.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Granules of the disks at the start, and bytes more. With a granule of 16k the first one has two
 * regions, with 4k clusters that are full, in part, and not used. */
#define SIZE_0 70, 1001
#define SIZE_1 9, 512
/* The hole in the first one at the start. */
#define HOLE_FIRST 40
#define HOLE_N 11
/* The largest size of a disk in the sequence. */
#define GRANULES_MAX 82

const Step steps[] = {
  { .kind = STEP_OPEN },
  { .kind = STEP_WRITE, .n = 12, .n_bytes = 5 },
  { .kind = STEP_MKDIR, .name = "a" },
  { .kind = STEP_WRITE, .at = 3, .at_bytes = 100, .n = 4 },
  { .kind = STEP_WRITE, .disk = 1, .n = 2 },
  { .kind = STEP_MKDIR, .name = "b" },
  { .kind = STEP_WRITE, .at = 50, .n = 20, .n_bytes = 1001 },
  { .kind = STEP_ZERO, .at = 20, .n = 3 },
  { .kind = STEP_FLUSH },
  { .kind = STEP_MKDIR, .name = "c" },
  { .kind = STEP_WRITE, .at = 3, .at_bytes = 50, .n = 1, .n_bytes = 7 },
  { .kind = STEP_PUNCH, .disk = 1, .at = 1, .n = 3 },
  { .kind = STEP_WRITE, .at = 20, .n = 2 },
  { .kind = STEP_RENAME, .name = "a", .to = "first" },
  { .kind = STEP_READ, .name = "first" },
  { .kind = STEP_RMDIR, .name = "b" }, /* has more than "first": goes up */
  { .kind = STEP_SETTLE },
  { .kind = STEP_MKDIR, .name = "d" },
  { .kind = STEP_WRITE, .at = 30, .n = 2 },
  { .kind = STEP_READ, .name = "d" },
  { .kind = STEP_RMDIR_HOLD, .name = "d" }, /* has less than "c", which receives copies meanwhile */
  { .kind = STEP_WRITE, .at = 38, .at_bytes = 9, .n = 11 },
  { .kind = STEP_READ, .name = "c" },
  { .kind = STEP_RELEASE },
  { .kind = STEP_SETTLE },
  { .kind = STEP_TRUNCATE, .n = 80, .n_bytes = 17 },
  { .kind = STEP_MKDIR, .name = "e" },
  { .kind = STEP_WRITE, .at = 75, .n = 4 },
  { .kind = STEP_TRUNCATE, .n = 60, .n_bytes = 300 },
  { .kind = STEP_READ, .name = "e" },
  { .kind = STEP_RMDIR, .name = "c" }, /* has less than "first": goes down */
  { .kind = STEP_SETTLE },
  { .kind = STEP_CLOSE },
  { .kind = STEP_OPEN },
  { .kind = STEP_READ, .name = "e" },
  { .kind = STEP_WRITE, .at = 5, .n = 3 },
  { .kind = STEP_MKDIR, .name = "f" },
  { .kind = STEP_WRITE, .n = 8 },
  { .kind = STEP_WRITE, .disk = 1, .at = 4, .n = 4 },
  { .kind = STEP_RMDIR, .name = "first" }, /* the oldest: dropped */
  { .kind = STEP_SETTLE },
  { .kind = STEP_READ, .name = "e" },
  { .kind = STEP_READ, .name = "f" },
  { .kind = STEP_CLOSE },
};

const unsigned n_steps = G_N_ELEMENTS (steps);

static const char *const disk_names[STEPS_DISKS] = { "vm0.img", "vm1.img" };

static uint64_t
offset_of (const Step *step, uint64_t granule)
{
  return step->at * granule + step->at_bytes;
}

static uint64_t
length_of (const Step *step, uint64_t granule)
{
  return step->n * granule + step->n_bytes;
}

static uint64_t
first_size (unsigned disk, uint64_t granule)
{
  static const unsigned sizes[STEPS_DISKS][2] = { { SIZE_0 }, { SIZE_1 } };

  return sizes[disk][0] * granule + sizes[disk][1];
}

/* The bytes of a step; they differ between steps and from sector to sector, and are never zero. */
static void
fill (uint8_t *bytes, uint64_t offset, uint64_t length, unsigned step)
{
  unsigned value = 0;

  for (uint64_t i = 0; i < length; i++)
    {
      uint64_t at = offset + i;

      if (i == 0 || at % 512 == 0)
        value = (unsigned) ((step * 37 + at / 512 * 11 + at / 16384 * 5 + at) % 255);
      bytes[i] = (uint8_t) (1 + value);
      value = value == 254 ? 0 : value + 1;
    }
}

/* What the disk holds at the start. */
static Picture
first_picture (unsigned disk, uint64_t granule)
{
  Picture picture = { g_malloc0 (GRANULES_MAX * granule), first_size (disk, granule) };

  fill (picture.bytes, 0, picture.size, 100 + disk);
  if (disk == 0)
    memset (picture.bytes + HOLE_FIRST * granule, 0, HOLE_N * granule);
  return picture;
}

/* --- the bench --- */

Bench *
bench_new (const char *dir, uint64_t granule, DiskCopyMethod copy, DiskCbwError on_cbw_error)
{
  Bench *bench = g_new0 (Bench, 1);

  bench->dir = g_strdup (dir);
  bench->granule = granule;
  bench->copy = copy;
  bench->on_cbw_error = on_cbw_error;
  bench->store = g_build_filename (dir, "store", NULL);
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    bench->images[i]
        = (SnapshotsImage){ disk_names[i], g_build_filename (dir, disk_names[i], NULL) };
  return bench;
}

void
bench_free (Bench *bench)
{
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    g_free ((char *) bench->images[i].path);
  g_free (bench->store);
  g_free (bench->error);
  g_free (bench->dir);
  g_free (bench);
}

static bool
make_image (const char *path, const Picture *picture, uint64_t granule)
{
  uint64_t hole = HOLE_FIRST * granule, after = hole + HOLE_N * granule;
  int fd = open (path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  bool ok = fd >= 0 && ftruncate (fd, (off_t) picture->size) == 0;

  if (ok && picture->size <= after)
    ok = pwrite (fd, picture->bytes, picture->size, 0) == (ssize_t) picture->size;
  else
    ok = ok && pwrite (fd, picture->bytes, hole, 0) == (ssize_t) hole
         && pwrite (fd, picture->bytes + after, picture->size - after, (off_t) after)
                == (ssize_t) (picture->size - after);
  if (fd >= 0)
    close (fd);
  return ok;
}

bool
bench_make_images (const Bench *bench)
{
  bool ok = true;

  for (unsigned i = 0; i < STEPS_DISKS; i++)
    {
      Picture picture = first_picture (i, bench->granule);

      ok = ok && make_image (bench->images[i].path, &picture, bench->granule);
      g_free (picture.bytes);
    }
  return ok;
}

static int
remove_entry (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void) st;
  (void) type;
  (void) ftw;
  return remove (path);
}

void
bench_clean (const Bench *bench)
{
  nftw (bench->store, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    unlink (bench->images[i].path);
}

void
bench_watch (const Bench *bench)
{
  calls_forget ();
  calls_watch (CALL_STORE, bench->store);
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    calls_watch (CALL_SOURCE, bench->images[i].path);
}

/* --- steps --- */

static bool
note_error (Bench *bench, const GError *error)
{
  g_free (bench->error);
  bench->error = error != NULL ? g_strdup (error->message) : NULL;
  return error == NULL;
}

bool
bench_open (Bench *bench)
{
  SnapshotsConfig config = {
    .store = bench->store,
    .granule = bench->granule,
    .max_snapshots = STEPS_NAMES,
    .copy = bench->copy,
    .on_cbw_error = bench->on_cbw_error,
  };
  g_autoptr (GError) error = NULL;

  bench->set = snapshots_open (&config, bench->images, STEPS_DISKS, &error);
  if (bench->set != NULL && !snapshots_start (bench->set, &error))
    {
      snapshots_abandon (bench->set);
      bench->set = NULL;
    }
  return note_error (bench, error);
}

bool
bench_close (Bench *bench)
{
  g_autoptr (GError) error = NULL;

  snapshots_close (bench->set, &error);
  bench->set = NULL;
  return note_error (bench, error);
}

void
bench_settle (Bench *bench)
{
  pause_watch ("merge:idle");
  broken_leave_note (bench->set); /* wakes it, should it be idle already */
  pause_wait_reached ("merge:idle");
  pause_release ("merge:idle");
}

static int64_t
write_bytes (Bench *bench, unsigned index)
{
  const Step *step = &steps[index];
  uint64_t offset = offset_of (step, bench->granule), length = length_of (step, bench->granule);
  g_autofree uint8_t *bytes = g_malloc0 (length);

  if (step->kind == STEP_WRITE)
    fill (bytes, offset, length, index);
  return disk_write (snapshots_disk (bench->set, step->disk), bytes, length, offset, IO_SYNC_NONE);
}

static int64_t
remove_and_hold (Bench *bench, const char *name)
{
  int r;

  pause_arm ("merge:copied");
  pause_watch ("merge:idle"); /* when there is nothing to merge, after faults */
  r = snapshots_remove (bench->set, name);
  bench->held
      = r == 0 && strcmp (pause_wait_either ("merge:copied", "merge:idle"), "merge:copied") == 0;
  pause_release ("merge:idle");
  if (!bench->held)
    pause_release ("merge:copied");
  return r;
}

void
bench_let_go (Bench *bench)
{
  if (bench->held)
    pause_release ("merge:copied");
  bench->held = false;
}

static int64_t
read_whole (Bench *bench, const char *name)
{
  g_autofree uint8_t *bytes = g_malloc (GRANULES_MAX * bench->granule);
  g_autoptr (Snapshot) snapshot = snapshots_find (bench->set, name);
  ssize_t r = snapshot == NULL ? -ENOENT : 0;

  for (unsigned i = 0; i < STEPS_DISKS && r >= 0; i++)
    r = snapshot_read (snapshot, i, bytes, GRANULES_MAX * bench->granule, 0);
  return r < 0 ? r : 0;
}

int64_t
bench_run (Bench *bench, unsigned index)
{
  const Step *step = &steps[index];
  Disk *disk;

  if (step->kind == STEP_OPEN)
    return bench_open (bench) ? 0 : -EIO;
  if (bench->set == NULL)
    return 0;
  disk = snapshots_disk (bench->set, step->disk);
  switch (step->kind)
    {
    case STEP_OPEN:
      break;
    case STEP_CLOSE:
      return bench_close (bench) ? 0 : -EIO;
    case STEP_WRITE:
    case STEP_ZERO:
      return write_bytes (bench, index);
    case STEP_PUNCH:
      return disk_allocate (disk, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            offset_of (step, bench->granule), length_of (step, bench->granule));
    case STEP_TRUNCATE:
      return disk_truncate (disk, length_of (step, bench->granule));
    case STEP_FLUSH:
      return disk_flush (disk, false);
    case STEP_MKDIR:
      return snapshots_create (bench->set, step->name, NULL);
    case STEP_RENAME:
      return snapshots_rename (bench->set, step->name, step->to);
    case STEP_RMDIR:
      return snapshots_remove (bench->set, step->name);
    case STEP_RMDIR_HOLD:
      return remove_and_hold (bench, step->name);
    case STEP_RELEASE:
      bench_let_go (bench);
      break;
    case STEP_SETTLE:
      bench_settle (bench);
      break;
    case STEP_READ:
      return read_whole (bench, step->name);
    }
  return 0;
}

/* --- the model --- */

Model *
model_new (uint64_t granule)
{
  Model *model = g_new0 (Model, 1);

  model->granule = granule;
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    model->live[i] = first_picture (i, granule);
  return model;
}

static void
forget (ModelSnapshot *snapshot)
{
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    g_free (snapshot->images[i].bytes);
  *snapshot = (ModelSnapshot){ .is_broken = false };
}

void
model_free (Model *model)
{
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    g_free (model->live[i].bytes);
  for (unsigned i = 0; i < STEPS_NAMES; i++)
    forget (&model->snapshots[i]);
  g_free (model);
}

ModelSnapshot *
model_find (Model *model, const char *name)
{
  for (unsigned i = 0; i < STEPS_NAMES; i++)
    if (strcmp (model->snapshots[i].name, name) == 0)
      return &model->snapshots[i];
  return NULL;
}

static void
take (Model *model, const char *name)
{
  ModelSnapshot *snapshot = model_find (model, "");

  g_strlcpy (snapshot->name, name, sizeof snapshot->name);
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    {
      snapshot->images[i]
          = (Picture){ g_malloc (GRANULES_MAX * model->granule), model->live[i].size };
      memcpy (snapshot->images[i].bytes, model->live[i].bytes, GRANULES_MAX * model->granule);
    }
}

void
model_apply (Model *model, unsigned index)
{
  const Step *step = &steps[index];
  uint64_t offset = offset_of (step, model->granule), length = length_of (step, model->granule);
  Picture *live = &model->live[step->disk];
  ModelSnapshot *snapshot = step->name != NULL ? model_find (model, step->name) : NULL;

  switch (step->kind)
    {
    case STEP_WRITE:
      fill (live->bytes + offset, offset, length, index);
      live->size = MAX (live->size, offset + length);
      break;
    case STEP_ZERO:
    case STEP_PUNCH:
      memset (live->bytes + offset, 0, length);
      break;
    case STEP_TRUNCATE:
      if (length < live->size)
        memset (live->bytes + length, 0, live->size - length);
      live->size = length;
      break;
    case STEP_MKDIR:
      take (model, step->name);
      break;
    case STEP_RENAME:
      if (snapshot != NULL)
        g_strlcpy (snapshot->name, step->to, sizeof snapshot->name);
      break;
    case STEP_RMDIR:
    case STEP_RMDIR_HOLD:
      if (snapshot != NULL)
        forget (snapshot);
      break;
    default:
      break;
    }
}

bool
model_load_live (Model *model, const Bench *bench, unsigned disk)
{
  Picture *live = &model->live[disk];
  struct stat st;
  int fd = open (bench->images[disk].path, O_RDONLY | O_CLOEXEC);
  bool ok = fd >= 0 && fstat (fd, &st) == 0
            && (uint64_t) st.st_size <= GRANULES_MAX * model->granule
            && pread (fd, live->bytes, (size_t) st.st_size, 0) == (ssize_t) st.st_size;

  if (ok)
    {
      live->size = (uint64_t) st.st_size;
      memset (live->bytes + live->size, 0, GRANULES_MAX * model->granule - live->size);
    }
  if (fd >= 0)
    close (fd);
  return ok;
}

/* --- comparing --- */

static char *
compare (const char *what, unsigned disk, const uint8_t *got, uint64_t n_got,
         const Picture *expected)
{
  uint64_t i = 0;

  if (n_got != expected->size)
    return g_strdup_printf ("%s of disk %u has %" G_GUINT64_FORMAT " bytes, not %" G_GUINT64_FORMAT,
                            what, disk, (guint64) n_got, (guint64) expected->size);
  if (memcmp (got, expected->bytes, n_got) == 0)
    return NULL;
  while (got[i] == expected->bytes[i])
    i++;
  return g_strdup_printf ("%s of disk %u: byte %" G_GUINT64_FORMAT " is 0x%02x, not 0x%02x", what,
                          disk, (guint64) i, got[i], expected->bytes[i]);
}

/* Reads every disk of the snapshot; *out_errors counts those that gave an error. */
static char *
compare_snapshot (const ModelSnapshot *expected, Snapshot *snapshot, uint64_t granule,
                  unsigned *out_errors)
{
  uint64_t length = GRANULES_MAX * granule;
  g_autofree uint8_t *bytes = g_malloc (length);

  *out_errors = 0;
  for (unsigned i = 0; i < STEPS_DISKS; i++)
    {
      ssize_t n = snapshot_read (snapshot, i, bytes, length, 0);
      char *wrong
          = n < 0 ? NULL : compare (expected->name, i, bytes, (uint64_t) n, &expected->images[i]);

      if (wrong != NULL)
        return wrong;
      *out_errors += n < 0;
    }
  return NULL;
}

char *
model_check_read (Model *model, const Bench *bench, const char *name, unsigned *out_errors)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (bench->set, name);
  const ModelSnapshot *expected = model_find (model, name);

  *out_errors = 0;
  if (snapshot == NULL || expected == NULL)
    return (snapshot == NULL) == (expected == NULL) ? NULL
                                                    : g_strdup_printf ("%s should not be", name);
  return compare_snapshot (expected, snapshot, model->granule, out_errors);
}

static char *
check_snapshot (ModelSnapshot *expected, const Bench *bench, bool may_break)
{
  g_autoptr (Snapshot) snapshot = snapshots_find (bench->set, expected->name);
  g_autofree char *broken = NULL;
  unsigned n_errors;
  char *wrong;

  if (snapshot == NULL)
    return g_strdup_printf ("'%s' is not there", expected->name);
  wrong = compare_snapshot (expected, snapshot, bench->granule, &n_errors);
  if (wrong != NULL)
    return wrong;
  broken = snapshot_dup_broken (snapshot);
  if (broken != NULL && !expected->is_broken && !may_break)
    return g_strdup_printf ("'%s' is broken: %s", expected->name, broken);
  if (broken == NULL && expected->is_broken)
    return g_strdup_printf ("'%s' is not broken any more", expected->name);
  if ((broken == NULL) != (n_errors == 0))
    return g_strdup_printf ("'%s' reads %u errors and is %s", expected->name, n_errors,
                            broken != NULL ? broken : "not broken");
  expected->is_broken = broken != NULL;
  return NULL;
}

static char *
check_live (const Model *model, const Bench *bench, unsigned disk)
{
  uint64_t length = GRANULES_MAX * model->granule;
  g_autofree uint8_t *bytes = g_malloc (length);
  ssize_t n = disk_read (snapshots_disk (bench->set, disk), bytes, length, 0);

  if (n < 0)
    return g_strdup_printf ("the live disk %u cannot be read: %s", disk, g_strerror ((int) -n));
  return compare ("live", disk, bytes, (uint64_t) n, &model->live[disk]);
}

char *
model_check (Model *model, const Bench *bench, bool may_break)
{
  unsigned n = 0;
  char *wrong = NULL;

  for (unsigned i = 0; i < STEPS_DISKS && wrong == NULL; i++)
    wrong = check_live (model, bench, i);
  for (unsigned i = 0; i < STEPS_NAMES && wrong == NULL; i++)
    if (model->snapshots[i].name[0] != '\0')
      {
        n++;
        wrong = check_snapshot (&model->snapshots[i], bench, may_break);
      }
  if (wrong == NULL && snapshots_count (bench->set) != n)
    wrong = g_strdup_printf ("there are %u snapshots, not %u", snapshots_count (bench->set), n);
  return wrong;
}

/* --- QEMU --- */

static bool
run (char **out_text, const char *const *argv)
{
  g_autofree char *out = NULL, *err = NULL;
  int status;

  if (!g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err,
                     &status, NULL))
    return false;
  *out_text = g_strconcat (out, err, NULL);
  return status == 0;
}

/* The overlay of a disk in a level's directory. */
static char *
check_overlay (const Bench *bench, const char *level_path, const ModelSnapshot *expected,
               unsigned disk)
{
  g_autofree char *overlay = g_strdup_printf ("%s/%s.qcow2", level_path, disk_names[disk]);
  g_autofree char *raw = g_build_filename (bench->dir, "converted", NULL);
  g_autofree char *text = NULL, *more = NULL;
  g_autofree char *bytes = NULL;
  const char *check[] = { "qemu-img", "check", "-q", "-f", "qcow2", overlay, NULL };
  const char *convert[] = { "qemu-img", "convert", "-f", "qcow2", "-O", "raw", overlay, raw, NULL };
  gsize length;

  if (expected->is_broken)
    return NULL; /* marked as corrupt on purpose */
  if (!run (&text, check))
    return g_strdup_printf ("qemu-img check %s: %s", overlay, text);
  if (!run (&more, convert) || !g_file_get_contents (raw, &bytes, &length, NULL))
    return g_strdup_printf ("qemu-img convert %s: %s", overlay, more);
  unlink (raw);
  if (length != units_round_up (expected->images[disk].size, 512))
    return g_strdup_printf ("QEMU sees %zu bytes in %s", (size_t) length, overlay);
  return compare ("QEMU's view", disk, (uint8_t *) bytes, expected->images[disk].size,
                  &expected->images[disk]);
}

static char *
check_level (const Model *model, const Bench *bench, const char *level_path)
{
  g_autofree char *path = g_build_filename (level_path, "snapshot.ini", NULL);
  g_autoptr (GKeyFile) keys = g_key_file_new ();
  g_autofree char *name = NULL;
  const ModelSnapshot *expected;
  char *wrong = NULL;

  if (!g_key_file_load_from_file (keys, path, G_KEY_FILE_NONE, NULL))
    return g_strdup_printf ("cannot read %s", path);
  name = g_key_file_get_string (keys, "snapshot", "name", NULL);
  if (name == NULL)
    return g_strdup_printf ("a level without a name is left: %s", level_path);
  expected = model_find ((Model *) model, name);
  if (expected == NULL)
    return g_strdup_printf ("a level of '%s' is left: %s", name, level_path);
  for (unsigned i = 0; i < STEPS_DISKS && wrong == NULL; i++)
    wrong = check_overlay (bench, level_path, expected, i);
  return wrong;
}

char *
model_check_qemu (const Model *model, const Bench *bench)
{
  g_autofree char *path = g_build_filename (bench->store, "snapshots", NULL);
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  char *wrong = dir == NULL ? g_strdup ("the store has no layers") : NULL;
  const char *name;

  while (wrong == NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *level_path = g_build_filename (path, name, NULL);

      wrong = check_level (model, bench, level_path);
    }
  return wrong;
}
