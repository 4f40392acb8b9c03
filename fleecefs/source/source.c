/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/source.h"

#include "base/fail.h"
#include "base/image-lock.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/fs.h>

#define NOTE "user.fleecefs.unsaved"
#define PAGE 4096
#define DELETED " (deleted)"

struct _Source
{
  /* constant after open */
  int fd;
  char *path;
  char *name; /* what the kernel called it at the start, to tell a move by; or NULL */
  bool is_block;
};

/* The loop device that has this file open, as "/dev/loop0", or NULL. The kernel
 * takes no lock for it, so nothing else would tell. */
static char *
find_loop_device (const struct stat *st)
{
  g_autoptr (GDir) dir = g_dir_open ("/sys/block", 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *attribute = NULL;
      g_autofree char *backing = NULL;
      struct statx file;

      if (!g_str_has_prefix (name, "loop"))
        continue;
      attribute = g_build_filename ("/sys/block", name, "loop/backing_file", NULL);
      if (!g_file_get_contents (attribute, &backing, NULL, NULL))
        continue;
      g_strchomp (backing);
      /* What the kernel knows without asking: the file may be on a file system that hangs. */
      if (statx (AT_FDCWD, backing, AT_STATX_DONT_SYNC, STATX_INO, &file) == 0
          && makedev (file.stx_dev_major, file.stx_dev_minor) == st->st_dev
          && file.stx_ino == st->st_ino)
        return g_strdup_printf ("/dev/%s", name);
    }
  return NULL;
}

static bool
check_file (const char *path, const struct stat *st, GError **error)
{
  g_autofree char *loop = NULL;

  loop = find_loop_device (st);
  if (loop != NULL)
    return fail (error, EBUSY, "image '%s' is in use by %s; run losetup -d %s first", path, loop,
                 loop);
  return true;
}

/* As source_size(). A device that went away has no bytes: that is no size either. */
static int
device_size (int fd, uint64_t *out)
{
  uint64_t size;

  if (ioctl (fd, BLKGETSIZE64, &size) != 0)
    return -errno;
  if (size == 0)
    return -ENODEV;
  *out = size;
  return 0;
}

static bool
check_block_device (Source *source, const char *path, GError **error)
{
  int read_only = 0, r;
  uint64_t size;

  /* Root can open such a device for writing; only the writes fail. */
  if (ioctl (source->fd, BLKROGET, &read_only) == 0 && read_only != 0)
    return fail (error, EROFS, "block device '%s' is read-only; attach it for writing", path);
  r = device_size (source->fd, &size);
  if (r == -ENODEV)
    return fail (error, EINVAL, "block device '%s' is empty; nothing is attached to it", path);
  if (r < 0)
    return fail_errno (error, -r, "cannot get the size of '%s'", path);
  source->is_block = true;
  return true;
}

/* Where the kernel knows the open file, " (deleted)" after the path that it had; NULL where it does
 * not tell. It looks at no file system for that. A new string. */
static char *
name_of_open_file (int fd)
{
  g_autofree char *link = g_strdup_printf ("/proc/self/fd/%d", fd);

  return g_file_read_link (link, NULL);
}

static bool
set_up (Source *source, const char *path, const struct stat *st, GError **error)
{
  char *absolute;

  if (S_ISBLK (st->st_mode) ? !check_block_device (source, path, error)
                            : !check_file (path, st, error))
    return false;
  if (!image_lock_own (source->fd, path, error))
    return false;

  absolute = realpath (path, NULL);
  if (absolute == NULL)
    return fail_errno (error, errno, "cannot find the absolute path of '%s'", path);
  source->path = g_strdup (absolute);
  free (absolute);
  source->name = name_of_open_file (source->fd);
  return true;
}

Source *
source_open (const char *path, GError **error)
{
  g_autoptr (Source) source = NULL;
  struct stat st;
  int fd;

  /* Looked at before it is opened: an open can block (FIFO) or have effects (devices). */
  if (stat (path, &st) != 0)
    {
      fail_errno (error, errno, "cannot find image '%s'", path);
      return NULL;
    }
  if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode))
    {
      fail (error, S_ISDIR (st.st_mode) ? EISDIR : EINVAL,
            "image '%s' is %s; a regular file or a block device is needed", path,
            S_ISDIR (st.st_mode)    ? "a directory"
            : S_ISFIFO (st.st_mode) ? "a FIFO"
            : S_ISCHR (st.st_mode)  ? "a character device"
                                    : "a socket");
      return NULL;
    }
  fd = open (path, O_RDWR | O_CLOEXEC | O_NOCTTY | (S_ISBLK (st.st_mode) ? O_EXCL : 0));
  if (fd < 0)
    {
      if (errno == EBUSY)
        fail (error, EBUSY, "image '%s' is in use (mounted, or part of a volume); free it first",
              path);
      else if (errno == EACCES)
        fail (error, EACCES,
              "cannot open image '%s' for reading and writing: %s; see ls -l, or run as its owner",
              path, g_strerror (EACCES));
      else if (errno == EROFS || errno == EPERM)
        fail (error, errno,
              "cannot open image '%s' for reading and writing: %s; copy it to where it can be "
              "written",
              path, g_strerror (errno));
      else
        fail_errno (error, errno, "cannot open image '%s' for reading and writing", path);
      return NULL;
    }

  source = g_new0 (Source, 1);
  source->fd = fd;
  if (fstat (fd, &st) != 0)
    {
      fail_errno (error, errno, "cannot stat image '%s'", path);
      return NULL;
    }
  return set_up (source, path, &st, error) ? g_steal_pointer (&source) : NULL;
}

