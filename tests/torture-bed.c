/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "torture-bed.h"

#include "base/io.h"
#include "base/units.h"
#include "base/zero.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const copy_names[] = { "auto", "bounce", "offload" };

/* --- failure --- */

void
bed_fail (const Bed *bed, const char *format, ...)
{
  static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
  g_autofree char *message = NULL;
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);

  pthread_mutex_lock (&once); /* for good: the others wait here for the end */
  fflush (stdout);
  fprintf (stderr, "torture: FAILED: %s\n", message);
  fprintf (stderr, "torture: phase %u, granule %" PRIu64 ", copy %s, files kept in %s\n",
           bed->config.phase, bed->set_config.granule, copy_names[bed->set_config.copy],
           bed->directory);
  fprintf (stderr, "torture: replay with: %s --seed %" PRIu64 " --phase %u --operations %lu%s%s\n",
           bed->config.program, bed->config.seed, bed->config.phase,
           atomic_load (&bed->n_operations), bed->config.is_copy_given ? " --copy " : "",
           bed->config.is_copy_given ? copy_names[bed->config.copy] : "");
  fflush (stderr);
  _exit (1);
}

void
bed_expect (const Bed *bed, const char *what, int64_t r, int64_t wanted)
{
  if (r != wanted)
    bed_fail (bed, "%s: %" PRIi64 "%s%s%s instead of %" PRIi64, what, r, r < 0 ? " (" : "",
              r < 0 ? g_strerror ((int) -r) : "", r < 0 ? ")" : "", wanted);
}

void
bed_compare (Bed *bed, const char *what, unsigned disk, uint64_t offset, const uint8_t *got,
             const uint8_t *expected, uint64_t length)
{
  atomic_fetch_add (&bed->n_bytes, length);
  if (memcmp (got, expected, length) == 0)
    return;
  for (uint64_t i = 0, n = 0; i < length; i++)
    if (got[i] != expected[i])
      {
        for (uint64_t j = i; j < length; j++)
          n += got[j] != expected[j];
        bed_fail (bed,
                  "%s, disk %u, offset %" PRIu64 ": got 0x%02x instead of 0x%02x; %" PRIu64
                  " of the next %" PRIu64 " bytes differ",
                  what, disk, offset + i, got[i], expected[i], n, length - i);
      }
}

/* --- the directory --- */

static int
remove_entry (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void) st;
  (void) type;
  (void) ftw;
  return remove (path);
}

