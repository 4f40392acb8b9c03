/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/log.h"

#include "fs/fuse-compat.h"

#include <fuse_log.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

/* Set before there are threads. */
static bool verbose;
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

static GLogWriterOutput
write_fields (GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer user_data)
{
  const char *text = "";
  int length = 0;

  (void) user_data;
  if (!verbose && (level & (G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG)))
    return G_LOG_WRITER_HANDLED;
  for (gsize i = 0; i < n_fields; i++)
    if (strcmp (fields[i].key, "MESSAGE") == 0)
      {
        text = fields[i].value;
        length = (int) (fields[i].length < 0 ? (gssize) strlen (text) : fields[i].length);
      }
  if (in_syslog)
    syslog (priority (level), "%.*s", length, text);
  else
    fprintf (stderr, "fleecefs: %.*s\n", length, text);
  return G_LOG_WRITER_HANDLED;
}

/* libfuse's levels are those of syslog. */
G_GNUC_PRINTF (2, 0)
static void
write_libfuse (enum fuse_log_level level, const char *format, va_list args)
{
  vsyslog ((int) level, format, args);
}

void
log_init (void)
{
  g_log_set_writer_func (write_fields, NULL, NULL);
}

void
log_set_verbose (void)
{
  verbose = true;
}

void
log_to_syslog (void)
{
  openlog ("fleecefs", LOG_PID, LOG_DAEMON);
  fuse_set_log_func (write_libfuse);
  in_syslog = true;
}
