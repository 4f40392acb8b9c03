/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A live disk under copy-before-write: the guest's side of design.md section 4.
 *
 * A write (also zero, discard and shrink) goes through these steps:
 *
 *   1. enter the write section of the barrier: the chain stays as it is;
 *   2. claim the granules of the range that are not saved, wait for those that
 *      other writers have claimed;
 *   3. copy the claimed granules from the source to the overlay that receives
 *      copies, and record them there;
 *   4. publish them as saved: no frozen read of them can start from here on;
 *   5. wait for the frozen reads of the range that started before;
 *   6. write the source, leave the section.
 *
 * When all granules of the range are saved and nobody reads there at the source,
 * steps 2 to 5 are one look at the chain's bits and one at a counter. A writer
 * never waits while it holds a claim; frozen reads never wait for writers.
 *
 * Functions return 0 or a count, or -errno, and may be called from any number
 * of threads. Guests' errors are errors of the source; what goes wrong with a
 * copy is settled by the policy on_cbw_error.
 */
#pragma once

#include "cow/barrier.h"
#include "cow/chain.h"
#include "cow/counters.h"
#include "source/source.h"
#include "store/seal.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

typedef struct _Disk Disk;

/* How old blocks travel to the overlay. */
typedef enum
{
  DISK_COPY_AUTO,    /* offload long runs where the file system can share blocks, else bounce */
  DISK_COPY_BOUNCE,  /* through memory; zero blocks are found and not stored */
  DISK_COPY_OFFLOAD, /* copy_file_range(); at the first refusal bounce, for good */
} DiskCopyMethod;

/* What a failed copy does (QEMU's on-cbw-error). */
typedef enum
{
  DISK_CBW_BREAK_SNAPSHOT, /* the guest's write goes on; snapshots that needed the old block break
                            */
  DISK_CBW_BREAK_GUEST_WRITE, /* the guest's write gets the error; the snapshots stay right */
} DiskCbwError;

/* A snapshot of the disk has broken. Called from the thread of a guest or a reader, with no
 * lock held; must not block. */
typedef void (*DiskBreakFunc) (void *data);

/* Is the process about to end, so that no guest's write may go on waiting? From any thread; must
 * not block. */
typedef bool (*DiskEndingFunc) (void *data);

typedef struct
{
  Barrier *barrier; /* shared by all disks of a set */
  uint64_t granule; /* bytes */
  DiskCopyMethod copy;
  DiskCbwError on_cbw_error;
  unsigned cbw_timeout; /* seconds that a guest's write waits for copies; 0: no limit */
  bool durable;         /* what is noted at the source is synced */
  const char *store_id; /* what is noted there (source.h), NULL: nothing */
  int64_t write_time;   /* where the disk's write clock starts, ns */
  DiskBreakFunc on_break;
  void *on_break_data;
  DiskEndingFunc is_ending; /* NULL: it never is */
  void *is_ending_data;
} DiskConfig;

/* Takes over the source. The chain is empty. */
Disk *disk_new (Source *source, const DiskConfig *config);
/* Closes the source. The caller ended all I/O. */
void disk_free (Disk *disk);

/* Before the first guest's write: where else than in the overlays it can stand that they are
 * broken, besides the note at the source. marked: the source has the mark of the store. The
 * seal, or NULL, stays the caller's and knows the disk by the number. */
void disk_set_places (Disk *disk, bool marked, Seal *seal, uint32_t number);

/* The guest's writes that are held at this moment: there is no place where it could be written down
 * that snapshots are broken by them. */
unsigned disk_n_held (Disk *disk);

/* The source below; for its size, owner, mode and extents. */
Source *disk_source (Disk *disk);
/* The moment of the last write; see write-clock.h. */
struct timespec disk_write_time (Disk *disk);

/* Where its write clock starts, in place of what the configuration said; before the first write. */
void disk_set_write_time (Disk *disk, int64_t time);

/* One of its counters as it is now. */
uint64_t disk_count (Disk *disk, Counter counter);
/* How often a write waited for frozen reads. */
uint64_t disk_n_read_waits (Disk *disk);

