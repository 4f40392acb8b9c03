/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process that serves a mount, and its end.
 *
 * The kernel tells a FUSE daemon of the unmount when the mount is gone, and whoever unmounted does
 * not wait for what the daemon does then: close image and store. Here it can be waited for. The
 * process is looked for before the unmount (base/beacon.h), and held by a descriptor
 * (pidfd_open(2)), so that no other can be taken for it. */
#pragma once

#include "base/mount-table.h"

typedef struct _Server Server;

typedef enum
{
  SERVER_ENDED,
  SERVER_IN_USE, /* the file system is still in use, so its process goes on */
  SERVER_RUNS,   /* it has not ended in time */
  SERVER_UNSEEN, /* it was not found */
} ServerEnd;

/* Looks for who serves the mount, before that is unmounted. Never waits for it. */
Server *server_find (const MountEntry *mount);
void server_free (Server *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Server, server_free)

/* Its number; 0: not found. */
pid_t server_pid (const Server *server);

/* After the unmount: waits until the process has ended, for so many seconds at the most. When the
 * kernel tells that the file system lives on, elsewhere or by an open file, that is not waited for;
 * unless the connection was ended, for then the process ends all the same. slow (data) is called
 * once, when it takes long. */
ServerEnd server_await (const Server *server, gboolean was_ended, unsigned seconds,
                        void (*slow) (void *data), void *data);
