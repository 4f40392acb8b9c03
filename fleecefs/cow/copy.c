/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How old blocks get from the source into an overlay.
 *
 * Holes are found first where a run is long enough to be worth a system call.
 * The rest goes through the thread's buffer, where zero granules are found (bounce),
 * or stays in the kernel (offload). A few granules can be held in the buffer until somebody has
 * brought them to disk elsewhere.
 */
#include "base/io.h"
#include "base/pause.h"
#include "base/scratch.h"
#include "base/trace.h"
#include "base/zero.h"
#include "cow/disk-private.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <linux/fs.h>

/* Runs shorter than this are just read, which finds zeros: a look for holes would cost more. */
#define EXTENT_MIN (128 * KIB)
/* Shared blocks pay for long runs only, where the file system keeps an extent for each. */
#define CLONE_MIN (256 * KIB)
/* A guest's write to blocks that are shared needs new ones, in a file system that had given it all
 * it asked for; where they are missing it would fail for the snapshot's sake. So nothing is shared
 * when not even this much is free: twice what 256 threads copy at a time. */
#define SHARE_FREE (512 * MIB)
/* What goes through the buffer at a time: it is still in the CPU's cache when it is written. */
#define BOUNCE_MAX (256 * KIB)
/* What the record of a copy may take in a table. */
#define TABLE_BLOCK 4096

/* A copy under way: what stays the same from run to run. */
typedef struct
{
  Disk *disk;
  Stripe *stripe;
  Overlay *to;
  uint64_t size;   /* of the snapshot, bytes */
  uint64_t region; /* the first granule is region * granules_per_region */
  GranuleSet *zero;
  CopyHeld *held; /* NULL: write them */
  LayerFault fault;
} Copy;

static uint64_t
first_granule (const Copy *copy)
{
  return copy->region * copy->disk->geometry.granules_per_region;
}

static void
reserve (Copy *copy, uint64_t granule, unsigned n)
{
  uint64_t cluster = granule / QCOW2_GRANULES_PER_CLUSTER;
  uint64_t last = (granule + n - 1) / QCOW2_GRANULES_PER_CLUSTER;

  lock_acquire (&copy->stripe->meta);
  overlay_reserve (copy->to, cluster, last - cluster + 1);
  lock_release (&copy->stripe->meta);
}

/* The run stays in the buffer, where it moves up to those that are held already. */
static int
hold_run (Copy *copy, unsigned first, unsigned n, const uint8_t *bytes)
{
  uint64_t length = n * copy->disk->geometry.granule;
  int r = space_take (overlay_space (copy->to), length);

  if (r < 0)
    return r;
  reserve (copy, first_granule (copy) + first, n);
  memmove ((uint8_t *) copy->held->bytes + copy->held->length, bytes, length);
  copy->held->length += length;
  return 0;
}

static int
write_run (Copy *copy, unsigned first, unsigned n, const uint8_t *bytes)
{
  uint64_t length = n * copy->disk->geometry.granule;
  int r = space_take (overlay_space (copy->to), length);

  if (r < 0)
    return r;
  reserve (copy, first_granule (copy) + first, n);
  r = overlay_write (copy->to, first_granule (copy) + first, n, bytes);
  space_done (overlay_space (copy->to), length);
  return r;
}

/* Writes or holds the granules of the buffer that are not zero, and notes the others. */
static int
write_data (Copy *copy, unsigned first, unsigned n, const uint8_t *buffer)
{
  uint64_t granule = copy->disk->geometry.granule;
  GranuleSet data = { 0 };

  for (unsigned i = 0; i < n; i++)
    {
      GranuleSet *set = zero_check (buffer + i * granule, granule) ? copy->zero : &data;

      set->words[(first + i) / 32] |= UINT32_C (1) << (first + i) % 32;
    }

  for (unsigned run = first, length; (length = granule_set_next_run (&data, &run)) > 0;
       run += length)
    {
      const uint8_t *bytes = buffer + (run - first) * granule;
      int r = copy->held != NULL ? hold_run (copy, run, length, bytes)
                                 : write_run (copy, run, length, bytes);

      if (r < 0)
        {
          copy->fault = LAYER_WRITE_FAILED;
          return r;
        }
    }
  return 0;
}

