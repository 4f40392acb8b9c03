/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kill-check.h"

#include "base/io.h"
#include "base/units.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 60000

static Bed *
bed_of (const Load *load)
{
  return load->mount->bed;
}

/* --- nothing runs --- */

static uint8_t *
read_file (const Load *load, const char *path, uint64_t *out_size)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  off_t size = fd < 0 ? -1 : lseek (fd, 0, SEEK_END);
  uint8_t *bytes;

  if (size < 0)
    bed_fail (bed_of (load), "cannot open '%s': %s", path, g_strerror (errno));
  bytes = g_malloc ((size_t) size);
  bed_expect (bed_of (load), "read of an image", io_read_full (fd, bytes, (size_t) size, 0), 0);
  close (fd);
  *out_size = (uint64_t) size;
  return bytes;
}

/* What a store must hold: the bytes of the witnesses; of what is pending anything. */
static BedBytes
expect_killed (void *data, uint32_t id, unsigned disk)
{
  const Load *load = data;
  BedBytes bytes = witnesses_expect (load->witnesses, id, disk);

  if (bytes.bytes == NULL)
    bytes.size = load->pending.verb == LOAD_MKDIR ? 1 : 0;
  return bytes;
}

static unsigned
count_layers (const Load *load)
{
  g_autofree char *path = g_build_filename (bed_of (load)->store, "snapshots", NULL);
  g_autoptr (GDir) directory = g_dir_open (path, 0, NULL);
  unsigned n = 0;

  while (directory != NULL && g_dir_read_name (directory) != NULL)
    n++;
  return n;
}

void
check_images (Load *load, bool with_overlays, bool was_closed, CheckCounts *counts)
{
  unsigned n_layers = count_layers (load), n = witnesses_count (load->witnesses);

  counts->n_layers += n_layers > n ? n_layers - n : 0;
  for (unsigned d = 0; d < bed_of (load)->n_disks; d++)
    {
      uint64_t size;
      g_autofree uint8_t *bytes = read_file (load, bed_of (load)->paths[d], &size);

      counts->n_writes += versions_settle (load->versions, d, bytes, size);
    }
  /* Killed in its first start, it may not have made the store. */
  if (!with_overlays || (n == 0 && !g_file_test (bed_of (load)->store, G_FILE_TEST_EXISTS)))
    return;
  if (was_closed)
    bed_compare_closed (bed_of (load), true, expect_killed, load);
  else
    bed_compare_killed (bed_of (load), expect_killed, load);
  counts->n_stores++;
}

/* --- pending verbs --- */

static bool
is_listed (GHashTable *names, unsigned n_name)
{
  return g_hash_table_contains (names, GUINT_TO_POINTER (n_name));
}

static void
settle_mkdir (Load *load, GHashTable *names, CheckCounts *counts)
{
  const LoadPending *pending = &load->pending;
  bool is_there = is_listed (names, pending->n_name);
  View view;

  if (pending->has_returned && !is_there)
    bed_fail (bed_of (load), "mkdir of snapshot '%u' had returned, and it is not there",
              pending->n_name);
  counts->n_returned += pending->has_returned;
  counts->n_made += !pending->has_returned && is_there;
  counts->n_unmade += !is_there;
  if (!is_there)
    return;
  bed_expect (bed_of (load), "open", view_open (load->mount, pending->n_name, true, &view), 0);
  witnesses_add (load->witnesses, &view.view, pending->n_name, &load->low, &load->high);
  view_close (&view);
}

static void
settle_rmdir (Load *load, GHashTable *names, CheckCounts *counts)
{
  Witness *witness = load->pending.witness;

  if (is_listed (names, load->pending.n_name))
    {
      atomic_store (&witness->is_removed, false);
      counts->n_unremoved++;
      return;
    }
  witnesses_remove (load->witnesses, witness);
  counts->n_removed++;
}

static void
settle_rename (Load *load, GHashTable *names, CheckCounts *counts)
{
  const LoadPending *pending = &load->pending;
  bool is_new = is_listed (names, pending->n_to);

  if (is_new == is_listed (names, pending->n_name))
    bed_fail (bed_of (load), "rename of '%u' to '%u' was in flight; now %s are there",
              pending->n_name, pending->n_to, is_new ? "both" : "none");
  atomic_store (&pending->witness->n_name, is_new ? pending->n_to : pending->n_name);
  counts->n_renamed += is_new;
  counts->n_unrenamed += !is_new;
}

static void
settle_pending (Load *load, GHashTable *names, CheckCounts *counts)
{
  LoadPending *pending = &load->pending;

  if (pending->verb == LOAD_MKDIR)
    settle_mkdir (load, names, counts);
  else if (pending->verb == LOAD_RMDIR)
    settle_rmdir (load, names, counts);
  else if (pending->verb == LOAD_RENAME)
    settle_rename (load, names, counts);
  g_clear_pointer (&pending->witness, witness_unref);
  pending->verb = LOAD_N_EVENTS;
}

