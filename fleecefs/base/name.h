/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names in the tree: of snapshots and of disks. */
#pragma once

#define NAME_MAX_BYTES 200

/* What is wrong with a name that only has characters which are not seen (printable_is_hidden()) and
 * make others seem to stand elsewhere. */
#define NAME_HIDDEN "has invisible characters"

/* Of a new name. Returns 0, or -EINVAL (empty, leading dot, slash), -ENAMETOOLONG (over
 * NAME_MAX_BYTES), -EILSEQ (not UTF-8, control characters, NAME_HIDDEN). *out_why, if not NULL, is
 * then what is wrong with it, as "begins with a dot". */
int name_check (const char *name, const char **out_why);

/* The same of a name that is there: NAME_HIDDEN is allowed, as it once was for all. */
int name_check_known (const char *name, const char **out_why);
