/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A real mount under more load than it can carry: nobody starves, contents stay right, and the
 * daemon takes no more than the manual says.
 *
 *     overload MOUNTPOINT DISK STORE PID SECONDS THREADS
 *
 * N_WRITERS threads write the live disk (and every fourth time read back what they wrote),
 * N_READERS threads read from snapshots, of which there are N_SNAPSHOTS; one thread makes a
 * snapshot and drops one every 10 ms, or as fast as it can if that takes longer.
 *
 * Each block belongs to one writer, who fills it with a stamp: number of the block and version.
 * So the live disk is known exactly. A snapshot's block has a version from the one that was
 * complete before mkdir to the one that was begun when mkdir had returned.
 *
 * Prints a table of waits. They depend on the machine, so none of them is judged; but that
 * somebody gets less than SHARE of what the one in the middle gets is no matter of speed: all
 * writers do the same things as fast as they may, and so do all readers. A queue that is served in
 * order gives them nearly equal shares; an eighth leaves room for the scheduler.
 */
#include "overload-meter.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define N_WRITERS 64
#define N_READERS 64
#define N_SNAPSHOTS 100
#define SHARE 8
#define PERIOD_NS 10000000
#define LOOK_US 20000
#define BLOCK 4096
#define BLOCKS_PER_WRITER 128
#define N_BLOCKS (N_WRITERS * BLOCKS_PER_WRITER)
#define READS_PER_OPEN 16

/* What the manual says under LIMITS, for one disk of 32 MiB and writes that fit into a queue. */
#define THREADS_BESIDES 7
#define DESCRIPTORS_BESIDES (1 + 32)
#define LAYERS_MAX (2 * (N_SNAPSHOTS + 1) + 16)
#define KIB_PER_THREAD (3 * 1024)
#define KIB_PER_LAYER 16
#define KIB_BESIDES (32 * 1024)

typedef struct
{
  unsigned n_refs;
  char name[32];
  uint32_t low[N_BLOCKS], high[N_BLOCKS]; /* versions */
} Snap;

typedef struct
{
  pthread_t thread;
  unsigned number;
  uint64_t n;
  Waits write, read;
} Worker;

