/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/* The loop's configuration became opaque in API 3.12; before, it is a struct. */
#ifdef HAVE_FUSE_LOOP_CFG_CREATE
#define FUSE_USE_VERSION 312
#endif
#include "fs/fuse-compat.h"

#include <errno.h>
#include <stddef.h>

#ifdef HAVE_STRUCT_FUSE_FILE_INFO_PARALLEL_DIRECT_WRITES

int
fuse_compat_reply_open_live (fuse_req_t req, struct fuse_file_info *fi)
{
  fi->direct_io = 1;
  fi->keep_cache = 0;
  fi->parallel_direct_writes = 1;
  return fuse_reply_open (req, fi);
}

#else

#include <linux/fuse.h>

#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6) /* Linux 6.2, protocol 7.38 */
#endif

/* The library knows no such flag, the kernel may: the body of the reply is made
 * here. fuse_reply_buf() puts the header before any body. */
int
fuse_compat_reply_open_live (fuse_req_t req, struct fuse_file_info *fi)
{
  struct fuse_open_out out = {
    .fh = fi->fh,
    .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES,
  };

  return fuse_reply_buf (req, (const char *) &out, sizeof out);
}

#endif

bool
fuse_compat_is_ring (fuse_req_t req)
{
#ifdef HAVE_FUSE_REQ_IS_URING
  return fuse_req_is_uring (req);
#else
  (void) req;
  return false;
#endif
}

#ifdef HAVE_FUSE_LOOP_CFG_CREATE

int
fuse_compat_loop (struct fuse_session *session, unsigned threads)
{
  struct fuse_loop_config *config = fuse_loop_cfg_create ();
  int result;

  if (config == NULL)
    return -ENOMEM;
  fuse_loop_cfg_set_clone_fd (config, 1);
  fuse_loop_cfg_set_max_threads (config, threads);
  fuse_loop_cfg_set_idle_threads (config, threads);
  result = fuse_session_loop_mt (session, config);
  fuse_loop_cfg_destroy (config);
  return result;
}

#else

/* These libraries do not bound the number of threads, only how many stay idle. */
int
fuse_compat_loop (struct fuse_session *session, unsigned threads)
{
  struct fuse_loop_config config = { .clone_fd = 1, .max_idle_threads = threads };

  return fuse_session_loop_mt (session, &config);
}

#endif
