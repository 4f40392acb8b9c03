/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The images of a set and the store: whether they still are what the store knows, which is what
 * snapshots of a time before this start rest on, and what the next start is to know of them. */
#include "base/fail.h"
#include "base/name.h"
#include "base/printable.h"
#include "base/units.h"
#include "snapshot/broken.h"
#include "source/mark.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* The latest time that the write clock starts with (the year 2230): files and manifests can
 * claim any, and it has to go on from there. */
#define TIME_MAX (INT64_MAX - INT64_C (1000000000) * NS_PER_S)

static int64_t
to_ns (struct timespec ts)
{
  int64_t seconds = CLAMP (ts.tv_sec, -TIME_MAX / NS_PER_S, TIME_MAX / NS_PER_S);

  return seconds * NS_PER_S + ts.tv_nsec;
}

/* What an image looks like: to compare with what the store knows, or for the store to know. */
typedef struct
{
  uint64_t size;
  int64_t mtime;
  StoreInode inode; /* unknown of a block device */
} Look;

static bool
look_at (const Source *source, Look *out, GError **error)
{
  struct stat st;
  int r = source_stat (source, &st);

  if (r == 0)
    r = source_size (source, &out->size);
  if (r < 0)
    return fail_errno (error, -r, "cannot stat image '%s'", source_path (source));
  out->mtime = to_ns (st.st_mtim);
  out->inode = (StoreInode){ 0 };
  if (!source_is_block (source))
    out->inode = (StoreInode){ .number = st.st_ino,
                               .ctime = to_ns (st.st_ctim),
                               .mode = st.st_mode,
                               .uid = st.st_uid,
                               .gid = st.st_gid,
                               .n_links = st.st_nlink };
  return true;
}

/* Why the source is not the one that the store knows, or NULL. */
static char *
find_exchange (const Store *store, const StoreDisk *known, Source *source)
{
  uint64_t identity = source_identity (source);

  if (known->identity == 0 || identity == 0 || known->identity == identity)
    return NULL;
  if (!source_is_block (source))
    return g_strdup_printf ("image '%s' is another file than the one that was mounted: a copy, or "
                            "something new in its place",
                            source_path (source));
  return store_same_boot (store)
             ? g_strdup_printf ("block device '%s' was detached and attached again, perhaps to "
                                "something else",
                                source_path (source))
             : NULL;
}

/* Was the file changed, and its mtime set back? No program can set ctime. But that changes with
 * owner, mode, links and name, too; a change that left its trace there is taken for what changed
 * it. */
static bool
was_set_back (const StoreDisk *known, const Source *source, const Look *look)
{
  const StoreInode *then = &known->inode, *now = &look->inode;

  return then->number != 0 && then->number == now->number
         && (known->identity == 0 || known->identity == source_identity (source))
         && then->ctime != now->ctime && then->mode == now->mode && then->uid == now->uid
         && then->gid == now->gid && then->n_links == now->n_links
         && strcmp (known->path, source_path (source)) == 0;
}

/* Why what the store says of the source after a clean close is not true any more, or NULL. A file
 * that has its size and time is the same, or a true copy: image and store may be moved together. A
 * block device's node does not tell when its blocks changed, but the kernel counts writes. */
static char *
find_change (const Store *store, const StoreDisk *known, Source *source, const Look *look)
{
  uint64_t writes;

  if (known->size != look->size)
    return g_strdup_printf ("image '%s' was resized while it was not mounted",
                            source_path (source));
  if (!source_is_block (source) && known->mtime != look->mtime)
    return g_strdup_printf ("image '%s' was changed while it was not mounted",
                            source_path (source));
  if (was_set_back (known, source, look))
    return g_strdup_printf (
        "image '%s' was changed while it was not mounted: not its mtime, but its "
        "ctime is another",
        source_path (source));
  if (store_same_boot (store) && source_count_writes (source, &writes) && known->writes != writes)
    return g_strdup_printf ("block device '%s' was written while it was not mounted",
                            source_path (source));
  return source_is_block (source) ? find_exchange (store, known, source) : NULL;
}

/* *out: why what the store says of the source after a kill is not true any more, or NULL. It is not
 * known what size and time the source had at last. */
static bool
find_use (const Store *store, const StoreDisk *known, Source *source, char **out, GError **error)
{
  char mark[MARK_SIZE];
  int r;

  *out = find_exchange (store, known, source);
  if (*out != NULL || !known->marked)
    return true;
  r = mark_get (source, mark);
  if (r < 0)
    return fail_errno (error, -r, "cannot read the attribute " MARK_NAME " of image '%s'",
                       source_path (source));
  if (strcmp (mark, store_found_id (store)) != 0)
    *out = g_strdup_printf ("image '%s' has lost the mark of this store: it was mounted with "
                            "another one, or copied without its extended attributes, or old blocks "
                            "could not be kept",
                            source_path (source));
  return true;
}

