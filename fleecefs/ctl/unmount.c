/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/unmount.h"

#include "base/fail.h"
#include "ctl/answer.h"
#include "ctl/mounts.h"
#include "ctl/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORCE_SECONDS 10

/* ---- is it served? ---- */

typedef enum
{
  ANSWER_YES,
  ANSWER_DEAD,
  ANSWER_NONE, /* in time */
  ANSWER_DENIED,
} Answer;

/* Of a mount whose program is gone the kernel may still know the attributes, but not this. */
static GString *
ask (const char *path, GError **error)
{
  struct statfs fs;
  struct stat st;

  if (stat (path, &st) == 0 && statfs (path, &fs) == 0)
    return g_string_new (NULL);
  fail_errno (error, errno, "cannot look at '%s'", path);
  return NULL;
}

static Answer
get_answer (const char *mountpoint)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GString) answer = answer_get (ask, mountpoint, &error);

  if (answer != NULL)
    return ANSWER_YES;
  switch (fail_code (error))
    {
    case ENOTCONN:
    case ECONNABORTED:
      return ANSWER_DEAD;
    case EACCES:
      return ANSWER_DENIED;
    default:
      return ANSWER_NONE;
    }
}

/* ---- the unmount itself ---- */

/* Its exit status, or -1 and errno. */
static int
run_fusermount (const char *words, const char *mountpoint, gboolean quiet)
{
  int status;
  pid_t child = fork ();

  if (child == 0)
    {
      int null = quiet ? open ("/dev/null", O_WRONLY) : -1;

      if (null >= 0)
        dup2 (null, STDERR_FILENO);
      execlp ("fusermount3", "fusermount3", words, "--", mountpoint, (char *) NULL);
      dprintf (STDERR_FILENO, "cannot start fusermount3: %s\n", g_strerror (errno));
      _exit (1);
    }
  if (child < 0)
    return -1;
  while (waitpid (child, &status, 0) < 0)
    if (errno != EINTR)
      return -1;
  return WIFEXITED (status) ? WEXITSTATUS (status) : 1;
}

static gboolean
detach_by_fusermount (const char *mountpoint, gboolean lazy, gboolean *out_lazy, GError **error)
{
  int status = run_fusermount ("-u", mountpoint, lazy);

  *out_lazy = status > 0 && lazy;
  if (*out_lazy)
    status = run_fusermount ("-uz", mountpoint, FALSE);
  if (status < 0)
    return fail_errno (error, errno, "cannot start fusermount3");
  return status == 0 || fail (error, EBUSY, "%s", "");
}

/* Ends the connection; whoever mounted may, and root. Where that is not to be had it goes on. */
static void
end_connection (const MountEntry *mount)
{
  g_autofree char *path
      = g_strdup_printf ("/sys/fs/fuse/connections/%u/abort", minor (mount->device));
  int fd = open (path, O_WRONLY | O_CLOEXEC);
  ssize_t written;

  if (fd < 0)
    return;
  written = write (fd, "1", 1);
  (void) written;
  close (fd);
}

/* 0 or an errno value. */
static int
detach_by_call (const char *mountpoint, const UnmountHow *how, gboolean *out_lazy)
{
  int flags = UMOUNT_NOFOLLOW | (how->force ? MNT_FORCE : 0);

  *out_lazy = FALSE;
  if (umount2 (mountpoint, flags) == 0)
    return 0;
  if (errno != EBUSY || !how->lazy)
    return errno;
  *out_lazy = TRUE;
  return umount2 (mountpoint, flags | MNT_DETACH) == 0 ? 0 : errno;
}

