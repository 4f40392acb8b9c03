/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/unmounter.h"

#include "base/fail.h"
#include "fs/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "fleecefs-umount" /* 15 bytes, the most there can be */

/* Blocks until there is a byte or the other end is closed; true for a byte. */
static bool
await_word (int pipe)
{
  char word;
  ssize_t n;

  do
    n = read (pipe, &word, 1);
  while (n < 0 && errno == EINTR);
  return n == 1;
}

G_GNUC_NORETURN static void
work (int pipe, void (*unmount) (void *data), void *data)
{
  signal (SIGTERM, SIG_IGN);
  signal (SIGINT, SIG_IGN);
  signal (SIGHUP, SIG_IGN);
  prctl (PR_SET_NAME, NAME, 0, 0, 0);
  privilege_close_but (pipe);
  /* An ordinary user has none to keep, and fusermount3 must be able to get some. */
  if (geteuid () == 0)
    privilege_drop_but (CAP_SYS_ADMIN);
  if (await_word (pipe))
    unmount (data);
  _exit (0);
}

bool
unmounter_start (Unmounter *unmounter, void (*unmount) (void *data), void *data, GError **error)
{
  int ends[2];

  if (pipe2 (ends, O_CLOEXEC) != 0)
    return fail_errno (error, errno, "cannot start the process that unmounts");
  unmounter->child = fork ();
  if (unmounter->child == 0)
    work (ends[0], unmount, data);
  close (ends[0]);
  if (unmounter->child < 0)
    {
      fail_errno (error, errno, "cannot start the process that unmounts");
      close (ends[1]);
      unmounter->child = 0;
      return false;
    }
  unmounter->pipe = ends[1];
  return true;
}

void
unmounter_end (Unmounter *unmounter, bool unmount)
{
  if (unmounter->child == 0)
    return;
  if (unmount && write (unmounter->pipe, "u", 1) != 1)
    g_warning ("the process that unmounts is gone: run umount");
  close (unmounter->pipe);
  while (waitpid (unmounter->child, NULL, 0) < 0 && errno == EINTR)
    ;
  unmounter->child = 0;
}
