/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See calls.h. */
#include "calls.h"

#include "base/sync-range.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/fs.h>

#define PATHS_MAX 8
#define PATH_SIZE 4096

/* Where off_t is made 64 bits wide by other names of the functions, those are what is linked. */
#ifdef __USE_FILE_OFFSET64
#define WRAP(name) __wrap_##name##64
#define REAL(name) __real_##name##64
#else
#define WRAP(name) __wrap_##name
#define REAL(name) __real_##name
#endif
#define WRAP_PLAIN(name) __wrap_##name
#define REAL_PLAIN(name) __real_##name

/* In older C libraries fstat() is a function of the header, which calls __fxstat(). */
#if __GLIBC__ == 2 && __GLIBC_MINOR__ < 33
#define FSTAT_IS_INLINE
#endif

/* --- what is watched, and by whom --- */

typedef struct
{
  CallPlace place;
  const char *path;
} Watched;

/* Not changed once it is there, and kept: a thread may be about to look at it. */
typedef struct Hook
{
  unsigned places, kinds;
  CallsBefore before;
  CallsAfter after;
  void *data;
  const struct Hook *older;
} Hook;

/* changed only while no other thread makes calls */
static Watched watched[PATHS_MAX];
static unsigned n_watched;
static const Hook *hooks; /* all that there were */

static _Atomic (const Hook *) hook;
static atomic_uint_fast64_t count;
static _Thread_local bool inside; /* the hook's own calls */

static pthread_mutex_t hang_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t hang_changed = PTHREAD_COND_INITIALIZER;
static unsigned n_hanging; /* under hang_lock */
static bool released;      /* under hang_lock */

void
calls_watch (CallPlace place, const char *path)
{
  if (n_watched == PATHS_MAX)
    abort ();
  watched[n_watched++] = (Watched){ place, strdup (path) };
}

void
calls_forget (void)
{
  while (n_watched > 0)
    free ((char *) watched[--n_watched].path);
}

void
calls_hook (unsigned places, unsigned kinds, CallsBefore before, CallsAfter after, void *data)
{
  Hook *new = before != NULL || after != NULL ? malloc (sizeof *new) : NULL;

  atomic_store (&hook, NULL);
  if (new != NULL)
    {
      *new = (Hook){ places, kinds, before, after, data, hooks };
      hooks = new;
    }
  pthread_mutex_lock (&hang_lock);
  released = false;
  pthread_mutex_unlock (&hang_lock);
  atomic_store (&count, 0);
  atomic_store (&hook, new);
}

uint64_t
calls_count (void)
{
  return atomic_load (&count);
}

/* --- hanging --- */

void
calls_wait_hanging (void)
{
  pthread_mutex_lock (&hang_lock);
  while (n_hanging == 0)
    pthread_cond_wait (&hang_changed, &hang_lock);
  pthread_mutex_unlock (&hang_lock);
}

void
calls_release (void)
{
  pthread_mutex_lock (&hang_lock);
  released = true;
  pthread_cond_broadcast (&hang_changed);
  pthread_mutex_unlock (&hang_lock);
}

static void
hang (void)
{
  pthread_mutex_lock (&hang_lock);
  n_hanging++;
  pthread_cond_broadcast (&hang_changed);
  while (!released)
    pthread_cond_wait (&hang_changed, &hang_lock);
  n_hanging--;
  pthread_mutex_unlock (&hang_lock);
}

const char *
calls_kind_name (CallKind kind)
{
  static const char *const names[CALL_KINDS] = {
    "read",   "seek",  "stat",   "open",   "close", "write", "copy",     "allocate", "truncate",
    "create", "mkdir", "rename", "unlink", "rmdir", "sync",  "getxattr", "xattr",
  };

  return names[kind];
}

/* --- a call on its way --- */

/* A call, and the room for its paths. */
typedef struct
{
  Call call;
  const Hook *hook; /* NULL: nobody is interested */
  char path[PATH_SIZE], to_path[PATH_SIZE];
} Passage;

