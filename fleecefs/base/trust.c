/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/trust.h"

#include "base/fail.h"

#include <errno.h>
#include <unistd.h>

bool
trust_check (const struct stat *st, const char *path, GError **error)
{
  if (st->st_uid != geteuid () && st->st_uid != 0)
    return fail (error, EPERM, "'%s' belongs to another user (uid %u); chown it, or use another",
                 path, (unsigned) st->st_uid);
  if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return fail (error, EPERM, "'%s' can be written by other users (mode %o); chmod go-w it", path,
                 (unsigned) st->st_mode & 07777);
  if (S_ISREG (st->st_mode) && st->st_nlink > 1)
    return fail (error, EPERM, "'%s' has %u names (hard links); put a copy in its place", path,
                 (unsigned) st->st_nlink);
  return true;
}
