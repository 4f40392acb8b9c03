/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot/merge.h"

#include "base/fail.h"
#include "base/pause.h"
#include "base/trace.h"
#include "snapshot/broken.h"

#include <errno.h>

/* How many levels there may be beyond twice the number of snapshots. */
#define SPARE_LEVELS 16

/* How long a mkdir waits for one to go. */
#define ROOM_WAIT_MS 1000

/* Between two looks at the space and the images; and between two tries of a merge that failed. */
#define TICK_MS 1000
#define RETRY_TICKS 5

typedef struct
{
  Snapshots *set;
  Level *older, *dead;
  bool up; /* from older to dead */
} Merge;

/* --- dead and broken levels; all under verbs --- */

static bool
is_dead (Snapshots *set, const Level *level)
{
  bool dead;

  lock_acquire (&set->lock);
  dead = level->snapshot == NULL;
  lock_release (&set->lock);
  return dead;
}

/* The number of the oldest levels that are dead and that nobody reads through: before
 * the first one whose snapshot lives and is not given up. Living ones in between are. */
static unsigned
first_needed (Snapshots *set)
{
  unsigned i = 0;

  lock_acquire (&set->lock);
  while (i < set->levels->len)
    {
      const Level *level = set->levels->pdata[i];

      if (level->snapshot != NULL && !level_is_given_up (level))
        break;
      i++;
    }
  lock_release (&set->lock);
  return i;
}

static void
take_out (Snapshots *set, Level *level) LOCK_REQUIRES (&set->verbs)
{
  lock_acquire (&set->lock);
  g_ptr_array_remove (set->levels, level);
  pthread_cond_signal (&set->room);
  lock_release (&set->lock);
  set_swap_chains (set);
}

/* Removes a level that has left the chains, with its directory. */
static void
discard (Snapshots *set, Level *level) LOCK_REQUIRES (&set->verbs)
{
  g_autoptr (GError) error = NULL;

  if (!store_remove_layer (set->store, level->number, &error))
    g_warning ("%s", error->message);
  level_free (level);
}

static void
drop_unneeded (Snapshots *set) LOCK_REQUIRES (&set->verbs)
{
  unsigned n = first_needed (set), i = 0;

  /* The oldest first: its overlays name those of the next. */
  for (; n > 0; n--)
    {
      Level *level = set->levels->pdata[i];

      if (is_dead (set, level))
        {
          take_out (set, level);
          discard (set, level);
        }
      else
        i++;
    }
}

/* --- one merge --- */

static uint64_t
allocated (const Level *level)
{
  uint64_t sum = 0;

  for (unsigned i = 0; i < level->n_disks; i++)
    if (level->layers[i] != NULL && level->layers[i]->overlay != NULL)
      sum += overlay_allocated (level->layers[i]->overlay);
  return sum;
}

static bool
is_usable (Layer *layer)
{
  return layer->overlay != NULL && !layer_is_broken (layer);
}

/* Up is possible when the disks and their sizes were the same (the overlay that stays must have the
 * size of the snapshot that stays) and neither level is broken: that one is belongs to its
 * overlays, and would be forgotten with the older one's or put upon it by the dead one's. */
static bool
may_go_up (const Level *older, const Level *dead)
{
  for (unsigned i = 0; i < older->n_disks; i++)
    {
      Layer *a = older->layers[i], *b = dead->layers[i];

      if (a == NULL && b == NULL)
        continue;
      if (a == NULL || b == NULL || a->size != b->size || !is_usable (a) || !is_usable (b))
        return false;
    }
  return true;
}

/* A dead level and the one before it, which is not dead: the first but for n_skipped. False when
 * there is nothing to merge. */
