/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where messages of g_message(), g_warning() and the like go: as one line, whatever is in it, to
 * standard error, and from the moment there is a daemon to the system's log, with libfuse's own.
 * When standard error leads to systemd's journal, lines begin with their level (sd-daemon(3)).
 *
 * Levels are those of syslog(3):
 *
 *     LOG_ERR, LOG_WARNING    g_critical(), g_warning()
 *     LOG_NOTICE              g_message(); the least that is shown unless told otherwise
 *     LOG_INFO                g_info(): snapshots made, renamed, removed; merges
 *     LOG_DEBUG               g_debug()
 */
#pragma once

/* To be called once, first of all. */
void log_init (void);

/* The least important level that is shown. Before there are threads. */
void log_set_level (int level);

/* From here on to syslog(3). */
void log_to_syslog (void);