static int
bounce (Copy *copy, unsigned first, unsigned n)
{
  uint64_t granule = copy->disk->geometry.granule;
  uint64_t offset = (first_granule (copy) + first) * granule;
  uint64_t length = n * granule;
  uint64_t needed = units_min (length, copy->size - offset);
  uint8_t *buffer = scratch_get (SCRATCH_COPY);
  ssize_t got;

  copy->fault = LAYER_READ_FAILED;
  if (buffer == NULL)
    return -ENOMEM;
  if (copy->held != NULL)
    {
      copy->held->bytes = buffer;
      buffer += copy->held->length;
    }
  got = source_read (copy->disk->source, buffer, needed, offset);
  if (got < 0)
    return (int) got;
  if ((uint64_t) got < needed)
    {
      copy->fault = LAYER_SOURCE_TOO_SMALL;
      return -EIO;
    }
  memset (buffer + needed, 0, length - needed); /* the rest of the last granule */
  return write_data (copy, first, n, buffer);
}

/* One attempt to have the kernel move n bytes; 0 or -errno. */
static int
offload_bytes (Copy *copy, DiskCopyMethod method, uint64_t from, uint64_t to, uint64_t n)
{
  int source_fd_ = source_fd (copy->disk->source);

  if (method == DISK_COPY_AUTO)
    {
      struct file_clone_range range
          = { .src_fd = source_fd_, .src_offset = from, .src_length = n, .dest_offset = to };

      return ioctl (overlay_fd (copy->to), FICLONERANGE, &range) == 0 ? 0 : -errno;
    }
  while (n > 0)
    {
      off_t in = (off_t) from, out = (off_t) to;
      ssize_t done = copy_file_range (source_fd_, &in, overlay_fd (copy->to), &out, n, 0);

      if (done < 0 && errno == EINTR)
        continue;
      if (done <= 0)
        return done < 0 ? -errno : -EIO;
      from += (uint64_t) done;
      to += (uint64_t) done;
      n -= (uint64_t) done;
    }
  return 0;
}

static bool
offload_reserved (Copy *copy, DiskCopyMethod method, uint64_t at, unsigned n)
{
  uint64_t granule = copy->disk->geometry.granule;

  while (n > 0)
    {
      uint64_t n_here;
      uint64_t place = overlay_place (copy->to, at, n, &n_here);
      int r = offload_bytes (copy, method, at * granule, place, n_here * granule);

      if (r < 0)
        {
          trace_offload_fallback (copy->disk->image, at * granule, n_here * granule, -r);
          atomic_store_explicit (&copy->disk->copy, DISK_COPY_BOUNCE, memory_order_relaxed);
          return false;
        }
      at += n_here;
      n -= (unsigned) n_here;
    }
  return true;
}

/* May the kernel, which shares blocks if it can, find room for the guest's write afterwards? */
static bool
may_share (const Copy *copy)
{
  struct statvfs fs;

  return fstatvfs (overlay_fd (copy->to), &fs) == 0 && fs.f_bavail * fs.f_frsize >= SHARE_FREE;
}

/* Is so long a run one for the kernel, or read? */
static bool
is_for_kernel (DiskCopyMethod method, uint64_t length)
{
  return method == DISK_COPY_OFFLOAD || (method == DISK_COPY_AUTO && length >= CLONE_MIN);
}

/* True when the run was copied inside the kernel. Any refusal of the kernel's is for good. */
static bool
offload (Copy *copy, unsigned first, unsigned n)
{
  uint64_t granule = copy->disk->geometry.granule;
  uint64_t at = first_granule (copy) + first;
  DiskCopyMethod method = atomic_load_explicit (&copy->disk->copy, memory_order_relaxed);
  bool ok;

  if (!is_for_kernel (method, n * granule) || (at + n) * granule > copy->size || !may_share (copy))
    return false;
  if (space_take (overlay_space (copy->to), n * granule) < 0)
    return false; /* parts of it may fit */
  reserve (copy, at, n);
  ok = offload_reserved (copy, method, at, n);
  space_done (overlay_space (copy->to), n * granule);
  return ok;
}

/* The number of granules from first on, at most n, that are one kind of extent. Where the bytes are
 * read, only a hole that they begin with is looked for: in tmpfs the end of data is searched for
 * page by page, up to the end of the file, and zeros are found later. */
static unsigned
find_extent (Copy *copy, unsigned first, unsigned n, SourceExtent *out_extent)
{
  uint64_t granule = copy->disk->geometry.granule;
  uint64_t offset = (first_granule (copy) + first) * granule;
  uint64_t length = n * granule, n_bytes;
  DiskCopyMethod method = atomic_load_explicit (&copy->disk->copy, memory_order_relaxed);

  *out_extent = SOURCE_DATA;
  if (length < EXTENT_MIN && method != DISK_COPY_OFFLOAD)
    return n;
  n_bytes = source_hole (copy->disk->source, offset, length);
  if (n_bytes >= granule)
    {
      *out_extent = SOURCE_HOLE;
      return (unsigned) (n_bytes / granule);
    }
  if (n_bytes > 0)
    return 1; /* a hole smaller than a granule */
  if (!is_for_kernel (method, length))
    return n;
  n_bytes = source_find (copy->disk->source, offset, SOURCE_HOLE) - offset;
  return (unsigned) units_div_up (units_min (length, units_max (n_bytes, 1)), granule);
}

