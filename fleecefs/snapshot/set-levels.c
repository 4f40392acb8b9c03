/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The levels that are in the store, brought back with their overlays. What cannot be right any more
 * comes back as broken: a level whose overlay is damaged, and all older ones, which read through
 * it. */
#include "base/fail.h"
#include "snapshot/set-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int
find_disk (const Snapshots *set, const char *name)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    if (strcmp (set->names[i], name) == 0)
      return (int) i;
  return -1;
}

/* Is it an error of the moment? It says nothing of what is in the overlay. */
static bool
is_passing (int errnum)
{
  return errnum == EBUSY || errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM
         || errnum == ENOLCK || errnum == ENOSPC || errnum == EDQUOT;
}

/* Why the overlay lacks what it reads through, or NULL: another overlay, and somebody took that
 * away. A clean end has written the names of all backing files. */
static char *
find_loss (const Snapshots *set, int dir_fd, const Overlay *overlay)
{
  const char *backing = overlay_backing (overlay);

  if (!store_was_clean (set->store) || !g_str_has_prefix (backing, "../")
      || faccessat (dir_fd, backing, F_OK, 0) == 0 || errno != ENOENT)
    return NULL;
  return g_strdup_printf ("the overlay '%s', with old blocks that it needs, is gone", backing);
}

/* Opens one overlay of a level. One that cannot be opened is a broken layer: *out_damage says why,
 * or stays NULL. Fails when the next start may find it right. */
static bool
open_layer (Snapshots *set, const StoreRecord *record, const StoreImage *image, Layer **out_layer,
            char **out_damage, GError **error)
{
  g_autofree char *name = store_overlay_name (image->disk);
  g_autoptr (GError) local = NULL;
  Overlay *overlay = NULL;
  int dir_fd = store_open_layer (set->store, record->layer, &local);

  if (dir_fd >= 0)
    {
      overlay = overlay_open (dir_fd, name, image->size, set->granule, &local);
      if (overlay != NULL)
        {
          overlay_set_space (overlay, set->space);
          *out_damage = find_loss (set, dir_fd, overlay);
        }
      close (dir_fd);
    }
  if (overlay == NULL && is_passing (fail_code (local)))
    {
      g_autofree char *path = store_layer_path (set->store, record->layer);

      return fail (error, fail_code (local), "cannot open the overlays in '%s': %s", path,
                   local->message);
    }
  if (overlay == NULL)
    *out_damage = g_strdup (local->message);
  *out_layer = layer_new (overlay, image->size, record->layer);
  return true;
}

/* Breaks a level's snapshot, if it is not broken yet. */
static void
break_one (Level *level, unsigned disk, const char *damage)
{
  if (level->layers[disk] == NULL || layer_is_broken (level->layers[disk]))
    return;
  layer_break (level->layers[disk], LAYER_BROKEN_BEFORE, 0);
  if (level->snapshot != NULL && level->snapshot->images[disk].broken_before == NULL)
    level->snapshot->images[disk].broken_before = g_strdup (damage);
}

/* Breaks the snapshots of the levels up to this one: they read through it. */
static void
break_levels (Snapshots *set, unsigned n_levels, unsigned disk, const char *damage)
{
  for (unsigned i = 0; i < n_levels; i++)
    break_one (set->levels->pdata[i], disk, damage);
}

/* damages: what is known of each disk's snapshots already, or NULL; it is why an overlay may be
 * damaged, too. rights: as of set_open_levels(). */
static bool
open_level (Snapshots *set, const StoreRecord *record, char *const *damages, char *const *rights,
            GError **error)
{
  Level *level = level_new (record->layer, set->n_disks);

  g_ptr_array_add (set->levels, level);
  if (record->name != NULL)
    snapshot_new (set, level, record, 1);
  for (unsigned i = 0; i < record->images->len; i++)
    {
      const StoreImage *image = record->images->pdata[i];
      g_autofree char *damage = NULL;
      int disk = find_disk (set, image->disk);

      if (disk < 0)
        return fail (error, EINVAL,
                     "the store '%s' has snapshots of a disk '%s' that was not given; give it too "
                     "(as %s=IMAGE, if its image is called otherwise)",
                     store_path (set->store), image->disk, image->disk);
      if (record->name != NULL && rights[disk] != NULL && image->broken == NULL)
        return fail (error, EINVAL,
                     "the store '%s' has snapshots of '%s', and not of '%s'; give that image, or "
                     "another -o store=DIR",
                     store_path (set->store), rights[disk],
                     source_path (disk_source (set->disks[disk])));
      if (!open_layer (set, record, image, &level->layers[disk], &damage, error))
        return false;
      if (image->broken != NULL)
        {
          layer_break (level->layers[disk], LAYER_BROKEN_BEFORE, 0);
          level->n_broken_written = ++level->n_broken_logged;
        }
      else if (level->layers[disk]->overlay != NULL
               && overlay_is_marked_broken (level->layers[disk]->overlay))
        break_one (level, (unsigned) disk, "old blocks could not be kept while it was mounted");
      if (damage != NULL)
        break_levels (set, set->levels->len, (unsigned) disk,
                      damages[disk] != NULL ? damages[disk] : damage);
    }
  return true;
}

/* The newest overlay of a disk is the one that will be changed. All of it is read now, so that no
 * guest's write has to wait for that, or to find it damaged. */
static bool
load_newest (Snapshots *set, unsigned disk, GError **error)
{
  for (unsigned i = set->levels->len; i-- > 0;)
    {
      const Layer *layer = ((const Level *) set->levels->pdata[i])->layers[disk];
      int r = layer != NULL && layer->overlay != NULL ? overlay_load (layer->overlay) : 0;

      if (r < 0)
        {
          g_autofree char *name = store_overlay_name (set->names[disk]);
          g_autofree char *damage = g_strdup_printf ("cannot read the tables of overlay '%s': %s",
                                                     name, g_strerror (-r));

          if (is_passing (-r))
            return fail (error, -r, "%s", damage);
          break_levels (set, i + 1, disk, damage);
        }
      if (layer != NULL)
        return true;
    }
  return true;
}

bool
set_open_levels (Snapshots *set, char *const *damages, char *const *rights, GError **error)
{
  g_autoptr (GPtrArray) records = store_read_records (set->store, error);

  if (records == NULL)
    return false;
  for (unsigned i = 0; i < records->len; i++)
    if (!open_level (set, records->pdata[i], damages, rights, error))
      return false;
  for (unsigned d = 0; d < set->n_disks; d++)
    {
      if (!load_newest (set, d, error))
        return false;
      if (damages[d] != NULL)
        break_levels (set, set->levels->len, d, damages[d]);
    }
  return true;
}
