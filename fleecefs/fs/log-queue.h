/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages on their way to a log that may not read: a stopped syslogd, a pipe that is full.
 *
 * Whoever has a message, a guest's write perhaps, puts it into the queue and goes on. One thread of
 * the queue takes the messages out, in their order, and it alone waits for the log. There is room
 * for LOG_QUEUE_BYTES of them. What finds no room is lost; where it should stand, the log gets a
 * line that says how many were lost, with the level of the most important one.
 */
#pragma once

#include <stdbool.h>

/* With what the queue needs for each. A line that says what was lost may pass it. */
#define LOG_QUEUE_BYTES 65536

typedef struct _LogQueue LogQueue;

/* Writes one line to the log. May block. Levels are those of syslog(3). */
typedef void (*LogQueueFunc) (int level, const char *line);

/* Starts the thread, in which write is called, and no signal handled. Not before a fork: the child
 * would have no thread. NULL when no thread can be started. */
LogQueue *log_queue_new (LogQueueFunc write);

/* From any thread, under any lock. Never waits for the log. */
void log_queue_push (LogQueue *queue, int level, const char *line);

/* Blocks until all is written, or so many milliseconds; true when it is. */
bool log_queue_flush (LogQueue *queue, unsigned ms);

/* Ends the thread. To be called after a flush that returned true, when nobody pushes any more. */
void log_queue_free (LogQueue *queue);
