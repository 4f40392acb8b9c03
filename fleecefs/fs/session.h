/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection to the kernel: from the words of the mount options to the unmount.
 *
 * The calling sequence:
 *
 *     session_new          judges the mount options; nothing is touched
 *     session_mount        /dev/fuse or fusermount3; requests wait from here on
 *     (fork; in the parent session_leave)
 *     session_confine      all that serving does not need is given up
 *     session_overmount    the images are covered, if that was asked for
 *     session_serve        blocks until umount, fusermount3 -u or a signal
 *     session_unmount      the mount is gone, whatever ended the loop
 *     session_free
 *
 * From session_mount() to session_free() SIGTERM, SIGINT and SIGHUP end the loop
 * (unless they were ignored before) and do nothing else.
 */
#pragma once

#include "fs/options.h"
#include "fs/overmount.h"
#include "fs/tree.h"

typedef struct _Session Session;

/* Takes the options for libfuse. A usage error (usage.h) when libfuse does not know one. */
Session *session_new (Options *options, GError **error);

/* Unmounts if need be, and frees. NULL is allowed. */
void session_free (Session *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Session, session_free)

/* Fails when mounting cannot work on this system: no /dev/fuse. Touches nothing. */
bool session_check_device (GError **error);

/* Mounts on an absolute path. The tree must outlive the loop. Starts no thread. */
bool session_mount (Session *session, Tree *tree, const char *mountpoint, GError **error);

/* In the parent of a fork: gives up its share of the connection, so that the mount dies
 * with the child and not later, and takes the signals back to normal. session_unmount()
 * still works. */
void session_leave (Session *session);

/* In the process that is to serve, before it has threads: leaves the unmounting to another process
 * (unmounter.h), with overmount (NULL: none) the mounting over images too, and drops all privileges
 * (privilege.h), for the threads to come too. */
bool session_confine (Session *session, const Overmount *overmount, GError **error);

/* Answers requests until the other process has mounted over the images, as the overmount that
 * session_confine() was given says. Fails when it cannot. True at once without one, and when
 * the session ends meanwhile: session_serve() will see it. */
bool session_overmount (Session *session, GError **error);

/* Answers requests until the end. Fails with what ended it but for an unmount or a signal. */
bool session_serve (Session *session, GError **error);

/* Has the mount ended, or has a signal come? A DiskEndingFunc, session is a Session. */
bool session_is_ending (void *session);

/* Has the kernel forget the pages of a snapshot that broke; a SnapshotsBrokenFunc, session is
 * a Session. Not from the thread of a request. */
void session_drop_pages (Snapshot *snapshot, void *session);

/* Unmounts if the mount is still there, and disconnects. */
void session_unmount (Session *session);

/* Keeps SIGTERM, SIGINT and SIGHUP from threads that are started between block and
 * unblock: only the thread of the loop may get them, else the loop would not notice. */
void session_block_signals (void);
void session_unblock_signals (void);
