/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/errno-map.h"

#include <errno.h>
#include <stdbool.h>

#define KERNEL_INTERNAL 512 /* ERESTARTSYS and what follows */

static bool
passes_verb (int64_t errnum)
{
  switch (errnum)
    {
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOSPC:
    case EROFS:
      return true;
    default:
      return false;
    }
}

static bool
passes_live (int64_t errnum)
{
  switch (errnum)
    {
    case EDQUOT:
    case EFBIG:
    case EINVAL:
    case ENOMEM:
    case ENOSPC:
    case ENXIO:
    case EOPNOTSUPP:
    case EPERM:
    case EROFS:
    case ETIMEDOUT:
      return true;
    default:
      return false;
    }
}

static bool
passes (ErrnoOf of, int64_t errnum)
{
  switch (of)
    {
    case ERRNO_OF_VERB:
      return passes_verb (errnum);
    case ERRNO_OF_LIVE:
      return passes_live (errnum);
    case ERRNO_OF_SNAPSHOT:
      return errnum == EINVAL || errnum == ENOMEM || errnum == ENXIO;
    case ERRNO_OF_REPLY:
      return errnum < KERNEL_INTERNAL && errnum != EAGAIN && errnum != EINTR;
    }
  return false;
}

int64_t
errno_map (ErrnoOf of, int64_t result)
{
  if (of == ERRNO_OF_REPLY && result == -ENOSYS)
    return -EOPNOTSUPP;
  return result >= 0 || (result > INT32_MIN && passes (of, -result)) ? result : -EIO;
}
