/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where messages of g_message(), g_warning() and the like go: as one line, whatever is in it, to
 * standard error, and from the moment there is a daemon to the system's log.
 * When standard error leads to systemd's journal, lines begin with their level (sd-daemon(3)).
 *
 * A log may hang: syslog(3) waits for a syslogd that is stopped, and a write to a pipe for its
 * reader. What serves must not, so from log_start() to log_end() messages, also libfuse's, are
 * queued (log-queue.h). Before that whoever has a message writes it.
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

/* From here on no message waits for the log. Starts a thread, so it comes after the last fork, and
 * after what the thread is to have too: dropped privileges and the like. */
void log_start (void);

/* Before the end of a process that has called log_start(), after its other threads: blocks until
 * the log has all messages, but for two seconds at most. Those of later are written as before
 * log_start(), if the log has taken these. */
void log_end (void);
