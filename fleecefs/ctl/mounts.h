/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where fleecefs is mounted, as the kernel tells this process. */
#pragma once

#include "base/mount-table.h"

#include <glib.h>

/* The mountpoints, in the order of their mounting (char *). Empty when there is none. */
GPtrArray *mounts_all (GError **error);

/* The mountpoint of the mount that path is in, be it of fleecefs or not, as a new string. For a
 * file of a fleecefs that is mounted by itself, as over its image, it is that of the fleecefs. */
char *mounts_of (const char *path, GError **error);

/* Is it of fleecefs? */
gboolean mounts_is_ours (const MountEntry *entry);

/* The path as the table of mounts has it, if something is mounted there, as a new string. Does not
 * ask what is mounted there, which may hang, but where the last part of the path is no name of its
 * own. */
char *mounts_point (const char *path, GError **error);
