/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fixed workload on the engine, without FUSE, for tests/instructions.sh: each function work_NAME
 * does OPERATIONS of one kind, and callgrind counts the instructions in it. Run alone it only does
 * them. The argument is an empty directory, absolute. */
#include "base/units.h"
#include "snapshot/snapshots.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPERATIONS 1000
#define BLOCK (4 * KIB)
#define SIZE (64 * MIB)
#define N_BLOCKS (SIZE / BLOCK)
#define CHAIN 100 /* snapshots in the long chain */

#define WORK __attribute__ ((noinline)) static void

static Snapshots *set;
static Disk *disk;
static uint8_t buffer[MIB];

static void
need (bool condition, const char *what)
{
  if (!condition)
    {
      fprintf (stderr, "instructions: %s failed\n", what);
      exit (1);
    }
}

/* Where operation i works: all over the disk, each block once. An odd factor modulo a power of two.
 */
static uint64_t
place (unsigned i)
{
  return i * UINT64_C (1237) % N_BLOCKS * BLOCK;
}

/* The names make each caller's code its own; the compiler would make one of those that are alike.
 */
static void
writes (const char *name)
{
  for (unsigned i = 0; i < OPERATIONS; i++)
    need (disk_write (disk, buffer, BLOCK, place (i), IO_SYNC_NONE) == BLOCK, name);
}

static void
frozen_reads (const char *name, Snapshot *snapshot, unsigned first, size_t length)
{
  for (unsigned i = first; i < first + OPERATIONS; i++)
    {
      uint64_t offset = place (i) / length * length;

      need (snapshot_read (snapshot, 0, buffer, length, offset) == (ssize_t) length, name);
    }
}

WORK
work_live_read (void)
{
  for (unsigned i = 0; i < OPERATIONS; i++)
    need (disk_read (disk, buffer, BLOCK, place (i)) == BLOCK, "a read");
}

WORK
work_live_write (void)
{
  writes ("live_write");
}

WORK
work_first_write (void)
{
  writes ("first_write");
}

WORK
work_saved_write (void)
{
  for (unsigned i = 0; i < OPERATIONS; i++)
    need (disk_write_saved (disk, buffer, BLOCK, place (i), IO_SYNC_NONE) == BLOCK,
          "a saved write");
}

WORK
work_frozen_read (Snapshot *snapshot)
{
  frozen_reads ("frozen_read", snapshot, 0, BLOCK);
}

WORK
work_diverged_read (Snapshot *snapshot)
{
  frozen_reads ("diverged_read", snapshot, 0, BLOCK);
}

/* What cp does: long reads, here with a saved granule in each. */
WORK
work_long_read (Snapshot *snapshot)
{
  frozen_reads ("long_read", snapshot, 0, MIB);
}

WORK
work_chain_first_write (void)
{
  writes ("chain_first_write");
}

/* What no layer has: all are asked. */
WORK
work_chain_oldest_read (Snapshot *snapshot)
{
  frozen_reads ("chain_oldest_read", snapshot, OPERATIONS, BLOCK);
}

static Snapshot *
create (const char *name)
{
  Snapshot *snapshot;

  need (snapshots_create (set, name, &snapshot) == 0, "mkdir");
  return snapshot;
}

static void
run (void)
{
  Snapshot *snapshot, *oldest;

  work_live_read ();
  work_live_write ();
  snapshot = create ("one");
  work_frozen_read (snapshot);
  work_first_write ();
  work_saved_write ();
  work_diverged_read (snapshot);
  work_long_read (snapshot);
  oldest = snapshot;
  for (unsigned i = 1; i < CHAIN; i++)
    {
      g_autofree char *name = g_strdup_printf ("%u", i);

      snapshot_unref (create (name));
    }
  work_chain_first_write ();
  work_chain_oldest_read (oldest);
  snapshot_unref (oldest);
}

int
main (int argc, char **argv)
{
  g_autofree char *image = NULL, *store = NULL;
  SnapshotsConfig config = { .max_snapshots = CHAIN + 1, .copy = DISK_COPY_BOUNCE };
  SnapshotsImage images[1] = { { "disk", NULL } };
  g_autoptr (GError) error = NULL;
  int fd;

  if (argc != 2)
    {
      fprintf (stderr, "usage: instructions EMPTY-DIRECTORY\n");
      return 2;
    }
  images[0].path = image = g_build_filename (argv[1], "disk", NULL);
  config.store = store = g_build_filename (argv[1], "store", NULL);
  fd = open (image, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  need (fd >= 0, "making the disk");
  memset (buffer, 0x55, sizeof buffer);
  for (uint64_t at = 0; at < SIZE; at += sizeof buffer)
    need (pwrite (fd, buffer, sizeof buffer, (off_t) at) == sizeof buffer, "filling the disk");
  close (fd);

  set = snapshots_open (&config, images, 1, &error);
  if (set == NULL || !snapshots_start (set, &error))
    {
      fprintf (stderr, "instructions: %s\n", error->message);
      return 1;
    }
  disk = snapshots_disk (set, 0);
  run ();
  if (!snapshots_close (set, &error))
    {
      fprintf (stderr, "instructions: %s\n", error->message);
      return 1;
    }
  return 0;
}
