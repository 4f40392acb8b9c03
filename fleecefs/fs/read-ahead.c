/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/read-ahead.h"

#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One line of /proc/self/mountinfo: "ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ...", where blanks in a
 * path are \040. A stat() of the mountpoint would be a request that nobody answers yet. */
static bool
parse_line (const char *line, const char *mountpoint, unsigned *out_major, unsigned *out_minor)
{
  g_auto (GStrv) words = g_strsplit (line, " ", 6);
  g_autofree char *path = g_strv_length (words) == 6 ? g_strcompress (words[4]) : NULL;

  return path != NULL && strcmp (path, mountpoint) == 0
         && sscanf (words[2], "%u:%u", out_major, out_minor) == 2;
}

/* The last of them there is the one on top. */
static bool
find_device (const char *mountpoint, unsigned *out_major, unsigned *out_minor)
{
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;
  bool found = false;

  if (!g_file_get_contents ("/proc/self/mountinfo", &text, NULL, NULL))
    return false;
  lines = g_strsplit (text, "\n", 0);
  for (char **line = lines; *line != NULL; line++)
    found = parse_line (*line, mountpoint, out_major, out_minor) || found;
  return found;
}

void
read_ahead_raise (const char *mountpoint)
{
  unsigned major, minor;
  char path[64], text[16];
  int fd, length;

  if (!find_device (mountpoint, &major, &minor))
    return;
  g_snprintf (path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major, minor);
  length = g_snprintf (text, sizeof text, "%u", READ_AHEAD / 1024);
  fd = open (path, O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return;
  if (write (fd, text, (size_t) length) != length)
    g_debug ("cannot write '%s'", path);
  close (fd);
}
