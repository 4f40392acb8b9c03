/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source layer: what is opened and what is refused, and I/O on files and block devices.
 *
 * Files are tried on two file systems, that of the temporary directory and the one of
 * /dev/shm, which refuses to zero a range: so both ways of doing it are seen. Block devices
 * are loop devices. */
#include "base/fail.h"
#include "base/units.h"
#include "source/source.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

/* --- what is refused --- */

static void
make_directory (const char *path)
{
  ck_assert_int_eq (mkdir (path, 0755), 0);
}

static void
make_fifo (const char *path)
{
  ck_assert_int_eq (mkfifo (path, 0644), 0);
}

static void
make_link_to_device (const char *path)
{
  ck_assert_int_eq (symlink ("/dev/null", path), 0);
}

static void
make_dangling (const char *path)
{
  ck_assert_int_eq (symlink ("nowhere", path), 0);
}

static void
make_circle (const char *path)
{
  ck_assert_int_eq (symlink (path, path), 0);
}

static void
make_socket (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  ck_assert_uint_lt (g_strlcpy (address.sun_path, path, sizeof address.sun_path),
                     sizeof address.sun_path);
  ck_assert_int_eq (bind (fd, (struct sockaddr *) &address, sizeof address), 0);
  close (fd);
}

static const struct
{
  const char *what;
  void (*make) (const char *path); /* NULL: nothing is there */
  int errnum;
  const char *message;
} refused[] = {
  { "missing", NULL, ENOENT, "No such file" },
  { "a directory", make_directory, EISDIR, "is a directory; a regular file or a block device" },
  { "a FIFO", make_fifo, EINVAL, "is a FIFO; a regular file or a block device" },
  { "a device", make_link_to_device, EINVAL, "is a character device; a regular file" },
  { "a socket", make_socket, EINVAL, "is a socket; a regular file" },
  { "a dangling link", make_dangling, ENOENT, "No such file" },
  { "a circle", make_circle, ELOOP, "symbolic links" },
};

static void
assert_refused (const char *path, int errnum, const char *message)
{
  g_autoptr (GError) error = NULL;
  Source *source = source_open (path, &error);

  ck_assert_ptr_null (source);
  ck_assert_ptr_nonnull (error);
  ck_assert_msg (fail_code (error) == errnum, "%s", error->message);
  ck_assert_msg (strstr (error->message, path) != NULL, "no path in: %s", error->message);
  ck_assert_msg (strstr (error->message, message) != NULL, "no '%s' in: %s", message,
                 error->message);
  ck_assert_ptr_null (strchr (error->message, '\n'));
}

START_TEST (test_refused)
{
  const char *path = test_path ("image");

  if (refused[_i].make != NULL)
    refused[_i].make (path);
  assert_refused (path, refused[_i].errnum, refused[_i].message);
}
END_TEST

static const mode_t closed_modes[] = { 0000, 0444, 0222 };

/* As another user, in a child process. */
START_TEST (test_no_permission)
{
  const char *path = test_path ("image");
  int status;
  pid_t pid;

  test_make_file (path, MIB, 1);
  ck_assert_int_eq (chmod (path, closed_modes[_i]), 0);
  pid = fork ();
  ck_assert_int_ge (pid, 0);
  if (pid == 0)
    {
      g_autoptr (GError) error = NULL;

      if (geteuid () == 0
          && (setgroups (0, NULL) != 0 || setgid (NOBODY) != 0 || setuid (NOBODY) != 0))
        _exit (2);
      if (source_open (path, &error) != NULL)
        _exit (3);
      _exit (fail_code (error) == EACCES && strstr (error->message, path) != NULL
                     && strstr (error->message, "Permission denied") != NULL
                 ? 0
                 : 4);
    }
  ck_assert_int_eq (waitpid (pid, &status, 0), pid);
  ck_assert_int_eq (status, 0);
}
END_TEST

static Source *
open_source (const char *path)
{
  g_autoptr (GError) error = NULL;
  Source *source = source_open (path, &error);

  ck_assert_msg (source != NULL, "%s", error != NULL ? error->message : "");
  return source;
}

static uint64_t
size_of (const Source *source)
{
  uint64_t size = 0;

  ck_assert_int_eq (source_size (source, &size), 0);
  return size;
}

