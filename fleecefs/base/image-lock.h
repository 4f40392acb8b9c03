/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The byte-range locks by which QEMU's file driver keeps two writers off one image.
 *
 * Source: QEMU, block/file-posix.c (bytes 100 + p: "permission p is in use",
 * 200 + p: "permission p is not shared"), include/block/block-common.h for the
 * numbers of the permissions. All are shared (read) locks of the open file
 * description; conflicts are found by asking for a write lock with F_OFD_GETLK.
 *
 * fleecefs takes what a writing, resizing guest takes: in use are consistent
 * read, write and resize; not shared are write and resize. So a QEMU that wants
 * to write, and one that does not expect a writer, are refused, and so are we.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Owns the image behind fd (open for writing) until fd is closed. path is for
 * the message. Fails with EBUSY and who holds it, or with the error of fcntl. */
bool image_lock_own (int fd, const char *path, GError **error);

/* Fails with EBUSY: WHAT is in use by who has a lock on the file behind fd, "qemu-system-x86 (pid
 * 12)", or "another process" when that cannot be seen, and how to stop that. Our own locks do not
 * count. Returns false. */
bool image_lock_fail_in_use (int fd, const char *what, GError **error);
