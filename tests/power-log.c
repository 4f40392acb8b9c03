/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See power-log.h. */
#include "power-log.h"

#include "base/lock.h"
#include "test-util.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/falloc.h>

#define NS_PER_S INT64_C (1000000000)

typedef struct
{
  bool armed;
  pthread_t caller;
  CallPlace place;
  CallKind kind;
  unsigned left;
  PowerInterjection func;
  void *data;

  bool has_thread;
  pthread_t thread;
  atomic_int tid; /* 0: not there yet */
} Interjection;

struct _PowerLog
{
  const char *const *sources;

  Lock lock; /* for all below */
  pthread_cond_t removed;
  unsigned n_removed;
  unsigned n_calls[CALL_KINDS];
  uint64_t now;
  GArray *moments;
  PowerNode *root;
  GHashTable *by_inode; /* uint64 to PowerNode *: what has that inode number now */
  GPtrArray *nodes;     /* all there ever were */
  Interjection interjection;
  struct
  {
    int errnum; /* 0: none */
    CallPlace place;
    CallKind kind;
  } failure;
};

/* What begin() leaves for end(), in one thread. */
static _Thread_local struct
{
  PowerNode *node;
  PowerChange *change; /* or NULL */
  uint64_t begun;
} passing;

/* --- nodes --- */

static void
change_free (void *data)
{
  PowerChange *change = data;

  g_free (change->bytes);
  g_free (change);
}

static void
attribute_free (void *data)
{
  PowerAttribute *change = data;

  g_free (change->name);
  g_clear_pointer (&change->value, g_bytes_unref);
  g_free (change);
}

static void
name_change_free (void *data)
{
  PowerNameChange *change = data;

  g_free (change->gone);
  g_free (change->come);
  g_free (change);
}

static void
node_free (void *data)
{
  PowerNode *node = data;

  if (node->is_directory)
    {
      g_hash_table_unref (node->base_names);
      g_ptr_array_unref (node->name_changes);
    }
  else
    {
      g_ptr_array_unref (node->changes);
      g_array_unref (node->mtimes);
      g_ptr_array_unref (node->attributes);
      g_free (node->base);
    }
  g_free (node);
}

/* The node of a file or directory that is there, or has just been made. */
static PowerNode *
add_node (PowerLog *log, const struct stat *st, const char *path)
{
  PowerNode *node = g_new0 (PowerNode, 1);
  guint64 *key = g_new (guint64, 1);

  *key = st->st_ino;
  node->is_directory = S_ISDIR (st->st_mode);
  node->place = CALL_STORE;
  for (unsigned i = 0; log->sources[i] != NULL; i++)
    if (strcmp (log->sources[i], path) == 0)
      node->place = CALL_SOURCE;
  if (node->is_directory)
    {
      node->base_names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
      node->name_changes = g_ptr_array_new_with_free_func (name_change_free);
    }
  else
    {
      node->changes = g_ptr_array_new_with_free_func (change_free);
      node->mtimes = g_array_new (false, false, sizeof (PowerMtime));
      node->attributes = g_ptr_array_new_with_free_func (attribute_free);
    }
  g_hash_table_replace (log->by_inode, key, node);
  g_ptr_array_add (log->nodes, node);
  return node;
}

static PowerNode *
find_node (PowerLog *log, const struct stat *st)
{
  guint64 key = st->st_ino;

  return g_hash_table_lookup (log->by_inode, &key);
}

static PowerNode *
node_of_fd (PowerLog *log, int fd)
{
  struct stat st;

  return fstat (fd, &st) == 0 ? find_node (log, &st) : NULL;
}

static PowerNode *
node_of_parent (PowerLog *log, const char *path)
{
  g_autofree char *parent = g_path_get_dirname (path);
  struct stat st;

  return stat (parent, &st) == 0 ? find_node (log, &st) : NULL;
}

