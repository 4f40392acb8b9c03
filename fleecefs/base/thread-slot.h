/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small number for each thread, for what is kept apart by threads so that they share no
 * cache line: counters. A thread has its number to itself as long as there are no more than
 * THREAD_SLOTS threads that asked for one; beyond that some have the same. It is given back when
 * the thread ends. */
#pragma once

#define THREAD_SLOTS 64

/* The calling thread's number, less than THREAD_SLOTS. */
unsigned thread_slot (void);
