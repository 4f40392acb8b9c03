/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/places.h"

#include "base/fail.h"
#include "base/trust.h"
#include "fs/mountpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
places_free (Places *places)
{
  for (unsigned i = 0; i < places->n_images; i++)
    {
      g_free ((char *) places->images[i].name);
      free ((char *) places->images[i].path);
    }
  g_free (places->images);
  g_free (places->store);
  g_free (places->run_dir);
  g_free (places->state_dir);
  free (places->mountpoint);
  overmount_free (places->overmount);
  g_free (places);
}

/* True when inner is outer or lies in it. Both are absolute and resolved. */
static bool
is_within (const char *inner, const char *outer)
{
  size_t length = strlen (outer);

  if (strcmp (outer, "/") == 0)
    return true;
  return strncmp (inner, outer, length) == 0 && (inner[length] == '\0' || inner[length] == '/');
}

static bool
is_same_file (const struct stat *a, const struct stat *b)
{
  if (S_ISBLK (a->st_mode) && S_ISBLK (b->st_mode))
    return a->st_rdev == b->st_rdev; /* one device may have many nodes */
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool
is_directory (const char *path)
{
  struct stat st;

  return stat (path, &st) == 0 && S_ISDIR (st.st_mode);
}

/* NAME=IMAGE may have been meant as the name of a file. */
static bool
fail_missing (const Image *image, GError **error)
{
  g_autofree char *word = g_strconcat (image->name, "=", image->path, NULL);
  struct stat st;

  if (stat (word, &st) == 0)
    return fail (error, ENOENT, "there is no image '%s'; give './%s', if you mean the file '%s'",
                 image->path, word, word);
  return fail (error, ENOENT, "there is no image '%s'; check the path", image->path);
}

static bool
look_at_image (const Image *image, const char *mountpoint, struct stat *out, GError **error)
{
  const char *path = image->path;

  if (stat (path, out) != 0 && errno == ENOTCONN)
    return fail (error, ENOTCONN, "the program that served '%s' is gone; run umount '%s' first",
                 path, path);
  if (stat (path, out) != 0)
    return errno == ENOENT ? fail_missing (image, error)
                           : fail_errno (error, errno, "cannot open the image '%s'", path);
  if (S_ISDIR (out->st_mode))
    return fail (error, EISDIR, "'%s' is a directory; %s", path,
                 is_directory (mountpoint) ? "give a disk image or a block device"
                                           : "give the image first, the mountpoint last");
  if (!S_ISREG (out->st_mode) && !S_ISBLK (out->st_mode))
    return fail (error, EINVAL,
                 "'%s' is neither a regular file nor a block device; give a disk image", path);
  return true;
}

static bool
resolve_images (Places *places, const Options *options, GError **error)
{
  g_autofree struct stat *stats = g_new (struct stat, options->images->len);

  places->images = g_new0 (SnapshotsImage, options->images->len);
  for (guint i = 0; i < options->images->len; i++)
    {
      const Image *image = options->images->pdata[i];

      if (!look_at_image (image, options->mountpoint, &stats[i], error))
        return false;
      for (guint other = 0; other < i; other++)
        if (is_same_file (&stats[other], &stats[i]))
          return fail (error, EINVAL, "'%s' is the same disk as '%s'; name it once", image->path,
                       ((const Image *) options->images->pdata[other])->path);
      places->images[i].name = g_strdup (image->name);
      places->n_images = i + 1;
      places->images[i].path = realpath (image->path, NULL);
      if (places->images[i].path == NULL)
        return fail_errno (error, errno, "cannot open the image '%s'", image->path);
      if (!overmount_check (places->images[i].path, error))
        return false;
      if (options->overmount && !S_ISREG (stats[i].st_mode))
        return fail (error, EINVAL, "'%s' is a block device, which overmount is not for",
                     image->path);
    }
  if (options->store == NULL && S_ISBLK (stats[0].st_mode))
    return fail (error, EINVAL,
                 "'%s' is a block device, and beside it is no place for snapshots; "
                 "give -o store=DIR",
                 places->images[0].path);
  return true;
}

/* Of what the command line names; of the store beside an image see resolve_store(). */
static bool
check_links (const Options *options, GError **error)
{
  for (guint i = 0; i < options->images->len; i++)
    if (!trust_links (((const Image *) options->images->pdata[i])->path, error))
      return false;
  return trust_links (options->mountpoint, error);
}

/* The store may not be there yet: then its parent is resolved. */
static char *
resolve_store (const Places *places, const Options *options, GError **error)
{
  g_autofree char *beside = g_strconcat (places->images[0].path, ".fleece", NULL);
  const char *path = options->store != NULL ? options->store : beside;
  g_autofree char *parent = NULL;
  g_autofree char *base = NULL;
  char *resolved;
  char *store;

  if (!trust_links (path, error))
    return NULL;
  resolved = realpath (path, NULL);
  if (resolved == NULL)
    {
      parent = g_path_get_dirname (path);
      base = g_path_get_basename (path);
      resolved = realpath (parent, NULL);
      if (resolved == NULL) /* opening the store will say what is missing */
        return g_canonicalize_filename (path, NULL);
      store = g_canonicalize_filename (base, resolved);
    }
  else
    store = g_strdup (resolved);
  free (resolved);
  return store;
}

static bool
check_apart (const Places *places, GError **error)
{
  for (unsigned i = 0; i < places->n_images; i++)
    {
      const char *image = places->images[i].path;

      if (strcmp (image, places->store) == 0)
        return fail (error, EINVAL, "'%s' is both image and store; give another -o store=DIR",
                     image);
      if (is_within (image, places->store))
        return fail (error, EINVAL,
                     "the image '%s' lies in the store '%s'; move it, or give another -o store=DIR",
                     image, places->store);
      if (is_within (image, places->mountpoint))
        return fail (error, EINVAL,
                     "the image '%s' lies under the mountpoint '%s' and would be hidden by it; "
                     "give another mountpoint",
                     image, places->mountpoint);
    }
  if (is_within (places->mountpoint, places->store))
    return fail (error, EINVAL, "the mountpoint '%s' lies in the store '%s'; give another one",
                 places->mountpoint, places->store);
  if (is_within (places->store, places->mountpoint))
    return fail (error, EINVAL,
                 "the store '%s' lies under the mountpoint '%s' and would be hidden by it; "
                 "give another one",
                 places->store, places->mountpoint);
  return true;
}

/* The directory below the one that the variable names, or else a default. */
static char *
own_directory (const char *variable, const char *otherwise)
{
  const char *value = g_getenv (variable);

  if (value == NULL || !g_path_is_absolute (value))
    value = otherwise;
  return value != NULL ? g_build_filename (value, "fleecefs", NULL) : NULL;
}

/* As the XDG base directory specification has them for users. */
static void
find_own_directories (Places *places)
{
  const char *home = g_getenv ("HOME");
  g_autofree char *run = g_strdup_printf ("/run/user/%u", (unsigned) geteuid ());
  g_autofree char *state = NULL;

  if (geteuid () == 0)
    {
      places->run_dir = g_strdup ("/run/fleecefs");
      places->state_dir = g_strdup ("/var/lib/fleecefs");
      return;
    }
  if (home != NULL && g_path_is_absolute (home))
    state = g_build_filename (home, ".local/state", NULL);
  places->run_dir = own_directory ("XDG_RUNTIME_DIR", run);
  places->state_dir = own_directory ("XDG_STATE_HOME", state);
}

/* Before the images are looked at. Only when nothing else is in the way of a start: the image is
 * better covered than served to nobody. */
static bool
prepare_overmount (const Options *options, GError **error)
{
  char *mountpoint;
  struct stat st;
  bool ok;

  if (!options->overmount)
    return true;
  if (geteuid () != 0)
    return fail (error, EPERM, "only root may mount over an image; leave out overmount");
  mountpoint = mountpoint_resolve (options->mountpoint, error);
  ok = mountpoint != NULL && mountpoint_check_free (mountpoint, &st, error);
  free (mountpoint);
  for (guint i = 0; ok && i < options->images->len; i++)
    ok = overmount_clean (((const Image *) options->images->pdata[i])->path, error);
  return ok;
}

static Overmount *
overmount_of (const Places *places)
{
  Overmount *overmount = g_new0 (Overmount, 1);

  overmount->mountpoint = g_strdup (places->mountpoint);
  overmount->live = g_new0 (char *, places->n_images + 1);
  overmount->images = g_new0 (char *, places->n_images + 1);
  for (unsigned i = 0; i < places->n_images; i++)
    {
      overmount->live[i]
          = g_build_filename (places->mountpoint, ".live", places->images[i].name, NULL);
      overmount->images[i] = g_strdup (places->images[i].path);
    }
  return overmount;
}

Places *
places_resolve (const Options *options, GError **error)
{
  g_autoptr (Places) places = g_new0 (Places, 1);

  if (!check_links (options, error) || !prepare_overmount (options, error))
    return NULL;
  if (!resolve_images (places, options, error))
    return NULL;
  places->store = resolve_store (places, options, error);
  if (places->store == NULL)
    return NULL;
  places->mountpoint = mountpoint_resolve (options->mountpoint, error);
  if (places->mountpoint == NULL || !check_apart (places, error)
      || !mountpoint_check_free (places->mountpoint, &places->before_mount, error))
    return NULL;
  find_own_directories (places);
  if (options->overmount)
    places->overmount = overmount_of (places);
  return g_steal_pointer (&places);
}