START_TEST (test_opened_twice)
{
  const char *path = test_path ("image");
  Source *source;

  test_make_file (path, MIB, 1);
  source = open_source (path);
  assert_refused (path, EBUSY, "in use");
  source_close (source);
  source_close (open_source (path));
  source_close (NULL);
}
END_TEST

START_TEST (test_used_by_loop)
{
  const char *path = test_path ("image");
  g_autofree char *device = NULL;

  test_make_file (path, MIB, 1);
  device = test_loop_attach (path, "a file in use by a loop device");
  if (device == NULL)
    return;
  assert_refused (path, EBUSY, device);
  ck_assert_int_eq (test_run (NULL, "losetup", "-d", device, NULL), 0);
  source_close (open_source (path));
}
END_TEST

/* --- files --- */

static const uint64_t file_sizes[] = { 1, 511, 512, 1000001, MIB, 3 * GIB + 1, 5 * TIB };

START_TEST (test_file_basics)
{
  uint64_t size = file_sizes[_i];
  uint8_t buffer[100], expected[100];
  struct stat st;
  Source *source;

  test_make_file (test_path ("image"), size, 0);
  ck_assert_int_eq (symlink ("image", test_path ("link")), 0);
  source = open_source (test_path ("link"));

  ck_assert_str_eq (source_path (source), test_path ("image"));
  ck_assert (!source_is_block (source));
  ck_assert_uint_eq (size_of (source), size);
  ck_assert_int_eq (source_stat (source, &st), 0);
  ck_assert_uint_eq ((uint64_t) st.st_size, size);
  ck_assert (S_ISREG (st.st_mode));
  ck_assert_int_ge (source_fd (source), 0);

  /* The end: short reads, and writes that make it grow. */
  ck_assert_int_eq (source_read (source, buffer, sizeof buffer, size - 1), 1);
  ck_assert_int_eq (source_read (source, buffer, sizeof buffer, size), 0);
  test_fill (expected, sizeof expected, 2, size - 1);
  ck_assert_int_eq (source_write (source, expected, sizeof expected, size - 1, IO_SYNC_NONE),
                    sizeof expected);
  ck_assert_uint_eq (size_of (source), size - 1 + sizeof expected);
  ck_assert_int_eq (source_read (source, buffer, sizeof buffer, size - 1), sizeof buffer);
  test_assert_bytes ("the end", buffer, expected, sizeof buffer);

  ck_assert_int_eq (source_truncate (source, size), 0);
  ck_assert_uint_eq (size_of (source), size);
  ck_assert_int_eq (source_flush (source, false), 0);
  ck_assert_int_eq (source_flush (source, true), 0);
  source_close (source);
}
END_TEST

#define SIZE 100000
#define KEEP FALLOC_FL_KEEP_SIZE
#define ZERO FALLOC_FL_ZERO_RANGE
#define PUNCH FALLOC_FL_PUNCH_HOLE

static const struct
{
  int mode;
  uint64_t offset, length;
  int expected;
  uint64_t size; /* afterwards */
  bool zeros;    /* the range reads as zeros */
} allocations[] = {
  { 0, 0, SIZE, 0, SIZE, false },
  { 0, 4096, 4096, 0, SIZE, false },
  { 0, 0, SIZE + 5000, 0, SIZE + 5000, false },
  { 0, SIZE + 1, 1, 0, SIZE + 2, false },
  { KEEP, 0, SIZE + 5000, 0, SIZE, false },
  { KEEP, SIZE + 100, 1, 0, SIZE, false },
  { ZERO, 0, SIZE, 0, SIZE, true },
  { ZERO, 4096, 8192, 0, SIZE, true },
  { ZERO, 1, 1, 0, SIZE, true },
  { ZERO, 4000, 70001, 0, SIZE, true },
  { ZERO, SIZE - 10, 20, 0, SIZE + 10, true },
  { ZERO, SIZE + 10, 20, 0, SIZE + 30, true },
  { ZERO | KEEP, 100, 1000, 0, SIZE, true },
  { ZERO | KEEP, SIZE - 10, 20, 0, SIZE, true },
  { ZERO | KEEP, SIZE, 1, 0, SIZE, true },
  { ZERO | KEEP, SIZE + 10, 20, 0, SIZE, true },
  { PUNCH | KEEP, 0, SIZE, 0, SIZE, true },
  { PUNCH | KEEP, 4096, 8192, 0, SIZE, true },
  { PUNCH | KEEP, 5, 7, 0, SIZE, true },
  { PUNCH | KEEP, SIZE - 10, 20, 0, SIZE, true },
  { PUNCH | KEEP, SIZE + 10, 20, 0, SIZE, true },
  { PUNCH, 0, 4096, -EOPNOTSUPP, SIZE, false },
};

