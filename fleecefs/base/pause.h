/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Named places where a test can stop a thread, to force a race.
 *
 * PAUSE_POINT ("name") does nothing in the program. In the test build
 * (-DFLEECE_PAUSE_POINTS) a thread that comes to a point that is armed reports
 * that it is there and waits until the test lets it go. The calling sequence of
 * a test:
 *
 *     pause_arm ("frozen-read:before-source");
 *     start the reader;
 *     pause_wait_reached ("frozen-read:before-source");
 *     do what must happen while the reader stands there;
 *     pause_release ("frozen-read:before-source");
 *
 * An armed point holds the first thread only; it is disarmed by that. A watched
 * point (pause_watch) only reports and holds nobody: for places where a thread is
 * about to wait for another, or holds a lock.
 */
#pragma once

#ifdef FLEECE_PAUSE_POINTS
#define PAUSE_POINT(name) pause_point (name)

/* Called through PAUSE_POINT. Blocks while the point holds this thread. */
void pause_point (const char *name);

/* The next thread that comes to the point is held. At most 8 points at a time. */
void pause_arm (const char *name);

/* The next thread that comes to the point is noted and goes on. */
void pause_watch (const char *name);

/* Blocks until a thread is held or was noted at the point. */
void pause_wait_reached (const char *name);

/* Blocks until a thread is held or was noted at one of the points; returns that name. */
const char *pause_wait_either (const char *a, const char *b);

/* Lets the held thread go; forgets the point if none came yet or it was watched. */
void pause_release (const char *name);

#else
#define PAUSE_POINT(name) ((void) 0)
#endif
