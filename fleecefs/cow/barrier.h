/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The freeze barrier: guest writes hold its shared side (they are in a write
 * section), mkdir and changes of the chains its exclusive side.
 *
 * Entering and leaving are one atomic addition each, on a counter that few
 * threads share. Closing waits for the sections in flight; meanwhile, and until
 * barrier_open(), new ones wait. So nothing slow may happen in between. Who was kept out
 * by one closing is inside before the next begins, so that no stream of them keeps
 * a writer out.
 *
 * A section may hang on a disk, the store's perhaps, which most guests' writes have no need of.
 * So closing keeps others out for BARRIER_HOLD_MS in which no section ends, and four times that in
 * all, at the most; when there are still sections in flight then, it lets all in for a while and
 * tries again. It is the closer who waits.
 */
#pragma once

#include <stdint.h>

/* Milliseconds. */
#define BARRIER_HOLD_MS 800

typedef struct _Barrier Barrier;

/* A barrier, open. */
Barrier *barrier_new (void);
/* Frees it; nobody is inside. */
void barrier_free (Barrier *barrier);

/* Enters a write section, waiting while the barrier is closed. Returns what
 * barrier_leave() must be given. A thread must not enter twice. */
unsigned barrier_enter (Barrier *barrier);
/* Leaves the section. */
void barrier_leave (Barrier *barrier, unsigned slot);

/* How often a thread had to wait because it was closed. */
uint64_t barrier_n_waits (Barrier *barrier);

/* Closes the barrier: on return no thread is in a section. Waits for as long as a section lasts.
 * One closer at a time; others wait for barrier_open(). */
void barrier_close (Barrier *barrier);
/* Opens it again. */
void barrier_open (Barrier *barrier);
