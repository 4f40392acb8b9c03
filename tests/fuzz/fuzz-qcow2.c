/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The reader of overlays, on images made of the input.
 *
 * An image is mostly holes, so the input is a list of what to put where into an image that
 * would be good without it; all numbers little-endian:
 *
 *     1 byte   bit 0 dirty, bit 1 broken, bits 2-3 which size, bits 4-6 which granule, bit 7
 *              journaled, if dirty
 *     2 bytes  clusters of the file after the fixed part
 *     then, each with a byte before it that says which:
 *     0  L1 entry: index (1), cluster (2)
 *     1  L2 entry: cluster of the table (2), index (2), cluster (2), data (4), zero (4)
 *     2  number: cluster (2), offset in it / 8 (2), value (8)
 *     3  header: offset (2), length (1), bytes
 *     4  the file is cut to this length (4)
 *     5  the cluster (2) to save into, below
 *     6  the header is that of a disk of 2 to the power of this (1) bytes
 *     7  record of the journal: which (2), change of cluster (2), its place (2), data (4),
 *        zero (4), bit 0: its bytes are there (1)
 *     8  the log: cluster (2), size / 4 KiB (2), and one more change in it: of cluster (2), its
 *        place (2), data (4), zero (4), bit 0: its bytes are there (1)
 *
 * The image is opened, looked up whole, read, changed in one granule, closed, and opened again.
 * Either there is a clear error, or: all places are in the file, no two granules share one, the
 * change is there and has changed nothing else, and the image that we closed is good. */
#include "base/crc64.h"
#include "base/io.h"
#include "base/units.h"
#include "fuzz.h"
#include "overlay/be.h"
#include "overlay/overlay.h"
#include "overlay/qcow2-log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "o.qcow2"
#define GRANULE_MAX 65536
#define SESSION 1   /* of the journal */
#define KEEP_MAX 32 /* granules that are compared before and after the change */

static const uint64_t sizes[] = { MIB, GIB + 512, 3 * GIB, 16 * GIB };

typedef struct
{
  const uint8_t *at, *end;
} Input;

/* The next number of so many bytes; zeros after the end. */
static uint64_t
take (Input *input, unsigned n_bytes)
{
  uint64_t value = 0;

  for (unsigned i = 0; i < n_bytes && input->at < input->end; i++)
    value |= (uint64_t) *input->at++ << 8 * i;
  return value;
}

typedef struct
{
  uint64_t size, granule; /* that it is opened with */
  uint64_t target;        /* cluster to save into */
  Qcow2Run log;
  uint64_t log_next; /* behind the last change in it */
} Plan;

static void
put (int fd, const void *bytes, size_t length, uint64_t offset)
{
  fuzz_check (io_write_full (fd, bytes, length, offset) == 0);
}

static void
put_numbers (int fd, uint64_t offset, uint64_t first, uint64_t second, unsigned n)
{
  uint8_t bytes[16];

  be_store64 (bytes, first);
  be_store64 (bytes + 8, second);
  put (fd, bytes, 8 * n, offset);
}

static void
put_header (int fd, const Qcow2Header *header)
{
  uint8_t area[QCOW2_HEADER_AREA];

  qcow2_header_encode (header, area);
  put (fd, area, sizeof area, 0);
}

static Qcow2Change
take_change (const Qcow2Header *header, Input *input)
{
  Qcow2Change change;

  change.cluster = take (input, 2);
  change.host_offset = take (input, 2) << header->cluster_bits;
  change.data = (uint32_t) take (input, 4);
  change.zero = (uint32_t) take (input, 4);
  return change;
}

static void
put_record (int fd, const Qcow2Header *header, Input *input, const Plan *plan)
{
  uint64_t index = take (input, 2) % QCOW2_JOURNAL_RECORDS;
  Qcow2Change change = take_change (header, input);
  uint8_t record[QCOW2_JOURNAL_RECORD];
  uint64_t check = 0;

  if ((take (input, 1) & 1) != 0)
    qcow2_journal_check (fd, plan->granule, &change, &check);
  qcow2_journal_encode_first (SESSION, plan->log, record);
  put (fd, record, sizeof record, QCOW2_JOURNAL_OFFSET);
  qcow2_journal_encode (SESSION, &change, check, record);
  if (index != 0)
    put (fd, record, sizeof record, QCOW2_JOURNAL_OFFSET + index * QCOW2_JOURNAL_RECORD);
}

