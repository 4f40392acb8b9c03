/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/unmounter.h"

#include "base/fail.h"
#include "base/mount-table.h"
#include "fs/log.h"
#include "fs/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "fleecefs-umount" /* 15 bytes, the most there can be */

/* The state of the process. */
typedef struct
{
  int socket;
  int mounts; /* the table of mounts, to be told of changes; -1: need not be */
  const Overmount *overmount;
  dev_t device; /* of what is mounted over the images */
} Work;

/* Mounts over the images and says how that went. Watches the table from before. */
static void
cover (Work *work)
{
  g_autoptr (GError) error = NULL;
  const char *words = "";

  work->mounts = open (MOUNT_TABLE_FILE, O_RDONLY | O_CLOEXEC);
  if (!overmount_mount (work->overmount, &work->device, &error))
    {
      words = error->message;
      work->overmount = NULL;
    }
  /* With the 0 at the end, so that it is never empty, which would be the end of the other side. */
  if (send (work->socket, words, strlen (words) + 1, MSG_NOSIGNAL) < 0)
    g_warning ("cannot tell of the mounts over the images: %s", g_strerror (errno));
}

/* Somebody else has unmounted the mountpoint: nobody wants the others. */
static void
look_at_mounts (Work *work)
{
  g_autoptr (GPtrArray) table = mount_table_read (NULL);

  if (table == NULL || mount_table_whole (table, work->device) != NULL)
    return;
  overmount_undo (work->overmount, work->device);
  close (work->mounts);
  work->mounts = -1;
}

/* Blocks until there is a word or the other end is closed; true for a word. */
static bool
await_word (Work *work)
{
  for (;;)
    {
      struct pollfd polled[]
          = { { .fd = work->socket, .events = POLLIN }, { .fd = work->mounts, .events = POLLPRI } };
      char word;
      ssize_t n;

      if (poll (polled, 2, -1) < 0)
        continue;
      if (polled[0].revents != 0)
        {
          n = recv (work->socket, &word, 1, 0);
          if (n >= 0 || errno != EINTR)
            return n == 1;
        }
      if (polled[1].revents != 0 && work->overmount != NULL)
        look_at_mounts (work);
    }
}

G_GNUC_NORETURN static void
work_on (int socket, const Overmount *overmount, void (*unmount) (void *data), void *data)
{
  Work work = { .socket = socket, .mounts = -1, .overmount = overmount };

  signal (SIGTERM, SIG_IGN);
  signal (SIGINT, SIG_IGN);
  signal (SIGHUP, SIG_IGN);
  prctl (PR_SET_NAME, NAME, 0, 0, 0);
  privilege_close_but (socket);
  /* An ordinary user has none to keep, and fusermount3 must be able to get some. Images may lie in
   * directories of others. */
  if (geteuid () == 0)
    privilege_drop_but (PRIVILEGE (CAP_SYS_ADMIN)
                        | (overmount != NULL ? PRIVILEGE (CAP_DAC_READ_SEARCH) : 0));
  /* When the daemon is killed after its word, what is mounted there by then may be another's. A
   * change of capabilities would clear it. */
  prctl (PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  log_start ();
  if (overmount != NULL)
    cover (&work);
  if (await_word (&work))
    {
      if (work.overmount != NULL)
        overmount_undo (work.overmount, work.device);
      unmount (data);
    }
  log_end ();
  _exit (0);
}

bool
unmounter_start (Unmounter *unmounter, const Overmount *overmount, void (*unmount) (void *data),
                 void *data, GError **error)
{
  int ends[2];

  if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return fail_errno (error, errno, "cannot start the process that unmounts");
  unmounter->child = fork ();
  if (unmounter->child == 0)
    work_on (ends[0], overmount, unmount, data);
  close (ends[0]);
  if (unmounter->child < 0)
    {
      fail_errno (error, errno, "cannot start the process that unmounts");
      close (ends[1]);
      unmounter->child = 0;
      return false;
    }
  unmounter->socket = ends[1];
  return true;
}

bool
unmounter_covered (const Unmounter *unmounter, GError **error)
{
  char words[1024];
  ssize_t n;

  do
    n = recv (unmounter->socket, words, sizeof words - 1, 0);
  while (n < 0 && errno == EINTR);
  if (n <= 0)
    return fail (error, EIO, "the process that mounts over the images is gone");
  words[n] = '\0';
  return *words == '\0' || fail (error, EIO, "%s", words);
}

void
unmounter_end (Unmounter *unmounter, bool unmount)
{
  if (unmounter->child == 0)
    return;
  if (unmount && send (unmounter->socket, "u", 1, MSG_NOSIGNAL) != 1)
    g_warning ("the process that unmounts is gone: run umount");
  close (unmounter->socket);
  while (waitpid (unmounter->child, NULL, 0) < 0 && errno == EINTR)
    ;
  unmounter->child = 0;
}