static const char *const places[] = { NULL, "/dev/shm" };

/* A file there, open; no name of it stays behind. NULL after test_skip(). */
static Source *
open_in (const char *place, uint64_t size)
{
  g_autofree char *dir
      = g_strdup_printf ("%s/fleecefs-test-XXXXXX", place != NULL ? place : test_dir);
  g_autofree char *path = NULL;
  Source *source;

  if (g_mkdtemp (dir) == NULL)
    {
      test_skip ("allocation on a second file system", "no /dev/shm");
      return NULL;
    }
  path = g_build_filename (dir, "image", NULL);
  test_make_file (path, size, 1);
  source = source_open (path, NULL);
  unlink (path);
  rmdir (dir);
  ck_assert_ptr_nonnull (source);
  return source;
}

START_TEST (test_file_allocate)
{
  unsigned i = (unsigned) _i / G_N_ELEMENTS (places);
  uint64_t size = allocations[i].size;
  uint64_t start = MIN (allocations[i].offset, size);
  uint64_t end = MIN (allocations[i].offset + allocations[i].length, size);
  g_autofree uint8_t *expected = g_malloc0 (size + 1);
  g_autofree uint8_t *got = g_malloc0 (size + 1);
  Source *source = open_in (places[(unsigned) _i % G_N_ELEMENTS (places)], SIZE);

  if (source == NULL)
    return;
  ck_assert_int_eq (
      source_allocate (source, allocations[i].mode, allocations[i].offset, allocations[i].length),
      allocations[i].expected);
  ck_assert_uint_eq (size_of (source), size);
  test_fill (expected, SIZE, 1, 0);
  if (allocations[i].zeros)
    memset (expected + start, 0, end - start);
  ck_assert_int_eq (source_read (source, got, size + 1, 0), size);
  test_assert_bytes ("the file", got, expected, size);
  source_close (source);
}
END_TEST

/* 1 MiB hole, 1 MiB data, 1 MiB hole, 1000 bytes data, and a hole to 5 MiB. */
static const struct
{
  uint64_t offset, length;
  SourceExtent extent;
  uint64_t n_bytes;
} extents[] = {
  { 0, 5 * MIB, SOURCE_HOLE, MIB },
  { 0, 4096, SOURCE_HOLE, 4096 },
  { 12345, 5 * MIB, SOURCE_HOLE, MIB - 12345 },
  { MIB - 1, 2, SOURCE_HOLE, 1 },
  { MIB, 5 * MIB, SOURCE_DATA, MIB },
  { MIB, 1, SOURCE_DATA, 1 },
  { MIB + 77, MIB, SOURCE_DATA, MIB - 77 },
  { 2 * MIB, 3 * MIB, SOURCE_HOLE, MIB },
  { 3 * MIB, 100, SOURCE_DATA, 100 },
  { 4 * MIB, 5 * MIB, SOURCE_HOLE, 5 * MIB },
  { 4 * MIB, MIB, SOURCE_HOLE, MIB },
  { 5 * MIB - 1, 1, SOURCE_HOLE, 1 },
};

START_TEST (test_file_extents)
{
  const char *path = test_path ("image");
  g_autofree uint8_t *bytes = g_malloc (MIB);
  Source *source;

  test_make_file (path, 5 * MIB, 0);
  test_fill (bytes, MIB, 1, 0);
  test_poke (path, MIB, bytes, MIB);
  test_poke (path, 3 * MIB, bytes, 1000);
  source = open_source (path);
  if (lseek (source_fd (source), 0, SEEK_HOLE) != 0)
    test_skip ("extents", "this file system shows no holes");
  else
    {
      uint64_t offset = extents[_i].offset, length = extents[_i].length;
      bool data = extents[_i].extent == SOURCE_DATA;
      uint64_t end = source_find (source, offset, data ? SOURCE_HOLE : SOURCE_DATA);

      ck_assert_uint_eq (source_hole (source, offset, length), data ? 0 : extents[_i].n_bytes);
      ck_assert_uint_eq (MIN (end - offset, length), extents[_i].n_bytes);
    }
  source_close (source);
}
END_TEST

