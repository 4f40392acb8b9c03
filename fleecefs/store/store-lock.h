/* SPDX-License-Identifier: GPL-2.0-or-later */
/* STORE/lock: who owns the store (byte 0) and who serves from it (byte 1).
 *
 * Both are write locks of the open file description. They are taken in the order
 * 1, 0 and dropped in the order 1, 0: so byte 1 taken by another means "in use",
 * and byte 0 alone means "closing", which is waited for.
 *
 * An flock(2) of the whole file, by its owner, is for scripts: "flock STORE/lock true" waits until
 * all is closed. Nothing here asks for it.
 *
 * The file can be removed by its owner (store_discard_new()). A lock on a file
 * that has no name any more protects nothing, so that is looked for after the wait.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define STORE_LOCK_FILE "lock"

/* Makes the file if need be and locks both bytes; *out_made: it is new. Waits for an owner
 * that is closing, without limit. path is that of the store. Returns a descriptor that
 * holds the locks, or -1: EBUSY and who it is when another serves from the store, ESTALE
 * when the file or the store was removed meanwhile (start again), EUCLEAN when the
 * file is not a regular one, EPERM when others may write to it. */
int store_lock_take (int store_fd, const char *path, bool *out_made, GError **error);

/* Waits while another process closes the store at path, and for at most a few
 * seconds while it still serves: just after an unmount the daemon may not have
 * noticed. Changes nothing, reports nothing; no store is not an error. */
void store_lock_await (const char *path);

/* Drops byte 1. */
void store_lock_stop_serving (int lock_fd);

/* Drops both, for copies of the descriptor in child processes too, and closes it.
 * -1 is allowed. */
void store_lock_release (int lock_fd);