/* When the source is another file than the one that the store knows, and that is still where it
 * was: its path, else NULL. A new string. */
static char *
find_right_one (const StoreDisk *known, Source *source)
{
  struct stat right, given;

  if (source_is_block (source) || strcmp (known->path, source_path (source)) == 0
      || stat (known->path, &right) != 0 || !S_ISREG (right.st_mode)
      || source_stat (source, &given) != 0
      || (right.st_dev == given.st_dev && right.st_ino == given.st_ino))
    return NULL;
  return g_strdup (known->path);
}

/* *out: why the snapshots of this disk cannot be right, or NULL. *out_right: when that is because
 * the source is not theirs, the path of theirs, if it is there, else NULL. */
static bool
find_damage (const Snapshots *set, const StoreDisk *known, Source *source, const Look *look,
             char **out, char **out_right, GError **error)
{
  const Store *store = set->store;
  bool has_note;
  int r;

  *out = *out_right = NULL;
  if (known == NULL)
    return true;
  r = source_has_note (source, store_found_id (store), &has_note);
  if (r < 0)
    return fail_errno (error, -r, "cannot read the attribute user.fleecefs.unsaved of image '%s'",
                       source_path (source));
  if (store_host_crashed (store) && !store_was_durable (store))
    *out = g_strdup ("the host went down while the image was mounted");
  else if (store_was_copied (store))
    *out = g_strdup ("the store is a copy of one that was not closed: what was kept there later is "
                     "not in it");
  else if (has_note)
    *out = g_strdup ("old blocks could not be kept, and the store did not take down whose");
  else
    {
      if (store_seal (store) != NULL
          && !seal_ask (set_seal_dir (set, store_was_durable (store)), store_seal (store),
                        known->number, out, error))
        return false;
      if (*out != NULL)
        return true;
      if (!store_was_clean (store))
        {
          if (!find_use (store, known, source, out, error))
            return false;
        }
      else
        *out = find_change (store, known, source, look);
      if (*out != NULL)
        *out_right = find_right_one (known, source);
    }
  return true;
}

/* Where the disk's write clock goes on: later than any time it may have shown. After a kill it is
 * not known how far it was ahead of the host's, of which each freeze takes it 1 ns: so many do not
 * fit between two starts as there are in a second. */
static int64_t
first_write_time (const Store *store, const StoreDisk *known, Source *source, const Look *look)
{
  struct timespec now;
  int64_t time;

  if (known == NULL && !source_is_block (source))
    return look->mtime;
  clock_gettime (CLOCK_REALTIME, &now);
  time = to_ns (now);
  if (known == NULL)
    return time;
  if (store_was_clean (store))
    {
      g_autofree char *change = find_change (store, known, source, look);

      if (change == NULL)
        return MIN (known->write_time, TIME_MAX);
    }
  return MAX (time, MAX (MIN (known->write_time, TIME_MAX) + NS_PER_S, look->mtime));
}

/* The disk as it is now, for the next start. */
static void
note_disk (Store *store, const char *name, const Source *source, const Look *look,
           int64_t write_time)
{
  uint64_t writes = 0;

  source_count_writes (source, &writes);
  store_set_disk (store, name, source_path (source), look->size, look->mtime, write_time);
  store_set_disk_marks (store, name, source_identity (source), writes);
  store_set_disk_inode (store, name, &(StoreInode){ 0 });
}

/* A disk that is new in the store needs a name that is right for one. */
static bool
check_new_name (const char *name, GError **error)
{
  g_autofree char *shown = printable_text (name, true);
  const char *why;

  return name_check (name, &why) == 0
         || fail (error, EILSEQ, "the name of the disk '%s' %s; choose one by NAME=IMAGE", shown,
                  why);
}

/* Makes a disk of the source, which is taken over then. *out_damage: why its snapshots cannot be
 * right, or NULL; *out_right: see find_damage(). */
