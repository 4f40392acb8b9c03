/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/read-ahead.h"

#include <fcntl.h>
#include <glib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

void
read_ahead_raise (dev_t device)
{
  char path[64], text[16];
  int fd, length;

  g_snprintf (path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major (device),
              minor (device));
  length = g_snprintf (text, sizeof text, "%u", READ_AHEAD / 1024);
  fd = open (path, O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return;
  if (write (fd, text, (size_t) length) != length)
    g_debug ("cannot write '%s'", path);
  close (fd);
}
