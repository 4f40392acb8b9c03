/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kill-mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOP_TRIES 8
#define POLL_MS 100 /* how often to look whether the program has ended */

/* Ends the program with the last thing that fleecefs said. */
static void fail (const Mount *mount, const char *what, int status) G_GNUC_NORETURN;

static void
fail (const Mount *mount, const char *what, int status)
{
  g_autofree char *text = NULL;

  if (!g_file_get_contents (mount->messages, &text, NULL, NULL))
    text = g_strdup ("");
  bed_fail (mount->bed, "%s: status 0x%x; fleecefs said: %s", what, (unsigned) status, text);
}

/* --- a loop device --- */

/* The device goes away with the last descriptor of it. */
static int
make_loop (int file, char **out_path)
{
  int control = open ("/dev/loop-control", O_RDWR | O_CLOEXEC), device = -1;

  for (unsigned i = 0; i < LOOP_TRIES && control >= 0 && device < 0; i++)
    {
      int number = ioctl (control, LOOP_CTL_GET_FREE);
      g_autofree char *path = g_strdup_printf ("/dev/loop%d", number);
      struct loop_config config
          = { .fd = (uint32_t) file, .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };

      device = number < 0 ? -1 : open (path, O_RDWR | O_CLOEXEC);
      if (device >= 0 && ioctl (device, LOOP_CONFIGURE, &config) != 0)
        {
          close (device); /* somebody else was faster */
          device = -1;
        }
      if (device >= 0)
        *out_path = g_steal_pointer (&path);
    }
  if (control >= 0)
    close (control);
  return device;
}

static void
use_loop (Mount *mount)
{
  char **path = &mount->bed->paths[mount->bed->n_disks - 1];
  g_autofree char *device = NULL;
  int file = open (*path, O_RDWR | O_CLOEXEC);

  mount->loop = make_loop (file, &device);
  close (file);
  if (mount->loop < 0)
    return;
  g_free (*path);
  *path = g_steal_pointer (&device);
}

/* --- processes --- */

void
mount_init (Mount *mount, Bed *bed, const char *program, bool with_loop, bool foreground)
{
  *mount = (Mount){ .bed = bed, .program = program, .loop = -1, .usual_start = 20000 };
  mount->foreground = foreground;
  mount->usual_end = mount->usual_start;
  mount->root = -1;
  for (unsigned d = 0; d < BED_MAX_DISKS; d++)
    mount->live[d] = -1;
  mount->point = g_build_filename (bed->directory, "mnt", NULL);
  mount->messages = g_build_filename (bed->directory, "messages", NULL);
  bed_expect (bed, "mkdir of the mountpoint", mkdir (mount->point, 0700), 0);
  bed_expect (bed, "prctl", prctl (PR_SET_CHILD_SUBREAPER, 1), 0);
  if (with_loop)
    use_loop (mount);
}

void
mount_clear (Mount *mount)
{
  if (mount->loop >= 0)
    close (mount->loop);
  g_free (mount->point);
  g_free (mount->messages);
}

