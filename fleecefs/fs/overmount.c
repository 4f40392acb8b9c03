/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/overmount.h"

#include "base/fail.h"
#include "base/mount-table.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

void
overmount_free (Overmount *overmount)
{
  if (overmount == NULL)
    return;
  g_free (overmount->mountpoint);
  g_strfreev (overmount->live);
  g_strfreev (overmount->images);
  g_free (overmount);
}

static bool
is_live_file (const MountEntry *entry)
{
  return g_str_has_prefix (entry->type, "fuse") && g_str_has_prefix (entry->root, "/.live/");
}

/* Is the file covered by a live file? Then the file system's device, and where all of it is
 * mounted, "" for nowhere. */
static bool
is_covered (const char *path, dev_t *out_device, char **out_mountpoint)
{
  g_autoptr (GPtrArray) table = mount_table_read (NULL);
  const MountEntry *top = table != NULL ? mount_table_top (table, path) : NULL;
  const MountEntry *whole;

  if (top == NULL || !is_live_file (top))
    return false;
  *out_device = top->device;
  if (out_mountpoint != NULL)
    {
      whole = mount_table_whole (table, top->device);
      *out_mountpoint = g_strdup (whole != NULL ? whole->point : "");
    }
  return true;
}

/* Of a mount whose program is gone the kernel may still know the attributes. */
static bool
is_dead (const char *path)
{
  struct statfs fs;

  return statfs (path, &fs) != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

bool
overmount_clean (const char *path, GError **error)
{
  while (is_dead (path))
    {
      char *resolved = realpath (path, NULL);
      dev_t device;
      bool ok = resolved != NULL && is_covered (resolved, &device, NULL)
                && umount2 (resolved, MNT_DETACH | UMOUNT_NOFOLLOW) == 0;

      free (resolved);
      if (!ok)
        return fail (error, ENOTCONN, "the program that served '%s' is gone; run umount '%s' first",
                     path, path);
    }
  return true;
}

bool
overmount_check (const char *path, GError **error)
{
  g_autofree char *mountpoint = NULL;
  dev_t device;

  if (!is_covered (path, &device, &mountpoint))
    return true;
  if (*mountpoint == '\0')
    return fail (error, EBUSY,
                 "'%s' is the live file of a fleecefs that was unmounted and is still in use; "
                 "end its users, or run umount '%s'",
                 path, path);
  return fail (error, EBUSY,
               "'%s' is the live file of the fleecefs on '%s', by its -o overmount; "
               "run umount '%s' first",
               path, mountpoint, mountpoint);
}

bool
overmount_mount (const Overmount *overmount, dev_t *out_device, GError **error)
{
  struct stat st;

  if (stat (overmount->mountpoint, &st) != 0)
    return fail_errno (error, errno, "the mount on '%s' does not answer", overmount->mountpoint);
  *out_device = st.st_dev;
  for (unsigned i = 0; overmount->live[i] != NULL; i++)
    if (mount (overmount->live[i], overmount->images[i], NULL, MS_BIND, NULL) != 0)
      {
        fail_errno (error, errno, "cannot mount the live disk over '%s'", overmount->images[i]);
        overmount_undo (overmount, st.st_dev);
        return false;
      }
  return true;
}

bool
overmount_is_there (const Overmount *overmount, dev_t device)
{
  struct stat st;

  for (char **image = overmount->images; *image != NULL; image++)
    if (stat (*image, &st) != 0 || st.st_dev != device)
      return false;
  return true;
}

void
overmount_undo (const Overmount *overmount, dev_t device)
{
  for (char **image = overmount->images; *image != NULL; image++)
    {
      dev_t covering;

      if (is_covered (*image, &covering, NULL) && covering == device
          && umount2 (*image, MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
        g_warning ("cannot unmount '%s': %s", *image, g_strerror (errno));
    }
}
