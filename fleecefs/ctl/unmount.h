/* SPDX-License-Identifier: GPL-2.0-or-later */
/* To unmount, and to come back when the image and the store are closed. For root by umount2(2), for
 * others by fusermount3(1), whose own words then go to standard error. */
#pragma once

#include <glib.h>

/* A daemon may have much to write, to a slow disk; the unit of systemd waits as long. */
#define UNMOUNT_SECONDS 300

typedef struct
{
  gboolean force;      /* also when it hangs: the connection is ended first */
  gboolean lazy;       /* also when it is in use: it is gone from here, and not waited for */
  gboolean read_only;  /* when it is in use, it is made read-only instead */
  unsigned seconds;    /* to wait */
  const char *program; /* for the line that says that it takes long */
} UnmountHow;

typedef enum
{
  UNMOUNT_DONE,       /* and all is closed, unless it is mounted elsewhere too, or lazy */
  UNMOUNT_FAILED,     /* nothing is unmounted */
  UNMOUNT_NOT_CLOSED, /* unmounted, but not closed as far as is known */
} UnmountResult;

/* Unmounts what is on top at that path, absolute and resolved. Sets the error unless all is done;
 * of a failure that fusermount3 has told of it is empty ("") . */
UnmountResult unmount (const char *mountpoint, const UnmountHow *how, GError **error);

/* Unmounts the fleecefs that is on top at that path if nobody serves it: its daemon was killed. One
 * that is not killed stays, and what is no fleecefs too. Takes ANSWER_SECONDS when the mount
 * neither answers nor says that it is dead. */
UnmountResult unmount_dead (const char *mountpoint, GError **error);
