/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/beacon.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NAME "fleecefs-mount"
#define NAME_MAX_LENGTH 64

bool
beacon_light (dev_t device)
{
  char name[NAME_MAX_LENGTH];

  snprintf (name, sizeof name, NAME " %u:%u", major (device), minor (device));
  return memfd_create (name, MFD_CLOEXEC) >= 0;
}

/* Of the target of a link of /proc/PID/fd. */
static bool
parse (const char *target, dev_t *out_device)
{
  unsigned dev_major, dev_minor;

  if (sscanf (target, "/memfd:" NAME " %u:%u", &dev_major, &dev_minor) != 2)
    return false;
  *out_device = makedev (dev_major, dev_minor);
  return true;
}

bool
beacon_read (pid_t pid, dev_t *out_device)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/fd", (int) pid);
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  const char *fd;

  while (dir != NULL && (fd = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *link = g_build_filename (path, fd, NULL);
      char target[NAME_MAX_LENGTH + 32];
      ssize_t n = readlink (link, target, sizeof target - 1);

      if (n < 0)
        continue;
      target[n] = '\0';
      if (parse (target, out_device))
        return true;
    }
  return false;
}

/* Else any user could have root wait for a process of theirs. */
static bool
belongs_to (pid_t pid, uid_t owner)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d", (int) pid);
  struct stat st;

  return stat (path, &st) == 0 && (st.st_uid == owner || st.st_uid == 0);
}

GArray *
beacon_find (dev_t device, uid_t owner)
{
  GArray *pids = g_array_new (FALSE, FALSE, sizeof (pid_t));
  g_autoptr (GDir) proc = g_dir_open ("/proc", 0, NULL);
  const char *name;

  while (proc != NULL && (name = g_dir_read_name (proc)) != NULL)
    {
      pid_t pid = atoi (name);
      dev_t served;

      if (pid > 0 && beacon_read (pid, &served) && served == device && belongs_to (pid, owner))
        g_array_append_val (pids, pid);
    }
  return pids;
}
