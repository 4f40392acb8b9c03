/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where fleecefs is mounted, as the kernel tells this process. */
#pragma once

#include <glib.h>

/* The mountpoints, in the order of their mounting (char *). Empty when there is none. */
GPtrArray *mounts_all (GError **error);

/* The mountpoint of the mount that path is in, be it of fleecefs or not, as a new string. For a file
 * of a fleecefs that is mounted by itself, as over its image, it is that of the fleecefs. */
char *mounts_of (const char *path, GError **error);
