/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mark of the store that has an image open: an extended attribute of the file
 * (user.fleecefs.open) with the store's id.
 *
 * It is there before the first write through that store, and is taken away when the store has been
 * closed clean. A store that takes the image over from one that was not puts its own in the place.
 * So a store that was left open, and does not find its mark, knows that somebody else had the
 * image.
 *
 * Of a block device there is none, nor where the file system has no such attributes. The mark is on
 * disk after the next source_flush() that is an fsync. All functions block on the image's disk.
 */
#pragma once

#include "source/source.h"

#define MARK_NAME "user.fleecefs.open"
#define MARK_SIZE 64 /* an id and its end have less */

/* Sets it, in place of what was there. Returns 0 or -errno; -EOPNOTSUPP: there can be none. */
int mark_set (Source *source, const char *store_id);
/* Whose it is: an id, or "" for none. Returns 0, or -errno: it cannot be read, and may be there.
 * Where there can be none there is none. */
int mark_get (Source *source, char out[MARK_SIZE]);
/* Takes it away, whosever it is; none is not an error. Needs no space. */
int mark_clear (Source *source);
