/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process that unmounts when a signal ends fleecefs.
 *
 * To unmount takes CAP_SYS_ADMIN, or, for an ordinary user, the start of fusermount3, which is
 * set-user-ID. A daemon that could do either would have kept all that matters. So there is a
 * second, small process, forked before the daemon drops what it has. It is called
 * fleecefs-umount, holds no descriptor but a socket and standard error, hears of no request, and
 * can be told one thing: to unmount this mountpoint. With -o overmount it first mounts over the
 * images, and undoes that in time (overmount.h). It ends with the daemon, however that ends, and
 * when that is killed also in the middle of its work: it must not unmount what is mounted there
 * next. It unmounts only when told to, so what a killed daemon leaves is the same as ever. Stop
 * signals it ignores: a service manager sends them to both. */
#pragma once

#include "fs/overmount.h"

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct
{
  pid_t child; /* 0: there is none */
  int socket;
} Unmounter;

/* Forks; no thread may exist. unmount (data) is what the child does when told to. overmount: NULL,
 * or what it does first; whoever calls answers requests until the socket can be read, and then asks
 * unmounter_covered(). */
bool unmounter_start (Unmounter *unmounter, const Overmount *overmount,
                      void (*unmount) (void *data), void *data, GError **error);

/* Blocks until the child has mounted over the images. Fails when it could not. */
bool unmounter_covered (const Unmounter *unmounter, GError **error);

/* Has it unmount, if so told, and waits for its end. Does nothing when there is none. */
void unmounter_end (Unmounter *unmounter, bool unmount);