/* Beyond the end of a source that was cut off, everything looks like a hole. */
static int
note_hole (Copy *copy, unsigned first, unsigned n, uint64_t source_end)
{
  GranuleSet hole = granule_set_range (first, n);
  uint64_t end = (first_granule (copy) + first + n) * copy->disk->geometry.granule;

  if (source_end < units_min (end, copy->size))
    {
      copy->fault = LAYER_SOURCE_TOO_SMALL;
      return -EIO;
    }
  granule_set_add (copy->zero, &hole);
  return 0;
}

static int
copy_run (Copy *copy, unsigned first, unsigned n)
{
  const unsigned max = (unsigned) (SCRATCH_SIZE / copy->disk->geometry.granule);
  const unsigned max_bounce = (unsigned) (BOUNCE_MAX / copy->disk->geometry.granule);

  while (n > 0)
    {
      unsigned n_here = n < max ? n : max;
      SourceExtent extent;
      uint64_t source_end;
      int r = 0;

      n_here = find_extent (copy, first, n_here, &extent);
      if (extent == SOURCE_HOLE && source_size (copy->disk->source, &source_end) == 0)
        r = note_hole (copy, first, n_here, source_end);
      else if (extent == SOURCE_HOLE || !offload (copy, first, n_here))
        {
          /* Also what may be a hole, or beyond the end, of a source that does not tell its size. */
          n_here = n_here < max_bounce ? n_here : max_bounce;
          r = bounce (copy, first, n_here);
        }
      if (r < 0)
        return r;
      first += n_here;
      n -= n_here;
    }
  return 0;
}

int
copy_granules (Disk *disk, Stripe *stripe, Overlay *to, uint64_t size, uint64_t region,
               const GranuleSet *granules, GranuleSet *out_zero, CopyHeld *out_held,
               LayerFault *out_fault)
{
  Copy copy = { .disk = disk,
                .stripe = stripe,
                .to = to,
                .size = size,
                .region = region,
                .zero = out_zero,
                .held = out_held };
  int r = space_take (overlay_space (to), TABLE_BLOCK);

  *out_zero = (GranuleSet){ 0 };
  *out_fault = LAYER_WRITE_FAILED;
  if (r < 0)
    return r;
  for (unsigned first = 0, n; r == 0 && (n = granule_set_next_run (granules, &first)) > 0;
       first += n)
    r = copy_run (&copy, first, n);
  space_done (overlay_space (to), TABLE_BLOCK);
  *out_fault = copy.fault;
  return r;
}

bool
copy_may_hold (const Disk *disk, const Overlay *to, const GranuleSet *granules)
{
  unsigned n_words = 0;

  if (!overlay_has_log (to, 1)
      || atomic_load_explicit (&disk->copy, memory_order_relaxed) == DISK_COPY_OFFLOAD)
    return false;
  for (unsigned i = 0; i < GRANULE_SET_WORDS; i++)
    n_words += granules->words[i] != 0;
  return n_words == 1 && overlay_has_log (to, granule_set_count (granules));
}

int
copy_place_held (Disk *disk, Overlay *to, uint64_t region, const GranuleSet *data,
                 const CopyHeld *held)
{
  uint64_t first_of_region = region * disk->geometry.granules_per_region;
  const uint8_t *bytes = held->bytes;
  int r = 0;

  for (unsigned first = 0, n; r == 0 && (n = granule_set_next_run (data, &first)) > 0; first += n)
    {
      r = overlay_write (to, first_of_region + first, n, bytes);
      bytes += n * disk->geometry.granule;
    }
  return r;
}

void
copy_release_held (Overlay *to, const CopyHeld *held)
{
  if (held->length > 0)
    space_done (overlay_space (to), held->length);
}

int
copy_record (Disk *disk, Stripe *stripe, Overlay *to, uint64_t region, const GranuleSet *data,
             const GranuleSet *zero)
{
  unsigned n = disk->geometry.clusters_per_region;
  int r;

  lock_acquire (&stripe->meta);
  r = overlay_record (to, region * n, n, data->words, zero->words);
  lock_release (&stripe->meta);
  return r;
}

void
copy_publish (Disk *disk, Stripe *stripe, Overlay *to, uint64_t region, const GranuleSet *data,
              const GranuleSet *zero)
{
  unsigned n = disk->geometry.clusters_per_region;

  lock_acquire (&stripe->lock);
  overlay_publish (to, region * n, n, data->words, zero->words);
  lock_release (&stripe->lock);
}