/* --- block devices --- */

#define DEVICE_SIZE (MIB + 512) /* not a multiple of a page */

static char *
attach (void)
{
  test_make_file (test_path ("disk"), DEVICE_SIZE, 1);
  return test_loop_attach (test_path ("disk"), "block devices");
}

static void
assert_device (Source *source, uint64_t zero_offset, uint64_t zero_length)
{
  g_autofree uint8_t *expected = g_malloc (DEVICE_SIZE);
  g_autofree uint8_t *got = g_malloc (DEVICE_SIZE + 1);

  test_fill (expected, DEVICE_SIZE, 1, 0);
  memset (expected + zero_offset, 0, zero_length);
  ck_assert_int_eq (source_read (source, got, DEVICE_SIZE + 1, 0), DEVICE_SIZE);
  test_assert_bytes ("the device", got, expected, DEVICE_SIZE);
}

START_TEST (test_device_basics)
{
  g_autofree char *device = attach ();
  uint8_t bytes[1024], back[1024];
  struct stat st;
  Source *source;

  if (device == NULL)
    return;
  source = open_source (device);
  ck_assert_str_eq (source_path (source), device);
  ck_assert (source_is_block (source));
  ck_assert_uint_eq (size_of (source), DEVICE_SIZE);
  ck_assert_int_eq (source_stat (source, &st), 0);
  ck_assert (S_ISBLK (st.st_mode));
  assert_device (source, 0, 0);
  assert_refused (device, EBUSY, "in use");

  ck_assert_int_eq (source_truncate (source, DEVICE_SIZE), -EPERM);
  ck_assert_int_eq (source_truncate (source, 0), -EPERM);
  ck_assert_uint_eq (source_hole (source, 512, MIB), 0);

  /* The end is fixed. */
  test_fill (bytes, sizeof bytes, 2, 0);
  ck_assert_int_eq (source_write (source, bytes, 1, DEVICE_SIZE, IO_SYNC_NONE), -ENOSPC);
  ck_assert_int_eq (source_write (source, bytes, 1, DEVICE_SIZE + MIB, IO_SYNC_NONE), -ENOSPC);
  ck_assert_int_eq (source_write (source, bytes, 1024, DEVICE_SIZE - 100, IO_SYNC_NONE), 100);
  ck_assert_int_eq (source_read (source, back, 1024, DEVICE_SIZE - 100), 100);
  test_assert_bytes ("the end", back, bytes, 100);
  ck_assert_int_eq (source_flush (source, false), 0);
  ck_assert_int_eq (source_flush (source, true), 0);
  source_close (source);
}
END_TEST

static const struct
{
  int mode;
  uint64_t offset, length;
  int expected;
  bool zeros;
} device_allocations[] = {
  { 0, 0, DEVICE_SIZE, 0, false },
  { KEEP, 5, 7, 0, false },
  { 0, 0, DEVICE_SIZE + 1, -ENOSPC, false },
  { 0, DEVICE_SIZE, 1, -ENOSPC, false },
  { 0, UINT64_MAX - 10, 5, -ENOSPC, false },
  { ZERO, 0, DEVICE_SIZE, 0, true },
  { ZERO | KEEP, 4096, 65536, 0, true },
  { ZERO, 512, 1024, 0, true },
  { ZERO | KEEP, 1, 1, 0, true },
  { ZERO, 1000, 200001, 0, true },
  { ZERO, DEVICE_SIZE - 3, 3, 0, true },
  { ZERO, DEVICE_SIZE - 3, 4, -ENOSPC, false },
  { ZERO | KEEP, DEVICE_SIZE, 512, -ENOSPC, false },
  { PUNCH | KEEP, 0, DEVICE_SIZE, 0, true },
  { PUNCH | KEEP, 4096, 65536, 0, true },
  { PUNCH | KEEP, DEVICE_SIZE, 4096, -ENOSPC, false },
};

START_TEST (test_device_allocate)
{
  g_autofree char *device = attach ();
  uint64_t offset = device_allocations[_i].offset, length = device_allocations[_i].length;
  Source *source;

  if (device == NULL)
    return;
  source = open_source (device);
  ck_assert_int_eq (source_allocate (source, device_allocations[_i].mode, offset, length),
                    device_allocations[_i].expected);
  ck_assert_uint_eq (size_of (source), DEVICE_SIZE);
  if (device_allocations[_i].zeros)
    assert_device (source, offset, length);
  else
    assert_device (source, 0, 0);
  source_close (source);
}
END_TEST