/* --- it runs again --- */

static void
check_snapshot (Load *load, const Witness *witness, bool direct, uint8_t *buffer)
{
  unsigned n_name = atomic_load (&witness->n_name);
  g_autofree char *broken = NULL;
  View view;

  bed_expect (bed_of (load), "open of a snapshot", view_open (load->mount, n_name, direct, &view),
              0);
  broken = view.view.dup_broken (view.view.data);
  if (broken != NULL)
    bed_fail (bed_of (load), "snapshot '%u' (id %u): %s", n_name, witness->id, broken);
  witness_compare (witness, load->versions, &view.view, buffer, MIB);
  view_close (&view);
}

static void
check_live (Load *load, unsigned d)
{
  BedBytes expected = versions_expect_live (load->versions, d);
  g_autofree uint8_t *bytes = g_malloc (expected.size);
  struct stat st;

  bed_expect (bed_of (load), "fstat", fstat (load->mount->live[d], &st), 0);
  bed_expect (bed_of (load), "size of the live disk", st.st_size, (int64_t) expected.size);
  bed_expect (bed_of (load), "read of the live disk",
              io_read_full (load->mount->live[d], bytes, expected.size, 0), 0);
  bed_compare (bed_of (load), "live disk after a start", d, 0, bytes, expected.bytes,
               expected.size);
  g_free (expected.bytes);
}

void
check_mount (Load *load, Random *random, CheckCounts *counts)
{
  g_autoptr (GHashTable) names = view_list (load->mount);
  g_autofree uint8_t *buffer = g_malloc (MIB);
  GPtrArray *list = load->witnesses->list;

  settle_pending (load, names, counts);
  for (unsigned i = 0; i < list->len; i++)
    {
      const Witness *witness = list->pdata[i];

      if (!is_listed (names, atomic_load (&witness->n_name)))
        bed_fail (bed_of (load), "snapshot '%u' (id %u) is gone", atomic_load (&witness->n_name),
                  witness->id);
      check_snapshot (load, witness, random_percent (random, 70), buffer);
      counts->n_compared++;
    }
  if (g_hash_table_size (names) != list->len)
    bed_fail (bed_of (load), "there are %u snapshots instead of %u", g_hash_table_size (names),
              list->len);
  for (unsigned d = 0; d < bed_of (load)->n_disks; d++)
    check_live (load, d);
}

void
check_await_merges (Load *load)
{
  g_autofree char *path = g_build_filename (bed_of (load)->store, "snapshots", NULL);
  int watch = inotify_init1 (IN_CLOEXEC | IN_NONBLOCK);
  int64_t end = g_get_monotonic_time () + PATIENCE_MS * INT64_C (1000);
  struct pollfd wait = { .fd = watch, .events = POLLIN };
  unsigned n = witnesses_count (load->witnesses);

  if (watch < 0 || inotify_add_watch (watch, path, IN_DELETE) < 0)
    bed_fail (bed_of (load), "cannot watch '%s': %s", path, g_strerror (errno));
  while (count_layers (load) != n)
    {
      uint8_t events[4096];

      if (g_get_monotonic_time () > end)
        bed_fail (bed_of (load), "merges do not end: %u layers for %u snapshots",
                  count_layers (load), n);
      poll (&wait, 1, PATIENCE_MS);
      while (read (watch, events, sizeof events) > 0)
        continue;
    }
  close (watch);
}

/* --- it was closed --- */

/* A cluster of the disk has at most one place in the file; what leaked has become a hole. */
static void
check_file_size (const Load *load, const char *path, uint64_t largest)
{
  uint64_t cluster = bed_of (load)->set_config.granule * 32;
  uint64_t n_clusters = units_div_up (largest, cluster);
  /* header, refcount table and block, L1 table, one L2 table */
  uint64_t most = (n_clusters + 5) * cluster;
  struct stat st;

  if (stat (path, &st) == 0 && (uint64_t) st.st_blocks * 512 > most)
    bed_fail (bed_of (load), "'%s' takes %" PRIi64 " bytes, more than %" PRIu64 ": clusters leaked",
              path, (int64_t) st.st_blocks * 512, most);
}

static void
check_file_sizes (const Load *load)
{
  const Bed *bed = bed_of (load);
  g_autofree char *path = g_build_filename (bed->store, "snapshots", NULL);
  g_autoptr (GDir) directory = g_dir_open (path, 0, NULL);
  const char *layer;

  while ((layer = g_dir_read_name (directory)) != NULL)
    for (unsigned d = 0; d < bed->n_disks; d++)
      {
        g_autofree char *name = g_strconcat (bed->names[d], ".qcow2", NULL);
        g_autofree char *file = g_build_filename (path, layer, name, NULL);

        check_file_size (load, file, load->versions->n_blocks * BED_BLOCK);
      }
}

void
check_closed (Load *load)
{
  bed_compare_closed (bed_of (load), true, witnesses_expect, load->witnesses);
  check_file_sizes (load);
}
