/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "source/mark.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

int
mark_set (Source *source, const char *store_id)
{
  if (source_is_block (source))
    return -EOPNOTSUPP;
  return fsetxattr (source_fd (source), MARK_NAME, store_id, strlen (store_id), 0) == 0 ? 0
                                                                                        : -errno;
}

int
mark_get (Source *source, char out[MARK_SIZE])
{
  ssize_t n = 0;

  if (!source_is_block (source))
    n = fgetxattr (source_fd (source), MARK_NAME, out, MARK_SIZE - 1);
  out[MAX (n, 0)] = '\0';
  /* ERANGE: what does not fit is no store's. */
  return n >= 0 || errno == ENODATA || errno == EOPNOTSUPP || errno == ERANGE ? 0 : -errno;
}

int
mark_clear (Source *source)
{
  if (source_is_block (source) || fremovexattr (source_fd (source), MARK_NAME) == 0)
    return 0;
  return errno == ENODATA || errno == EOPNOTSUPP ? 0 : -errno;
}