static pid_t
spawn (const Mount *mount)
{
  static const char *const copies[] = { "auto", "bounce", "offload" };
  static const char *const policies[] = { "break-snapshot", "break-guest-write" };
  const Bed *bed = mount->bed;
  g_autoptr (GPtrArray) words = g_ptr_array_new_with_free_func (g_free);
  posix_spawn_file_actions_t actions;
  pid_t pid;
  int r;

  g_ptr_array_add (words, g_strdup (mount->program));
  if (mount->foreground)
    g_ptr_array_add (words, g_strdup ("-f"));
  g_ptr_array_add (words, g_strdup_printf ("-ostore=%s,granule=%u,max-snapshots=%u", bed->store,
                                           (unsigned) bed->set_config.granule,
                                           bed->set_config.max_snapshots));
  g_ptr_array_add (words,
                   g_strdup_printf ("-ocopy=%s,on-cbw-error=%s", copies[bed->set_config.copy],
                                    policies[bed->set_config.on_cbw_error]));
  for (unsigned d = 0; d < bed->n_disks; d++)
    g_ptr_array_add (words, g_strdup_printf ("%s=%s", bed->names[d], bed->paths[d]));
  g_ptr_array_add (words, g_strdup (mount->point));
  g_ptr_array_add (words, NULL);

  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_addopen (&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen (&actions, STDERR_FILENO, mount->messages,
                                    O_WRONLY | O_CREAT | O_TRUNC, 0600);
  r = posix_spawn (&pid, mount->program, &actions, NULL, (char **) words->pdata, environ);
  posix_spawn_file_actions_destroy (&actions);
  bed_expect (bed, "start of the program", r, 0);
  return pid;
}

/* The children of a process that have been started by its main thread, or been left to it. */
static GArray *
children_of (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/task/%d/children", pid, pid);
  g_autofree char *text = NULL;
  GArray *children = g_array_new (FALSE, FALSE, sizeof (pid_t));
  char *at;

  if (!g_file_get_contents (path, &text, NULL, NULL))
    return children; /* gone */
  for (at = text; *at != '\0';)
    {
      pid_t child = (pid_t) strtol (at, &at, 10);

      if (child > 0)
        g_array_append_val (children, child);
      while (*at == ' ')
        at++;
    }
  return children;
}

/* Kills all children and theirs but the one to be spared, until there are none. True when one was
 * killed. */
static bool
kill_all (pid_t spared)
{
  bool killed = false;
  int status = 0;

  for (;;)
    {
      g_autoptr (GArray) children = children_of (getpid ());

      for (unsigned i = 0; i < children->len; i++)
        {
          pid_t child = g_array_index (children, pid_t, i);
          g_autoptr (GArray) theirs = children_of (child);

          for (unsigned k = 0; k < theirs->len; k++)
            kill (g_array_index (theirs, pid_t, k), SIGKILL);
          if (child != spared)
            kill (child, SIGKILL);
        }
      if (waitpid (-1, &status, 0) < 0)
        return killed;
      killed = killed || (WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL);
    }
}

static void
open_live (Mount *mount)
{
  mount->root = open (mount->point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (unsigned d = 0; d < mount->bed->n_disks; d++)
    {
      g_autofree char *path = g_build_filename (".live", mount->bed->names[d], NULL);

      mount->live[d] = openat (mount->root, path, O_RDWR | O_CLOEXEC);
      if (mount->live[d] < 0)
        bed_expect (mount->bed, "open of a live disk", -errno, 0);
    }
}

static void
close_one (int *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

static void
close_live (Mount *mount)
{
  close_one (&mount->root);
  for (unsigned d = 0; d < mount->bed->n_disks; d++)
    close_one (&mount->live[d]);
}

/* Until the process that has the terminal serves the mount. */
static void
await_mounted (const Mount *mount, pid_t pid)
{
  int mounts = open ("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC); /* tells of changes */
  struct pollfd wait = { .fd = mounts, .events = POLLPRI };
  struct stat around, here;
  int status;

  bed_expect (mount->bed, "stat", stat (mount->bed->directory, &around), 0);
  while (stat (mount->point, &here) != 0 || here.st_dev == around.st_dev)
    {
      if (waitpid (pid, &status, WNOHANG) == pid)
        fail (mount, "start", status);
      poll (&wait, 1, POLL_MS);
    }
  close (mounts);
}

static void
await_starter (const Mount *mount, pid_t pid)
{
  int status;

  while (waitpid (pid, &status, 0) < 0 && errno == EINTR)
    continue;
  if (status != 0)
    fail (mount, "start", status);
}

void
mount_start (Mount *mount)
{
  int64_t begin = g_get_monotonic_time ();
  pid_t pid = spawn (mount);

  if (mount->foreground)
    await_mounted (mount, pid);
  else
    await_starter (mount, pid);
  mount->usual_start = (mount->usual_start + g_get_monotonic_time () - begin) / 2;
  atomic_store (&mount->has_ended, false);
  open_live (mount);
}

bool
mount_start_and_kill (Mount *mount, int64_t after)
{
  pid_t pid = spawn (mount);
  bool killed;

  mount_spin (after);
  killed = kill_all (after % 2 == 0 && !mount->foreground ? pid : 0);
  mount_clear_away (mount);
  return killed;
}

void
mount_clear_away (Mount *mount)
{
  close_live (mount);
  while (umount2 (mount->point, MNT_DETACH) == 0)
    continue;
  if (errno != EINVAL)
    bed_expect (mount->bed, "umount of what is left", -errno, 0);
}

void
mount_kill (Mount *mount)
{
  atomic_store (&mount->has_ended, true);
  if (!kill_all (0))
    bed_fail (mount->bed, "there was no daemon to kill");
}

bool
mount_end (Mount *mount, bool by_signal, int64_t after)
{
  g_autoptr (GArray) children = children_of (getpid ());
  int64_t begin = g_get_monotonic_time ();
  int status = 0;
  pid_t pid;

  if (children->len != 1)
    bed_fail (mount->bed, "there are %u daemons instead of one", children->len);
  pid = g_array_index (children, pid_t, 0);
  atomic_store (&mount->has_ended, true);
  if (by_signal)
    kill (pid, SIGTERM);
  else
    {
      close_live (mount);
      bed_expect (mount->bed, "umount", umount2 (mount->point, 0) == 0 ? 0 : -errno, 0);
    }
  if (after >= 0)
    {
      mount_spin (after);
      kill (pid, SIGKILL);
    }
  while (waitpid (pid, &status, 0) < 0 && errno == EINTR)
    continue;
  if (WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL && after >= 0)
    {
      kill_all (0); /* what it left behind: the process that unmounts */
      return true;
    }
  if (status != 0)
    fail (mount, "end", status);
  mount->usual_end = (mount->usual_end + g_get_monotonic_time () - begin) / 2;
  return false;
}

void
mount_spin (int64_t us)
{
  int64_t end = g_get_monotonic_time () + us;

  while (g_get_monotonic_time () < end)
    continue;
}

/* --- live disks --- */

static int
result_of (int r)
{
  return r == 0 ? 0 : -errno;
}

static ssize_t
live_read (void *data, unsigned disk, void *buffer, size_t length, uint64_t offset)
{
  const Mount *mount = data;
  ssize_t n = pread (mount->live[disk], buffer, length, (off_t) offset);

  return n < 0 ? -errno : n;
}

static ssize_t
live_write (void *data, unsigned disk, const void *buffer, size_t length, uint64_t offset)
{
  const Mount *mount = data;
  ssize_t n = pwrite (mount->live[disk], buffer, length, (off_t) offset);

  return n < 0 ? -errno : n;
}

static int
live_allocate (void *data, unsigned disk, int mode, uint64_t offset, uint64_t length)
{
  const Mount *mount = data;
  int r = result_of (fallocate (mount->live[disk], mode, (off_t) offset, (off_t) length));
  g_autofree uint8_t *zeros = NULL;

  if (r != -EOPNOTSUPP || mount->loop < 0)
    return r;
  zeros = g_malloc0 (length); /* the device cannot; do what a guest does then */
  return (int) MIN (live_write (data, disk, zeros, length, offset), 0);
}

static int
live_truncate (void *data, unsigned disk, uint64_t size)
{
  const Mount *mount = data;

  return result_of (ftruncate (mount->live[disk], (off_t) size));
}

static int
live_flush (void *data, unsigned disk)
{
  const Mount *mount = data;

  return result_of (fsync (mount->live[disk]));
}

const WriterVerbs mount_verbs = {
  .read = live_read,
  .write = live_write,
  .allocate = live_allocate,
  .truncate = live_truncate,
  .flush = live_flush,
};
