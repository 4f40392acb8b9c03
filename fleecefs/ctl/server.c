/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/server.h"

#include "base/beacon.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* One number on all machines. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define GRACE_MSEC 2000 /* after which the kernel is asked whether the file system lives on */
#define SLOW_MSEC 10000

struct _Server
{
  pid_t pid;   /* 0: not found */
  int fd;      /* of the process; -1 */
  char *sysfs; /* a directory that is there as long as the file system */
  ino_t inode; /* of that; 0: not there */
};

/* The number of the directory; 0: it is not there. That of a later file system with the same device
 * has another number. */
static ino_t
look_at_sysfs (const Server *server)
{
  struct stat st;

  return stat (server->sysfs, &st) == 0 ? st.st_ino : 0;
}

/* Holds the process, if it still is the one. */
static void
hold (Server *server, pid_t pid, dev_t device)
{
  int fd = (int) syscall (SYS_pidfd_open, pid, 0);
  dev_t served;

  if (fd < 0)
    return;
  if (server->fd >= 0 || !beacon_read (pid, &served) || served != device)
    {
      close (fd);
      return;
    }
  server->pid = pid;
  server->fd = fd;
}

Server *
server_find (const MountEntry *mount)
{
  Server *server = g_new0 (Server, 1);
  g_autoptr (GArray) pids = beacon_find (mount->device, mount->owner);

  server->fd = -1;
  server->sysfs
      = g_strdup_printf ("/sys/class/bdi/%u:%u", major (mount->device), minor (mount->device));
  server->inode = look_at_sysfs (server);
  for (guint i = 0; i < pids->len; i++)
    hold (server, g_array_index (pids, pid_t, i), mount->device);
  return server;
}

void
server_free (Server *server)
{
  if (server->fd >= 0)
    close (server->fd);
  g_free (server->sysfs);
  g_free (server);
}

pid_t
server_pid (const Server *server)
{
  return server->pid;
}

/* Has it ended by then? Milliseconds from now on. */
static gboolean
ends_within (const Server *server, int64_t msec)
{
  const int64_t until = g_get_monotonic_time () / 1000 + msec;
  struct pollfd polled = { .fd = server->fd, .events = POLLIN };
  int n;

  do
    n = poll (&polled, 1, (int) MAX (until - g_get_monotonic_time () / 1000, 0));
  while (n < 0 && errno == EINTR);
  return n == 1;
}

ServerEnd
server_await (const Server *server, gboolean was_ended, unsigned seconds, void (*slow) (void *data),
              void *data)
{
  int64_t left = (int64_t) seconds * 1000;
  int64_t grace = MIN (left, GRACE_MSEC), quick = MIN (left - grace, SLOW_MSEC - GRACE_MSEC);

  if (server->fd < 0)
    return SERVER_UNSEEN;
  if (ends_within (server, grace))
    return SERVER_ENDED;
  if (!was_ended && server->inode != 0 && look_at_sysfs (server) == server->inode)
    return SERVER_IN_USE;
  if (ends_within (server, quick))
    return SERVER_ENDED;
  left -= grace + quick;
  if (left == 0)
    return SERVER_RUNS;
  slow (data);
  return ends_within (server, left) ? SERVER_ENDED : SERVER_RUNS;
}