static int64_t
mtime_of (const struct stat *st)
{
  return st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

static void
add_mtime (PowerNode *node, uint64_t certain, int64_t mtime)
{
  PowerMtime entry = { certain, mtime };

  g_array_append_val (node->mtimes, entry);
}

/* The picture of what is there at the start. */
static PowerNode *
take_picture (PowerLog *log, const char *path)
{
  struct stat st;
  PowerNode *node;

  ck_assert_int_eq (lstat (path, &st), 0);
  node = add_node (log, &st, path);
  if (node->is_directory)
    {
      DIR *directory = opendir (path);
      struct dirent *entry;

      ck_assert_ptr_nonnull (directory);
      while ((entry = readdir (directory)) != NULL)
        {
          g_autofree char *child = g_build_filename (path, entry->d_name, NULL);

          if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
            g_hash_table_insert (node->base_names, g_strdup (entry->d_name),
                                 take_picture (log, child));
        }
      closedir (directory);
    }
  else
    {
      node->base = test_load (path, &node->base_size);
      node->base_capacity = node->size = node->base_size;
      add_mtime (node, 0, mtime_of (&st));
    }
  return node;
}

/* --- changes --- */

static PowerChange *
add_change (PowerNode *node, uint64_t now, PowerKind kind, uint64_t offset, uint64_t length)
{
  PowerChange *change = g_new0 (PowerChange, 1);

  *change = (PowerChange){ .begun = now,
                           .ended = POWER_NEVER,
                           .certain = POWER_NEVER,
                           .kind = kind,
                           .offset = offset,
                           .length = length };
  g_ptr_array_add (node->changes, change);
  return change;
}

/* Also of a write that does not grow the file now: it would have, without one before it that may
 * not have come to the disk. */
static void
grow (PowerNode *node, PowerChange *change, uint64_t end)
{
  change->reach = end;
  change->grows = end > node->size;
  node->size = MAX (node->size, end);
}

static void
begin_write (const Call *call, PowerNode *node, uint64_t now)
{
  PowerChange *change = add_change (node, now, POWER_BYTES, call->offset, call->length);

  change->bytes = g_malloc (call->length);
  if (call->kind == CALL_WRITE)
    memcpy (change->bytes, call->bytes, call->length);
  else /* they stay as they are: a guest that wants to change them waits for the copy */
    change->length = (uint64_t) MAX (
        pread (call->in_fd, change->bytes, call->length, (off_t) call->in_offset), 0);
  grow (node, change, call->offset + change->length);
  passing.change = change;
}

static void
begin_allocate (const Call *call, PowerNode *node, uint64_t now)
{
  bool zeros = (call->flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;
  uint64_t end = call->offset + call->length;

  if (!zeros && (call->flags & FALLOC_FL_KEEP_SIZE) != 0)
    return;
  passing.change = add_change (node, now, POWER_ZEROS, call->offset, zeros ? call->length : 0);
  if ((call->flags & FALLOC_FL_KEEP_SIZE) == 0)
    grow (node, passing.change, end);
}

static void
begin_change (PowerLog *log, const Call *call)
{
  PowerNode *node = node_of_fd (log, call->fd);

  passing.node = node;
  passing.change = NULL;
  if (node == NULL || node->is_directory)
    return;
  if (call->kind == CALL_WRITE || call->kind == CALL_COPY)
    begin_write (call, node, log->now);
  else if (call->kind == CALL_ALLOCATE)
    begin_allocate (call, node, log->now);
  else if (call->kind == CALL_TRUNCATE)
    {
      passing.change = add_change (node, log->now, POWER_SIZE, call->offset, 0);
      node->size = call->offset;
    }
}

static void
end_change (PowerLog *log, const Call *call, ssize_t result)
{
  PowerChange *change = passing.change;
  struct stat st;

  if (change == NULL)
    return;
  if (result < 0)
    {
      change->begun = POWER_NEVER;
      return;
    }
  if (change->bytes != NULL && result > 0 && (uint64_t) result < change->length)
    change->length = (uint64_t) result;
  change->ended = log->now;
  if (fstat (call->fd, &st) == 0)
    change->mtime = mtime_of (&st);
}

static void
end_attribute (PowerLog *log, const Call *call)
{
  PowerNode *node = node_of_fd (log, call->fd);
  PowerAttribute *change = g_new0 (PowerAttribute, 1);

  ck_assert (node != NULL && !node->is_directory);
  *change = (PowerAttribute){ .begun = log->now,
                              .certain = POWER_NEVER,
                              .name = g_strdup (call->xattr) };
  if (call->bytes != NULL)
    change->value = g_bytes_new (call->bytes, call->length);
  g_ptr_array_add (node->attributes, change);
}

/* A change of a directory, and what must be on disk when it is. */
static void
make_certain (PowerLog *log, PowerNode *node, guint index)
{
  for (guint i = index + 1; i-- > 0;)
    {
      PowerNameChange *change = node->name_changes->pdata[i];

      if (change->certain != POWER_NEVER)
        return;
      change->certain = log->now;
      if (change->other != NULL)
        make_certain (log, change->other, change->other_index);
    }
}

/* Is the change one of what was synced? */
static bool
is_synced (const Call *call, const PowerChange *change)
{
  return call->length == 0
         || (change->kind == POWER_BYTES && change->offset >= call->offset
             && change->offset + change->length <= call->offset + call->length);
}

static void
end_sync (PowerLog *log, const Call *call)
{
  PowerNode *node = passing.node;
  int64_t mtime = 0;

  for (guint i = 0; node != NULL && !node->is_directory && i < node->changes->len; i++)
    {
      PowerChange *change = node->changes->pdata[i];

      if (change->ended >= passing.begun || !is_synced (call, change))
        continue;
      change->certain = MIN (change->certain, log->now);
      mtime = MAX (mtime, change->mtime);
    }
  if (mtime != 0 && call->flags == 0)
    add_mtime (node, log->now, mtime);
  for (guint i = 0;
       node != NULL && !node->is_directory && call->flags == 0 && i < node->attributes->len; i++)
    {
      PowerAttribute *change = node->attributes->pdata[i];

      if (change->begun < passing.begun)
        change->certain = MIN (change->certain, log->now);
    }
  for (guint i = 0; node != NULL && node->is_directory && i < node->name_changes->len; i++)
    {
      const PowerNameChange *change = node->name_changes->pdata[i];

      if (change->begun < passing.begun)
        make_certain (log, node, i);
    }
}

/* parent may be NULL: a directory that is none of the log's. */
static PowerNameChange *
change_name (PowerLog *log, PowerNode *parent, const char *gone, const char *come, PowerNode *node)
{
  PowerNameChange *change;

  if (parent == NULL)
    return NULL;
  change = g_new0 (PowerNameChange, 1);
  *change = (PowerNameChange){ .begun = log->now,
                               .certain = POWER_NEVER,
                               .gone = g_strdup (gone),
                               .come = g_strdup (come),
                               .node = node };
  g_ptr_array_add (parent->name_changes, change);
  return change;
}

static void
move (PowerLog *log, PowerNode *from, const char *name, PowerNode *to, const char *to_name,
      PowerNode *node)
{
  PowerNameChange *gone = change_name (log, from, name, NULL, NULL);
  PowerNameChange *come = change_name (log, to, NULL, to_name, node);

  if (gone == NULL || come == NULL)
    return;
  gone->other = to;
  gone->other_index = to->name_changes->len - 1;
  come->other = from;
  come->other_index = from->name_changes->len - 1;
}

static void
end_rename (PowerLog *log, const Call *call, const char *name, PowerNode *node)
{
  PowerNode *from = node_of_parent (log, call->path), *to = node_of_parent (log, call->to_path);
  g_autofree char *to_name = g_path_get_basename (call->to_path);
  bool exchanges = (call->flags & RENAME_EXCHANGE) != 0;
  PowerNameChange *change;
  struct stat st;

  if (from != to)
    {
      ck_assert_msg (!exchanges, "an exchange between two directories");
      move (log, from, name, to, to_name, node);
      return;
    }
  change = change_name (log, to, name, to_name, node);
  if (change != NULL && exchanges && stat (call->path, &st) == 0)
    change->exchanged = find_node (log, &st);
}

static void
end_name_change (PowerLog *log, const Call *call, ssize_t result)
{
  const char *path = call->kind == CALL_RENAME ? call->to_path : call->path;
  g_autofree char *name = g_path_get_basename (call->path);
  PowerNode *parent = node_of_parent (log, path);
  struct stat st;

  if (call->kind == CALL_UNLINK || call->kind == CALL_RMDIR)
    change_name (log, parent, name, NULL, NULL);
  else if ((call->kind == CALL_CREATE ? fstat ((int) result, &st) : stat (path, &st)) != 0)
    return;
  else if (call->kind == CALL_RENAME)
    end_rename (log, call, name, find_node (log, &st));
  else if ((call->flags & O_EXCL) != 0 || call->kind == CALL_MKDIR || find_node (log, &st) == NULL)
    change_name (log, parent, NULL, name, add_node (log, &st, path));
  if (call->kind == CALL_RMDIR)
    {
      log->n_removed++;
      pthread_cond_broadcast (&log->removed);
    }
}

/* --- interjections --- */

static void *
run_interjection (void *data)
{
  Interjection *interjection = data;

  atomic_store (&interjection->tid, gettid ());
  interjection->func (interjection->data);
  return NULL;
}

/* Is this the call that was waited for? Under the lock. */
static bool
is_time (Interjection *interjection, const Call *call)
{
  if (!interjection->armed || !pthread_equal (interjection->caller, pthread_self ())
      || call->kind != interjection->kind || call->place != interjection->place
      || --interjection->left > 0)
    return false;
  interjection->armed = false;
  interjection->has_thread = true;
  return true;
}

static void
interject (Interjection *interjection)
{
  int tid;

  if (pthread_create (&interjection->thread, NULL, run_interjection, interjection) != 0)
    ck_abort_msg ("cannot start a thread");
  while ((tid = atomic_load (&interjection->tid)) == 0)
    sched_yield ();
  test_wait_asleep (tid);
}

void
power_log_interject (PowerLog *log, CallPlace place, CallKind kind, unsigned nth,
                     PowerInterjection func, void *data)
{
  lock_acquire (&log->lock);
  log->interjection = (Interjection){ .armed = true,
                                      .caller = pthread_self (),
                                      .place = place,
                                      .kind = kind,
                                      .left = nth,
                                      .func = func,
                                      .data = data };
  lock_release (&log->lock);
}

bool
power_log_join (PowerLog *log)
{
  bool began = log->interjection.has_thread;

  lock_acquire (&log->lock);
  log->interjection.armed = false;
  lock_release (&log->lock);
  if (began)
    pthread_join (log->interjection.thread, NULL);
  log->interjection.has_thread = false;
  return began;
}

/* --- listening --- */

void
power_log_fail (PowerLog *log, CallPlace place, CallKind kind, int errnum)
{
  lock_acquire (&log->lock);
  log->failure.errnum = errnum;
  log->failure.place = place;
  log->failure.kind = kind;
  lock_release (&log->lock);
}

static CallFate
before (const Call *call, void *data)
{
  CallFate fate = { CALL_GO_ON, 0, 0 };
  PowerLog *log = data;
  bool now;

  lock_acquire (&log->lock);
  passing.begun = ++log->now;
  log->n_calls[call->kind]++;
  if (call->kind == CALL_SYNC)
    {
      passing.node = node_of_fd (log, call->fd);
      passing.change = NULL;
    }
  else if ((CALLS_DATA_CHANGES & 1U << call->kind) != 0)
    begin_change (log, call);
  now = is_time (&log->interjection, call);
  if (log->failure.errnum != 0 && call->place == log->failure.place
      && call->kind == log->failure.kind)
    {
      fate = (CallFate){ CALL_FAIL, log->failure.errnum, 0 };
      log->failure.errnum = 0;
    }
  lock_release (&log->lock);
  if (now)
    interject (&log->interjection);
  return fate;
}

static void
after (const Call *call, ssize_t result, G_GNUC_UNUSED int errnum, void *data)
{
  PowerLog *log = data;

  lock_acquire (&log->lock);
  if (call->kind == CALL_SYNC || (call->kind == CALL_WRITE && call->flags != 0))
    g_array_append_val (log->moments, log->now);
  log->now++;
  if ((CALLS_DATA_CHANGES & 1U << call->kind) != 0)
    end_change (log, call, result);
  else if (result >= 0 && call->kind == CALL_SYNC)
    end_sync (log, call);
  else if (result >= 0 && call->kind == CALL_XATTR)
    end_attribute (log, call);
  else if (result >= 0)
    end_name_change (log, call, result);
  lock_release (&log->lock);
}

PowerLog *
power_log_new (const char *path, const char *const *sources)
{
  PowerLog *log = g_new0 (PowerLog, 1);

  log->sources = sources;
  lock_init (&log->lock, LOCK_TEST);
  pthread_cond_init (&log->removed, NULL);
  log->moments = g_array_new (false, false, sizeof (uint64_t));
  log->by_inode = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  log->nodes = g_ptr_array_new_with_free_func (node_free);
  log->root = take_picture (log, path);
  for (unsigned i = 0; sources[i] != NULL; i++)
    calls_watch (CALL_SOURCE, sources[i]); /* before what they are in */
  calls_watch (CALL_STORE, path);
  calls_hook (1U << CALL_STORE | 1U << CALL_SOURCE,
              CALLS_CHANGES | 1U << CALL_XATTR | 1U << CALL_SYNC, before, after, log);
  return log;
}

void
power_log_stop (PowerLog *log)
{
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  power_log_mark (log);
}

void
power_log_free (PowerLog *log)
{
  g_array_unref (log->moments);
  g_hash_table_unref (log->by_inode);
  g_ptr_array_unref (log->nodes);
  pthread_cond_destroy (&log->removed);
  lock_clear (&log->lock);
  g_free (log);
}

uint64_t
power_log_tick (PowerLog *log)
{
  uint64_t now;

  lock_acquire (&log->lock);
  now = ++log->now;
  lock_release (&log->lock);
  return now;
}

uint64_t
power_log_mark (PowerLog *log)
{
  uint64_t now;

  lock_acquire (&log->lock);
  now = ++log->now;
  g_array_append_val (log->moments, now);
  lock_release (&log->lock);
  return now;
}

PowerNode *
power_log_root (PowerLog *log)
{
  return log->root;
}

const GArray *
power_log_moments (PowerLog *log)
{
  return log->moments;
}

unsigned
power_log_count (PowerLog *log, CallKind kind)
{
  unsigned n;

  lock_acquire (&log->lock);
  n = log->n_calls[kind];
  lock_release (&log->lock);
  return n;
}

void
power_log_wait_removed (PowerLog *log, unsigned n)
{
  lock_acquire (&log->lock);
  while (log->n_removed < n)
    lock_wait (&log->lock, &log->removed);
  lock_release (&log->lock);
}
