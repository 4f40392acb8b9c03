/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fail.h"

#include <errno.h>

G_DEFINE_QUARK (fleecefs_error, fail_error)

bool
fail (GError **error, int errnum, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  if (error != NULL)
    *error = g_error_new_valist (FAIL_ERROR, errnum, format, args);
  va_end (args);
  return false;
}

bool
fail_errno (GError **error, int errnum, const char *format, ...)
{
  g_autofree char *message = NULL;
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  return fail (error, errnum, "%s: %s", message, g_strerror (errnum));
}

int
fail_code (const GError *error)
{
  return error->domain == FAIL_ERROR ? error->code : EIO;
}
