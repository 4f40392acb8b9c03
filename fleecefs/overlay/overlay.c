/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "overlay/overlay.h"

#include "base/fail.h"
#include "base/image-lock.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/pause.h"
#include "base/units.h"
#include "overlay/group-sync.h"
#include "overlay/qcow2-log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

struct _Overlay
{
  /* constant */
  int fd;
  int reader; /* the same file, opened once more: it is told of errors that fd was told of, too */
  char *name;
  uint64_t granule;
  Qcow2Map *map;
  Space *space; /* may be NULL */
  bool durable; /* once other threads use it */

  GroupSync sync;

  Lock read_lock;   /* who asks for errors; below all locks of base/lock.h */
  Lock header_lock; /* header and the writes of it; the same */
  Qcow2Header header;
  bool header_written; /* since it was opened */
  atomic_bool dirty;   /* as in the file */
  atomic_bool broken;  /* as in the file */
};

static Overlay *
overlay_new (int fd, int reader, const char *name, const Qcow2Header *header, uint64_t granule)
{
  Overlay *overlay = g_new0 (Overlay, 1);

  overlay->fd = fd;
  overlay->reader = reader;
  overlay->name = g_strdup (name);
  overlay->granule = granule;
  group_sync_init (&overlay->sync, fd);
  overlay->header = *header;
  overlay->dirty = header->dirty;
  overlay->broken = header->broken;
  lock_init (&overlay->read_lock, LOCK_ERRORS);
  lock_init (&overlay->header_lock, LOCK_HEADER);
  return overlay;
}

void
overlay_free (Overlay *overlay)
{
  if (overlay == NULL)
    return;
  if (overlay->space != NULL)
    space_remove (overlay->space, overlay->fd);
  if (overlay->map != NULL)
    qcow2_map_free (overlay->map);
  lock_clear (&overlay->header_lock);
  lock_clear (&overlay->read_lock);
  group_sync_clear (&overlay->sync);
  close (overlay->fd);
  close (overlay->reader);
  g_free (overlay->name);
  g_free (overlay);
}

void
overlay_set_space (Overlay *overlay, Space *space)
{
  overlay->space = space;
  space_add (space, overlay->fd);
}

Space *
overlay_space (const Overlay *overlay)
{
  return overlay->space;
}

static int
write_header (Overlay *overlay) LOCK_REQUIRES (&overlay->header_lock)
{
  uint8_t area[QCOW2_HEADER_AREA];

  qcow2_header_encode (&overlay->header, area);
  overlay->header_written = true;
  return io_write_full (overlay->fd, area, sizeof area, 0);
}

static int
mark (Overlay *overlay, bool dirty)
{
  bool journaled = dirty && overlay->durable;
  bool with_log = journaled && space_take (overlay->space, QCOW2_LOG_SIZE) == 0;
  int r = 0;

  lock_acquire (&overlay->header_lock);
  if (journaled && !overlay->header.journaled) /* else others may have written to it */
    r = qcow2_map_begin_journal (overlay->map, with_log);
  if (r == 0)
    {
      overlay->header.dirty = dirty;
      overlay->header.journaled = journaled;
      r = write_header (overlay);
    }
  if (r == 0 && dirty)
    r = overlay_settle (overlay); /* no entry may get there before it */
  if (r == 0)
    overlay->dirty = dirty;
  lock_release (&overlay->header_lock);
  if (with_log)
    space_done (overlay->space, QCOW2_LOG_SIZE);
  return r;
}

static bool
fill_new (Overlay *overlay, GError **error)
{
  uint64_t end = qcow2_first_free (&overlay->header) * qcow2_cluster_size (&overlay->header);
  int r = mark (overlay, true);

  if (r == 0)
    r = io_truncate (overlay->fd, end);
  if (r < 0)
    return fail_errno (error, -r, "cannot write overlay '%s'", overlay->name);
  return true;
}

static int
open_reader (int dir_fd, const char *name, GError **error)
{
  int fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

  if (fd < 0)
    fail_errno (error, errno, "cannot open overlay '%s'", name);
  return fd;
}

