/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/trust.h"

#include "base/fail.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* After so many the kernel gives ELOOP. */
#define LINKS_MAX 40

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

static bool
trust_link (const char *link, const struct stat *st, GError **error)
{
  return st->st_uid == geteuid () || st->st_uid == 0
         || fail (error, EPERM,
                  "the symbolic link '%s' belongs to another user (uid %u), who says where it "
                  "leads; give the path that it leads to",
                  link, (unsigned) st->st_uid);
}

/* The link followed: the rest of the path is what it says, and then what comes after it. */
static bool
follow (const char *link, GString *at, GString *rest)
{
  g_autofree char *target = g_file_read_link (link, NULL);

  if (target == NULL)
    return false;
  if (*target == '/')
    g_string_truncate (at, 0);
  g_string_prepend_c (rest, '/');
  g_string_prepend (rest, target);
  return true;
}

/* Takes the first component off the path. A new string; "" for two slashes. */
static char *
take_component (GString *path)
{
  size_t length = strcspn (path->str, "/");
  char *component = g_strndup (path->str, length);

  g_string_erase (path, 0, (gssize) MIN (length + 1, path->len));
  return component;
}

bool
trust_links (const char *path, GError **error)
{
  g_autoptr (GString) at = g_string_new (*path == '/' ? "" : "."); /* without the last slash */
  g_autoptr (GString) rest = g_string_new (path);

  for (unsigned n_links = 0; rest->len > 0 && n_links < LINKS_MAX;)
    {
      g_autofree char *component = take_component (rest);
      g_autofree char *next = g_strconcat (at->str, "/", component, NULL);
      struct stat st;

      if (*component == '\0')
        continue;
      if (lstat (next, &st) != 0)
        return true;
      if (!S_ISLNK (st.st_mode))
        g_string_assign (at, next);
      else if (!trust_link (next, &st, error))
        return false;
      else if (++n_links, !follow (next, at, rest))
        return true;
    }
  return true;
}
