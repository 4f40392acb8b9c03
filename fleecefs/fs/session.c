/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/session.h"

#include "base/beacon.h"
#include "base/fail.h"
#include "base/mount-table.h"
#include "fs/capture.h"
#include "fs/privilege.h"
#include "fs/read-ahead.h"
#include "fs/unmounter.h"
#include "fs/usage.h"
#include "fs/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICE "/dev/fuse"

struct _Session
{
  struct fuse_session *fuse;
  Verbs verbs;
  Unmounter unmounter;
  dev_t device; /* of the mount; 0: not known */
  bool mounted;
  bool signals;
  bool overmounts;
};

bool
session_check_device (GError **error)
{
  struct stat st;

  if (stat (DEVICE, &st) == 0)
    return true;
  if (errno == ENOENT)
    return fail (error, ENOENT,
                 "there is no " DEVICE "; run modprobe fuse, or give it to the container");
  return fail_errno (error, errno, "cannot look at " DEVICE);
}

/* Two lanes that are full leave a quarter of the threads, of which the third takes one. */
static unsigned
lane_limit (unsigned threads)
{
  return MAX (threads * 3 / 8, 1);
}

Session *
session_new (Options *options, GError **error)
{
  g_autoptr (Session) session = g_new0 (Session, 1);
  g_autofree char *text = NULL;
  Capture capture;

  session->verbs.threads = options->threads;
  session->verbs.max_read = options->max_read;
  session->verbs.expects_ring = options->io_uring;
  session->verbs.copies = lane_new (lane_limit (options->threads));
  session->verbs.frozen = lane_new (lane_limit (options->threads));
  session->verbs.looks = lane_new (1);
  capture_begin (&capture);
  session->fuse = fuse_session_new (&options->fuse, &verbs_operations, sizeof verbs_operations,
                                    &session->verbs);
  text = capture_end (&capture);
  if (session->fuse == NULL)
    {
      g_autofree char *line = capture_last_line (text);

      usage_fail (error, "%s", *line != '\0' ? line : "libfuse refuses the options");
      return NULL;
    }
  fputs (text, stderr); /* with -d: libfuse says its version */
  return g_steal_pointer (&session);
}

void
session_free (Session *session)
{
  if (session == NULL)
    return;
  session_unmount (session);
  if (session->signals)
    fuse_remove_signal_handlers (session->fuse);
  if (session->fuse != NULL)
    fuse_session_destroy (session->fuse);
  page_cache_free (session->verbs.page_cache);
  lane_free (session->verbs.copies);
  lane_free (session->verbs.frozen);
  lane_free (session->verbs.looks);
  g_free (session);
}

/* What to do about a mount that was refused. */
static const char *
mount_advice (const char *line)
{
  if (strstr (line, "fusermount3") != NULL && strstr (line, "No such file") != NULL)
    return "; install fusermount3 (the package fuse3), or run as root";
  if (strstr (line, "no write access") != NULL)
    return "; give a directory of your own";
  if (strstr (line, "Operation not permitted") != NULL
      || strstr (line, "Permission denied") != NULL)
    return "; run as root, or see that you may use " DEVICE;
  return "";
}

/* The number of what is mounted there, which the kernel says without asking us. */
static dev_t
find_device (const char *mountpoint)
{
  g_autoptr (GPtrArray) table = mount_table_read (NULL);
  const MountEntry *entry = table != NULL ? mount_table_top (table, mountpoint) : NULL;

  return entry != NULL ? entry->device : 0;
}

bool
session_mount (Session *session, Tree *tree, const char *mountpoint, GError **error)
{
  g_autofree char *text = NULL;
  g_autofree char *line = NULL;
  Capture capture;

  session->verbs.tree = tree;
  if (fuse_set_signal_handlers (session->fuse) != 0)
    return fail (error, EIO, "cannot set signal handlers");
  session->signals = true;

  capture_begin (&capture);
  session->mounted = fuse_session_mount (session->fuse, mountpoint) == 0;
  text = capture_end (&capture);
  if (session->mounted)
    {
      session->device = find_device (mountpoint);
      if (session->device != 0)
        read_ahead_raise (session->device);
      fputs (text, stderr);
      return true;
    }
  line = capture_last_line (text);
  return fail (error, EIO, "cannot mount on '%s': %s%s", mountpoint,
               *line != '\0' ? line : "libfuse does not say why", mount_advice (line));
}

/* Closes the connection. The number stays in use: libfuse closes it later. */
static void
disconnect (Session *session)
{
  int null = open ("/dev/null", O_RDWR | O_CLOEXEC);

  if (null < 0)
    close (fuse_session_fd (session->fuse));
  else
    {
      dup2 (null, fuse_session_fd (session->fuse));
      close (null);
    }
}

