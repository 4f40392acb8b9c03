/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/answer.h"

#include "base/fail.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The answer on its way: an errno value, 0 when there is none, and the text or the message. */

G_GNUC_NORETURN static void
send_answer (int fd, AnswerFunc *func, const char *path)
{
  g_autoptr (GError) why = NULL;
  g_autoptr (GString) text = func (path, &why);
  int code = text != NULL ? 0 : fail_code (why);
  FILE *stream = fdopen (fd, "w");

  if (stream != NULL)
    {
      fwrite (&code, sizeof code, 1, stream);
      if (text != NULL)
        fwrite (text->str, 1, text->len, stream);
      else
        fputs (why->message, stream);
      fflush (stream);
    }
  _exit (0);
}

static GString *
understand (const GString *answer, const char *path, GError **error)
{
  int code = EIO;

  if (answer->len < sizeof code)
    {
      fail (error, EIO, "cannot read '%s': the process that should has ended", path);
      return NULL;
    }
  memcpy (&code, answer->str, sizeof code);
  if (code == 0)
    return g_string_new_len (answer->str + sizeof code, (gssize) (answer->len - sizeof code));
  fail (error, code, "%s", answer->str + sizeof code);
  return NULL;
}

/* All up to the end, in time. Returns 0 or an errno value. */
static int
receive (int fd, GString *answer)
{
  gint64 until = g_get_monotonic_time () + ANSWER_SECONDS * (gint64) G_USEC_PER_SEC;
  struct pollfd polled = { .fd = fd, .events = POLLIN };
  char piece[8192];

  for (;;)
    {
      gint64 left = until - g_get_monotonic_time ();
      ssize_t n;

      if (left <= 0)
        return ETIMEDOUT;
      if (poll (&polled, 1, (int) (left / 1000) + 1) <= 0)
        continue;
      n = read (fd, piece, sizeof piece);
      if (n < 0 && errno != EINTR)
        return errno;
      if (n == 0)
        return 0;
      if (n > 0)
        g_string_append_len (answer, piece, n);
    }
}

/* The process that sends the answer to the pipe *out_fd; -1 and errno when there is none. */
static pid_t
start (AnswerFunc *func, const char *path, int *out_fd)
{
  int fds[2], errnum;
  pid_t child;

  if (pipe (fds) < 0)
    return -1;
  child = fork ();
  errnum = errno;
  if (child == 0)
    {
      close (fds[0]); /* or it would wait for itself when nobody else reads */
      send_answer (fds[1], func, path);
    }
  close (fds[1]);
  if (child < 0)
    close (fds[0]);
  *out_fd = fds[0];
  errno = errnum;
  return child;
}

GString *
answer_get (AnswerFunc *func, const char *path, GError **error)
{
  g_autoptr (GString) answer = g_string_new (NULL);
  int fd, errnum;
  pid_t child = start (func, path, &fd);

  if (child < 0)
    {
      fail_errno (error, errno, "cannot start a process to read '%s'", path);
      return NULL;
    }
  errnum = receive (fd, answer);
  close (fd);
  if (errnum == 0)
    {
      waitpid (child, NULL, 0);
      return understand (answer, path, error);
    }
  kill (child, SIGKILL);
  waitpid (child, NULL, WNOHANG); /* it may hang for as long as the daemon does */
  if (errnum == ETIMEDOUT)
    fail (error, ETIMEDOUT, "'%s' does not answer for %d s: its daemon hangs, or is stopped", path,
          ANSWER_SECONDS);
  else
    fail_errno (error, errnum, "cannot read '%s'", path);
  return NULL;
}
