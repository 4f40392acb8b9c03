/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Full-length positioned I/O, and what else a signal may interrupt: EINTR is retried, short
 * transfers are continued.
 * Offsets and lengths are in bytes. All of these block on the file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Reads up to length bytes. Returns the number read, less than length only at
 * the end of the file, or -errno. */
ssize_t io_read (int fd, void *buffer, size_t length, uint64_t offset);

/* Reads exactly length bytes. Returns 0, or -errno; -EIO when the file ends early. */
int io_read_full (int fd, void *buffer, size_t length, uint64_t offset);

/* Writes length bytes. Returns the number written, or -errno when the first
 * byte could not be written; less than length when an error came after that. */
ssize_t io_write (int fd, const void *buffer, size_t length, uint64_t offset);

/* What has to be on disk when a write returns. */
typedef enum
{
  IO_SYNC_NONE,
  IO_SYNC_DATA, /* the bytes, and what is needed to find them: O_DSYNC */
  IO_SYNC_ALL,  /* times and all else of the file, too: O_SYNC */
} IoSync;

/* The same, and what was written is on disk then: these bytes, not the rest of the file. */
ssize_t io_write_sync (int fd, const void *buffer, size_t length, uint64_t offset, IoSync sync);

/* Writes exactly length bytes. Returns 0 or -errno. */
int io_write_full (int fd, const void *buffer, size_t length, uint64_t offset);

/* Writes all bytes of the n parts, one after another. Returns 0 or -errno. */
int io_write_parts (int fd, const struct iovec *parts, int n, uint64_t offset);

/* Has writing the file to its disk failed, also in the background, since it was opened or this was
 * asked last by this descriptor? Then -errno; else 0. Does not block. */
int io_write_back_error (int fd);

/* When the file or directory was made, in ns since the epoch, which no program can set; 0: the file
 * system does not tell. */
uint64_t io_birth_time (int fd);

/* fdatasync, or fsync of a file or directory. Returns 0 or -errno. */
int io_sync (int fd, bool data_only);

/* Resizes a file. Returns 0 or -errno. */
int io_truncate (int fd, uint64_t size);
