/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/image-lock.h"

#include "base/beacon.h"
#include "base/fail.h"
#include "base/mount-table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum
{
  IN_USE_BASE = 100,
  NOT_SHARED_BASE = 200,
};

/* QEMU's permission numbers. */
enum
{
  PERM_CONSISTENT_READ = 0,
  PERM_WRITE = 1,
  PERM_RESIZE = 3,
};

static const int in_use[] = { PERM_CONSISTENT_READ, PERM_WRITE, PERM_RESIZE };
static const int not_shared[] = { PERM_WRITE, PERM_RESIZE };

/* True when a line of /proc/PID/fdinfo/FD is about a lock on this inode. Such a
 * line reads "lock:\t1: OFDLCK  ADVISORY  READ -1 00:1f:1234 100 103". */
static bool
line_names_inode (const char *line, const struct stat *st)
{
  unsigned dev_major, dev_minor;
  unsigned long inode;
  const char *colon;

  if (!g_str_has_prefix (line, "lock:"))
    return false;
  colon = strrchr (line, ':');
  if (colon == NULL || colon - line < 6)
    return false;
  while (colon > line && colon[-1] != ' ') /* back to the start of MAJOR:MINOR:INODE */
    colon--;
  return sscanf (colon, "%x:%x:%lu", &dev_major, &dev_minor, &inode) == 3
         && dev_major == major (st->st_dev) && dev_minor == minor (st->st_dev)
         && inode == (unsigned long) st->st_ino;
}

static bool
process_holds (const char *pid, const struct stat *st)
{
  g_autofree char *path = g_strdup_printf ("/proc/%s/fdinfo", pid);
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  const char *fd;

  while (dir != NULL && (fd = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *file = g_build_filename (path, fd, NULL);
      g_autofree char *text = NULL;
      g_auto (GStrv) lines = NULL;

      if (!g_file_get_contents (file, &text, NULL, NULL))
        continue;
      lines = g_strsplit (text, "\n", -1);
      for (char **line = lines; *line != NULL; line++)
        if (line_names_inode (*line, st))
          return true;
    }
  return false;
}

/* Another process that has a lock on the file; 0: none is seen. */
static pid_t
find_holder (int fd)
{
  g_autoptr (GDir) proc = g_dir_open ("/proc", 0, NULL);
  struct stat st;
  const char *name;

  if (proc == NULL || fstat (fd, &st) != 0)
    return 0;
  while ((name = g_dir_read_name (proc)) != NULL)
    if (g_ascii_isdigit (name[0]) && atoi (name) != getpid () && process_holds (name, &st))
      return atoi (name);
  return 0;
}

static char *
describe_process (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/comm", (int) pid);
  g_autofree char *comm = NULL;

  if (pid == 0)
    return g_strdup ("another process");
  if (!g_file_get_contents (path, &comm, NULL, NULL))
    return g_strdup_printf ("pid %d", (int) pid);
  return g_strdup_printf ("%s (pid %d)", g_strstrip (comm), (int) pid);
}

/* What stops a process, after a colon, when it is a fleecefs; else "". */
static char *
say_how_to_stop (pid_t pid)
{
  g_autoptr (GPtrArray) table = NULL;
  const MountEntry *mount;
  dev_t device;

  if (pid == 0 || !beacon_read (pid, &device))
    return g_strdup ("");
  table = mount_table_read (NULL);
  mount = table != NULL ? mount_table_whole (table, device) : NULL;
  if (mount == NULL)
    return g_strdup (": it is unmounted, and ends when no program has a file of it open");
  return g_strdup_printf (": fleecectl umount '%s', with -f if it hangs", mount->point);
}

bool
image_lock_fail_in_use (int fd, const char *what, GError **error)
{
  pid_t pid = find_holder (fd);
  g_autofree char *holder = describe_process (pid);
  g_autofree char *how = say_how_to_stop (pid);

  return fail (error, EBUSY, "%s is in use by %s; stop that first%s", what, holder, how);
}

static struct flock
byte_lock (short type, int byte)
{
  return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
}

static bool
take_byte (int fd, int byte, const char *path, GError **error)
{
  struct flock lock = byte_lock (F_RDLCK, byte);

  if (fcntl (fd, F_OFD_SETLK, &lock) == 0)
    return true;
  return fail_errno (error, errno, "cannot lock '%s'", path);
}

/* Fails when another open file description has a lock on the byte. */
static bool
byte_is_free (int fd, int byte, const char *path, GError **error)
{
  struct flock lock = byte_lock (F_WRLCK, byte);
  g_autofree char *what = NULL;

  if (fcntl (fd, F_OFD_GETLK, &lock) != 0)
    return fail_errno (error, errno, "cannot look at the locks of '%s'", path);
  if (lock.l_type == F_UNLCK)
    return true;
  what = g_strdup_printf ("'%s'", path);
  return image_lock_fail_in_use (fd, what, error);
}

bool
image_lock_own (int fd, const char *path, GError **error)
{
  gsize i;

  for (i = 0; i < G_N_ELEMENTS (in_use); i++)
    if (!take_byte (fd, IN_USE_BASE + in_use[i], path, error))
      return false;
  for (i = 0; i < G_N_ELEMENTS (not_shared); i++)
    if (!take_byte (fd, NOT_SHARED_BASE + not_shared[i], path, error))
      return false;

  /* Taken first and looked at second, by both sides: two that start at once
   * may both give up, never both go on. */
  for (i = 0; i < G_N_ELEMENTS (in_use); i++)
    if (!byte_is_free (fd, NOT_SHARED_BASE + in_use[i], path, error))
      return false;
  for (i = 0; i < G_N_ELEMENTS (not_shared); i++)
    if (!byte_is_free (fd, IN_USE_BASE + not_shared[i], path, error))
      return false;
  return true;
}