static bool
find_merge (Snapshots *set, unsigned n_skipped, Merge *merge) LOCK_REQUIRES (&set->verbs)
{
  for (unsigned i = first_needed (set) + 1; i < set->levels->len; i++)
    {
      Level *dead = set->levels->pdata[i];
      Level *older = set->levels->pdata[i - 1];

      if (!is_dead (set, dead) || is_dead (set, older) || n_skipped-- > 0)
        continue;
      *merge = (Merge){ .set = set, .older = older, .dead = dead };
      merge->up = may_go_up (older, dead) && allocated (older) < allocated (dead);

      lock_acquire (&set->lock);
      set->merging_into = !merge->up && i + 1 == set->levels->len ? older : NULL;
      lock_release (&set->lock);
      set_swap_chains (set);
      return true;
    }
  return false;
}

static bool
is_wanted (const Merge *merge)
{
  return !atomic_load (&merge->set->stop) && !is_dead (merge->set, merge->older);
}

/* Nobody reads through the dead layer of that disk. */
static bool
is_skipped (const Merge *merge, unsigned disk)
{
  const Layer *older = merge->older->layers[disk], *dead = merge->dead->layers[disk];

  return older == NULL || older->overlay == NULL || dead->overlay == NULL;
}

static void
show_begin (const Merge *merge)
{
  Snapshots *set = merge->set;
  uint64_t size = 0;

  for (unsigned i = 0; i < set->n_disks; i++)
    if (!is_skipped (merge, i))
      size += merge->older->layers[i]->size;
  lock_acquire (&set->lock);
  set->merge.under_way = true;
  set->merge.older = merge->older->number;
  set->merge.done = 0;
  set->merge.size = size;
  lock_release (&set->lock);
}

static void
show_end (const Merge *merge)
{
  lock_acquire (&merge->set->lock);
  merge->set->merge.under_way = false;
  lock_release (&merge->set->lock);
}

/* How far it is: granule position of that disk, and all of those before it. */
static void
show_progress (const Merge *merge, unsigned disk, uint64_t position)
{
  Snapshots *set = merge->set;
  uint64_t done = units_min (position * set->granule, merge->older->layers[disk]->size);

  for (unsigned i = 0; i < disk; i++)
    if (!is_skipped (merge, i))
      done += merge->older->layers[i]->size;
  lock_acquire (&set->lock);
  set->merge.done = done;
  lock_release (&set->lock);
}

static int
merge_disk (const Merge *merge, unsigned disk)
{
  Layer *older = merge->older->layers[disk], *dead = merge->dead->layers[disk];
  uint64_t position = 0;
  int r;

  if (is_skipped (merge, disk))
    return 0;
  if (disk_has_late_copies (merge->set->disks[disk]))
    {
      PAUSE_POINT ("merge:late");
      return -EAGAIN;
    }
  /* What will be overwritten is in the tables on disk: its records in the journal, with a check of
   * the bytes, will not do any more. */
  r = merge->up ? overlay_renew (dead->overlay) : 0;
  if (r < 0)
    return r;
  do
    {
      PAUSE_POINT ("merge:step");
      if (broken_has_note (merge->set))
        broken_tell (merge->set);
      if (!is_wanted (merge))
        return -ECANCELED;
      r = disk_merge_step (merge->set->disks[disk], merge->up ? older : dead,
                           merge->up ? dead : older, merge->up, &position);
      show_progress (merge, disk, position);
    }
  while (r == 1);
  if (r == 0)
    show_progress (merge, disk, units_div_up (older->size, merge->set->granule));
  /* Before what it was copied from is removed. */
  return r == 0 ? overlay_settle ((merge->up ? dead : older)->overlay) : r;
}

/* The dead level's granules are all in the older one: take it out. */
static bool
finish_down (Snapshots *set, const Merge *merge, GError **error) LOCK_REQUIRES (&set->verbs)
{
  unsigned index;

  if (!g_ptr_array_find (set->levels, merge->older, &index))
    return fail (error, EIO, "a merge lost its level");
  take_out (set, merge->dead);
  if (!set_relink (set, index, error))
    g_warning ("%s", (*error)->message);
  g_clear_error (error);
  discard (set, merge->dead);
  return true;
}