void
session_leave (Session *session)
{
  disconnect (session);
  fuse_remove_signal_handlers (session->fuse);
  session->signals = false;
}

static void
unmount_by_libfuse (void *session)
{
  fuse_session_unmount (((Session *) session)->fuse);
}

/* May this process, without capabilities, set an extended attribute of each image? */
static bool
owns_images (const Session *session)
{
  Snapshots *set = tree_set (session->verbs.tree);

  for (unsigned i = 0; i < snapshots_n_disks (set); i++)
    {
      struct stat st;

      if (source_stat (disk_source (snapshots_disk (set, i)), &st) == 0
          && (st.st_uid != geteuid () || (st.st_mode & S_IWUSR) == 0))
        return false;
    }
  return true;
}

bool
session_confine (Session *session, const Overmount *overmount, GError **error)
{
  /* A ring's requests are not ended with what reads them, but with the connection only, so nobody
   * may keep that. */
  session->verbs.page_cache = page_cache_new (
      session->verbs.tree, session->verbs.expects_ring ? -1 : fuse_session_fd (session->fuse));
  if (!unmounter_start (&session->unmounter, overmount, unmount_by_libfuse, session, error))
    return false;
  session->overmounts = overmount != NULL;
  /* After the last fork, for a child would say the same. */
  if (session->device == 0 || !beacon_light (session->device))
    g_info ("fleecectl umount cannot wait for this process: nothing tells which mount it serves");
  privilege_drop (owns_images (session) ? 0 : PRIVILEGE (CAP_DAC_OVERRIDE));
  return true;
}

/* Answers one request, if there is one. Does not block for it: one that was there may be gone. */
static void
answer_one (Session *session, struct fuse_buf *buffer)
{
  int fd = fuse_session_fd (session->fuse), flags = fcntl (fd, F_GETFL), n;

  fcntl (fd, F_SETFL, flags | O_NONBLOCK);
  n = fuse_session_receive_buf (session->fuse, buffer);
  fcntl (fd, F_SETFL, flags);
  if (n > 0)
    fuse_session_process_buf (session->fuse, buffer);
  else if (n < 0 && n != -EAGAIN && n != -EINTR)
    fuse_session_exit (session->fuse);
}

bool
session_overmount (Session *session, GError **error)
{
  struct fuse_buf buffer = { 0 };
  bool ok = true, done = !session->overmounts;

  while (!done && !fuse_session_exited (session->fuse))
    {
      struct pollfd polled[] = { { .fd = session->unmounter.socket, .events = POLLIN },
                                 { .fd = fuse_session_fd (session->fuse), .events = POLLIN } };

      if (poll (polled, 2, -1) < 0)
        continue;
      done = polled[0].revents != 0;
      if (done)
        ok = unmounter_covered (&session->unmounter, error);
      else
        answer_one (session, &buffer);
    }
  free (buffer.mem);
  return ok;
}

bool
session_serve (Session *session, GError **error)
{
  int result = fuse_compat_loop (session->fuse, session->verbs.threads);

  /* Unmounted, or the number of a signal. Of a connection that was ended while a request was on its
   * way the kernel may say that it was aborted. */
  if (result >= 0 || result == -ECONNABORTED)
    return true;
  return fail_errno (error, -result, "the connection to the kernel failed");
}

bool
session_is_ending (void *session)
{
  return fuse_session_exited (((Session *) session)->fuse) != 0;
}

void
session_drop_pages (Snapshot *snapshot, void *data)
{
  const Session *session = data;

  page_cache_drop (session->verbs.page_cache, snapshot);
}

/* Is the mount still there? The kernel tells, by the connection, of an unmount and of an abort. */
static bool
is_connected (const Session *session)
{
  struct pollfd device = { .fd = fuse_session_fd (session->fuse) };

  return poll (&device, 1, 0) != 1 || (device.revents & POLLERR) == 0;
}

void
session_unmount (Session *session)
{
  bool connected;

  if (session->mounted && session->unmounter.child == 0)
    fuse_session_unmount (session->fuse);
  else if (session->mounted)
    {
      /* Disconnected first, as libfuse does: the unmount must not wait for our answers. */
      connected = is_connected (session);
      disconnect (session);
      page_cache_end (session->verbs.page_cache);
      unmounter_end (&session->unmounter, connected);
    }
  session->mounted = false;
  page_cache_end (session->verbs.page_cache);
}

static void
stop_signals (int how)
{
  sigset_t set;

  sigemptyset (&set);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGINT);
  sigaddset (&set, SIGHUP);
  pthread_sigmask (how, &set, NULL);
}

void
session_block_signals (void)
{
  stop_signals (SIG_BLOCK);
}

void
session_unblock_signals (void)
{
  stop_signals (SIG_UNBLOCK);
}
