/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/qcow2-refcount.h"

#include "base/io.h"
#include "base/units.h"
#include "overlay/be.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Counts are written, and their space is taken, by these: a refcount block of a small overlay is
 * mostly hole. */
#define COUNTS_PAGE 4096

static int
take_space (int fd, uint64_t offset, uint64_t length)
{
  int r;

  do
    r = fallocate (fd, FALLOC_FL_KEEP_SIZE, (off_t) offset, (off_t) length);
  while (r != 0 && errno == EINTR);
  return r == 0 || errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -errno;
}

int
qcow2_refcount_prepare (int fd, const Qcow2Header *header, uint64_t first, uint64_t end)
{
  uint64_t cluster_size = qcow2_cluster_size (header);
  uint64_t span = qcow2_block_span (header);
  int r = 0;

  while (first < end && r == 0)
    {
      uint64_t k = first / span;
      uint64_t stop = units_min (end, (k + 1) * span);
      uint64_t from = 2 * (first % span) / COUNTS_PAGE * COUNTS_PAGE;
      uint64_t to = units_round_up (2 * (stop - k * span), COUNTS_PAGE);

      r = take_space (fd, qcow2_refcount_block (header, k) * cluster_size + from, to - from);
      if (r == 0)
        r = take_space (fd, header->refcount_table_offset + 8 * k / COUNTS_PAGE * COUNTS_PAGE,
                        COUNTS_PAGE);
      first = stop;
    }
  return r;
}

/* Fills a block in which the first n clusters are used once. */
static void
fill_block (uint8_t *block, uint64_t cluster_size, uint64_t n)
{
  memset (block, 0, cluster_size);
  for (uint64_t i = 0; i < n; i++)
    block[2 * i + 1] = 1;
}

int
qcow2_refcount_write (int fd, const Qcow2Header *header, uint64_t n_clusters, const GArray *leaks)
{
  uint64_t cluster_size = qcow2_cluster_size (header);
  uint64_t span = qcow2_block_span (header);
  uint64_t n_blocks = units_div_up (n_clusters, span);
  uint8_t *block = malloc (cluster_size);
  int r = block == NULL ? -ENOMEM : 0;

  if (n_blocks > header->refcount_table_clusters * cluster_size / 8)
    r = -EFBIG;
  if (r == 0)
    r = io_truncate (fd, n_clusters * cluster_size);
  for (uint64_t k = 0; k < n_blocks && r == 0; k++)
    {
      uint64_t place = qcow2_refcount_block (header, k) * cluster_size;
      uint64_t n = units_min (span, n_clusters - k * span);
      uint8_t entry_be[8];

      fill_block (block, cluster_size, n);
      for (guint i = 0; i < leaks->len; i++)
        if (g_array_index (leaks, uint64_t, i) / span == k)
          block[2 * (g_array_index (leaks, uint64_t, i) % span) + 1] = 0;
      be_store64 (entry_be, place);
      r = io_write_full (fd, block, units_round_up (2 * n, COUNTS_PAGE), place);
      if (r == 0)
        r = io_write_full (fd, entry_be, sizeof entry_be, header->refcount_table_offset + 8 * k);
    }
  if (r == 0)
    qcow2_refcount_give_back (fd, header, leaks);
  free (block);
  return r;
}

void
qcow2_refcount_give_back (int fd, const Qcow2Header *header, const GArray *leaks)
{
  uint64_t cluster_size = qcow2_cluster_size (header);

  for (guint i = 0; i < leaks->len; i++)
    fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
               (off_t) (g_array_index (leaks, uint64_t, i) * cluster_size), (off_t) cluster_size);
}
