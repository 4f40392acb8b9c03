/* SPDX-License-Identifier: GPL-2.0-or-later */
/* umount.fuse.fleecefs: what umount(8) runs for a mount of fleecefs, as root or as the user, when
 * it finds it in /sbin. By it an unmount ends when image and store are closed, as one is used to of
 * other file systems. The words are those that umount(8) gives:
 *
 *     umount.fuse.fleecefs DIR [-nlfvr] [-t TYPE.SUBTYPE] [-N NAMESPACE]
 */
#include "config.h"

#include "base/fail.h"
#include "ctl/text.h"
#include "ctl/unmount.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "umount.fuse.fleecefs"

/* Those of umount(8). */
enum
{
  STATUS_OK = 0,
  STATUS_USAGE = 1,
  STATUS_SYSTEM = 2, /* here: it is unmounted, but not closed */
  STATUS_FAILED = 32,
};

static int
report (int status, const char *message)
{
  g_autofree char *line = text_printable (message);

  if (*line != '\0')
    fprintf (stderr, PROGRAM ": %s\n", line);
  return status;
}

/* A process's number, or the path of a namespace. */
static gboolean
enter_namespace (const char *word, GError **error)
{
  g_autofree char *path = strspn (word, "0123456789") == strlen (word)
                              ? g_strdup_printf ("/proc/%s/ns/mnt", word)
                              : g_strdup (word);
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  gboolean ok = fd >= 0 && setns (fd, CLONE_NEWNS) == 0;

  if (!ok)
    fail_errno (error, errno, "cannot enter the namespace '%s'", word);
  if (fd >= 0)
    close (fd);
  return ok;
}

static int
run (const char *mountpoint, const UnmountHow *how, gboolean verbose)
{
  static const int statuses[] = { [UNMOUNT_DONE] = STATUS_OK,
                                  [UNMOUNT_FAILED] = STATUS_FAILED,
                                  [UNMOUNT_NOT_CLOSED] = STATUS_SYSTEM };
  g_autoptr (GError) error = NULL;
  UnmountResult result = unmount (mountpoint, how, &error);

  if (result != UNMOUNT_DONE)
    return report (statuses[result], error->message);
  if (verbose)
    printf (PROGRAM ": %s unmounted\n", mountpoint);
  return STATUS_OK;
}

int
main (int argc, char **argv)
{
  UnmountHow how = { .seconds = UNMOUNT_SECONDS, .program = PROGRAM };
  g_autoptr (GError) error = NULL;
  const char *namespace = NULL;
  gboolean verbose = FALSE;
  int c;

  setlocale (LC_CTYPE, "");
  while ((c = getopt (argc, argv, "flnrvN:t:")) != -1)
    switch (c)
      {
      case 'f':
        how.force = TRUE;
        break;
      case 'l':
        how.lazy = TRUE;
        break;
      case 'r':
        how.read_only = TRUE;
        break;
      case 'v':
        verbose = TRUE;
        break;
      case 'N':
        namespace
        = optarg;
        break;
      case 'n': /* there is no mtab */
      case 't':
        break;
      default:
        return STATUS_USAGE;
      }
  if (optind + 1 != argc)
    return report (STATUS_USAGE, "it is umount(8) that runs this: give one mountpoint");
  if (namespace != NULL && !enter_namespace (namespace, &error))
    return report (STATUS_FAILED, error->message);
  return run (argv[optind], &how, verbose);
}
