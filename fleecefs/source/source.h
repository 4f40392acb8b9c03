/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source: the raw file or block device under a disk.
 *
 * It is owned by this process from source_open() to source_close(): QEMU's byte
 * locks (image-lock.h), for a block device also O_EXCL, which a mounted one
 * refuses. I/O goes through the host's page cache. Offsets and lengths are in
 * bytes. The I/O functions return 0 or a count, or -errno, take no lock and may
 * be called from any number of threads.
 */
#pragma once

#include "base/io.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef struct _Source Source;

typedef enum
{
  SOURCE_HOLE, /* reads as zeros, no blocks behind it */
  SOURCE_DATA,
} SourceExtent;

/* Opens and owns the image. Refused, with one line that says what and why: missing,
 * unreadable, not writable, neither a regular file nor a block device, an empty device, in use
 * (EBUSY: locked, mounted, or behind a loop device). */
Source *source_open (const char *path, GError **error);
/* False, with one line, for an empty file: somebody's mistake, if it is not known that a guest has
 * made it empty. */
bool source_refuse_empty (const Source *source, GError **error);
/* Closes and gives up the locks. NULL is allowed. */
void source_close (Source *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Source, source_close)

/* The absolute path, symbolic links resolved. */
const char *source_path (const Source *source);
/* True for a block device, whose size we cannot change. Others may: lvextend, losetup -c. */
bool source_is_block (const Source *source);
/* NULL, or a sentence that says that source_path() no longer leads to the file, which was moved,
 * removed, or replaced by another, and what to do. Asks the kernel alone, so it does not block, and
 * does not see what another host has done (NFS). NULL of a block device, and without /proc. A new
 * string. */
char *source_find_move (const Source *source);
/* The descriptor, for copy_file_range(). */
int source_fd (const Source *source);
/* The size now, and the bytes that the file takes now in its file system, also beyond its end.
 * Return 0, or -errno with *out as it was. The last size that was seen would be no answer, for
 * somebody may have cut the file off since, and 0 is one that breaks snapshots, or that tar(1)
 * takes for a file of nothing but zeros. Of a block device both are its size; -ENODEV: it went
 * away. */
int source_size (const Source *source, uint64_t *out);
int source_allocated (const Source *source, uint64_t *out);
/* Owner, mode, times and blocks of the file or device node. */
int source_stat (const Source *source, struct stat *out);

/* What another file or another attachment of a device does not have, however much it looks like
 * this one: a file's birth time (ns), which no program can set, or the sequence number of a block
 * device, which is valid for one boot of the host. 0 where the system does not tell. */
uint64_t source_identity (const Source *source);
/* The sectors of a block device that were written or discarded since it was attached, by anybody;
 * false for a file and where the system does not tell. */
bool source_count_writes (const Source *source, uint64_t *out_sectors);

/* Bytes read; short only at the end. */
ssize_t source_read (Source *source, void *buffer, size_t length, uint64_t offset);
/* Bytes written, and as far on disk then as sync asks for; a file grows when needed, a block device
 * ends with -ENOSPC. */
ssize_t source_write (Source *source, const void *buffer, size_t length, uint64_t offset,
                      IoSync sync);
/* fallocate(2); FALLOC_FL_ZERO_RANGE is done by writing zeros where the source refuses it. A hole
 * that is refused changes nothing; but for the parts of pages at its ends when the rest of such a
 * page is being written at that moment (block devices only). */
int source_allocate (Source *source, int mode, uint64_t offset, uint64_t length);
/* Resizes a file; -EPERM for a block device. */
int source_truncate (Source *source, uint64_t size);
/* fdatasync or fsync. */
int source_flush (Source *source, bool data_only);

/* A note at a regular file, an extended attribute (user.fleecefs.unsaved): overlays in the store of
 * that id miss old blocks and do not say so. Not for a block device: -EOPNOTSUPP. */
int source_set_note (Source *source, const char *store_id);
/* Is there one of that store? Returns 0, or -errno: it cannot be read, and may be there. Where none
 * can be set there is none. */
int source_has_note (Source *source, const char *store_id, bool *out);
/* Takes it away; none is not an error. */
int source_clear_note (Source *source);

/* How many bytes from offset (< size) on are a hole, at most length (> 0). 0 where there is data,
 * or where the source cannot tell. Cheap in all file systems. */
uint64_t source_hole (Source *source, uint64_t offset, uint64_t length);
/* The first byte at or after offset that is in an extent of that kind; UINT64_MAX: none. What is
 * beyond the end is a hole. Data where the source cannot tell. The next hole may have to be
 * searched for page by page (tmpfs). */
uint64_t source_find (Source *source, uint64_t offset, SourceExtent extent);
