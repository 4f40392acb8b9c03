/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libfuse as the rest of this layer sees it: the one place that pins the API
 * version, and the few calls that differ between libfuse 3.10 and later ones.
 * What there is was probed by configure (a member, a function), never asked by
 * version number.
 */
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 35
#endif
#include <fuse_lowlevel.h>
#include <stdbool.h>

/* Answers an open of a live file: direct I/O and parallel direct writes, with fi->fh
 * as the handle. One open that is answered otherwise makes the kernel serialise the
 * writers of that file, so every open of a live file comes here. As
 * fuse_reply_open(): 0, or -errno when the kernel did not take the reply. */
int fuse_compat_reply_open_live (fuse_req_t req, struct fuse_file_info *fi);

/* Did the request come by io_uring? Never, with a libfuse that has none. */
bool fuse_compat_is_ring (fuse_req_t req);

/* Serves requests by up to `threads` threads, each with its own descriptor of
 * /dev/fuse, until the mount is gone or the session is told to exit. Threads are
 * kept once made. Returns 0, a signal's number or -errno, as fuse_session_loop_mt(). */
int fuse_compat_loop (struct fuse_session *session, unsigned threads);
