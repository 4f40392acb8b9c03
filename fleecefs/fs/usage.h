/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Wrong usage, and the text that says what is right. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define USAGE_ERROR (usage_error_quark ())

/* The domain of errors in the words of the command line themselves: exit status 2. */
GQuark usage_error_quark (void);

/* Sets *error to a usage error. Returns false. */
bool usage_fail (GError **error, const char *format, ...) G_GNUC_PRINTF (2, 3);

/* The text of --help. */
const char *usage_help (void);
