/* SPDX-License-Identifier: GPL-2.0-or-later */
/* -o overmount: each live file is mounted (a bind mount) over its image, so that who opens the
 * image gets the live disk and no configuration needs to change.
 *
 * The images were opened before, and no path of theirs is used after; so the process that serves
 * never goes through its own mount, where it would wait for itself. The mounting, whose
 * look-ups it has to answer, is the work of the process that unmounts (unmounter.h), and so
 * is the undoing:
 *
 *   - at an end by a signal, before the mountpoint is unmounted;
 *   - when somebody else unmounts the mountpoint. The file system would live on by these mounts;
 *     they are detached, and it ends when the last program that has a live file open closes it;
 *   - not when the daemon was killed: then the image stays covered by a mount that answers nobody.
 *     It must not be written before fleecefs is started again, and that takes the mount away
 *     (overmount_clean()).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct
{
  char *mountpoint;
  GStrv live, images; /* paths, of one length */
} Overmount;

/* Frees it. NULL is allowed. */
void overmount_free (Overmount *overmount);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Overmount, overmount_free)

/* Before anything looks at the image: takes away mounts over it that a killed fleecefs left; one
 * that is served stays. Fails when it cannot. path is as given. */
bool overmount_clean (const char *path, GError **error);

/* Fails when path, absolute and resolved, is the live file of a fleecefs that covers its image. */
bool overmount_check (const char *path, GError **error);

/* Mounts all or none, and says which device that is. Blocks until the mountpoint answers. */
bool overmount_mount (const Overmount *overmount, dev_t *out_device, GError **error);

/* True when all images are covered by the file system of that device (stat(2)). */
bool overmount_is_there (const Overmount *overmount, dev_t device);

/* Detaches what overmount_mount() mounted and is still there. Asks nobody for an answer. */
void overmount_undo (const Overmount *overmount, dev_t device);