/* The older level's granules are all in the dead one, which now takes over its snapshot. In the
 * store that is one record: of two levels with one snapshot the newer one counts. */
static bool
finish_up (Snapshots *set, const Merge *merge, GError **error) LOCK_REQUIRES (&set->verbs)
{
  g_autoptr (StoreRecord) record = set_record (set, merge->older);
  unsigned index;

  if (!g_ptr_array_find (set->levels, merge->older, &index))
    return fail (error, EIO, "a merge lost its level");
  record->layer = merge->dead->number;
  if (!store_write_record (set->store, record, true, error))
    return false;

  lock_acquire (&set->lock);
  if (merge->older->snapshot != NULL)
    {
      merge->dead->snapshot = merge->older->snapshot;
      merge->dead->snapshot->level = merge->dead;
      merge->older->snapshot = NULL;
    }
  lock_release (&set->lock);
  take_out (set, merge->older);
  if (index > 0 && !set_relink (set, index - 1, error))
    g_warning ("%s", (*error)->message);
  g_clear_error (error);
  discard (set, merge->older);
  return true;
}

/* Returns false when it failed and a second try now would too. */
static bool
run_merge (const Merge *merge, bool quiet)
{
  Snapshots *set = merge->set;
  uint32_t older = merge->older->number, dead = merge->dead->number; /* one will be freed */
  g_autoptr (GError) error = NULL;
  bool ok = true;
  int r = 0;

  show_begin (merge);
  trace_merge_start (older, dead, merge->up);
  for (unsigned i = 0; i < set->n_disks && r == 0; i++)
    r = merge_disk (merge, i);
  if (r == 0)
    PAUSE_POINT ("merge:copied");
  show_end (merge);

  lock_acquire (&set->verbs);
  if (r == 0 && merge->up && !may_go_up (merge->older, merge->dead))
    r = -ECANCELED; /* one broke meanwhile; the next try goes down */
  if (r == 0 && !is_wanted (merge))
    r = -ECANCELED;
  if (r == 0)
    ok = merge->up ? finish_up (set, merge, &error) : finish_down (set, merge, &error);
  else if (r == -EAGAIN)
    ok = fail (&error, EAGAIN, "copies that were later than cbw-timeout are still under way");
  else if (r != -ECANCELED)
    ok = fail (&error, -r, "reading or writing its overlays failed: %s", space_strerror (-r));
  if (r == 0 && ok)
    g_info ("level %u of the store is merged into level %u", merge->up ? older : dead,
            merge->up ? dead : older);
  if (!ok && !quiet)
    g_warning ("cannot merge level %u of the store: %s", dead, error->message);
  space_end_twice (set->space); /* the other one is gone, or what was moved counts like the rest */
  if (set->merging_into != NULL)
    {
      lock_acquire (&set->lock);
      set->merging_into = NULL;
      lock_release (&set->lock);
      set_swap_chains (set);
    }
  lock_release (&set->verbs);
  trace_merge_done (older, dead, merge->up, r < 0 || ok ? -r : fail_code (error));
  PAUSE_POINT ("merge:done");
  return ok;
}

/* --- the thread --- */

/* Waits for something to do, at most for a tick: a note of what broke stays for broken_tell().
 * False: there is nothing. */
static bool
wait_for_work (Snapshots *set)
{
  const struct timespec deadline = lock_time_in (TICK_MS);
  bool found, in_time = true;

  lock_acquire (&set->lock);
  while (in_time && !set->something_died && !set->something_broke && !atomic_load (&set->stop))
    {
      set->is_working = false;
      pthread_cond_signal (&set->room);
      PAUSE_POINT ("merge:idle");
      in_time = lock_wait_until (&set->lock, &set->work, &deadline);
    }
  found = set->something_died || set->something_broke;
  set->is_working = found;
  set->something_died = false;
  lock_release (&set->lock);
  return found;
}

