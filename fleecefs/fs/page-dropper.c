/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/page-dropper.h"

#include "base/lock.h"
#include "base/scratch.h"
#include "fs/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME "fleecefs-drop"
#define THREADS 4

/* No request is larger: a write, or less (verbs.c). The kernel asks for that much room. */
#define REQUEST_MAX (SCRATCH_SIZE + 4096)

/* The state of the process. */
typedef struct
{
  /* constant */
  int socket;
  int device;

  Lock lock; /* for all that follows */
  pthread_cond_t changed;
  GArray *numbers; /* uint64_t, each once; those that no thread has taken */
  bool ended;
  unsigned n_running; /* threads */
} Work;

/* Blocks for a number. Returns false at the end, also when there are some left: nobody needs them.
 */
static bool
take_number (Work *work, uint64_t *out)
{
  bool taken;

  lock_acquire (&work->lock);
  while (work->numbers->len == 0 && !work->ended)
    lock_wait (&work->lock, &work->changed);
  taken = !work->ended;
  if (taken)
    {
      *out = g_array_index (work->numbers, uint64_t, 0);
      g_array_remove_index (work->numbers, 0);
    }
  lock_release (&work->lock);
  return taken;
}

static void
put_number (Work *work, uint64_t number)
{
  bool is_there = false;

  lock_acquire (&work->lock);
  for (unsigned i = 0; i < work->numbers->len && !is_there; i++)
    is_there = g_array_index (work->numbers, uint64_t, i) == number;
  if (!is_there)
    g_array_append_val (work->numbers, number);
  pthread_cond_signal (&work->changed);
  lock_release (&work->lock);
}

/* Fails where nothing is to do: the kernel does not know the node, or the connection has ended. */
static void
invalidate (int device, uint64_t number)
{
  const struct
  {
    struct fuse_out_header header;
    struct fuse_notify_inval_inode_out node;
  } notice = {
    .header = { .len = sizeof notice, .error = FUSE_NOTIFY_INVAL_INODE },
    .node = { .ino = number }, /* all of it */
  };
  ssize_t written = write (device, &notice, sizeof notice);

  (void) written;
}

/* The last one ends the process, which may be in refuse_all(). */
static void *
drop (void *data)
{
  Work *work = data;
  uint64_t number;
  bool last;

  while (take_number (work, &number))
    invalidate (work->device, number);
  lock_acquire (&work->lock);
  last = --work->n_running == 0;
  lock_release (&work->lock);
  if (last)
    _exit (0);
  return NULL;
}

static bool
start_threads (Work *work)
{
  bool all = true;

  lock_acquire (&work->lock);
  for (unsigned i = 0; i < THREADS && all; i++)
    {
      GThread *thread = g_thread_try_new ("drop", drop, work, NULL);

      all = thread != NULL;
      work->n_running += all;
      if (all)
        g_thread_unref (thread);
    }
  all = work->n_running > 0;
  lock_release (&work->lock);
  return all;
}

static void
receive_numbers (Work *work)
{
  uint64_t number;
  ssize_t n;

  while ((n = recv (work->socket, &number, sizeof number, 0)) > 0 || (n < 0 && errno == EINTR))
    if (n == sizeof number)
      put_number (work, number);
  lock_acquire (&work->lock);
  work->ended = true;
  pthread_cond_broadcast (&work->changed);
  lock_release (&work->lock);
}

static bool
wants_answer (const struct fuse_in_header *request)
{
  return request->opcode != FUSE_FORGET && request->opcode != FUSE_BATCH_FORGET
         && request->opcode != FUSE_INTERRUPT;
}

/* Answers what nobody has read and nobody will, until the last thread is back or the connection has
 * ended. */
G_GNUC_NORETURN static void
refuse_all (int device)
{
  struct fuse_in_header *request = g_malloc (REQUEST_MAX);

  for (;;)
    {
      ssize_t n = read (device, request, REQUEST_MAX), written;
      struct fuse_out_header answer = { .len = sizeof answer, .error = -ENOTCONN };

      if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) /* taken back */
        continue;
      if (n < (ssize_t) sizeof *request)
        _exit (0);
      answer.unique = request->unique;
      if (!wants_answer (request))
        continue;
      written = write (device, &answer, sizeof answer); /* an error: it was taken back */
      (void) written;
    }
}

G_GNUC_NORETURN static void
work_on (int socket, int clone)
{
  Work work = { .socket = socket, .device = STDIN_FILENO };
  sigset_t all;

  /* What is sent to the daemon's group, by a terminal or by whoever kills it, is for the daemon. */
  setsid ();
  sigfillset (&all);
  sigprocmask (SIG_BLOCK, &all, NULL);
  prctl (PR_SET_NAME, NAME, 0, 0, 0);
  /* The clone takes the place of what nobody reads, so that only one descriptor above stays. */
  if (dup2 (clone, STDIN_FILENO) < 0 || chdir ("/") != 0)
    _exit (1);
  privilege_close_but (socket);
  privilege_drop (0);
  lock_init (&work.lock, LOCK_PAGES);
  pthread_cond_init (&work.changed, NULL);
  work.numbers = g_array_new (FALSE, FALSE, sizeof (uint64_t));
  if (!start_threads (&work))
    _exit (1);
  receive_numbers (&work);
  refuse_all (work.device);
}

/* A new device of the same connection. Returns -1 and errno without one. */
static int
clone_device (int device)
{
  int clone = open ("/dev/fuse", O_RDWR | O_CLOEXEC), saved;
  uint32_t from = (uint32_t) device;

  if (clone < 0 || ioctl (clone, FUSE_DEV_IOC_CLONE, &from) == 0)
    return clone;
  saved = errno;
  close (clone);
  errno = saved;
  return -1;
}

int
page_dropper_start (int device)
{
  int clone = clone_device (device), ends[2], saved;
  pid_t child;

  if (clone < 0)
    return -1;
  if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    {
      saved = errno;
      close (clone);
      errno = saved;
      return -1;
    }
  child = fork ();
  saved = errno;
  if (child == 0)
    work_on (ends[0], clone);
  close (clone);
  close (ends[0]);
  if (child > 0)
    return ends[1];
  close (ends[1]);
  errno = saved;
  return -1;
}
