/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The seal of a store: a small file outside of it and of the images, by which a store that was not
 * closed is trusted, unless it is broken.
 *
 * That an overlay misses old blocks has to be written down before the guest overwrites them. The
 * overlay cannot take that when the store fails, and not every image can have a note (source.h): a
 * block device has no extended attributes. So a store with such an image has a seal. Its space is
 * taken when it is made: breaking it is one byte changed in place.
 *
 * It is evidence by being there: the manifest names it, and a store that was not closed is trusted
 * only if the file is found, and whole. It lives as long as the trust: in a
 * directory that a boot clears, or, for a durable store, one that stays. Its name is a UUID, a new
 * one at each start; so an older copy of the store names one that is gone.
 *
 * The file has SEAL_SIZE bytes, one for each number that a disk can have. Its owner holds an
 * flock(2). All functions block on the directory's file system.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define SEAL_SIZE 4096

typedef struct _Seal Seal;

/* Makes one that is whole for all disks; also the directory, if need be. durable: it is on
 * disk then, and so is every change of it. NULL on failure. */
Seal *seal_new (const char *directory, bool durable, GError **error);
/* Unlocks and frees it; the file stays. NULL is allowed. */
void seal_free (Seal *seal);
/* The same, and removes the file: its store names it no more. */
void seal_discard (Seal *seal);

/* Of the file, in the directory. */
const char *seal_name (const Seal *seal);

/* Overlays of the disk of that number (1 to 4095) miss old blocks and do not say so; and: now they
 * do. From any thread. Returns 0 or -errno. */
int seal_break (Seal *seal, uint32_t number);
int seal_mend (Seal *seal, uint32_t number);

/* Asks the one of that name, which nobody writes to any more, in the directory (NULL: there is
 * none). *out_doubt: why the overlays of the disk cannot be trusted, a new string, or NULL. Fails
 * when it may be there and cannot be asked now. */
bool seal_ask (const char *directory, const char *name, uint32_t number, char **out_doubt,
               GError **error);
/* Removes it, if it is there and nobody's. */
void seal_remove (const char *directory, const char *name);