/* *out_lazy: it was in use. */
static gboolean
detach (const MountEntry *entry, const UnmountHow *how, gboolean *out_lazy, GError **error)
{
  const char *point = entry->point;
  int errnum = detach_by_call (point, how, out_lazy);

  if (errnum == 0)
    return TRUE;
  if (errnum == EPERM)
    {
      if (how->force)
        end_connection (entry);
      return detach_by_fusermount (point, how->lazy, out_lazy, error);
    }
  if (errnum == EBUSY && how->read_only
      && mount (NULL, point, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0)
    return fail (error, errnum, "'%s' is in use, and is read-only now", point);
  if (errnum == EBUSY)
    return fail (error, errnum,
                 "'%s' is busy: a program has a file or a directory there open; "
                 "fuser -vm '%s' names it",
                 point, point);
  return fail_errno (error, errnum, "cannot unmount '%s'", point);
}

/* ---- and then ---- */

typedef struct
{
  const UnmountHow *how;
  const char *mountpoint;
  pid_t pid;
} Slow;

static void
say_slow (void *data)
{
  const Slow *slow = data;

  fprintf (stderr,
           "%s: '%s' is unmounted; waiting for fleecefs (pid %d) to close image and store\n",
           slow->how->program, slow->mountpoint, (int) slow->pid);
}

static gboolean
is_mounted_elsewhere (dev_t device)
{
  g_autoptr (GPtrArray) table = mount_table_read (NULL);

  return table != NULL && mount_table_whole (table, device) != NULL;
}

static UnmountResult
await_end (const char *mountpoint, const Server *server, const UnmountHow *how, GError **error)
{
  Slow slow = { .how = how, .mountpoint = mountpoint, .pid = server_pid (server) };
  unsigned seconds = how->force ? MIN (how->seconds, FORCE_SECONDS) : how->seconds;

  switch (server_await (server, how->force, seconds, say_slow, &slow))
    {
    case SERVER_ENDED:
      return UNMOUNT_DONE;
    case SERVER_IN_USE:
      fail (error, EBUSY,
            "'%s' is unmounted, but still in use: by a program that has a live disk open, or where "
            "it is mounted too; fleecefs (pid %d) goes on until that ends",
            mountpoint, (int) slow.pid);
      return UNMOUNT_NOT_CLOSED;
    case SERVER_RUNS:
      fail (error, ETIMEDOUT,
            "'%s' is unmounted, but fleecefs (pid %d) has not closed image and store after %u s; "
            "leave them alone until it ends, or end it by kill -9 %d",
            mountpoint, (int) slow.pid, seconds, (int) slow.pid);
      return UNMOUNT_NOT_CLOSED;
    default:
      fail (error, ESRCH,
            "'%s' is unmounted, but the fleecefs that served it is not seen from here: "
            "nobody waits until it has closed image and store",
            mountpoint);
      return UNMOUNT_NOT_CLOSED;
    }
}

static UnmountResult
unmount_entry (const MountEntry *mount, const UnmountHow *how, GError **error)
{
  g_autoptr (Server) server = server_find (mount);
  gboolean wait = server_pid (server) != 0, lazy;

  if (!wait && !mounts_is_ours (mount))
    {
      fail (error, EINVAL, "'%s' is no mount of fleecefs", mount->point);
      return UNMOUNT_FAILED;
    }
  /* Nobody has to be waited for when it is dead. */
  wait = wait || (!how->force && !how->lazy && get_answer (mount->point) == ANSWER_YES);
  if (!detach (mount, how, &lazy, error))
    return UNMOUNT_FAILED;
  if (!wait || (lazy && !how->force) || is_mounted_elsewhere (mount->device))
    return UNMOUNT_DONE;
  return await_end (mount->point, server, how, error);
}

UnmountResult
unmount (const char *mountpoint, const UnmountHow *how, GError **error)
{
  g_autoptr (GPtrArray) table = mount_table_read (error);
  const MountEntry *mount = table != NULL ? mount_table_top (table, mountpoint) : NULL;

  if (table != NULL && mount == NULL)
    fail (error, EINVAL, "nothing is mounted on '%s'", mountpoint);
  return mount != NULL ? unmount_entry (mount, how, error) : UNMOUNT_FAILED;
}

static gboolean
is_dead (const MountEntry *mount)
{
  g_autoptr (Server) server = NULL;

  switch (get_answer (mount->point))
    {
    case ANSWER_DEAD:
      return TRUE;
    case ANSWER_NONE:
      server = server_find (mount);
      return server_pid (server) == 0;
    default:
      return FALSE;
    }
}

UnmountResult
unmount_dead (const char *mountpoint, GError **error)
{
  const UnmountHow how = { .force = TRUE, .lazy = TRUE };
  g_autoptr (GPtrArray) table = mount_table_read (error);
  const MountEntry *mount;
  gboolean lazy;

  if (table == NULL)
    return UNMOUNT_FAILED;
  mount = mount_table_top (table, mountpoint);
  if (mount == NULL || !mounts_is_ours (mount) || !is_dead (mount))
    return UNMOUNT_DONE;
  return detach (mount, &how, &lazy, error) ? UNMOUNT_DONE : UNMOUNT_FAILED;
}