/* Says in the log when the store gets full, if there is anything that can suffer from it. */
static void
watch_space (Snapshots *set)
{
  SpaceUsage usage;
  bool is_overlay, has_levels;
  unsigned percent, alarm;

  lock_acquire (&set->lock);
  has_levels = set->levels->len > 0;
  lock_release (&set->lock);
  if (space_look (set->space, &usage) < 0)
    return;
  percent = space_percent (&usage, &is_overlay);
  alarm = has_levels ? space_alarm (set->alarm, percent) : 0;
  if (alarm > set->alarm && is_overlay)
    g_warning ("the overlays in the store '%s' take %u%% of max-overlay; remove snapshots",
               store_path (set->store), percent);
  else if (alarm > set->alarm)
    g_warning ("%u%% of the file system of the store '%s' is used; %" G_GUINT64_FORMAT
               "M are free%s; remove snapshots or other files",
               percent, store_path (set->store), usage.free / MIB,
               usage.reserve > 0 ? ", with those of reserve" : "");
  set->alarm = alarm;
}

/* Says in the log, once, when an image is no longer where it was, or is in yet another place. */
static void
watch_images (Snapshots *set)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      g_autofree char *move = source_find_move (disk_source (set->disks[i]));

      if (move != NULL && g_strcmp0 (move, set->moves[i]) != 0)
        g_warning ("%s", move);
      g_free (set->moves[i]);
      set->moves[i] = g_steal_pointer (&move);
    }
}

/* Drops, merges and notes what there is, until only merges are left that fail; returns how many
 * do. quiet: they did before, and the log says why. */
static unsigned
do_all (Snapshots *set, bool quiet)
{
  unsigned n_failed = 0;
  bool again = true;

  while (again && !atomic_load (&set->stop))
    {
      Merge merge;

      broken_tell (set);
      lock_acquire (&set->verbs);
      store_keep_spare (set->store);
      drop_unneeded (set);
      again = find_merge (set, n_failed, &merge);
      lock_release (&set->verbs);
      /* The next one may succeed, and give back the space that this one lacks. */
      if (again)
        n_failed = run_merge (&merge, quiet) ? 0 : n_failed + 1;
    }
  return n_failed;
}

static void *
work (void *data)
{
  Snapshots *set = data;

  unsigned n_failed = 0, n_ticks = 0;

  while (!atomic_load (&set->stop))
    {
      bool work = wait_for_work (set);

      watch_space (set);
      g_free (set_find_loss (set)); /* for the log */
      watch_images (set);
      if (work || (n_failed > 0 && ++n_ticks >= RETRY_TICKS))
        {
          n_failed = do_all (set, n_failed > 0);
          n_ticks = 0;
        }
    }
  return NULL;
}

int
merge_make_room (Snapshots *set)
{
  unsigned limit = 2 * set->max_snapshots + SPARE_LEVELS;
  const struct timespec end = lock_time_in (ROOM_WAIT_MS);
  bool room;

  lock_acquire (&set->lock);
  while (!(room = set->levels->len < limit) && set->has_worker
         && (set->is_working || set->something_died)
         && lock_wait_until (&set->lock, &set->room, &end))
    ;
  lock_release (&set->lock);
  return room ? 0 : -EMLINK;
}

void
merge_start (Snapshots *set)
{
  lock_acquire (&set->lock);
  set->something_died = true; /* levels may have been dead since before */
  lock_release (&set->lock);
  set->has_worker = pthread_create (&set->worker, NULL, work, set) == 0;
  if (!set->has_worker)
    g_warning ("cannot start the background thread: removed snapshots keep their space");
}

void
merge_stop (Snapshots *set)
{
  if (!set->has_worker)
    return;
  atomic_store (&set->stop, true);
  lock_acquire (&set->lock);
  pthread_cond_signal (&set->work);
  lock_release (&set->lock);
  pthread_join (set->worker, NULL);
  set->has_worker = false;
}