static void
put_log (int fd, const Qcow2Header *header, Input *input, Plan *plan)
{
  uint64_t offset = take (input, 2) << header->cluster_bits;
  uint64_t size = take (input, 2) * 4 * KIB;
  Qcow2Change change = take_change (header, input);
  uint64_t length = (unsigned) __builtin_popcount (change.data) * plan->granule;
  g_autofree uint8_t *bytes = g_malloc (length + 1);
  uint8_t record[QCOW2_JOURNAL_RECORD];

  memset (bytes, 0xb7, length);
  if (plan->log.size == 0)
    {
      plan->log = (Qcow2Run){ offset, size };
      plan->log_next = QCOW2_JOURNAL_RECORD;
    }
  qcow2_journal_encode_first (SESSION, plan->log, record);
  put (fd, record, sizeof record, QCOW2_JOURNAL_OFFSET);
  qcow2_journal_encode_lap (SESSION, record);
  put (fd, record, sizeof record, plan->log.offset);
  qcow2_journal_encode (SESSION, &change, (take (input, 1) & 1) != 0 ? crc64 (0, bytes, length) : 0,
                        record);
  put (fd, record, sizeof record, plan->log.offset + plan->log_next);
  put (fd, bytes, length, plan->log.offset + plan->log_next + sizeof record);
  plan->log_next += sizeof record + length;
}

static void
put_item (int fd, Qcow2Header *header, Input *input, Plan *plan)
{
  const uint64_t copied = UINT64_C (1) << 63;
  unsigned bits = header->cluster_bits;
  uint64_t a, b;
  uint32_t data;

  switch (take (input, 1) % 9)
    {
    case 0:
      a = header->l1_offset + 8 * take (input, 1);
      put_numbers (fd, a, copied | take (input, 2) << bits, 0, 1);
      break;
    case 1:
      a = take (input, 2) << bits;
      a += 16 * (take (input, 2) % qcow2_l2_entries (header));
      b = copied | take (input, 2) << bits;
      data = (uint32_t) take (input, 4);
      put_numbers (fd, a, b, take (input, 4) << 32 | data, 2);
      break;
    case 2:
      a = take (input, 2) << bits;
      a += 8 * take (input, 2) % qcow2_cluster_size (header);
      put_numbers (fd, a, take (input, 8), 0, 1);
      break;
    case 3:
      a = take (input, 2) % QCOW2_HEADER_AREA;
      b = units_min (take (input, 1), (uint64_t) (input->end - input->at));
      put (fd, input->at, b, a);
      input->at += b;
      break;
    case 4:
      fuzz_check (ftruncate (fd, (off_t) take (input, 4)) == 0);
      break;
    case 5:
      plan->target = take (input, 2);
      break;
    case 6:
      a = take (input, 1) % 64;
      a = UINT64_C (1) << (a < 46 ? a : 62); /* in between an input takes too long */
      if (qcow2_header_init (header, a, plan->granule))
        {
          fuzz_check (qcow2_header_set_backing (header, "../a.img", "raw"));
          plan->size = a;
          put_header (fd, header);
        }
      break;
    case 7:
      put_record (fd, header, input, plan);
      break;
    case 8:
      put_log (fd, header, input, plan);
      break;
    }
}

