/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/screen.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define WIDTH_MIN 20
#define WIDTH_DEFAULT 80
#define HEIGHT_DEFAULT 24
#define NO_LIMIT (G_MAXUINT / 2)

static gboolean
is_terminal (void)
{
  return isatty (STDOUT_FILENO);
}

unsigned
screen_width (void)
{
  const char *columns = g_getenv ("COLUMNS");
  struct winsize size;
  guint64 width = 0;

  if (columns != NULL && g_ascii_string_to_unsigned (columns, 10, 1, 10000, &width, NULL))
    return MAX ((unsigned) width, WIDTH_MIN);
  if (ioctl (STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    return MAX (size.ws_col, WIDTH_MIN);
  return is_terminal () ? WIDTH_DEFAULT : NO_LIMIT;
}

unsigned
screen_height (void)
{
  struct winsize size;

  if (!is_terminal ())
    return NO_LIMIT;
  if (ioctl (STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0)
    return HEIGHT_DEFAULT - 1;
  return MAX (size.ws_row, 2) - 1; /* the last one is the cursor's */
}

static sigset_t
resize_signal (void)
{
  sigset_t set;

  sigemptyset (&set);
  sigaddset (&set, SIGWINCH);
  return set;
}

const char *
screen_begin (void)
{
  sigset_t set = resize_signal ();

  sigprocmask (SIG_BLOCK, &set, NULL); /* and so kept for sigtimedwait() */
  return is_terminal () ? "\033[2J" : "";
}

/* The end of that many lines, or of the text. */
static const char *
skip_lines (const char *text, unsigned n)
{
  for (const char *end; n > 0 && (end = strchr (text, '\n')) != NULL; n--)
    text = end + 1;
  return text;
}

/* Each line ends in "clear the rest of the line", the last one in "clear what is below". */
char *
screen_text (const char *text)
{
  g_autofree char *cut = NULL;
  g_auto (GStrv) lines = NULL;
  g_autofree char *joined = NULL;

  if (!is_terminal ())
    return g_strconcat (text, "\n", NULL);
  cut = g_strndup (text, (gsize) (skip_lines (text, screen_height ()) - text));
  lines = g_strsplit (cut, "\n", -1);
  joined = g_strjoinv ("\033[K\n", lines);
  return g_strconcat ("\033[H", joined, "\033[J", NULL);
}

gboolean
screen_wait (gint64 until)
{
  sigset_t set = resize_signal ();
  gint64 left = MAX (until - g_get_monotonic_time (), 0);
  struct timespec timeout
      = { .tv_sec = left / G_USEC_PER_SEC, .tv_nsec = left % G_USEC_PER_SEC * 1000 };

  return sigtimedwait (&set, NULL, &timeout) < 0 && errno == EAGAIN;
}
