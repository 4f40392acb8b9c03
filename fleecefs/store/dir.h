/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directories of the store, reached by descriptor and never through a symbolic link.
 *
 * What a store holds is not trusted: it may come from another host or another
 * hand. So every step is an openat() or fstatat() relative to a directory that is
 * already open, and a symbolic link in the place of a file or a directory is
 * damage. `path` is for messages only. All functions block on the disk.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef enum
{
  DIR_MISSING,
  DIR_FILE, /* a regular file */
  DIR_DIRECTORY,
  DIR_OTHER, /* a symbolic link, a device, ... */
} DirKind;

/* An int that is closed when it goes out of scope, unless it is -1. */
#define DIR_AUTO_FD __attribute__ ((cleanup (dir_close))) int

/* Closes *fd unless it is -1 and makes it -1; errno stays. */
void dir_close (int *fd);

/* Opens the directory name in dir_fd for reading and openat(). path is its path.
 * Returns -1 with ENOENT when it is missing, EUCLEAN when it is no directory, EPERM when others
 * may write to it (base/trust.h). */
int dir_open (int dir_fd, const char *name, const char *path, GError **error);

/* What name in dir_fd is; a symbolic link is not followed. path is that of dir_fd. */
bool dir_kind (int dir_fd, const char *name, const char *path, DirKind *out_kind, GError **error);

/* The names in the directory (char *), in the order of strcmp(), without "." and "..". */
GPtrArray *dir_list (int dir_fd, const char *path, GError **error);

/* Removes the file name from dir_fd. A missing one is not an error. */
bool dir_unlink (int dir_fd, const char *name, const char *path, GError **error);

/* Makes the names in the directory durable, where the file system can. */
bool dir_sync (int dir_fd, const char *path, GError **error);

/* A name that came from the disk, on one line and without control characters. */
char *dir_printable (const char *name);
