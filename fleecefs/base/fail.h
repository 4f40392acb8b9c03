/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Errors where people wait: set-up, mount, store, mkdir.
 *
 * A GError of the domain FAIL_ERROR carries an errno value as its code, so
 * that one error can be printed by main() and also be the errno of a FUSE
 * reply. The message is one line that names the subject, what failed and, where
 * it helps, what to do: "cannot open 'x.img': Permission denied".
 *
 * The I/O path does not use GError; it returns 0 or -errno.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define FAIL_ERROR (fail_error_quark ())

/* The domain; its codes are errno values. */
GQuark fail_error_quark (void);

/* Sets *error to the formatted message with the code errnum (> 0).
 * Returns false, so that a caller can `return fail (...)`. */
bool fail (GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF (3, 4);

/* As fail(), with ": " and the text of errnum added to the message. */
bool fail_errno (GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF (3, 4);

/* The errno value of an error of any domain: its code for FAIL_ERROR, EIO for others. */
int fail_code (const GError *error);