static void
find_path (int fd, const char *name, char *out)
{
  char link[64];
  ssize_t n = 0;

  if (name == NULL || name[0] != '/')
    {
      snprintf (link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
      n = readlink (link, out, PATH_SIZE - 1);
    }
  out[n > 0 ? n : 0] = '\0';
  if (n > 10 && strcmp (out + n - 10, " (deleted)") == 0)
    out[n - 10] = '\0';
  if (name != NULL)
    snprintf (out + strlen (out), PATH_SIZE - strlen (out), name[0] == '/' ? "%s" : "/%s", name);
}

static CallPlace
find_place (const char *path)
{
  for (unsigned i = 0; i < n_watched; i++)
    {
      size_t length = strlen (watched[i].path);

      if (strncmp (path, watched[i].path, length) == 0
          && (path[length] == '\0' || path[length] == '/'))
        return watched[i].place;
    }
  return CALL_ELSEWHERE;
}

static void
die (void)
{
  for (;;)
    kill (getpid (), SIGKILL);
}

/* Fills in the rest of the call and asks the hook. */
static CallFate
begin (Passage *passage)
{
  const Hook *now = inside ? NULL : atomic_load (&hook);
  Call *call = &passage->call;
  CallFate fate = { CALL_GO_ON, 0, 0 };
  int saved = errno;

  passage->hook = NULL;
  if (now == NULL || (now->kinds & 1U << call->kind) == 0)
    return fate;
  find_path (call->fd, call->name, passage->path);
  call->path = passage->path;
  call->place = find_place (call->path);
  if (call->to_name != NULL)
    {
      find_path (call->to_fd, call->to_name, passage->to_path);
      call->to_path = passage->to_path;
    }
  errno = saved;
  if ((now->places & 1U << call->place) == 0)
    return fate;
  passage->hook = now;
  call->number = atomic_fetch_add (&count, 1) + 1;
  if (now->before != NULL)
    {
      inside = true;
      fate = now->before (call, now->data);
      inside = false;
    }
  if (fate.action == CALL_DIE && (fate.length == 0 || fate.length >= call->length))
    die ();
  if (fate.action == CALL_HANG)
    {
      hang ();
      fate = (CallFate){ CALL_GO_ON, 0, 0 };
    }
  if (fate.action == CALL_SHORT && (fate.length == 0 || fate.length >= call->length))
    fate.action = CALL_GO_ON;
  if (fate.action == CALL_TEAR && (fate.length == 0 || fate.length >= call->length))
    fate.action = CALL_FAIL;
  errno = saved;
  return fate;
}

static bool
is_refused (CallFate fate)
{
  return fate.action == CALL_FAIL;
}

/* How much of the call is to be done. */
static size_t
cut (CallFate fate, size_t length)
{
  return fate.length != 0 && fate.action != CALL_GO_ON ? fate.length : length;
}

/* Tells the hook, and returns what the call returns. */
static ssize_t
end (Passage *passage, CallFate fate, ssize_t result)
{
  int errnum = result < 0 ? errno : 0;

  if (fate.action == CALL_DIE)
    die ();
  if (fate.action == CALL_FAIL || fate.action == CALL_TEAR)
    {
      result = -1;
      errnum = fate.errnum;
    }
  if (passage->hook != NULL && passage->hook->after != NULL)
    {
      inside = true;
      passage->hook->after (&passage->call, result, errnum, passage->hook->data);
      inside = false;
    }
  if (result < 0)
    errno = errnum;
  return result;
}

/* A passage of that kind; what follows are members of Call. */
#define PASSAGE(kind_, fd_, ...)                                                                   \
  Passage passage = { .call = { .kind = (kind_), .fd = (fd_), __VA_ARGS__ } };                     \
  CallFate fate = begin (&passage)

/* The whole of a call that is done or not. */
#define ALL_OR_NOTHING(expression)                                                                 \
  return (int) end (&passage, fate, is_refused (fate) ? -1 : (expression))

/* --- the calls --- */

ssize_t REAL (pread) (int, void *, size_t, off_t);
ssize_t WRAP (pread) (int, void *, size_t, off_t);
ssize_t REAL (pwrite) (int, const void *, size_t, off_t);
ssize_t WRAP (pwrite) (int, const void *, size_t, off_t);
ssize_t REAL (pwritev) (int, const struct iovec *, int, off_t);
ssize_t WRAP (pwritev) (int, const struct iovec *, int, off_t);
off_t REAL (lseek) (int, off_t, int);
off_t WRAP (lseek) (int, off_t, int);
#ifdef FSTAT_IS_INLINE
int REAL (__fxstat) (int, int, struct stat *);
int WRAP (__fxstat) (int, int, struct stat *);
#else
int REAL (fstat) (int, struct stat *);
int WRAP (fstat) (int, struct stat *);
#endif
ssize_t REAL_PLAIN (copy_file_range) (int, off_t *, int, off_t *, size_t, unsigned);
ssize_t WRAP_PLAIN (copy_file_range) (int, off_t *, int, off_t *, size_t, unsigned);
int REAL_PLAIN (ioctl) (int, unsigned long, ...);
int WRAP_PLAIN (ioctl) (int, unsigned long, ...);
int REAL (fallocate) (int, int, off_t, off_t);
int WRAP (fallocate) (int, int, off_t, off_t);
int REAL (ftruncate) (int, off_t);
int WRAP (ftruncate) (int, off_t);
int REAL (open) (const char *, int, ...);
int WRAP (open) (const char *, int, ...);
int REAL (openat) (int, const char *, int, ...);
int WRAP (openat) (int, const char *, int, ...);
int REAL_PLAIN (close) (int);
int WRAP_PLAIN (close) (int);
int REAL_PLAIN (mkdir) (const char *, mode_t);
int WRAP_PLAIN (mkdir) (const char *, mode_t);
int REAL_PLAIN (mkdirat) (int, const char *, mode_t);
int WRAP_PLAIN (mkdirat) (int, const char *, mode_t);
int REAL_PLAIN (renameat) (int, const char *, int, const char *);
int WRAP_PLAIN (renameat) (int, const char *, int, const char *);
int REAL_PLAIN (renameat2) (int, const char *, int, const char *, unsigned);
int WRAP_PLAIN (renameat2) (int, const char *, int, const char *, unsigned);
int REAL_PLAIN (unlinkat) (int, const char *, int);
int WRAP_PLAIN (unlinkat) (int, const char *, int);
int REAL_PLAIN (rmdir) (const char *);
int WRAP_PLAIN (rmdir) (const char *);
int REAL_PLAIN (fsync) (int);
int WRAP_PLAIN (fsync) (int);
int REAL_PLAIN (fdatasync) (int);
int WRAP_PLAIN (fdatasync) (int);
int REAL_PLAIN (sync_range_end) (const SyncRange *, uint64_t, size_t);
int WRAP_PLAIN (sync_range_end) (const SyncRange *, uint64_t, size_t);
ssize_t REAL_PLAIN (fgetxattr) (int, const char *, void *, size_t);
ssize_t WRAP_PLAIN (fgetxattr) (int, const char *, void *, size_t);
int REAL_PLAIN (fsetxattr) (int, const char *, const void *, size_t, int);
int WRAP_PLAIN (fsetxattr) (int, const char *, const void *, size_t, int);
int REAL_PLAIN (fremovexattr) (int, const char *);
int WRAP_PLAIN (fremovexattr) (int, const char *);

ssize_t
WRAP (pread) (int fd, void *buffer, size_t length, off_t offset)
{
  PASSAGE (CALL_READ, fd, .offset = (uint64_t) offset, .length = length);

  return end (&passage, fate,
              is_refused (fate) ? -1 : REAL (pread) (fd, buffer, cut (fate, length), offset));
}

ssize_t
WRAP (pwrite) (int fd, const void *buffer, size_t length, off_t offset)
{
  PASSAGE (CALL_WRITE, fd, .offset = (uint64_t) offset, .length = length, .bytes = buffer);

  return end (&passage, fate,
              is_refused (fate) ? -1 : REAL (pwrite) (fd, buffer, cut (fate, length), offset));
}

/* Its parts are one for the hook. */
ssize_t
WRAP (pwritev) (int fd, const struct iovec *parts, int n, off_t offset)
{
  size_t length = 0;
  uint8_t *bytes;
  ssize_t result;

  for (int i = 0; i < n; i++)
    length += parts[i].iov_len;
  bytes = malloc (length + 1);
  if (bytes == NULL)
    abort ();
  length = 0;
  for (int i = 0; i < n; length += parts[i++].iov_len)
    memcpy (bytes + length, parts[i].iov_base, parts[i].iov_len);

  PASSAGE (CALL_WRITE, fd, .offset = (uint64_t) offset, .length = length, .bytes = bytes);
  if (is_refused (fate))
    result = end (&passage, fate, -1);
  else
    {
      struct iovec part = { bytes, cut (fate, length) };

      result = end (&passage, fate, REAL (pwritev) (fd, &part, 1, offset));
    }
  free (bytes);
  return result;
}

off_t
WRAP (lseek) (int fd, off_t offset, int whence)
{
  PASSAGE (CALL_SEEK, fd, .offset = (uint64_t) offset, .flags = whence);

  return end (&passage, fate, is_refused (fate) ? -1 : REAL (lseek) (fd, offset, whence));
}

#ifdef FSTAT_IS_INLINE
int
WRAP (__fxstat) (int version, int fd, struct stat *out)
{
  PASSAGE (CALL_STAT, fd);

  ALL_OR_NOTHING (REAL (__fxstat) (version, fd, out));
}
#else
int
WRAP (fstat) (int fd, struct stat *out)
{
  PASSAGE (CALL_STAT, fd);

  ALL_OR_NOTHING (REAL (fstat) (fd, out));
}
#endif

ssize_t
WRAP_PLAIN (copy_file_range) (int in_fd, off_t *in, int fd, off_t *out, size_t length,
                              unsigned flags)
{
  PASSAGE (CALL_COPY, fd, .offset = (uint64_t) *out, .length = length, .in_fd = in_fd,
           .in_offset = (uint64_t) *in);

  return end (&passage, fate,
              is_refused (fate)
                  ? -1
                  : REAL_PLAIN (copy_file_range) (in_fd, in, fd, out, cut (fate, length), flags));
}

int
WRAP_PLAIN (ioctl) (int fd, unsigned long request, ...)
{
  const struct file_clone_range *range;
  va_list args;
  void *argument;

  va_start (args, request);
  argument = va_arg (args, void *);
  va_end (args);
  if (request != FICLONERANGE)
    return REAL_PLAIN (ioctl) (fd, request, argument);

  range = argument;
  PASSAGE (CALL_COPY, fd, .offset = range->dest_offset, .length = range->src_length,
           .in_fd = (int) range->src_fd, .in_offset = range->src_offset);
  if (fate.action == CALL_SHORT) /* shares all or nothing */
    fate.action = CALL_GO_ON;
  ALL_OR_NOTHING (REAL_PLAIN (ioctl) (fd, request, argument));
}

int
WRAP (fallocate) (int fd, int mode, off_t offset, off_t length)
{
  PASSAGE (CALL_ALLOCATE, fd, .offset = (uint64_t) offset, .length = (uint64_t) length,
           .flags = mode);

  if (fate.action == CALL_SHORT)
    fate.action = CALL_GO_ON;
  ALL_OR_NOTHING (REAL (fallocate) (fd, mode, offset, (off_t) cut (fate, (size_t) length)));
}

int
WRAP (ftruncate) (int fd, off_t size)
{
  PASSAGE (CALL_TRUNCATE, fd, .offset = (uint64_t) size);

  ALL_OR_NOTHING (REAL (ftruncate) (fd, size));
}

static int
open_common (int dir_fd, const char *name, int flags, mode_t mode)
{
  PASSAGE ((flags & O_CREAT) != 0 ? CALL_CREATE : CALL_OPEN, dir_fd, .name = name, .flags = flags);

  ALL_OR_NOTHING (REAL (openat) (dir_fd, name, flags, mode));
}

int
WRAP (open) (const char *name, int flags, ...)
{
  va_list args;
  mode_t mode;

  va_start (args, flags);
  mode = (flags & O_CREAT) != 0 ? va_arg (args, mode_t) : 0;
  va_end (args);
  return open_common (AT_FDCWD, name, flags, mode);
}

int
WRAP (openat) (int dir_fd, const char *name, int flags, ...)
{
  va_list args;
  mode_t mode;

  va_start (args, flags);
  mode = (flags & O_CREAT) != 0 ? va_arg (args, mode_t) : 0;
  va_end (args);
  return open_common (dir_fd, name, flags, mode);
}

int
WRAP_PLAIN (close) (int fd)
{
  PASSAGE (CALL_CLOSE, fd);

  return (int) end (&passage, fate, REAL_PLAIN (close) (fd));
}

int
WRAP_PLAIN (mkdir) (const char *name, mode_t mode)
{
  PASSAGE (CALL_MKDIR, AT_FDCWD, .name = name);

  ALL_OR_NOTHING (REAL_PLAIN (mkdir) (name, mode));
}

int
WRAP_PLAIN (mkdirat) (int dir_fd, const char *name, mode_t mode)
{
  PASSAGE (CALL_MKDIR, dir_fd, .name = name);

  ALL_OR_NOTHING (REAL_PLAIN (mkdirat) (dir_fd, name, mode));
}

int
WRAP_PLAIN (renameat) (int dir_fd, const char *name, int to_fd, const char *to_name)
{
  PASSAGE (CALL_RENAME, dir_fd, .name = name, .to_fd = to_fd, .to_name = to_name);

  ALL_OR_NOTHING (REAL_PLAIN (renameat) (dir_fd, name, to_fd, to_name));
}

int
WRAP_PLAIN (renameat2) (int dir_fd, const char *name, int to_fd, const char *to_name,
                        unsigned flags)
{
  PASSAGE (CALL_RENAME, dir_fd, .name = name, .to_fd = to_fd, .to_name = to_name,
           .flags = (int) flags);

  ALL_OR_NOTHING (REAL_PLAIN (renameat2) (dir_fd, name, to_fd, to_name, flags));
}

int
WRAP_PLAIN (unlinkat) (int dir_fd, const char *name, int flags)
{
  PASSAGE ((flags & AT_REMOVEDIR) != 0 ? CALL_RMDIR : CALL_UNLINK, dir_fd, .name = name);

  ALL_OR_NOTHING (REAL_PLAIN (unlinkat) (dir_fd, name, flags));
}

int
WRAP_PLAIN (rmdir) (const char *name)
{
  PASSAGE (CALL_RMDIR, AT_FDCWD, .name = name);

  ALL_OR_NOTHING (REAL_PLAIN (rmdir) (name));
}

int
WRAP_PLAIN (fsync) (int fd)
{
  PASSAGE (CALL_SYNC, fd);

  ALL_OR_NOTHING (REAL_PLAIN (fsync) (fd));
}

int
WRAP_PLAIN (fdatasync) (int fd)
{
  PASSAGE (CALL_SYNC, fd, .flags = 1);

  ALL_OR_NOTHING (REAL_PLAIN (fdatasync) (fd));
}

/* Ours, so an error is not in errno. */
int
WRAP_PLAIN (sync_range_end) (const SyncRange *range, uint64_t offset, size_t length)
{
  PASSAGE (CALL_SYNC, range->fd, .offset = offset, .length = length, .flags = 1);
  int r = is_refused (fate) ? -1 : REAL_PLAIN (sync_range_end) (range, offset, length);

  if (r < 0)
    errno = -r;
  return end (&passage, fate, r < 0 ? -1 : 0) < 0 ? -errno : 0;
}

ssize_t
WRAP_PLAIN (fgetxattr) (int fd, const char *name, void *value, size_t size)
{
  PASSAGE (CALL_GETXATTR, fd, .xattr = name);

  return end (&passage, fate,
              is_refused (fate) ? -1 : REAL_PLAIN (fgetxattr) (fd, name, value, size));
}

int
WRAP_PLAIN (fsetxattr) (int fd, const char *name, const void *value, size_t length, int flags)
{
  PASSAGE (CALL_XATTR, fd, .xattr = name, .bytes = value, .length = length, .flags = flags);

  if (fate.action == CALL_SHORT)
    fate.action = CALL_GO_ON;
  ALL_OR_NOTHING (REAL_PLAIN (fsetxattr) (fd, name, value, cut (fate, length), flags));
}

int
WRAP_PLAIN (fremovexattr) (int fd, const char *name)
{
  PASSAGE (CALL_XATTR, fd, .xattr = name);

  ALL_OR_NOTHING (REAL_PLAIN (fremovexattr) (fd, name));
}
