/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kill-view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ID_SHIFT                                                                                   \
  16 /* the inode number of a directory is the snapshot's id, and this many zeros                  \
      */

#define NAME_SIZE 16

static const char *
name_of (unsigned n_name, char name[static NAME_SIZE])
{
  g_snprintf (name, NAME_SIZE, "%u", n_name);
  return name;
}

int
view_make (const Mount *mount, unsigned n_name)
{
  char name[NAME_SIZE];

  return mkdirat (mount->root, name_of (n_name, name), 0700) == 0 ? 0 : -errno;
}

int
view_remove (const Mount *mount, unsigned n_name)
{
  char name[NAME_SIZE];

  return unlinkat (mount->root, name_of (n_name, name), AT_REMOVEDIR) == 0 ? 0 : -errno;
}

int
view_rename (const Mount *mount, unsigned n_from, unsigned n_to)
{
  char from[NAME_SIZE], to[NAME_SIZE];
  int root = mount->root;

  return renameat (root, name_of (n_from, from), root, name_of (n_to, to)) == 0 ? 0 : -errno;
}

GHashTable *
view_list (const Mount *mount)
{
  GHashTable *names = g_hash_table_new (NULL, NULL);
  DIR *directory = fdopendir (openat (mount->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const struct dirent *entry;

  if (directory == NULL)
    bed_expect (mount->bed, "opendir", -errno, 0);
  while ((entry = readdir (directory)) != NULL)
    if (entry->d_name[0] != '.')
      g_hash_table_add (names, GUINT_TO_POINTER (strtoul (entry->d_name, NULL, 10)));
  closedir (directory);
  return names;
}

static ssize_t
view_read (void *data, unsigned disk, void *buffer, size_t length, uint64_t offset)
{
  const View *view = data;
  ssize_t n = pread (view->files[disk], buffer, length, (off_t) offset);

  return n < 0 ? -errno : n;
}

static char *
view_dup_broken (void *data)
{
  const View *view = data;
  char state[1024];
  ssize_t n = fgetxattr (view->directory, "user.fleecefs.state", state, sizeof state);

  if (n < 0)
    return g_strdup_printf ("its state cannot be read: %s", g_strerror (errno));
  return n == 2 && memcmp (state, "ok", 2) == 0 ? NULL : g_strndup (state, (size_t) n);
}

static int
open_files (View *view, int flags)
{
  const Bed *bed = view->mount->bed;
  struct stat st;

  if (fstat (view->directory, &st) != 0)
    return -errno;
  view->view.id = (uint32_t) (st.st_ino >> ID_SHIFT);
  view->view.created = st.st_mtim;
  for (unsigned d = 0; d < bed->n_disks; d++)
    {
      view->files[d] = openat (view->directory, bed->names[d], flags);
      if (view->files[d] < 0 || fstat (view->files[d], &st) != 0)
        return -errno;
      view->view.sizes[d] = (uint64_t) st.st_size;
      view->view.mtimes[d] = st.st_mtim;
    }
  return 0;
}

int
view_open (const Mount *mount, unsigned n_name, bool direct, View *out)
{
  char name[NAME_SIZE];
  int r;

  *out = (View){ .mount = mount, .files = { -1, -1, -1 } };
  out->view.read = view_read;
  out->view.dup_broken = view_dup_broken;
  out->view.data = out;
  out->view.has_ended = &mount->has_ended;
  out->directory = openat (mount->root, name_of (n_name, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (out->directory < 0)
    return -errno;
  r = open_files (out, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
  if (r < 0)
    view_close (out);
  return r;
}

void
view_close (View *view)
{
  close (view->directory);
  for (unsigned d = 0; d < view->mount->bed->n_disks; d++)
    if (view->files[d] >= 0)
      close (view->files[d]);
}