void
bed_remove (const char *directory)
{
  nftw (directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

Bed *
bed_new (const BedConfig *config, Random *random)
{
  Bed *bed = g_new0 (Bed, 1);

  bed->config = *config;
  bed->seed = random->state;
  bed->directory = g_strdup_printf ("%s/phase-%u", config->directory, config->phase);
  bed->store = g_build_filename (bed->directory, "store", NULL);
  bed->n_disks = 2 + (unsigned) random_below (random, BED_MAX_DISKS - 1);
  bed->set_config = (SnapshotsConfig){
    .store = bed->store,
    .granule = 4 * KIB << random_below (random, 5),
    .max_snapshots = 5 + (unsigned) random_below (random, 6),
    .copy = (DiskCopyMethod) random_below (random, 3),
    .on_cbw_error = (DiskCbwError) random_below (random, 2),
  };
  if (config->is_copy_given)
    bed->set_config.copy = config->copy;
  if (mkdir (bed->directory, 0700) != 0)
    bed_fail (bed, "cannot make directory '%s': %s", bed->directory, g_strerror (errno));
  for (unsigned d = 0; d < bed->n_disks; d++)
    {
      bed->names[d] = g_strdup_printf ("disk%u.img", d);
      bed->paths[d] = g_build_filename (bed->directory, bed->names[d], NULL);
    }
  return bed;
}

void
bed_free (Bed *bed)
{
  bed_remove (bed->directory);
  for (unsigned d = 0; d < bed->n_disks; d++)
    {
      g_free (bed->names[d]);
      g_free (bed->paths[d]);
    }
  g_free (bed->store);
  g_free (bed->directory);
  g_free (bed);
}

void
bed_write_image (Bed *bed, unsigned disk, const uint8_t *bytes, uint64_t size)
{
  int fd = open (bed->paths[disk], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int r = fd < 0 || ftruncate (fd, (off_t) size) != 0 ? -errno : 0;

  for (uint64_t at = 0, n; at < size && r == 0; at += n)
    {
      n = units_min (4 * KIB, size - at);
      if (!zero_check (bytes + at, n))
        r = io_write_full (fd, bytes + at, n, at);
    }
  if (fd >= 0)
    close (fd);
  bed_expect (bed, "write of an image", r, 0);
}

/* --- comparison with the set closed --- */

static void
compare_file (Bed *bed, const char *path, const char *what, unsigned disk, const BedBytes *expected)
{
  g_autofree uint8_t *bytes = NULL;
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  off_t size = fd < 0 ? -1 : lseek (fd, 0, SEEK_END);

  if (size < 0)
    bed_fail (bed, "%s: cannot open '%s': %s", what, path, g_strerror (errno));
  if ((uint64_t) size < expected->size)
    bed_fail (bed, "%s, disk %u: '%s' has %" PRIi64 " bytes instead of %" PRIu64, what, disk, path,
              (int64_t) size, expected->size);
  bytes = g_malloc (expected->size + 1);
  bed_expect (bed, "read of a file", io_read_full (fd, bytes, expected->size, 0), 0);
  close (fd);
  bed_compare (bed, what, disk, 0, bytes, expected->bytes, expected->size);
}

static void
compare_images (Bed *bed, BedExpect expect, void *data)
{
  for (unsigned d = 0; d < bed->n_disks; d++)
    {
      BedBytes expected = expect (data, 0, d);
      int fd = open (bed->paths[d], O_RDONLY | O_CLOEXEC);
      off_t size = fd < 0 ? -1 : lseek (fd, 0, SEEK_END); /* of a block device too */

      if (size < 0 || (uint64_t) size != expected.size)
        bed_fail (bed, "image of disk %u: size %" PRIi64 " instead of %" PRIu64, d, (int64_t) size,
                  expected.size);
      close (fd);
      compare_file (bed, bed->paths[d], "image", d, &expected);
      g_free (expected.bytes);
    }
}

static void
run_program (const Bed *bed, const char *what, const char *const *arguments)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *text = NULL;
  int status;

  if (!g_spawn_sync (NULL, (char **) arguments, NULL,
                     G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, &text,
                     &status, &error))
    bed_fail (bed, "cannot run %s: %s", arguments[0], error->message);
  if (!WIFEXITED (status) || WEXITSTATUS (status) != 0)
    {
      g_autofree char *line = g_strjoinv (" ", (char **) arguments);

      bed_fail (bed, "%s: '%s': status 0x%x: %s", what, line, (unsigned) status, text);
    }
}

/* An odd size is rounded up to whole sectors in qcow2, by zeros. */
static void
compare_rest (Bed *bed, const char *path, const char *what, unsigned disk, uint64_t size)
{
  uint8_t rest[BED_BLOCK];
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -errno : io_read (fd, rest, sizeof rest, size);

  bed_expect (bed, "read beyond the size", n, (int64_t) (units_round_up (size, BED_BLOCK) - size));
  close (fd);
  if (!zero_check (rest, (size_t) n))
    bed_fail (bed, "%s, disk %u: no zeros between the size %" PRIu64 " and the end of the sector",
              what, disk, size);
}

static void
check_overlay (Bed *bed, const char *path)
{
  const char *check[] = { bed->config.qemu_img, "check", "-q", "-f", "qcow2", path, NULL };

  run_program (bed, "check", check);
}

static void
compare_overlay (Bed *bed, const StoreRecord *record, const char *path, unsigned disk,
                 BedExpect expect, void *data)
{
  g_autofree char *raw = g_build_filename (bed->directory, "overlay.raw", NULL);
  g_autofree char *what
      = g_strdup_printf ("qemu-img's view of snapshot '%s' (id %u)", record->name, record->id);
  const char *convert[]
      = { bed->config.qemu_img, "convert", "-q", "-f", "qcow2", path, "-O", "raw", raw, NULL };
  BedBytes expected;

  if (record->name == NULL)
    return;
  expected = expect (data, record->id, disk);
  if (expected.bytes == NULL && expected.size == 1)
    return;
  if (expected.bytes == NULL)
    bed_fail (bed, "the store has an unknown snapshot '%s' (id %u)", record->name, record->id);
  run_program (bed, "convert", convert);
  compare_file (bed, raw, what, disk, &expected);
  compare_rest (bed, raw, what, disk, expected.size);
  g_free (expected.bytes);
  unlink (raw);
}

static unsigned
find_disk (const Bed *bed, const char *name)
{
  for (unsigned d = 0; d < bed->n_disks; d++)
    if (strcmp (bed->names[d], name) == 0)
      return d;
  bed_fail (bed, "the store has an unknown disk '%s'", name);
}

typedef void (*OverlayFunc) (Bed *bed, const StoreRecord *record, const char *path, unsigned disk,
                             BedExpect expect, void *data);

/* The layers in the store at path, and whether it was closed. Cleans up in it. */
static GPtrArray *
read_store (Bed *bed, const char *path, bool *out_clean)
{
  g_autoptr (GError) error = NULL;
  uint64_t granule = 0;
  g_autoptr (Store) store = store_open (path, &granule, &error);
  GPtrArray *records = store != NULL ? store_read_records (store, &error) : NULL;

  if (records == NULL)
    bed_fail (bed, "cannot read the store: %s", error->message);
  *out_clean = store_was_clean (store);
  return records;
}

/* Calls func for all overlays of the records in the store at path. */
static void
for_each_overlay (Bed *bed, const char *store, const GPtrArray *records, OverlayFunc func,
                  BedExpect expect, void *data)
{
  for (unsigned i = 0; i < records->len; i++)
    {
      const StoreRecord *record = records->pdata[i];

      for (unsigned k = 0; k < record->images->len; k++)
        {
          const StoreImage *image = record->images->pdata[k];
          g_autofree char *file = store_overlay_name (image->disk);
          g_autofree char *path
              = g_strdup_printf ("%s/snapshots/%06u/%s", store, record->layer, file);

          func (bed, record, path, find_disk (bed, image->disk), expect, data);
        }
    }
}

static void
look_at_closed (Bed *bed, const StoreRecord *record, const char *path, unsigned disk,
                BedExpect expect, void *data)
{
  check_overlay (bed, path);
  compare_overlay (bed, record, path, disk, expect, data);
}

void
bed_compare_closed (Bed *bed, bool with_overlays, BedExpect expect, void *data)
{
  g_autoptr (GPtrArray) records = NULL;
  bool clean;

  compare_images (bed, expect, data);
  records = read_store (bed, bed->store, &clean);
  if (!clean)
    bed_fail (bed, "the closed store is not clean");
  bed->n_gone = atomic_load (&bed->n_made) - records->len;
  if (with_overlays && bed->config.qemu_img != NULL)
    for_each_overlay (bed, bed->store, records, look_at_closed, expect, data);
}

/* While it was mounted refcounts were not kept, and the dirty bit says so. */
static void
repair_overlay (Bed *bed, const StoreRecord *record, const char *path, unsigned disk,
                BedExpect expect, void *data)
{
  const char *repair[]
      = { bed->config.qemu_img, "check", "-q", "-f", "qcow2", "-r", "all", path, NULL };

  run_program (bed, "repair after a kill", repair);
  check_overlay (bed, path);
  compare_overlay (bed, record, path, disk, expect, data);
}

void
bed_compare_killed (Bed *bed, BedExpect expect, void *data)
{
  g_autofree char *other = g_build_filename (bed->directory, "copy", NULL);
  const char *copy[] = { "cp", "-a", bed->store, other, NULL };
  g_autoptr (GPtrArray) records = NULL;
  bool clean;

  if (bed->config.qemu_img == NULL)
    return;
  run_program (bed, "copy of the store", copy);
  records = read_store (bed, other, &clean);
  for_each_overlay (bed, bed->store, records, compare_overlay, expect, data);
  bed_remove (other);

  run_program (bed, "copy of the store", copy);
  for_each_overlay (bed, other, records, repair_overlay, expect, data);
  bed_remove (other);
}

/* --- the set --- */

void
bed_open (Bed *bed)
{
  g_autoptr (GError) error = NULL;
  SnapshotsImage images[BED_MAX_DISKS];

  for (unsigned d = 0; d < bed->n_disks; d++)
    images[d] = (SnapshotsImage){ .name = bed->names[d], .path = bed->paths[d] };
  bed->set = snapshots_open (&bed->set_config, images, bed->n_disks, &error);
  if (bed->set == NULL || !snapshots_start (bed->set, &error))
    bed_fail (bed, "cannot open the set: %s", error->message);
}

void
bed_close (Bed *bed, bool with_overlays, BedExpect expect, void *data)
{
  g_autoptr (GError) error = NULL;

  if (!snapshots_close (bed->set, &error))
    bed_fail (bed, "cannot close the set: %s", error->message);
  bed->set = NULL;
  bed_compare_closed (bed, with_overlays, expect, data);
}

bool
bed_is_late (const Bed *bed)
{
  return g_get_monotonic_time () >= bed->config.deadline;
}

void
bed_print (const Bed *bed, const char *mode)
{
  printf ("phase %u: %s, granule %" PRIu64
          ", copy %s, %u disks: %lu operations, %lu snapshots, %lu "
          "dropped or merged, %lu MiB compared\n",
          bed->config.phase, mode, bed->set_config.granule, copy_names[bed->set_config.copy],
          bed->n_disks, atomic_load (&bed->n_operations), atomic_load (&bed->n_made), bed->n_gone,
          (unsigned long) (atomic_load (&bed->n_bytes) / MIB));
  fflush (stdout);
}