static Plan
make_image (int dir_fd, Input *input)
{
  unsigned flags = (unsigned) take (input, 1);
  Plan plan = { .size = sizes[flags >> 2 & 3], .granule = UINT64_C (4096) << (flags >> 4 & 7) % 5 };
  Qcow2Header header;
  uint64_t n_clusters;
  int fd;

  unlinkat (dir_fd, NAME, 0);
  fd = openat (dir_fd, NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  fuzz_check (fd >= 0);
  fuzz_check (qcow2_header_init (&header, plan.size, plan.granule));
  fuzz_check (qcow2_header_set_backing (&header, "../a.img", "raw"));
  header.dirty = (flags & 1) != 0;
  header.broken = (flags & 2) != 0;
  header.journaled = (flags & 0x81) == 0x81;
  put_header (fd, &header);
  n_clusters = qcow2_first_free (&header) + take (input, 2);
  fuzz_check (ftruncate (fd, (off_t) (n_clusters << header.cluster_bits)) == 0);
  while (input->at < input->end)
    put_item (fd, &header, input, &plan);
  close (fd);
  return plan;
}

/* A granule with data, and a sum of it. */
typedef struct
{
  uint64_t granule;
  guint sum;
  int r;
} Kept;

static guint
sum_of (const uint8_t *bytes, size_t length)
{
  guint sum = 0;

  for (size_t i = 0; i < length; i++)
    sum = sum * 31 + bytes[i];
  return sum;
}

static Kept
read_granule (Overlay *overlay, const Plan *plan, uint64_t granule, uint64_t place)
{
  static uint8_t bytes[GRANULE_MAX];
  Kept kept = { .granule = granule };

  kept.r = overlay_read (overlay, bytes, plan->granule, place);
  fuzz_check (kept.r == 0 || kept.r == -EIO); /* -EIO: the file ends there */
  kept.sum = kept.r == 0 ? sum_of (bytes, plan->granule) : 0;
  return kept;
}

/* Looks up all of it. Returns the number of granules that were kept. */
static unsigned
look_up (Overlay *overlay, const Plan *plan, Kept *kept)
{
  uint64_t cluster_size = plan->granule * QCOW2_GRANULES_PER_CLUSTER;
  g_autoptr (GHashTable) places = g_hash_table_new (NULL, NULL);
  unsigned n = 0;
  uint64_t cluster;
  struct stat st;
  int errnum = 0;

  fuzz_check (fstat (overlay_fd (overlay), &st) == 0);
  for (cluster = 0; overlay_next (overlay, &cluster, UINT64_MAX, &errnum); cluster++)
    {
      Qcow2Cluster mapping = overlay_lookup (overlay, cluster);

      fuzz_check ((mapping.data & mapping.zero) == 0);
      fuzz_check ((mapping.data | mapping.zero) == overlay_saved (overlay, cluster));
      fuzz_check (mapping.data == 0 || mapping.host_offset != 0);
      if (mapping.host_offset == 0)
        continue;
      fuzz_check (mapping.host_offset % cluster_size == 0);
      fuzz_check (mapping.host_offset < (uint64_t) st.st_size);
      fuzz_check (g_hash_table_add (places, GSIZE_TO_POINTER (mapping.host_offset)));
      for (unsigned i = 0; i < QCOW2_GRANULES_PER_CLUSTER && n < KEEP_MAX; i++)
        if ((mapping.data >> i & 1) != 0)
          kept[n++] = read_granule (overlay, plan, cluster * QCOW2_GRANULES_PER_CLUSTER + i,
                                    mapping.host_offset + i * plan->granule);
    }
  fuzz_check (errnum == 0 || errnum == EUCLEAN || errnum == EIO);
  return n;
}

/* Saves the first granule of the cluster that is not saved. Returns it, or UINT64_MAX. */
static uint64_t
save (Overlay *overlay, const Plan *plan)
{
  static uint8_t bytes[GRANULE_MAX];
  uint32_t one, none = 0;
  unsigned i = 0;
  int r = overlay_prepare (overlay, plan->target, 1, true);

  if (r < 0)
    {
      fuzz_check (r == -EUCLEAN || r == -EIO || r == -EFBIG);
      return UINT64_MAX;
    }
  while (i < 32 && (overlay_saved (overlay, plan->target) >> i & 1) != 0)
    i++;
  if (i == 32)
    return UINT64_MAX;
  one = UINT32_C (1) << i;
  memset (bytes, 0xa5, sizeof bytes);
  overlay_reserve (overlay, plan->target, 1);
  fuzz_check (overlay_write (overlay, plan->target * 32 + i, 1, bytes) == 0);
  fuzz_check (overlay_record (overlay, plan->target, 1, &one, &none) == 0);
  overlay_publish (overlay, plan->target, 1, &one, &none);
  return plan->target * 32 + i;
}

static void
check_kept (Overlay *overlay, const Plan *plan, const Kept *kept, unsigned n)
{
  for (unsigned i = 0; i < n; i++)
    {
      uint64_t cluster = kept[i].granule / 32;
      Qcow2Cluster mapping;
      Kept now;

      fuzz_check (overlay_prepare (overlay, cluster, 1, false) == 0);
      mapping = overlay_lookup (overlay, cluster);
      fuzz_check ((mapping.data >> kept[i].granule % 32 & 1) != 0);
      now = read_granule (overlay, plan, kept[i].granule,
                          mapping.host_offset + kept[i].granule % 32 * plan->granule);
      /* What was beyond the end may have come into the file, as zeros. */
      fuzz_check (kept[i].r != 0 || (now.r == 0 && now.sum == kept[i].sum));
    }
}

static void
check_saved (Overlay *overlay, const Plan *plan, uint64_t granule)
{
  static uint8_t bytes[GRANULE_MAX];
  Qcow2Cluster mapping = overlay_lookup (overlay, granule / 32);

  fuzz_check ((mapping.data >> granule % 32 & 1) != 0);
  fuzz_check (overlay_read (overlay, bytes, plan->granule,
                            mapping.host_offset + granule % 32 * plan->granule)
              == 0);
  for (size_t i = 0; i < plan->granule; i++)
    fuzz_check (bytes[i] == 0xa5);
}

static void
use_image (int dir_fd, const Plan *plan)
{
  g_autoptr (GError) error = NULL;
  Kept kept[KEEP_MAX];
  Overlay *overlay = overlay_open (dir_fd, NAME, plan->size, plan->granule, &error);
  uint64_t saved;
  unsigned n;

  if (overlay == NULL)
    {
      fuzz_check_error (error, "'" NAME "'");
      return;
    }
  n = look_up (overlay, plan, kept);
  saved = save (overlay, plan);
  check_kept (overlay, plan, kept, n);
  fuzz_check (overlay_close (overlay, "../b.img", "raw", &error));

  overlay = overlay_open (dir_fd, NAME, plan->size, plan->granule, &error);
  fuzz_check (overlay != NULL);
  check_kept (overlay, plan, kept, n);
  if (saved != UINT64_MAX)
    {
      fuzz_check (overlay_load (overlay) == 0);
      check_saved (overlay, plan, saved);
    }
  overlay_free (overlay);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  int dir_fd = fuzz_directory (NULL), lowest = fuzz_lowest_free ();
  Input input = { data, data + size };
  Plan plan = make_image (dir_fd, &input);

  use_image (dir_fd, &plan);
  fuzz_check (fuzz_lowest_free () == lowest);
  return 0;
}
