/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fuzz.h"

#include "base/fail.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *directory;
static pid_t owner;

static int
remove_entry (const char *name, const struct stat *st, int type, struct FTW *ftw)
{
  return remove (name);
}

static void
remove_directory (void)
{
  if (getpid () == owner)
    nftw (directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  g_free (directory);
}

int
fuzz_directory (const char **out_path)
{
  static int fd = -1;

  if (fd < 0)
    {
      const char *top = getenv ("TMPDIR");

      if (top == NULL)
        top = access ("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
      umask (022);
      directory = g_strdup_printf ("%s/fleecefs-fuzz-XXXXXX", top);
      fuzz_check (g_mkdtemp (directory) != NULL);
      owner = getpid ();
      atexit (remove_directory);
      fd = open (directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      fuzz_check (fd >= 0);
    }
  if (out_path != NULL)
    *out_path = directory;
  return fd;
}

void
fuzz_check_error (const GError *error, const char *text)
{
  fuzz_check (error != NULL && error->domain == FAIL_ERROR && error->code > 0);
  for (const char *p = error->message; *p != '\0'; p++)
    if (g_ascii_iscntrl (*p))
      g_error ("a control character in: %s", error->message);
  if (strstr (error->message, text) == NULL)
    g_error ("'%s' is not in: %s", text, error->message);
}

int
fuzz_lowest_free (void)
{
  int fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);

  fuzz_check (fd >= 0);
  close (fd);
  return fd;
}
