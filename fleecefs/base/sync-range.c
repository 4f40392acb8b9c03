/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/sync-range.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

bool
sync_range_open (SyncRange *range, int fd, uint64_t offset, size_t length)
{
  void *pages = mmap (NULL, length, PROT_READ, MAP_SHARED, fd, (off_t) offset);

  if (pages == MAP_FAILED)
    return false;
  *range = (SyncRange){ .fd = fd, .offset = offset, .length = length, .pages = pages };
  return true;
}

void
sync_range_close (SyncRange *range)
{
  if (range->length > 0)
    munmap (range->pages, range->length);
  *range = (SyncRange){ 0 };
}

/* What becomes of it is told at the end. */
void
sync_range_begin (const SyncRange *range, uint64_t offset, size_t length)
{
  (void) sync_file_range (range->fd, (off_t) offset, (off_t) length, SYNC_FILE_RANGE_WRITE);
}

int
sync_range_end (const SyncRange *range, uint64_t offset, size_t length)
{
  uint64_t page = (uint64_t) sysconf (_SC_PAGESIZE);
  uint64_t start = (offset - range->offset) / page * page;
  uint64_t end = offset - range->offset + length;

  while (msync ((char *) range->pages + start, end - start, MS_SYNC) != 0)
    if (errno != EINTR)
      return -errno;
  return 0;
}
