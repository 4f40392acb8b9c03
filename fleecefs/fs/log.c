/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/log.h"

#include "fs/fuse-compat.h"

#include <fuse_log.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

/* Set before there are threads. */
static int least = LOG_NOTICE;
static bool in_journal; /* standard error is a stream of it */
static bool in_syslog;

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

/* What is one line and moves no cursor. A new string. */
static char *
one_line (const char *text, gssize length)
{
  char *line = length < 0 ? g_strdup (text) : g_strndup (text, (gsize) length);

  for (char *c = line; *c != '\0'; c++)
    if (g_ascii_iscntrl (*c))
      *c = '?';
  return line;
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
  if (in_syslog)
    syslog (priority (level), "%s", line);
  else if (in_journal)
    fprintf (stderr, "<%d>%s\n", priority (level), line);
  else
    fprintf (stderr, "fleecefs: %s\n", line);
  return G_LOG_WRITER_HANDLED;
}

/* libfuse's levels are those of syslog. */
G_GNUC_PRINTF (2, 0)
static void
write_libfuse (enum fuse_log_level level, const char *format, va_list args)
{
  vsyslog ((int) level, format, args);
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
