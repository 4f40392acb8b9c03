/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ceiling: a file system of one file, which only reads and writes another file.
 *
 *     forwarder FILE MOUNTPOINT THREADS
 *
 * MOUNTPOINT/direct is opened as fleecefs opens a live disk, MOUNTPOINT/cached as it opens a
 * snapshot's file. No check, no lock, no state: what any program behind /dev/fuse has to do at
 * least. In the foreground, until it is unmounted.
 */
#include "config.h"

#include "fs/fuse-compat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_SIZE (1 << 20)

enum
{
  INODE_ROOT = FUSE_ROOT_ID,
  INODE_DIRECT,
  INODE_CACHED,
};

static int fd;

static void
fill (fuse_ino_t inode, struct stat *st)
{
  fstat (fd, st);
  st->st_ino = inode;
  st->st_nlink = 1;
  st->st_mode = inode == INODE_ROOT ? S_IFDIR | 0755 : S_IFREG | 0600;
}

static void
do_init (void *data, struct fuse_conn_info *connection)
{
  (void) data;
  connection->max_write = BUFFER_SIZE;
  connection->max_read = BUFFER_SIZE;
  connection->max_background = 32;
  connection->congestion_threshold = 24;
  connection->want &= ~(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static void
do_lookup (fuse_req_t req, fuse_ino_t parent, const char *name)
{
  struct fuse_entry_param entry = { .attr_timeout = 60, .entry_timeout = 60 };

  (void) parent;
  if (strcmp (name, "direct") == 0)
    entry.ino = INODE_DIRECT;
  else if (strcmp (name, "cached") == 0)
    entry.ino = INODE_CACHED;
  else
    {
      fuse_reply_err (req, ENOENT);
      return;
    }
  fill (entry.ino, &entry.attr);
  fuse_reply_entry (req, &entry);
}

static void
do_getattr (fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
  struct stat st;

  (void) fi;
  fill (inode, &st);
  fuse_reply_attr (req, &st, 60);
}

static void
do_open (fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
  if (inode == INODE_DIRECT)
    {
      fuse_compat_reply_open_live (req, fi);
      return;
    }
  fi->keep_cache = 1;
  fuse_reply_open (req, fi);
}

static void
do_read (fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *fi)
{
  static __thread char *buffer;
  ssize_t n;

  (void) inode;
  (void) fi;
  if (buffer == NULL)
    buffer = aligned_alloc (4096, BUFFER_SIZE);
  n = buffer == NULL ? -1 : pread (fd, buffer, size < BUFFER_SIZE ? size : BUFFER_SIZE, offset);
  if (n < 0)
    fuse_reply_err (req, EIO);
  else
    fuse_reply_buf (req, buffer, (size_t) n);
}

static void
do_write (fuse_req_t req, fuse_ino_t inode, const char *bytes, size_t size, off_t offset,
          struct fuse_file_info *fi)
{
  ssize_t n = pwrite (fd, bytes, size, offset);

  (void) inode;
  (void) fi;
  if (n < 0)
    fuse_reply_err (req, EIO);
  else
    fuse_reply_write (req, (size_t) n);
}

static const struct fuse_lowlevel_ops operations = {
  .init = do_init,
  .lookup = do_lookup,
  .getattr = do_getattr,
  .open = do_open,
  .read = do_read,
  .write = do_write,
};

int
main (int argc, char **argv)
{
  char *words[] = { argv[0], (char *) "-osubtype=forwarder,max_read=1048576" };
  struct fuse_args args = FUSE_ARGS_INIT (2, words);
  struct fuse_session *session;
  int threads = argc == 4 ? atoi (argv[3]) : 0;
  bool ok;

  fd = threads > 0 ? open (argv[1], O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0)
    {
      fprintf (stderr, "usage: forwarder FILE MOUNTPOINT THREADS\n");
      return 2;
    }
  session = fuse_session_new (&args, &operations, sizeof operations, NULL);
  ok = session != NULL && fuse_session_mount (session, argv[2]) == 0;
  ok = ok && fuse_compat_loop (session, (unsigned) threads) == 0;
  if (session != NULL)
    {
      fuse_session_unmount (session);
      fuse_session_destroy (session);
    }
  return ok ? 0 : 1;
}