static char *mountpoint, *disk, *store;
static atomic_bool stop;
static _Atomic uint32_t begun[N_BLOCKS], done[N_BLOCKS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Snap *snaps[N_SNAPSHOTS + 1]; /* under lock */
static unsigned n_snaps;             /* under lock */

static Waits mkdir_waits, rmdir_waits;
static unsigned n_refused;

G_GNUC_PRINTF (1, 2) G_GNUC_NORETURN static void die (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  fflush (stdout);
  flockfile (stderr);
  fputs ("overload: ", stderr);
  vfprintf (stderr, format, args);
  fputc ('\n', stderr);
  fflush (stderr);
  _exit (1);
}

static unsigned
random_below (unsigned *state, unsigned n)
{
  *state = *state * 1103515245u + 12345u;
  return (*state >> 8) % n;
}

static void *
buffer_new (void)
{
  void *buffer = aligned_alloc (BLOCK, BLOCK);

  if (buffer == NULL)
    die ("no memory");
  return buffer;
}

/* --- blocks --- */

static void
stamp (uint64_t *words, unsigned block, uint32_t version)
{
  for (unsigned i = 0; i < BLOCK / sizeof *words; i++)
    words[i] = (uint64_t) version << 32 | block;
}

/* The version in a block, which must be whole. */
static uint32_t
version_of (const uint64_t *words, unsigned block, const char *where)
{
  for (unsigned i = 0; i < BLOCK / sizeof *words; i++)
    if (words[i] != words[0] || (uint32_t) words[i] != (words[0] == 0 ? 0 : block))
      die ("%s: block %u has %016" PRIx64 " at word 0, %016" PRIx64 " at %u", where, block,
           words[0], words[i], i);
  return (uint32_t) (words[0] >> 32);
}

static void
check_frozen (const Snap *snap, const uint64_t *words, unsigned block)
{
  uint32_t version = version_of (words, block, snap->name);

  if (version < snap->low[block] || version > snap->high[block])
    die ("%s: block %u is of version %u, not %u to %u", snap->name, block, version,
         snap->low[block], snap->high[block]);
}

/* --- snapshots --- */

static void
snap_unref (Snap *snap)
{
  bool last;

  pthread_mutex_lock (&lock);
  last = --snap->n_refs == 0;
  pthread_mutex_unlock (&lock);
  if (last)
    free (snap);
}

static void
snap_make (unsigned number)
{
  Snap *snap = calloc (1, sizeof *snap);
  g_autofree char *path = NULL;
  uint64_t begin;

  if (snap == NULL)
    die ("no memory");
  snprintf (snap->name, sizeof snap->name, "s%u", number);
  path = g_build_filename (mountpoint, snap->name, NULL);
  snap->n_refs = 1;
  for (unsigned i = 0; i < N_BLOCKS; i++)
    snap->low[i] = atomic_load (&done[i]);
  begin = waits_now ();
  while (mkdir (path, 0777) != 0) /* EMLINK: merges do not keep up */
    if (errno != EMLINK || n_refused++ > N_SNAPSHOTS)
      die ("mkdir %s: %s", path, strerror (errno));
  waits_note (&mkdir_waits, begin);
  for (unsigned i = 0; i < N_BLOCKS; i++)
    snap->high[i] = atomic_load (&begun[i]);

  pthread_mutex_lock (&lock);
  snaps[n_snaps++] = snap;
  pthread_mutex_unlock (&lock);
}

/* Drops any but the newest; readers may have it open. */
static void
snap_drop (unsigned *random)
{
  g_autofree char *path = NULL;
  uint64_t begin;
  Snap *snap;

  pthread_mutex_lock (&lock);
  {
    unsigned i = random_below (random, n_snaps - 1);

    snap = snaps[i];
    memmove (&snaps[i], &snaps[i + 1], (--n_snaps - i) * sizeof snaps[0]);
  }
  pthread_mutex_unlock (&lock);
  path = g_build_filename (mountpoint, snap->name, NULL);
  begin = waits_now ();
  if (rmdir (path) != 0)
    die ("rmdir %s: %s", path, strerror (errno));
  waits_note (&rmdir_waits, begin);
  snap_unref (snap);
}

/* Any snapshot, its file opened; the caller closes it and drops the reference. */
static Snap *
snap_open (unsigned *random, int *out_fd)
{
  for (;;)
    {
      g_autofree char *path = NULL;
      Snap *snap;

      pthread_mutex_lock (&lock);
      snap = snaps[random_below (random, n_snaps)];
      snap->n_refs++;
      pthread_mutex_unlock (&lock);
      path = g_build_filename (mountpoint, snap->name, disk, NULL);
      *out_fd = open (path, O_RDONLY | O_DIRECT);
      if (*out_fd >= 0)
        return snap;
      if (errno != ENOENT && errno != ESTALE) /* dropped meanwhile */
        die ("open %s: %s", path, strerror (errno));
      snap_unref (snap);
    }
}

/* --- threads --- */

static void
write_block (Worker *worker, int fd, uint64_t *words, unsigned block)
{
  uint32_t version = atomic_load (&done[block]) + 1;
  uint64_t begin;

  stamp (words, block, version);
  atomic_store (&begun[block], version);
  begin = waits_now ();
  if (pwrite (fd, words, BLOCK, (off_t) block * BLOCK) != BLOCK)
    die ("write of block %u: %s", block, strerror (errno));
  waits_note (&worker->write, begin);
  atomic_store (&done[block], version);
}

static void
read_live (Worker *worker, int fd, uint64_t *words, unsigned block)
{
  uint32_t version, expected = atomic_load (&done[block]);
  uint64_t begin = waits_now ();

  if (pread (fd, words, BLOCK, (off_t) block * BLOCK) != BLOCK)
    die ("read of block %u: %s", block, strerror (errno));
  waits_note (&worker->read, begin);
  version = version_of (words, block, "live");
  if (version != expected)
    die ("live: block %u is of version %u, not %u", block, version, expected);
}

static void *
write_all_the_time (void *data)
{
  Worker *worker = data;
  g_autofree char *path = g_build_filename (mountpoint, ".live", disk, NULL);
  unsigned random = worker->number;
  uint64_t *words = buffer_new ();
  int fd = open (path, O_RDWR);

  if (fd < 0)
    die ("open %s: %s", path, strerror (errno));
  for (; !atomic_load (&stop); worker->n++)
    {
      unsigned block
          = worker->number * BLOCKS_PER_WRITER + random_below (&random, BLOCKS_PER_WRITER);

      if (worker->n % 4 == 3)
        read_live (worker, fd, words, block);
      else
        write_block (worker, fd, words, block);
    }
  close (fd);
  free (words);
  return NULL;
}

static void *
read_all_the_time (void *data)
{
  Worker *worker = data;
  unsigned random = worker->number;
  uint64_t *words = buffer_new ();

  while (!atomic_load (&stop))
    {
      int fd;
      Snap *snap = snap_open (&random, &fd);

      for (unsigned i = 0; i < READS_PER_OPEN && !atomic_load (&stop); i++, worker->n++)
        {
          unsigned block = random_below (&random, N_BLOCKS);
          uint64_t begin = waits_now ();

          if (pread (fd, words, BLOCK, (off_t) block * BLOCK) != BLOCK)
            die ("%s: read of block %u: %s", snap->name, block, strerror (errno));
          waits_note (&worker->read, begin);
          check_frozen (snap, words, block);
        }
      close (fd);
      snap_unref (snap);
    }
  free (words);
  return NULL;
}

static void *
make_and_drop (void *data)
{
  unsigned random = 1, number = n_snaps;
  struct timespec next;

  (void) data;
  clock_gettime (CLOCK_MONOTONIC, &next);
  while (!atomic_load (&stop))
    {
      struct timespec now;

      snap_make (number++);
      snap_drop (&random);
      next.tv_nsec += PERIOD_NS;
      if (next.tv_nsec >= 1000000000)
        {
          next.tv_nsec -= 1000000000;
          next.tv_sec++;
        }
      clock_gettime (CLOCK_MONOTONIC, &now);
      if (now.tv_sec > next.tv_sec || (now.tv_sec == next.tv_sec && now.tv_nsec > next.tv_nsec))
        next = now; /* late: no hurry to catch up */
      clock_nanosleep (CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
  return NULL;
}

/* --- the verdict --- */

/* All of a snapshot through the kernel's page cache. */
static void
check_whole (const Snap *snap)
{
  g_autofree char *path = g_build_filename (mountpoint, snap->name, disk, NULL);
  g_autofree char *bytes = NULL;
  g_autoptr (GError) error = NULL;
  gsize length;

  if (!g_file_get_contents (path, &bytes, &length, &error))
    die ("%s", error->message);
  if (length != (gsize) N_BLOCKS * BLOCK)
    die ("%s has %zu bytes", path, length);
  for (unsigned i = 0; i < N_BLOCKS; i++)
    check_frozen (snap, (const uint64_t *) (const void *) (bytes + (size_t) i * BLOCK), i);
}

static int
compare_counts (const void *a, const void *b)
{
  const uint64_t *x = a, *y = b;

  return (*x > *y) - (*x < *y);
}

static void
check_shares (const char *who, const Worker *workers, unsigned n_workers)
{
  uint64_t counts[MAX (N_WRITERS, N_READERS)];

  for (unsigned i = 0; i < n_workers; i++)
    counts[i] = workers[i].n;
  qsort (counts, n_workers, sizeof counts[0], compare_counts);
  printf ("%s: the least served %" PRIu64 ", the middle %" PRIu64 ", the most %" PRIu64 "\n", who,
          counts[0], counts[n_workers / 2], counts[n_workers - 1]);
  if (counts[0] * SHARE < counts[n_workers / 2])
    die ("%s starve", who);
}

static void
print_waits (const char *what, const Waits *waits, unsigned seconds)
{
  printf ("%-14s %10" PRIu64 " %9.0f %10.2f %10.2f %10.2f\n", what, waits->n,
          (double) waits->n / seconds, (double) waits_percentile (waits, 0.5) / 1e6,
          (double) waits_percentile (waits, 0.999) / 1e6, (double) waits->worst / 1e6);
}

static void
check_bound (const char *what, uint64_t most, uint64_t bound)
{
  printf ("%s: %" PRIu64 " at most, bound %" PRIu64 "\n", what, most, bound);
  if (most > bound)
    die ("too many: %s", what);
}

static void
check_usage (const Usage *usage, unsigned threads)
{
  if (getenv ("SANITIZED") == NULL)
    check_bound ("threads", usage->threads, threads + THREADS_BESIDES);
  check_bound ("levels", usage->layers, LAYERS_MAX + 1); /* one may be on its way out */
  check_bound ("descriptors", usage->descriptors, 2 * usage->layers + threads + DESCRIPTORS_BESIDES);
  if (getenv ("SANITIZED") == NULL)
    check_bound ("memory in KiB", usage->memory_kib,
                 threads * KIB_PER_THREAD + usage->layers * KIB_PER_LAYER + KIB_BESIDES);
}

static void
start (Worker *workers, unsigned n_workers, void *(*run) (void *) )
{
  for (unsigned i = 0; i < n_workers; i++)
    {
      workers[i].number = i;
      if (pthread_create (&workers[i].thread, NULL, run, &workers[i]) != 0)
        die ("cannot start a thread");
    }
}

static void
join (Worker *workers, unsigned n_workers, Waits *write, Waits *read)
{
  for (unsigned i = 0; i < n_workers; i++)
    {
      pthread_join (workers[i].thread, NULL);
      waits_add (write, &workers[i].write);
      waits_add (read, &workers[i].read);
    }
}

int
main (int argc, char **argv)
{
  static Worker writers[N_WRITERS], readers[N_READERS], verbs;
  static Waits live_write, live_read, snapshot_read, none;
  static Usage usage;
  unsigned seconds, threads;
  uint64_t end;
  pid_t pid;

  if (argc != 7)
    die ("usage: overload MOUNTPOINT DISK STORE PID SECONDS THREADS");
  mountpoint = argv[1];
  disk = argv[2];
  store = argv[3];
  pid = atoi (argv[4]);
  seconds = (unsigned) atoi (argv[5]);
  threads = (unsigned) atoi (argv[6]);

  for (unsigned i = 0; i < N_SNAPSHOTS; i++)
    snap_make (i);
  memset (&mkdir_waits, 0, sizeof mkdir_waits);
  start (writers, N_WRITERS, write_all_the_time);
  start (readers, N_READERS, read_all_the_time);
  start (&verbs, 1, make_and_drop);
  for (end = waits_now () + seconds * UINT64_C (1000000000); waits_now () < end;)
    {
      usage_look (&usage, pid, store);
      g_usleep (LOOK_US);
    }
  atomic_store (&stop, true);
  join (writers, N_WRITERS, &live_write, &live_read);
  join (readers, N_READERS, &none, &snapshot_read);
  join (&verbs, 1, &none, &none);
  usage_look (&usage, pid, store);

  printf ("%-14s %10s %9s %10s %10s %10s\n", "", "number", "per s", "median ms", "99.9% ms",
          "worst ms");
  print_waits ("guest write", &live_write, seconds);
  print_waits ("live read", &live_read, seconds);
  print_waits ("snapshot read", &snapshot_read, seconds);
  print_waits ("mkdir", &mkdir_waits, seconds);
  print_waits ("rmdir", &rmdir_waits, seconds);
  printf ("mkdir refused for want of room: %u\n", n_refused);
  check_shares ("writers", writers, N_WRITERS);
  check_shares ("readers", readers, N_READERS);
  check_usage (&usage, threads);
  for (unsigned i = 0; i < n_snaps; i++)
    check_whole (snaps[i]);
  return 0;
}
