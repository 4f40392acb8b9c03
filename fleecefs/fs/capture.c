/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/capture.h"

#include "base/io.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TEXT_MAX 4096

void
capture_begin (Capture *capture)
{
  fflush (stderr);
  capture->memory = memfd_create ("fleecefs-messages", MFD_CLOEXEC);
  capture->saved = capture->memory < 0 ? -1 : fcntl (STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  if (capture->saved >= 0)
    dup2 (capture->memory, STDERR_FILENO);
}

char *
capture_end (Capture *capture)
{
  char *text = g_malloc0 (TEXT_MAX + 1);

  fflush (stderr);
  if (capture->saved >= 0)
    {
      dup2 (capture->saved, STDERR_FILENO);
      close (capture->saved);
      if (io_read (capture->memory, text, TEXT_MAX, 0) < 0)
        *text = '\0';
    }
  if (capture->memory >= 0)
    close (capture->memory);
  return text;
}

char *
capture_last_line (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  const char *last = "";

  for (char **line = lines; *line != NULL; line++)
    if (*g_strstrip (*line) != '\0')
      last = *line;
  for (const char *const *prefix = (const char *const[]){ "fuse: ", "fusermount3: ", NULL };
       *prefix != NULL; prefix++)
    if (g_str_has_prefix (last, *prefix))
      last += strlen (*prefix);
  return g_strdup (last);
}
