/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where messages of g_message(), g_warning() and the like go: as one line to standard
 * error, and from the moment there is a daemon to the system's log, with libfuse's own. */
#pragma once

#include <stdbool.h>

/* To be called once, first of all. */
void log_init (void);

/* Shows informational and debug messages too. */
void log_set_verbose (void);

/* From here on to syslog(3). */
void log_to_syslog (void);
