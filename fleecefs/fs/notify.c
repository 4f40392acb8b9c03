/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/notify.h"

#include <errno.h>
#include <glib.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The address of a path, or of an abstract name that begins with @; 0: it is neither. */
static socklen_t
make_address (const char *name, struct sockaddr_un *out)
{
  size_t length = strlen (name);

  *out = (struct sockaddr_un){ .sun_family = AF_UNIX };
  if ((name[0] != '/' && name[0] != '@') || length >= sizeof out->sun_path)
    return 0;
  memcpy (out->sun_path, name, length);
  if (name[0] == '@')
    out->sun_path[0] = '\0';
  return (socklen_t) (offsetof (struct sockaddr_un, sun_path) + length);
}

void
notify_send (const char *state)
{
  const char *name = g_getenv ("NOTIFY_SOCKET");
  struct sockaddr_un address;
  socklen_t length;
  int fd;

  if (name == NULL)
    return;
  length = make_address (name, &address);
  fd = length > 0 ? socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
  if (length == 0
      || sendto (fd, state, strlen (state), MSG_NOSIGNAL, (const struct sockaddr *) &address,
                 length)
             < 0)
    g_warning ("cannot tell the service manager '%s' at NOTIFY_SOCKET '%s': %s", state, name,
               length == 0 ? "it is no socket's name" : g_strerror (errno));
  if (fd >= 0)
    close (fd);
}