bool
source_refuse_empty (const Source *source, GError **error)
{
  uint64_t size;
  int r = source_size (source, &size);

  if (r < 0)
    return fail_errno (error, -r, "cannot stat image '%s'", source->path);
  return size > 0
         || fail (error, EINVAL, "image '%s' is empty; give it a size first, as with truncate -s",
                  source->path);
}

void
source_close (Source *source)
{
  if (source == NULL)
    return;
  close (source->fd);
  g_free (source->path);
  g_free (source->name);
  g_free (source);
}

const char *
source_path (const Source *source)
{
  return source->path;
}

bool
source_is_block (const Source *source)
{
  return source->is_block;
}

char *
source_find_move (const Source *source)
{
  g_autofree char *now = NULL;

  if (source->is_block || source->name == NULL)
    return NULL;
  now = name_of_open_file (source->fd);
  if (now == NULL || strcmp (now, source->name) == 0)
    return NULL;
  if (g_str_has_suffix (now, DELETED))
    return g_strdup_printf (
        "image '%s' was removed, or another file put in its place: guests write "
        "to a file without this name; copy the live disk before the unmount",
        source->path);
  return g_strdup_printf ("image '%s' was moved: guests write to '%s'; move it back", source->path,
                          now);
}

int
source_fd (const Source *source)
{
  return source->fd;
}

int
source_size (const Source *source, uint64_t *out)
{
  struct stat st;

  if (source->is_block)
    return device_size (source->fd, out);
  if (fstat (source->fd, &st) != 0)
    return -errno;
  *out = (uint64_t) st.st_size;
  return 0;
}

int
source_allocated (const Source *source, uint64_t *out)
{
  struct stat st;

  if (source->is_block)
    return device_size (source->fd, out);
  if (fstat (source->fd, &st) != 0)
    return -errno;
  *out = (uint64_t) st.st_blocks * 512;
  return 0;
}

int
source_stat (const Source *source, struct stat *out)
{
  return fstat (source->fd, out) == 0 ? 0 : -errno;
}

/* The number of the device as an attachment: unlike its name it is not given twice. */
static uint64_t
device_sequence (const Source *source)
{
#ifdef BLKGETDISKSEQ
  uint64_t sequence;

  if (ioctl (source->fd, BLKGETDISKSEQ, &sequence) == 0)
    return sequence;
#endif
  return 0;
}

uint64_t
source_identity (const Source *source)
{
  return source->is_block ? device_sequence (source) : io_birth_time (source->fd);
}

bool
source_count_writes (const Source *source, uint64_t *out_sectors)
{
  enum
  {
    WRITTEN = 6, /* fields of the kernel's block/stat.rst */
    DISCARDED = 13,
  };
  g_autofree char *path = NULL;
  g_autofree char *text = NULL;
  struct stat st;
  const char *at;

  if (!source->is_block || fstat (source->fd, &st) != 0)
    return false;
  path = g_strdup_printf ("/sys/dev/block/%u:%u/stat", major (st.st_rdev), minor (st.st_rdev));
  if (!g_file_get_contents (path, &text, NULL, NULL))
    return false;
  at = text;
  *out_sectors = 0;
  for (int field = 0; field <= DISCARDED; field++)
    {
      char *end;
      uint64_t value = g_ascii_strtoull (at, &end, 10);

      if (end == at)
        break; /* an older kernel has fewer */
      if (field == WRITTEN || field == DISCARDED)
        *out_sectors += value;
      at = end;
    }
  return true;
}

ssize_t
source_read (Source *source, void *buffer, size_t length, uint64_t offset)
{
  return io_read (source->fd, buffer, length, offset);
}

ssize_t
source_write (Source *source, const void *buffer, size_t length, uint64_t offset, IoSync sync)
{
  return io_write_sync (source->fd, buffer, length, offset, sync);
}

