/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is this directory fit to mount on? Asked before anything is made. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

/* The absolute path of the mountpoint, symbolic links resolved. Fails when it is missing,
 * no directory, cannot be looked at, or a mount whose program is gone. */
char *mountpoint_resolve (const char *path, GError **error);

/* Fails when a FUSE file system is already mounted there, or it is not empty. *out is
 * what stat(2) says now: the device will be another once the mount answers. */
bool mountpoint_check_free (const char *path, struct stat *out, GError **error);
