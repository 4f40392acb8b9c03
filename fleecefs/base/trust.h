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