/* Reads the live disk: the number of bytes, short only at its end. */
ssize_t disk_read (Disk *disk, void *buffer, size_t length, uint64_t offset);
/* Writes; a regular file grows when needed. Returns the number of bytes written, as far on disk as
 * sync asks for; short only when the source had an error after some of them. */
ssize_t disk_write (Disk *disk, const void *buffer, size_t length, uint64_t offset, IoSync sync);
/* The same for a write that has nothing to copy and no copy or frozen read to wait for;
 * else -EAGAIN, with nothing done. So it waits for the source only, and for a freeze. */
ssize_t disk_write_saved (Disk *disk, const void *buffer, size_t length, uint64_t offset,
                          IoSync sync);
/* fallocate(2) with mode 0 or any of FALLOC_FL_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE;
 * -EOPNOTSUPP for others. What is a hole already needs no copy. A long range is not one change: it
 * takes effect step by step, and a snapshot that is made meanwhile, or an error, finds a part of it
 * done, from its beginning on. */
int disk_allocate (Disk *disk, int mode, uint64_t offset, uint64_t length);
/* Resizes a regular file; -EPERM for a block device. */
int disk_truncate (Disk *disk, uint64_t size);
/* fsync or fdatasync of the source. */
int disk_flush (Disk *disk, bool data_only);

/* Breaks a layer of the chain, for that reason; on return it is written down, in its overlay or
 * else at the image. */
void disk_break (Disk *disk, Layer *layer, LayerFault fault, int errnum);

/* Breaks the snapshots that need bytes beyond the end of the source. For a start after
 * which the source may be shorter than it was left. Reads tables. Returns 0, or -errno when the
 * source does not tell where it ends; then nothing is broken. */
int disk_check_tail (Disk *disk);

/* The chain as it is now, as a new reference. */
Chain *disk_chain (Disk *disk);

/* Replaces the chain and drops the old one; takes over the reference. The caller
 * has closed the barrier. */
void disk_set_chain (Disk *disk, Chain *chain);

/* Waits for the copies that guests did not wait for (cbw_timeout). Nobody writes any more. */
void disk_settle (Disk *disk);

/* After that, at the end: brings what is saved to disk. Snapshots that need what does not get there
 * break, but for durable copies: of these the next start finds out. */
void disk_sync_saved (Disk *disk);

/* Is there such a copy under way? It may go to an overlay that receives none in the chain of now.
 * One that is not late when a chain has been replaced is for the new one. */
bool disk_has_late_copies (Disk *disk);

/* At a freeze, with the barrier closed: the time of the last write. Later writes
 * get a later one. */
int64_t disk_freeze_clock (Disk *disk);

/* What the next two return when the layer has left the chain: a merge has put another in its place.
 * No system call fails with it, as one may with ESTALE. */
#define DISK_LAYER_GONE (-4096)

/* Reads the snapshot whose layer is given. A frozen read: the bytes are those of
 * the layer's instant, or -EIO when the layer is or became broken, also during the call. Short
 * only at the end of the snapshot. Never blocks on a writer. */
ssize_t disk_read_frozen (Disk *disk, Layer *layer, void *buffer, size_t length, uint64_t offset);

/* SEEK_DATA or SEEK_HOLE in the snapshot whose layer is given; errors as above, and
 * -ENXIO, -EINVAL. */
int64_t disk_seek_frozen (Disk *disk, Layer *layer, uint64_t offset, int whence);

/* Copies the saved granules of one layer into its neighbour, for merge.h: those
 * of from that to does not have (overwrite false), or all (overwrite true; then
 * nobody reads these granules of to). No late copy of before the chain of now is under way. Work
 * goes in steps of a few MiB at most: each goes on at *position (first 0) and moves it; returns 1
 * when there may be more, 0 when all is done, or -errno. To is not synced when all is done. */
int disk_merge_step (Disk *disk, Layer *from, Layer *to, bool overwrite, uint64_t *position);