static int
write_zeros (Source *source, uint64_t offset, uint64_t length)
{
  static const char zeros[64 * KIB];

  while (length > 0)
    {
      size_t n = (size_t) units_min (length, sizeof zeros);
      int r = io_write_full (source->fd, zeros, n, offset);

      if (r < 0)
        return r;
      offset += n;
      length -= n;
    }
  return 0;
}

static int
allocate (Source *source, int mode, uint64_t offset, uint64_t length)
{
  while (fallocate (source->fd, mode, (off_t) offset, (off_t) length) != 0)
    if (errno != EINTR)
      return -errno;
  return 0;
}

/* A block device may refuse to punch a hole, also one that did it before. Linux has dropped its
 * pages of the range by then, whether they were written to the device or not, and has put zeros
 * into parts of those at its ends. So they are written before, and read anew after. */
static int
punch_device (Source *source, int mode, uint64_t offset, uint64_t length)
{
  off_t start = (off_t) (offset / PAGE * PAGE),
        end = (off_t) units_round_up (offset + length, PAGE);
  int r = 0;

  if (sync_file_range (source->fd, start, end - start,
                       SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE
                           | SYNC_FILE_RANGE_WAIT_AFTER)
      != 0)
    r = -errno;
  if (r == 0)
    r = allocate (source, mode, offset, length);
  if (r < 0)
    posix_fadvise (source->fd, start, end - start, POSIX_FADV_DONTNEED);
  return r;
}

/* Of what is to be zeroed, the bytes before the end of the source. */
static int
clip_to_size (const Source *source, uint64_t offset, uint64_t *length)
{
  uint64_t size;
  int r = source_size (source, &size);

  if (r == 0)
    *length = offset < size ? units_min (*length, size - offset) : 0;
  return r;
}

int
source_allocate (Source *source, int mode, uint64_t offset, uint64_t length)
{
  uint64_t size = 0;
  int r = source->is_block ? device_size (source->fd, &size) : 0;

  if (r < 0)
    return r;
  if (source->is_block)
    {
      if (length > size || offset > size - length)
        return -ENOSPC;
      if ((mode & (FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE)) == 0)
        return 0; /* its blocks are always there */
      mode |= FALLOC_FL_KEEP_SIZE;
    }
  if (source->is_block && (mode & FALLOC_FL_PUNCH_HOLE) != 0)
    return punch_device (source, mode, offset, length);
  r = allocate (source, mode, offset, length);

  /* EINVAL: a block device wants whole sectors. */
  if ((mode & FALLOC_FL_ZERO_RANGE) && (r == -EOPNOTSUPP || r == -EINVAL))
    {
      r = mode & FALLOC_FL_KEEP_SIZE ? clip_to_size (source, offset, &length) : 0;
      if (r == 0)
        r = write_zeros (source, offset, length);
    }
  return r;
}

int
source_truncate (Source *source, uint64_t size)
{
  if (source->is_block)
    return -EPERM;
  return io_truncate (source->fd, size);
}

int
source_flush (Source *source, bool data_only)
{
  return io_sync (source->fd, data_only);
}

int
source_set_note (Source *source, const char *store_id)
{
  if (source->is_block)
    return -EOPNOTSUPP;
  return fsetxattr (source->fd, NOTE, store_id, strlen (store_id), 0) == 0 ? 0 : -errno;
}

int
source_has_note (Source *source, const char *store_id, bool *out)
{
  char text[64]; /* an id has less; so what does not fit (ERANGE) is none of ours */
  ssize_t n = source->is_block ? 0 : fgetxattr (source->fd, NOTE, text, sizeof text);

  *out = n >= 0 && (size_t) n == strlen (store_id) && memcmp (text, store_id, (size_t) n) == 0;
  return n >= 0 || errno == ENODATA || errno == EOPNOTSUPP || errno == ERANGE ? 0 : -errno;
}

int
source_clear_note (Source *source)
{
  return fremovexattr (source->fd, NOTE) == 0 || errno == ENODATA ? 0 : -errno;
}

uint64_t
source_find (Source *source, uint64_t offset, SourceExtent extent)
{
  off_t at = lseek (source->fd, (off_t) offset, extent == SOURCE_DATA ? SEEK_DATA : SEEK_HOLE);

  if (at >= 0)
    return units_max ((uint64_t) at, offset);
  /* ENXIO: a hole up to the end, or beyond it. Else the source cannot tell. */
  return (extent == SOURCE_DATA) == (errno == ENXIO) ? UINT64_MAX : offset;
}

uint64_t
source_hole (Source *source, uint64_t offset, uint64_t length)
{
  return units_min (length, source_find (source, offset, SOURCE_DATA) - offset);
}
