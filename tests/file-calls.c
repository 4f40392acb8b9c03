/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What no command does for certain: ways to read a file, and file handles.
 *
 *     file-calls sendfile | copy_file_range | mmap FROM TO
 *     file-calls handle FILE             prints its handle in hexadecimal
 *     file-calls open MOUNTPOINT HANDLE  copies what the handle is of to standard output
 *
 * Status 1 and one line: a call failed. 77: it is not permitted here.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

typedef union
{
  struct file_handle handle;
  unsigned char bytes[sizeof (struct file_handle) + MAX_HANDLE_SZ];
} Handle;

static void G_GNUC_NORETURN
give_up (const char *what)
{
  int errnum = errno;

  printf ("%s: %s\n", what, g_strerror (errnum));
  exit (errnum == EPERM || errnum == ENOSYS ? 77 : 1);
}

static int
must_open (const char *path, int flags)
{
  int fd = open (path, flags | O_CLOEXEC, 0600);

  if (fd < 0)
    give_up (path);
  return fd;
}

static void
must_write (int fd, const char *bytes, size_t n)
{
  while (n > 0)
    {
      ssize_t done = write (fd, bytes, n);

      if (done < 0)
        give_up ("write");
      bytes += done;
      n -= (size_t) done;
    }
}

static void
copy_mapped (int from, int to, size_t size)
{
  const char *bytes = mmap (NULL, size, PROT_READ, MAP_SHARED, from, 0);

  if (bytes == MAP_FAILED)
    give_up ("mmap");
  must_write (to, bytes, size);
}

static void
copy (const char *how, const char *from_path, const char *to_path)
{
  int from = must_open (from_path, O_RDONLY),
      to = must_open (to_path, O_WRONLY | O_CREAT | O_TRUNC);
  struct stat st;
  ssize_t done;

  if (fstat (from, &st) != 0)
    give_up ("fstat");
  if (strcmp (how, "mmap") == 0)
    {
      copy_mapped (from, to, (size_t) st.st_size);
      return;
    }
  for (off_t left = st.st_size; left > 0; left -= done)
    {
      done = strcmp (how, "sendfile") == 0
                 ? sendfile (to, from, NULL, (size_t) left)
                 : copy_file_range (from, NULL, to, NULL, (size_t) left, 0);
      if (done <= 0)
        give_up (how);
    }
}

static void
print_handle (const char *path)
{
  Handle handle = { .handle = { .handle_bytes = MAX_HANDLE_SZ } };
  int mount_id;

  if (name_to_handle_at (AT_FDCWD, path, &handle.handle, &mount_id, 0) != 0)
    give_up ("name_to_handle_at");
  for (size_t i = 0; i < sizeof handle.handle + handle.handle.handle_bytes; i++)
    printf ("%02x", handle.bytes[i]);
  printf ("\n");
}

static void
open_handle (const char *mountpoint, const char *text)
{
  Handle handle = { 0 };
  char bytes[65536];
  ssize_t n;
  int fd;

  for (size_t i = 0; text[0] != '\0' && text[1] != '\0' && i < sizeof handle.bytes; i++, text += 2)
    handle.bytes[i]
        = (unsigned char) (g_ascii_xdigit_value (text[0]) << 4 | g_ascii_xdigit_value (text[1]));
  fd = open_by_handle_at (must_open (mountpoint, O_RDONLY), &handle.handle, O_RDONLY);
  if (fd < 0)
    give_up ("open_by_handle_at");
  while ((n = read (fd, bytes, sizeof bytes)) > 0)
    must_write (STDOUT_FILENO, bytes, (size_t) n);
  if (n < 0)
    give_up ("read");
}

int
main (int argc, char **argv)
{
  if (argc == 3 && strcmp (argv[1], "handle") == 0)
    print_handle (argv[2]);
  else if (argc == 4 && strcmp (argv[1], "open") == 0)
    open_handle (argv[2], argv[3]);
  else if (argc == 4)
    copy (argv[1], argv[2], argv[3]);
  else
    return 2;
  return 0;
}