/* On a file in memory the device refuses a hole after it has zeroed something; a refusal is none of
 * our doing and must not change what was written last. _i: a hole of whole pages, or not. */
START_TEST (test_device_refuses_hole)
{
  g_autofree char *path = g_strdup ("/dev/shm/fleecefs-test-XXXXXX"), *device = NULL;
  uint8_t written[64 * KIB], got[64 * KIB];
  int fd = g_mkstemp (path), r;
  Source *source;
  ssize_t n;

  if (fd < 0 || ftruncate (fd, MIB) != 0)
    {
      test_skip ("a device that refuses a hole", "no file in /dev/shm");
      return;
    }
  device = test_loop_attach (path, "a device that refuses a hole");
  close (fd);
  unlink (path);
  if (device == NULL)
    return;
  source = open_source (device);
  ck_assert_int_eq (source_allocate (source, ZERO | KEEP, 0, sizeof written), 0);
  test_fill (written, sizeof written, 2, 0);
  ck_assert_int_eq (source_write (source, written, sizeof written, 0, IO_SYNC_NONE),
                    sizeof written);
  r = source_allocate (source, PUNCH | KEEP, 512U * (unsigned) _i, 32 * KIB);
  if (r == 0)
    {
      test_skip ("a device that refuses a hole", "it makes one");
      memset (written + 512 * _i, 0, 32 * KIB);
    }
  n = source_read (source, got, sizeof got, 0);
  source_close (source);
  ck_assert_int_eq (test_run (NULL, "losetup", "-d", device, NULL), 0);
  ck_assert (r == 0 || r == -EOPNOTSUPP);
  ck_assert_int_eq (n, sizeof got);
  test_assert_bytes ("what was written", got, written, sizeof got);
}
END_TEST

START_TEST (test_device_mounted)
{
  const char *mountpoint = test_path ("mnt");
  g_autofree char *device = NULL;

  test_make_file (test_path ("disk"), 4 * MIB, 0);
  device = test_loop_attach (test_path ("disk"), "a mounted block device");
  if (device == NULL)
    return;
  if (!test_have ("mkfs.ext4")
      || test_run (NULL, "mkfs.ext4", "-q", "-F", "-O", "^has_journal", device, NULL) != 0)
    {
      test_skip ("a mounted block device", "no mkfs.ext4");
      return;
    }
  ck_assert_int_eq (mkdir (mountpoint, 0755), 0);
  if (mount (device, mountpoint, "ext4", 0, NULL) != 0)
    {
      test_skip ("a mounted block device", g_strerror (errno));
      return;
    }
  assert_refused (device, EBUSY, "is in use (mounted");
  ck_assert_int_eq (umount2 (mountpoint, 0), 0);
  source_close (open_source (device));
}
END_TEST

static Suite *
source_suite (void)
{
  Suite *suite = suite_create ("source");
  TCase *opening = test_case (suite, "open", 60);
  TCase *file = test_case (suite, "file", 0);
  TCase *device = test_case (suite, "device", 60);

  tcase_add_loop_test (opening, test_refused, 0, G_N_ELEMENTS (refused));
  tcase_add_loop_test (opening, test_no_permission, 0, G_N_ELEMENTS (closed_modes));
  tcase_add_test (opening, test_opened_twice);
  tcase_add_test (opening, test_used_by_loop);
  tcase_add_loop_test (file, test_file_basics, 0, G_N_ELEMENTS (file_sizes));
  tcase_add_loop_test (file, test_file_allocate, 0,
                       G_N_ELEMENTS (allocations) * G_N_ELEMENTS (places));
  tcase_add_loop_test (file, test_file_extents, 0, G_N_ELEMENTS (extents));
  tcase_add_test (device, test_device_basics);
  tcase_add_loop_test (device, test_device_allocate, 0, G_N_ELEMENTS (device_allocations));
  tcase_add_loop_test (device, test_device_refuses_hole, 0, 2);
  tcase_add_test (device, test_device_mounted);
  return suite;
}

int
main (void)
{
  return test_main (source_suite ());
}
