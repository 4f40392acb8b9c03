/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/daemon.h"

#include "base/fail.h"
#include "fs/fuse-compat.h"
#include "fs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_USEC 10000

static void
become_daemon (void)
{
  int null = open ("/dev/null", O_RDWR);

  log_to_syslog ();
  setsid ();
  if (chdir ("/") != 0)
    g_warning ("cannot change to /: %s", g_strerror (errno));
  if (null < 0)
    return;
  dup2 (null, STDIN_FILENO);
  dup2 (null, STDOUT_FILENO);
  dup2 (null, STDERR_FILENO);
  if (null > STDERR_FILENO)
    close (null);
}

bool
daemon_fork (Daemon *daemon, GError **error)
{
  int ends[2];

  if (pipe2 (ends, O_CLOEXEC) != 0)
    return fail_errno (error, errno, "cannot start the background process");
  fflush (NULL);
  daemon->child = fork ();
  if (daemon->child < 0)
    {
      fail_errno (error, errno, "cannot start the background process");
      close (ends[0]);
      close (ends[1]);
      return false;
    }
  daemon->pipe = ends[daemon->child == 0 ? 1 : 0];
  close (ends[daemon->child == 0 ? 0 : 1]);
  if (daemon->child == 0)
    become_daemon ();
  return true;
}

void
daemon_last_words (const Daemon *daemon, const char *words)
{
  ssize_t written;

  written = write (daemon->pipe, words, strlen (words)); /* SIGPIPE is ignored by now */
  (void) written;
}

static pid_t passed_to;
static volatile sig_atomic_t was_passed;

static void
pass_on (G_GNUC_UNUSED int number)
{
  int saved = errno;

  was_passed = true;
  kill (passed_to, SIGTERM);
  errno = saved;
}

/* One that is ignored stays so. */
void
daemon_pass_signals (const Daemon *daemon)
{
  static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
  const struct sigaction action = { .sa_handler = pass_on, .sa_flags = (int) SA_RESETHAND };
  struct sigaction before;

  passed_to = daemon->child;
  for (unsigned i = 0; i < G_N_ELEMENTS (numbers); i++)
    if (sigaction (numbers[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
      sigaction (numbers[i], &action, NULL);
}

/* Why the mount never answered. Blocks until the child is gone: it says why, if it can, and
 * then has its files to close. */
static bool
fail_for_child (const Daemon *daemon, const char *mountpoint, GError **error)
{
  char words[1024];
  size_t length = 0;
  ssize_t n;

  while (length < sizeof words - 1
         && ((n = read (daemon->pipe, words + length, sizeof words - 1 - length)) > 0
             || (n < 0 && errno == EINTR)))
    length += n > 0 ? (size_t) n : 0;
  words[length] = '\0';
  if (was_passed)
    return fail (error, EINTR, "interrupted, so nothing is mounted on '%s'", mountpoint);
  if (length > 0)
    return fail (error, EIO, "%s", words);
  return fail (error, EIO,
               "the background process ended before '%s' was answered; "
               "see the system's log, or try -f",
               mountpoint);
}

bool
daemon_await (const Daemon *daemon, const Places *places, GError **error)
{
  const char *mountpoint = places->mountpoint;

  for (;;)
    {
      struct stat now;

      /* Waits in the kernel for the child's answer; ends with an error when the child does. */
      if (stat (mountpoint, &now) == 0)
        {
          if (!was_passed && now.st_dev != places->before_mount.st_dev && now.st_ino == FUSE_ROOT_ID
              && (places->overmount == NULL || overmount_is_there (places->overmount, now.st_dev)))
            return true;
        }
      else if (errno == ENOTCONN || errno == ECONNABORTED)
        return fail_for_child (daemon, mountpoint, error);
      else if (errno != EINTR)
        {
          fail_errno (error, errno, "the mount on '%s' does not answer", mountpoint);
          kill (daemon->child, SIGTERM);
          return false;
        }
      if (waitpid (daemon->child, NULL, WNOHANG) != 0) /* unmounted already */
        return fail_for_child (daemon, mountpoint, error);
      g_usleep (POLL_USEC);
    }
}
