/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/privilege.h"

#include "fs/syscall-filter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As close_range(2), which came with Linux 5.9. */
static void
close_range_slowly (unsigned first, unsigned last)
{
  DIR *dir = opendir ("/proc/self/fd");
  const struct dirent *entry;

  if (dir == NULL)
    return;
  while ((entry = readdir (dir)) != NULL)
    {
      unsigned long fd = strtoul (entry->d_name, NULL, 10);

      if (fd >= first && fd <= last && fd != (unsigned long) dirfd (dir))
        close ((int) fd);
    }
  closedir (dir);
}

static void
close_all (unsigned first, unsigned last)
{
#ifdef SYS_close_range
  if (first > last || syscall (SYS_close_range, first, last, 0) == 0)
    return;
#endif
  close_range_slowly (first, last);
}

void
privilege_close_but (int fd)
{
  const unsigned first = STDERR_FILENO + 1;

  if (fd < (int) first)
    {
      close_all (first, ~0U);
      return;
    }
  close_all (first, (unsigned) fd - 1);
  close_all ((unsigned) fd + 1, ~0U);
}

void
privilege_clean_start (void)
{
  const struct rlimit none = { 0, 0 };
  int fd;

  privilege_close_but (-1);
  /* Else an image could become descriptor 0, and messages be written into it. */
  do
    fd = open ("/dev/null", O_RDWR | O_CLOEXEC);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0)
    close (fd);
  umask (077);
  setrlimit (RLIMIT_CORE, &none);
}

void
privilege_drop_but (uint64_t capabilities)
{
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
  struct __user_cap_data_struct kept[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

  /* The bounding set first: that needs a capability itself. EINVAL is the end of them. */
  for (int i = 0; prctl (PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
    if ((capabilities & PRIVILEGE (i)) == 0)
      prctl (PR_CAPBSET_DROP, i, 0, 0, 0);
  prctl (PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);

  if (capabilities != 0 && syscall (SYS_capget, &header, now) == 0)
    for (unsigned word = 0; word < _LINUX_CAPABILITY_U32S_3; word++)
      {
        kept[word].permitted = now[word].permitted & (uint32_t) (capabilities >> 32 * word);
        kept[word].effective = kept[word].permitted;
      }
  if (syscall (SYS_capset, &header, kept) != 0)
    g_warning ("cannot drop capabilities: %s", g_strerror (errno));
}

void
privilege_drop (uint64_t capabilities)
{
  privilege_drop_but (capabilities);
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    g_warning ("cannot set no_new_privs: %s", g_strerror (errno));
  else
    syscall_filter_install ();
}