Overlay *
overlay_create (int dir_fd, const char *name, uint64_t size, uint64_t granule,
                const char *backing_name, const char *backing_format, GError **error)
{
  g_autoptr (Overlay) overlay = NULL;
  Qcow2Header header;
  int fd, reader, r;

  if (!qcow2_header_init (&header, size, granule))
    {
      fail (error, EFBIG, "cannot make overlay '%s': a disk of that size is too large for qcow2",
            name);
      return NULL;
    }
  if (!qcow2_header_set_backing (&header, backing_name, backing_format))
    {
      fail (error, ENAMETOOLONG,
            "cannot make overlay '%s': the path of its backing file has over %d bytes", name,
            QCOW2_BACKING_NAME_MAX);
      return NULL;
    }
  fd = openat (dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    {
      fail_errno (error, errno, "cannot make overlay '%s'", name);
      return NULL;
    }
  reader = open_reader (dir_fd, name, error);
  if (reader < 0)
    {
      close (fd);
      unlinkat (dir_fd, name, 0);
      return NULL;
    }

  overlay = overlay_new (fd, reader, name, &header, granule);
  if (!image_lock_own (fd, name, error) || !fill_new (overlay, error))
    {
      unlinkat (dir_fd, name, 0);
      return NULL;
    }
  overlay->map = qcow2_map_new (fd, &overlay->header, &overlay->sync);
  r = qcow2_map_make_first_room (overlay->map);
  if (r < 0)
    {
      fail_errno (error, -r, "cannot write overlay '%s'", name);
      unlinkat (dir_fd, name, 0);
      return NULL;
    }
  return g_steal_pointer (&overlay);
}

static bool
check_kind (int fd, const char *name, GError **error)
{
  struct stat st;

  if (fstat (fd, &st) != 0)
    return fail_errno (error, errno, "cannot stat overlay '%s'", name);
  if (!S_ISREG (st.st_mode))
    return fail (error, EINVAL, "overlay '%s' is not a regular file", name);
  return true;
}

static bool
read_header (int fd, const char *name, Qcow2Header *out, GError **error)
{
  uint8_t area[QCOW2_HEADER_AREA];
  int r = io_read_full (fd, area, sizeof area, 0);

  if (r < 0)
    return fail_errno (error, -r, "cannot read the header of overlay '%s'", name);
  return qcow2_header_decode (area, name, out, error);
}

static bool
check_shape (const Overlay *overlay, uint64_t size, GError **error)
{
  if (qcow2_cluster_size (&overlay->header) / QCOW2_GRANULES_PER_CLUSTER != overlay->granule)
    return fail (error, EINVAL, "overlay '%s' has another granule than its store", overlay->name);
  if (overlay->header.size != units_round_up (size, 512))
    return fail (error, EINVAL, "overlay '%s' has another size than its snapshot", overlay->name);
  return true;
}

/* What is read from now on is on disk. A kill may have left changes in memory only. After a sync
 * that failed, Linux may keep changes in memory as if they were on disk; these are forgotten. The
 * first sync may fail because of such: they are lost as by a loss of power, and it is told once. */
static bool
settle_file (Overlay *overlay, GError **error)
{
  int r = io_sync (overlay->fd, true);

  if (r < 0)
    r = io_sync (overlay->fd, true);
  io_write_back_error (overlay->reader);
  if (r < 0)
    return fail_errno (error, -r, "cannot sync overlay '%s'", overlay->name);
  posix_fadvise (overlay->fd, 0, 0, POSIX_FADV_DONTNEED);
  return true;
}

/* The tables have all that the journal had. */
static int
end_journal (Overlay *overlay)
{
  int r;

  lock_acquire (&overlay->header_lock);
  overlay->header.journaled = false;
  r = write_header (overlay);
  lock_release (&overlay->header_lock);
  return r == 0 ? overlay_sync (overlay) : r;
}

Overlay *
overlay_open (int dir_fd, const char *name, uint64_t size, uint64_t granule, GError **error)
{
  g_autoptr (Overlay) overlay = NULL;
  Qcow2Header header;
  int fd = openat (dir_fd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), reader = -1, r;

  if (fd < 0)
    {
      fail_errno (error, errno, "cannot open overlay '%s'", name);
      return NULL;
    }
  /* Locked before it is read: what another is about to write there says nothing. */
  if (!check_kind (fd, name, error) || !image_lock_own (fd, name, error)
      || !read_header (fd, name, &header, error)
      || (reader = open_reader (dir_fd, name, error)) < 0)
    {
      close (fd);
      return NULL;
    }
  overlay = overlay_new (fd, reader, name, &header, granule);
  if (!check_shape (overlay, size, error) || (header.journaled && !settle_file (overlay, error)))
    return NULL;
  if (!header.journaled && overlay_check (overlay) < 0)
    {
      fail (error, EUCLEAN, "what was written to overlay '%s' did not get to its disk", name);
      return NULL;
    }
  overlay->map = qcow2_map_load (fd, &header, &overlay->sync, name, error);
  if (overlay->map == NULL)
    return NULL;
  r = header.journaled ? end_journal (overlay) : 0;
  if (r < 0)
    {
      fail_errno (error, -r, "cannot write overlay '%s'", name);
      return NULL;
    }
  if (header.dirty)
    qcow2_map_give_back (overlay->map);
  return g_steal_pointer (&overlay);
}

/* The tables and refcounts are on disk before the header says that they can be trusted. */
static int
make_clean (Overlay *overlay)
{
  int r = qcow2_map_finish (overlay->map);

  if (r == 0)
    r = overlay_sync (overlay);
  if (r == 0)
    r = mark (overlay, false);
  return r == 0 ? overlay_sync (overlay) : r;
}

/* Does the header say so? It may also after a write of it that failed. */
static bool
may_say_dirty (Overlay *overlay)
{
  bool dirty;

  lock_acquire (&overlay->header_lock);
  dirty = overlay->header.dirty;
  lock_release (&overlay->header_lock);
  return dirty;
}

bool
overlay_close (Overlay *overlay, const char *backing_name, const char *backing_format,
               GError **error)
{
  int r = overlay_set_backing (overlay, backing_name, backing_format);

  if (r == 0 && may_say_dirty (overlay))
    r = make_clean (overlay);
  else if (r == 0 && overlay->header_written)
    r = overlay_sync (overlay);
  if (r < 0)
    fail_errno (error, -r, "cannot close overlay '%s'", overlay->name);
  overlay_free (overlay);
  return r == 0;
}

const char *
overlay_backing (const Overlay *overlay) LOCK_UNCHECKED
{
  return overlay->header.backing_name;
}

int
overlay_set_backing (Overlay *overlay, const char *name, const char *format)
{
  Qcow2Header *header = &overlay->header;
  int r = 0;

  lock_acquire (&overlay->header_lock);
  if (strcmp (header->backing_name, name) != 0 || strcmp (header->backing_format, format) != 0)
    {
      Qcow2Header before = *header;

      r = qcow2_header_set_backing (header, name, format) ? write_header (overlay) : -ENAMETOOLONG;
      if (r < 0)
        *header = before; /* so that the next call tries again */
    }
  lock_release (&overlay->header_lock);
  return r;
}

int
overlay_mark_broken (Overlay *overlay)
{
  int r = 0;

  if (overlay->broken)
    return 0;
  lock_acquire (&overlay->header_lock);
  if (!overlay->broken)
    {
      overlay->header.broken = true;
      r = write_header (overlay);
      if (r == 0)
        r = overlay_settle (overlay);
      if (r == 0)
        overlay->broken = true;
    }
  lock_release (&overlay->header_lock);
  return r;
}

bool
overlay_is_marked_broken (const Overlay *overlay)
{
  return overlay->broken;
}

int
overlay_sync (Overlay *overlay)
{
  return group_sync (&overlay->sync);
}

int
overlay_make_durable (Overlay *overlay)
{
  overlay->durable = true;
  qcow2_map_make_durable (overlay->map);
  return overlay->dirty ? mark (overlay, true) : overlay_sync (overlay);
}

bool
overlay_is_dirty (const Overlay *overlay)
{
  return overlay->dirty;
}

int
overlay_settle (Overlay *overlay)
{
  return overlay->durable ? group_sync (&overlay->sync) : 0;
}

int
overlay_renew (Overlay *overlay)
{
  return overlay->durable ? qcow2_map_renew_log (overlay->map) : 0;
}

uint64_t
overlay_allocated (const Overlay *overlay)
{
  struct stat st;

  return fstat (overlay->fd, &st) == 0 ? (uint64_t) st.st_blocks * 512 : 0;
}

int
overlay_fd (const Overlay *overlay)
{
  return overlay->fd;
}

int
overlay_prepare (Overlay *overlay, uint64_t cluster, uint64_t n_clusters, bool create)
{
  if (create && !overlay->dirty)
    {
      int r = qcow2_map_load_all (overlay->map);

      PAUSE_POINT ("overlay:clean");
      if (r == 0)
        r = mark (overlay, true);
      if (r < 0)
        return r;
    }
  return qcow2_map_prepare (overlay->map, cluster, n_clusters, create);
}

int
overlay_load (Overlay *overlay)
{
  return qcow2_map_load_all (overlay->map);
}

bool
overlay_prepared (Overlay *overlay, uint64_t cluster, uint64_t n_clusters)
{
  return qcow2_map_prepared (overlay->map, cluster, n_clusters);
}

Qcow2Cluster
overlay_lookup (Overlay *overlay, uint64_t cluster)
{
  return qcow2_map_lookup (overlay->map, cluster);
}

uint32_t
overlay_saved (Overlay *overlay, uint64_t cluster)
{
  Qcow2Cluster mapping = qcow2_map_lookup (overlay->map, cluster);

  return mapping.data | mapping.zero;
}

bool
overlay_next (Overlay *overlay, uint64_t *cluster, uint64_t limit, int *out_errno)
{
  return qcow2_map_next (overlay->map, cluster, limit, out_errno);
}

void
overlay_reserve (Overlay *overlay, uint64_t cluster, uint64_t n_clusters)
{
  qcow2_map_reserve (overlay->map, cluster, n_clusters);
}

uint64_t
overlay_place (Overlay *overlay, uint64_t granule, uint64_t n, uint64_t *out_n)
{
  uint64_t cluster_size = overlay->granule * QCOW2_GRANULES_PER_CLUSTER;
  uint64_t cluster = granule / QCOW2_GRANULES_PER_CLUSTER;
  uint64_t within = granule % QCOW2_GRANULES_PER_CLUSTER;
  uint64_t start = qcow2_map_lookup (overlay->map, cluster).host_offset;
  uint64_t end = start + cluster_size;

  *out_n = QCOW2_GRANULES_PER_CLUSTER - within;
  while (*out_n < n && qcow2_map_lookup (overlay->map, ++cluster).host_offset == end)
    {
      end += cluster_size;
      *out_n += QCOW2_GRANULES_PER_CLUSTER;
    }
  *out_n = units_min (*out_n, n);
  return start + within * overlay->granule;
}

int
overlay_write (Overlay *overlay, uint64_t granule, uint64_t n, const void *buffer)
{
  const uint8_t *bytes = buffer;

  while (n > 0)
    {
      uint64_t n_here;
      uint64_t place = overlay_place (overlay, granule, n, &n_here);
      int r = io_write_full (overlay->fd, bytes, n_here * overlay->granule, place);

      if (r < 0)
        return r;
      bytes += n_here * overlay->granule;
      granule += n_here;
      n -= n_here;
    }
  return 0;
}

int
overlay_journal (Overlay *overlay, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                 const uint32_t *zero)
{
  return overlay->durable ? qcow2_map_journal (overlay->map, cluster, n_clusters, data, zero) : 0;
}

void
overlay_journal_done (Overlay *overlay)
{
  if (overlay->durable)
    qcow2_map_journal_done (overlay->map);
}

bool
overlay_has_log (const Overlay *overlay, unsigned n_granules)
{
  return overlay->durable && qcow2_map_has_log (overlay->map, n_granules);
}

bool
overlay_may_log (Overlay *overlay, uint64_t cluster, uint32_t data)
{
  return overlay->durable && qcow2_map_may_log (overlay->map, cluster, data);
}

int
overlay_log (Overlay *overlay, uint64_t cluster, uint32_t data, uint32_t zero, const void *bytes)
{
  return qcow2_map_log (overlay->map, cluster, data, zero, bytes);
}

void
overlay_log_done (Overlay *overlay)
{
  qcow2_map_log_done (overlay->map);
}

int
overlay_record (Overlay *overlay, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                const uint32_t *zero)
{
  return qcow2_map_record (overlay->map, cluster, n_clusters, data, zero);
}

void
overlay_publish (Overlay *overlay, uint64_t cluster, unsigned n_clusters, const uint32_t *data,
                 const uint32_t *zero)
{
  qcow2_map_publish (overlay->map, cluster, n_clusters, data, zero);
}

int
overlay_read (Overlay *overlay, void *buffer, size_t length, uint64_t host_offset)
{
  return io_read_full (overlay->reader, buffer, length, host_offset);
}

/* Linux tells each descriptor of an error once; so one after another asks. */
int
overlay_check (Overlay *overlay)
{
  int r;

  lock_acquire (&overlay->read_lock);
  r = io_write_back_error (overlay->reader);
  if (r < 0)
    group_sync_fail (&overlay->sync, r);
  lock_release (&overlay->read_lock);
  return group_sync_error (&overlay->sync) != 0 ? -EIO : 0;
}
