/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store/store-lock.h"

#include "base/fail.h"
#include "base/image-lock.h"
#include "base/trust.h"
#include "store/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define GRACE_SECONDS 2

enum
{
  BYTE_OWNED = 0,
  BYTE_SERVED = 1,
};

/* A thread that is cancelled in it leaves its part of the stack marked by the address sanitizer,
 * which takes that for an overflow when the next thread has this stack. */
#define CANCELLED_HERE __attribute__ ((no_sanitize_address))

/* command: F_OFD_SETLK or F_OFD_SETLKW. Returns 0 or the errno value. */
CANCELLED_HERE static int
set_byte (int fd, int command, short type, int byte)
{
  struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

  while (fcntl (fd, command, &lock) != 0)
    if (errno != EINTR)
      return errno;
  return 0;
}

static int
open_file (int store_fd, const char *path, bool *out_made, GError **error)
{
  const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  DIR_AUTO_FD fd = -1;
  struct stat st;
  int result = -1;

  /* In two steps, to know who made it. */
  fd = openat (store_fd, STORE_LOCK_FILE, flags);
  if (fd < 0 && errno == ENOENT)
    {
      fd = openat (store_fd, STORE_LOCK_FILE, flags | O_CREAT | O_EXCL, 0600);
      *out_made = fd >= 0;
    }
  if (fd < 0 && (errno == ENOENT || errno == EEXIST))
    fail (error, ESTALE, "the store '%s' is being made or removed by another process", path);
  else if (fd < 0 && errno != ELOOP && errno != EISDIR)
    fail_errno (error, errno, "cannot open '%s/" STORE_LOCK_FILE "'", path);
  else if (fd < 0 || fstat (fd, &st) != 0 || !S_ISREG (st.st_mode))
    fail (error, EUCLEAN, "'%s/" STORE_LOCK_FILE "' is damaged: it is not a regular file", path);
  else
    {
      g_autofree char *file = g_build_filename (path, STORE_LOCK_FILE, NULL);

      if (trust_check (&st, file, error))
        {
          result = fd;
          fd = -1;
        }
    }
  return result;
}

static bool
is_current (int fd, int store_fd)
{
  struct stat ours, named;

  return fstat (fd, &ours) == 0
         && fstatat (store_fd, STORE_LOCK_FILE, &named, AT_SYMLINK_NOFOLLOW) == 0
         && ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

int
store_lock_take (int store_fd, const char *path, bool *out_made, GError **error)
{
  DIR_AUTO_FD fd = -1;
  int errnum, result;

  *out_made = false;
  fd = open_file (store_fd, path, out_made, error);
  if (fd < 0)
    return -1;
  errnum = set_byte (fd, F_OFD_SETLK, F_WRLCK, BYTE_SERVED);
  if (errnum == EAGAIN || errnum == EACCES)
    {
      g_autofree char *what = g_strdup_printf ("the store '%s'", path);

      image_lock_fail_in_use (fd, what, error);
      return -1;
    }
  if (errnum == 0)
    errnum = set_byte (fd, F_OFD_SETLKW, F_WRLCK, BYTE_OWNED);
  if (errnum != 0)
    {
      fail_errno (error, errnum, "cannot lock '%s/" STORE_LOCK_FILE "'", path);
      return -1;
    }
  if (!is_current (fd, store_fd))
    {
      fail (error, ESTALE, "the store '%s' was removed by another process", path);
      return -1;
    }
  /* For others to wait by. A file system that has no such lock, or takes it for the same as
   * ours, has none to wait for. */
  if (flock (fd, LOCK_EX | LOCK_NB) != 0)
    g_info ("cannot lock '%s/" STORE_LOCK_FILE "' by flock: %s", path, g_strerror (errno));
  result = fd;
  fd = -1;
  return result;
}

/* Waits for the byte with the descriptor in *data, and gives it back. Can be cancelled. */
CANCELLED_HERE static void *
pass_served (void *data)
{
  int fd = *(const int *) data;

  if (set_byte (fd, F_OFD_SETLKW, F_WRLCK, BYTE_SERVED) == 0)
    set_byte (fd, F_OFD_SETLK, F_UNLCK, BYTE_SERVED);
  return NULL;
}

void
store_lock_await (const char *path)
{
  g_autofree char *file = g_build_filename (path, STORE_LOCK_FILE, NULL);
  DIR_AUTO_FD fd = open (file, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  struct timespec deadline;
  pthread_t waiter;

  /* A lock cannot be waited for with a limit; a thread can. */
  if (fd < 0 || pthread_create (&waiter, NULL, pass_served, &fd) != 0)
    return;
  clock_gettime (CLOCK_REALTIME, &deadline);
  deadline.tv_sec += GRACE_SECONDS;
  if (pthread_timedjoin_np (waiter, NULL, &deadline) != 0)
    {
      pthread_cancel (waiter);
      pthread_join (waiter, NULL);
      return;
    }
  if (set_byte (fd, F_OFD_SETLKW, F_WRLCK, BYTE_OWNED) == 0)
    set_byte (fd, F_OFD_SETLK, F_UNLCK, BYTE_OWNED);
}

void
store_lock_stop_serving (int lock_fd)
{
  set_byte (lock_fd, F_OFD_SETLK, F_UNLCK, BYTE_SERVED);
}

void
store_lock_release (int lock_fd)
{
  if (lock_fd < 0)
    return;
  set_byte (lock_fd, F_OFD_SETLK, F_UNLCK, BYTE_SERVED);
  set_byte (lock_fd, F_OFD_SETLK, F_UNLCK, BYTE_OWNED);
  flock (lock_fd, LOCK_UN);
  close (lock_fd);
}
