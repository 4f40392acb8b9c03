/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names in the tree: of snapshots and of disks. */
#pragma once

#define NAME_MAX_BYTES 200

/* Returns 0, or -EINVAL (empty, leading dot, slash), -ENAMETOOLONG (over NAME_MAX_BYTES), -EILSEQ
 * (not UTF-8, or control characters). *out_why, if not NULL, is then what is wrong with it, as
 * "begins with a dot". */
int name_check (const char *name, const char **out_why);
