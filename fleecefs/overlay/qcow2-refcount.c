/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/qcow2-refcount.h"

#include "base/io.h"
#include "base/units.h"
#include "overlay/be.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

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
      uint8_t entry_be[8];

      fill_block (block, cluster_size, units_min (span, n_clusters - k * span));
      for (guint i = 0; i < leaks->len; i++)
        if (g_array_index (leaks, uint64_t, i) / span == k)
          block[2 * (g_array_index (leaks, uint64_t, i) % span) + 1] = 0;
      be_store64 (entry_be, place);
      r = io_write_full (fd, block, cluster_size, place);
      if (r == 0)
        r = io_write_full (fd, entry_be, sizeof entry_be, header->refcount_table_offset + 8 * k);
    }
  /* Where the file system cannot make holes the space stays taken; nothing else is wrong. */
  for (guint i = 0; i < leaks->len && r == 0; i++)
    fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
               (off_t) (g_array_index (leaks, uint64_t, i) * cluster_size), (off_t) cluster_size);
  free (block);
  return r;
}
