/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/ring.h"

#include "base/fail.h"

#include <errno.h>
#include <unistd.h>

#define MODULE "/sys/module/fuse"
#define SWITCH MODULE "/parameters/enable_uring"

bool
ring_check (GError **error)
{
  g_autofree char *value = NULL;

  if (g_file_get_contents (SWITCH, &value, NULL, NULL))
    return *value == 'Y'
           || fail (error, EOPNOTSUPP, "io_uring is switched off for FUSE; run: echo Y >" SWITCH);
  /* Else it is not to be seen here, as in some containers. */
  if (access (MODULE, F_OK) == 0 && access (SWITCH, F_OK) != 0 && errno == ENOENT)
    return fail (error, EOPNOTSUPP,
                 "this kernel has no io_uring for FUSE, as Linux has from 6.14 on; leave it out");
  return true;
}

void
ring_expect (fuse_req_t req, int *expected)
{
  if (g_atomic_int_get (expected) && g_atomic_int_compare_and_exchange (expected, true, false)
      && !fuse_compat_is_ring (req))
    g_warning ("requests come by /dev/fuse, not by io_uring: libfuse was built without it, or "
               "cannot start it");
}
