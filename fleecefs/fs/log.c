/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/log.h"

#include "base/printable.h"
#include "fs/fuse-compat.h"
#include "fs/log-queue.h"

#include <errno.h>
#include <fuse_log.h>
#include <glib.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#define END_MS 2000

/* Set before there are other threads. */
static int least = LOG_NOTICE;
static bool in_journal; /* standard error is a stream of it */
static bool in_syslog;
static LogQueue *queue; /* NULL: whoever has a message writes it */

static int
priority (GLogLevelFlags level)
{
  if (level & (G_LOG_FLAG_FATAL | G_LOG_LEVEL_ERROR))
    return LOG_CRIT;
  if (level & G_LOG_LEVEL_CRITICAL)
    return LOG_ERR;
  if (level & G_LOG_LEVEL_WARNING)
    return LOG_WARNING;
  if (level & G_LOG_LEVEL_MESSAGE)
    return LOG_NOTICE;
  return level & G_LOG_LEVEL_INFO ? LOG_INFO : LOG_DEBUG;
}

/* What is one line, moves no cursor and turns nothing around; bytes that are not UTF-8 stay. A new
 * string. */
static char *
one_line (const char *text, gssize length)
{
  g_autofree char *whole = length < 0 ? g_strdup (text) : g_strndup (text, (gsize) length);
  GString *line = g_string_new (NULL);

  for (const char *p = whole; *p != '\0';)
    {
      gunichar c = g_utf8_get_char_validated (p, -1);
      bool is_char = c != (gunichar) -1 && c != (gunichar) -2;
      gssize n = is_char ? g_utf8_next_char (p) - p : 1;

      if (is_char && printable_is_hidden (c))
        g_string_append_c (line, '?');
      else
        g_string_append_len (line, p, n);
      p += n;
    }
  return g_string_free (line, FALSE);
}

/* By write(2): a thread that hangs here must hold no lock of stdio, for exit(3) takes them. */
static void
write_to_stderr (const char *text)
{
  struct pollfd polled = { .fd = STDERR_FILENO, .events = POLLOUT };
  size_t length = strlen (text);

  while (length > 0)
    {
      ssize_t n = write (STDERR_FILENO, text, length);

      if (n < 0 && errno == EAGAIN) /* somebody else has set O_NONBLOCK for all */
        poll (&polled, 1, -1);
      else if (n < 0 && errno != EINTR)
        return;
      text += MAX (n, 0);
      length -= (size_t) MAX (n, 0);
    }
}

/* Blocks as long as the log does. */
static void
write_line (int level, const char *line)
{
  g_autofree char *text = NULL;

  if (in_syslog)
    {
      syslog (level, "%s", line);
      return;
    }
  text = in_journal ? g_strdup_printf ("<%d>%s\n", level, line)
                    : g_strdup_printf ("fleecefs: %s\n", line);
  write_to_stderr (text);
}

static void
put (int level, const char *line)
{
  if (level > least)
    return;
  if (queue != NULL)
    log_queue_push (queue, level, line);
  else
    write_line (level, line);
}

static GLogWriterOutput
write_fields (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer user_data)
{
  g_autofree char *line = NULL;

  (void) user_data;
  if (priority (level) > least)
    return G_LOG_WRITER_HANDLED;
  for (gsize i = 0; i < n_fields; i++)
    if (line == NULL && strcmp (fields[i].key, "MESSAGE") == 0)
      line = one_line (fields[i].value, fields[i].length);
  put (priority (level), line);
  if (queue != NULL && priority (level) == LOG_CRIT) /* the process is about to abort */
    log_queue_flush (queue, END_MS);
  return G_LOG_WRITER_HANDLED;
}

/* libfuse's levels are those of syslog. */
G_GNUC_PRINTF (2, 0)
static void
write_libfuse (enum fuse_log_level level, const char *format, va_list args)
{
  g_autofree char *text = g_strdup_vprintf (format, args);
  g_autofree char *line = one_line (g_strchomp (text), -1);

  put ((int) level, line);
}

/* systemd says in the environment which device and inode its stream has; it may have been
 * redirected since. */
static bool
leads_to_journal (int fd)
{
  const char *stream = g_getenv ("JOURNAL_STREAM");
  g_autofree char *own = NULL;
  struct stat st;

  if (stream == NULL || fstat (fd, &st) != 0)
    return false;
  own = g_strdup_printf ("%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
  return strcmp (stream, own) == 0;
}

void
log_init (void)
{
  in_journal = leads_to_journal (STDERR_FILENO);
  g_log_set_writer_func (write_fields, NULL, NULL);
}

void
log_set_level (int level)
{
  least = level;
}

void
log_to_syslog (void)
{
  openlog ("fleecefs", LOG_PID, LOG_DAEMON);
  fuse_set_log_func (write_libfuse);
  in_syslog = true;
}

void
log_start (void)
{
  fuse_set_log_func (write_libfuse);
  queue = log_queue_new (write_line);
  if (queue == NULL)
    g_warning ("cannot start the thread of the log: while the log is not read, guests wait");
}

void
log_end (void)
{
  if (queue != NULL && log_queue_flush (queue, END_MS))
    log_queue_free (g_steal_pointer (&queue));
}
