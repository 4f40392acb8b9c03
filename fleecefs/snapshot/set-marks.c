/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Open and clean: the state of the store, and the marks at the images (source/mark.h) and the
 * seal (store/seal.h) that go with it.
 *
 * While the manifest says that the store is open and an image marked, the image has the mark, if
 * nobody else took it since. So the mark is set before that is written, and taken away after it is
 * written that the store is clean. A kill in between leaves a mark that tells nobody anything: a
 * store that is clean goes by the image's size and times. */
#include "base/fail.h"
#include "snapshot/set-private.h"
#include "source/mark.h"

#include <errno.h>
#include <string.h>

/* Sets the mark; *out_marked: it is there. That of another store is not there any more in any case,
 * also after a loss of power: that store must not take the image for its own. Of a durable set the
 * whole image is on disk then, also what was written to it at a time when it was not kept durable.
 */
static int
mark_one (const Snapshots *set, Source *source, const char *before, bool *out_marked)
{
  const char *id = store_id (set->store);
  bool of_another = *before != '\0' && strcmp (before, id) != 0;
  int r = strcmp (before, id) == 0 ? 0 : mark_set (source, id);

  *out_marked = r == 0;
  if (r == -EOPNOTSUPP)
    g_info ("image '%s' takes no attribute " MARK_NAME, source_path (source));
  else if (r < 0)
    g_warning ("cannot set the attribute " MARK_NAME " of image '%s': %s; when fleecefs is killed, "
               "do not mount the image with another store",
               source_path (source), g_strerror (-r));
  r = r < 0 && of_another ? mark_clear (source) : 0;
  if (r == 0 && (of_another || set->durable))
    r = source_flush (source, false);
  return r;
}

static bool
look_at_marks (Snapshots *set, char (*out)[MARK_SIZE], GError **error)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);
      int r = mark_get (source, out[i]);

      if (r < 0)
        return fail_errno (error, -r, "cannot read the attribute " MARK_NAME " of image '%s'",
                           source_path (source));
    }
  return true;
}

bool
set_check_marks (const Snapshots *set, GError **error)
{
  for (unsigned i = 0; i < set->n_disks && set->levels->len == 0; i++)
    {
      Source *source = disk_source (set->disks[i]);
      char mark[MARK_SIZE];

      if (mark_get (source, mark) == 0 && *mark != '\0'
          && strcmp (mark, store_found_id (set->store)) != 0)
        return fail (error, ESTALE,
                     "image '%s' was left open with another store than '%s', of the uuid %s; its "
                     "snapshots need that: give it by -o store=DIR, or begin anew by -o new-store",
                     source_path (source), store_path (set->store), mark);
    }
  return true;
}

/* before: whose marks the images have. */
static bool
mark_all (Snapshots *set, char (*before)[MARK_SIZE], GError **error)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);
      bool marked;
      int r = mark_one (set, source, before[i], &marked);

      if (r < 0)
        return fail_errno (error, -r, "cannot change the attribute " MARK_NAME " of image '%s'",
                           source_path (source));
      store_set_disk_marked (set->store, set->names[i], marked);
    }
  return true;
}

/* After a start that failed: nothing was written to the images. */
static void
put_back (Snapshots *set, char (*before)[MARK_SIZE])
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);

      if (before[i][0] == '\0')
        mark_clear (source);
      else
        mark_set (source, before[i]);
    }
}

const char *
set_seal_dir (const Snapshots *set, bool durable)
{
  return durable ? set->state_dir : set->run_dir;
}

static bool
is_marked (const Snapshots *set, unsigned disk)
{
  return store_find_disk (set->store, set->names[disk])->marked;
}

/* Only with images that take no mark: of the others a break can be written down there. */
static bool
needs_seal (const Snapshots *set)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    if (!is_marked (set, i))
      return true;
  return false;
}

/* Without one guests' writes wait when a break can be written down nowhere (cow/note.c). So a store
 * that names none can be trusted. */
static bool
make_seal (Snapshots *set, GError **error)
{
  const char *directory = set_seal_dir (set, set->durable);
  g_autoptr (GError) local = NULL;
  int r = 0;

  if (needs_seal (set) && directory != NULL)
    set->seal = seal_new (directory, set->durable, &local);
  if (local != NULL)
    g_message ("%s; if the store fails, guests' writes may have to wait for it", local->message);
  store_set_seal (set->store, set->seal != NULL ? seal_name (set->seal) : NULL);
  /* What the one before may know must not be forgotten. */
  for (unsigned i = 0; i < set->n_disks && set->seal != NULL && r == 0; i++)
    if (!set_marks_are_written (set))
      r = seal_break (set->seal, set->numbers[i]);
  return r == 0 || fail_errno (error, -r, "cannot write to '%s'", directory);
}

/* before: the name of the seal that the store had, or NULL. */
static bool
write_open (Snapshots *set, const char *before, bool was_durable, GError **error)
{
  if (!make_seal (set, error) || !store_mark_open (set->store, error))
    return false;
  if (before != NULL)
    seal_remove (set_seal_dir (set, was_durable), before);
  for (unsigned i = 0; i < set->n_disks; i++)
    disk_set_places (set->disks[i], is_marked (set, i), set->seal, set->numbers[i]);
  return true;
}

/* The marks change the images' ctime. When the store is not marked open after all, the next start
 * must not take that for a change by somebody else; so the store forgets the ctime first. (In
 * memory it has none since set_open_disks().) */
static bool
forget_inodes (Snapshots *set, GError **error)
{
  return !store_was_clean (set->store) || set->levels->len == 0
         || store_mark_clean (set->store, error);
}

bool
set_mark_open (Snapshots *set, GError **error)
{
  g_autofree char (*before)[MARK_SIZE] = g_malloc0_n (set->n_disks, sizeof *before);
  g_autofree char *seal = g_strdup (store_seal (set->store));
  GError *local = NULL;

  if (!look_at_marks (set, before, error) || !forget_inodes (set, error))
    return false;
  if (mark_all (set, before, &local)
      && write_open (set, seal, store_was_durable (set->store), &local))
    return true;
  /* Else the store may be open, and needs its marks. */
  if (fail_code (local) != ENOTRECOVERABLE)
    {
      put_back (set, before);
      g_clear_pointer (&set->seal, seal_discard);
    }
  g_propagate_error (error, local);
  return false;
}

bool
set_mark_clean (Snapshots *set, GError **error)
{
  /* A store that is not where it was: the marks remind of it who would begin another there. */
  g_autofree char *loss = set_find_loss (set);

  for (unsigned i = 0; i < set->n_disks; i++)
    store_set_disk_marked (set->store, set->names[i], false);
  store_set_seal (set->store, NULL);
  if (!store_mark_clean (set->store, error))
    return false;
  g_clear_pointer (&set->seal, seal_discard);
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);
      int r = loss == NULL ? mark_clear (source) : 0;

      if (r < 0)
        g_warning ("cannot take the attribute " MARK_NAME " from '%s': %s", source_path (source),
                   g_strerror (-r));
    }
  return true;
}
