/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who else could change what is ours.
 *
 * What a store holds is checked when it is read; that is worth nothing if somebody
 * else can change it afterwards. The rule is that of ssh for its files. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

/* Fails (EPERM) when the file or directory of that status belongs to somebody else than us or
 * root, when its group or others may write to it, or when it is a file with a second name (a hard
 * link): it could be another store's, or an image. path is for the message, which says what to
 * do. */
bool trust_check (const struct stat *st, const char *path, GError **error);

/* Fails (EPERM) when a symbolic link that the path leads through belongs to somebody else than us or
 * root: it would be them who say where that is. The rule is that of the kernel's protected_symlinks,
 * for all directories. What cannot be followed is left to who opens it, to say. Whoever may write to
 * a directory of the path can change it later: this is about what is there. Looks at the file
 * system. */
bool trust_links (const char *path, GError **error);
