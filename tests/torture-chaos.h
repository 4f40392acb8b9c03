/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Widens races: a thread that again and again holds whoever comes first to a random pause point
 * (base/pause.h) of the engine, for as long as it takes the others to do a few operations or
 * a few milliseconds, and then lets it go.
 *
 * Each thread that uses the engine joins, ticks after each operation, and leaves. That is
 * how Chaos knows that the thread it held has gone on. */
#pragma once

#include "torture-random.h"

#include <pthread.h>
#include <stdatomic.h>

#define CHAOS_MAX_THREADS 16

typedef struct
{
  Random random;
  pthread_t thread;
  atomic_bool stop;
  atomic_uint n_threads;                /* that have joined */
  atomic_uint ticks[CHAOS_MAX_THREADS]; /* UINT_MAX: left */
} Chaos;

/* Starts the thread. */
void chaos_start (Chaos *chaos, uint64_t seed);
/* Ends it; nobody is held any more. */
void chaos_stop (Chaos *chaos);

/* The calling thread's counter. */
atomic_uint *chaos_join (Chaos *chaos);
/* It has done an operation. */
void chaos_tick (atomic_uint *tick);
/* It will do no more. */
void chaos_leave (atomic_uint *tick);