static bool
open_disk (Snapshots *set, const SnapshotsConfig *config, unsigned i, Source **source,
           char **out_damage, char **out_right, GError **error)
{
  const StoreDisk *known = store_find_disk (set->store, set->names[i]);
  DiskConfig disk_config = {
    .barrier = set->barrier,
    .granule = set->granule,
    .copy = config->copy,
    .on_cbw_error = config->on_cbw_error,
    .cbw_timeout = config->cbw_timeout,
    .durable = config->durable,
    .store_id = store_id (set->store),
    .on_break = broken_leave_note,
    .on_break_data = set,
    .is_ending = config->is_ending,
    .is_ending_data = config->is_ending_data,
  };
  Look look;

  if ((known == NULL
       && (!check_new_name (set->names[i], error) || !source_refuse_empty (*source, error)))
      || !look_at (*source, &look, error)
      || !find_damage (set, known, *source, &look, out_damage, out_right, error))
    return false;
  disk_config.write_time = first_write_time (set->store, known, *source, &look);
  note_disk (set->store, set->names[i], *source, &look, disk_config.write_time);
  known = store_find_disk (set->store, set->names[i]);
  if (known == NULL)
    return fail (error, ENOSPC, "the store '%s' has no number left for a disk '%s'",
                 store_path (set->store), set->names[i]);
  set->numbers[i] = known->number;
  set->disks[i] = disk_new (g_steal_pointer (source), &disk_config);
  return true;
}

bool
set_open_disks (Snapshots *set, const SnapshotsConfig *config, Source **sources, char **damages,
                char **rights, GError **error)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    if (!open_disk (set, config, i, &sources[i], &damages[i], &rights[i], error))
      return false;
  return true;
}

/* The host's clock may have been set back before the kill. */
void
set_advance_clocks (Snapshots *set)
{
  for (unsigned d = 0; d < set->n_disks && !store_was_clean (set->store); d++)
    {
      const StoreDisk *known = store_find_disk (set->store, set->names[d]);
      int64_t time = known->write_time;

      for (unsigned i = 0; i < set->levels->len; i++)
        {
          const Snapshot *snapshot = ((const Level *) set->levels->pdata[i])->snapshot;

          if (snapshot != NULL && snapshot->images[d].present)
            time = MAX (time, MIN (snapshot->images[d].mtime, TIME_MAX) + 1);
        }
      disk_set_write_time (set->disks[d], time);
      store_set_disk (set->store, set->names[d], known->path, known->size, known->mtime, time);
    }
}

bool
set_check_tails (Snapshots *set, GError **error)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      int r = disk_check_tail (set->disks[i]);

      if (r < 0)
        return fail_errno (error, -r, "cannot stat image '%s'",
                           source_path (disk_source (set->disks[i])));
    }
  return true;
}

bool
set_record_disks (Snapshots *set, GError **error)
{
  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);
      int r = disk_flush (set->disks[i], false);
      Look look;

      if (r < 0)
        return fail_errno (error, -r, "cannot sync image '%s'", source_path (source));
      if (!look_at (source, &look, error))
        return false;
      note_disk (set->store, set->names[i], source, &look, to_ns (disk_write_time (set->disks[i])));
    }
  return true;
}

/* How far two changes can be apart and have the same time. */
static int64_t
tick_of (const Look *look)
{
  struct timespec tick = { .tv_nsec = 10000000 };

  if (look->mtime % NS_PER_S == 0 && look->inode.ctime % NS_PER_S == 0)
    return 2 * NS_PER_S; /* whole seconds, or every other one (FAT) */
  clock_getres (CLOCK_REALTIME_COARSE, &tick);
  return to_ns (tick);
}

/* How long it is, in ns, until another change has another time. The disk's clock is of this host,
 * and the file's perhaps of a server. */
static int64_t
rest_of_tick (Disk *disk, const Look *look)
{
  const int64_t times[] = { to_ns (disk_write_time (disk)), look->mtime };
  int64_t tick = tick_of (look), rest = 0;
  struct timespec now;

  clock_gettime (CLOCK_REALTIME, &now);
  for (unsigned i = 0; i < G_N_ELEMENTS (times); i++)
    rest = MAX (rest, CLAMP (times[i] + tick - to_ns (now), 0, tick));
  return rest;
}

bool
set_record_inodes (Snapshots *set, GError **error)
{
  int64_t rest = 0;

  for (unsigned i = 0; i < set->n_disks; i++)
    {
      Source *source = disk_source (set->disks[i]);
      Look look;

      if (source_is_block (source))
        continue;
      if (!look_at (source, &look, error))
        return false;
      store_set_disk_inode (set->store, set->names[i], &look.inode);
      rest = MAX (rest, rest_of_tick (set->disks[i], &look));
    }
  if (rest > 0)
    g_usleep ((gulong) ((rest + 999) / 1000));
  return store_mark_clean (set->store, error);
}
