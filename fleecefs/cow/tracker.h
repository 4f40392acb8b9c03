/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is busy with which granules of a disk: claims of writers, frozen reads.
 *
 * A disk's regions are spread over stripes; a stripe has a lock, and lists of the
 * claims and reads in its regions. An entry is a variable of the thread that
 * made it, so nothing is allocated and the lists are as short as there are threads.
 *
 * stripe.lock is held for lookups, never for I/O. stripe.meta is held while the
 * entries of a region are written to an overlay; readers do not take it.
 */
#pragma once

#include "base/lock.h"
#include "cow/granule-set.h"

#include <stdatomic.h>

typedef struct _TrackerEntry TrackerEntry;

struct _TrackerEntry
{
  uint64_t region;
  GranuleSet granules;
  TrackerEntry *next;
  TrackerEntry **link; /* what points to this one */
};

typedef struct
{
  _Alignas(64) Lock lock;
  Lock meta;
  pthread_cond_t changed; /* a claim or a read has ended */
  unsigned n_waiting;     /* under lock */
  TrackerEntry *claims;   /* under lock */
  TrackerEntry *reads;    /* under lock */
  uint64_t n_read_waits;  /* since the start; under lock */
  atomic_uint n_reads;    /* length of reads; changed under lock, looked at without */
} Stripe;

typedef struct _Tracker Tracker;

/* A tracker with no entries. NULL when there is no memory. */
Tracker *tracker_new (void);
/* Frees it; no entry is left. */
void tracker_free (Tracker *tracker);

/* The stripe of a region. */
Stripe *tracker_stripe (Tracker *tracker, uint64_t region);

/* How often stripe_wait_reads() had something to wait for. */
uint64_t tracker_n_read_waits (Tracker *tracker);

/* Takes every stripe.lock, in order; nobody is looking anything up while they are held. */
void tracker_lock_all (Tracker *tracker);
/* Releases them. */
void tracker_unlock_all (Tracker *tracker);

/* The granules of *want that no other writer has claimed. */
GranuleSet stripe_unclaimed (Stripe *stripe, uint64_t region, const GranuleSet *want)
    LOCK_REQUIRES (&stripe->lock);

/* Claims entry's granules for the caller. */
void stripe_claim (Stripe *stripe, TrackerEntry *entry) LOCK_REQUIRES (&stripe->lock);
/* Ends the claim and wakes those who wait. */
void stripe_end_claim (Stripe *stripe, TrackerEntry *entry) LOCK_REQUIRES (&stripe->lock);

/* Registers a frozen read of entry's granules. */
void stripe_begin_read (Stripe *stripe, TrackerEntry *entry) LOCK_REQUIRES (&stripe->lock);
/* Ends it and wakes those who wait. */
void stripe_end_read (Stripe *stripe, TrackerEntry *entry) LOCK_REQUIRES (&stripe->lock);

/* Sleeps until a claim or a read of the stripe has ended; the lock is dropped meanwhile. */
void stripe_wait (Stripe *stripe) LOCK_REQUIRES (&stripe->lock);

/* Waits until no frozen read has any of the granules. All of them are saved or
 * given up, so that no new one can start: then, on return, there is none and none
 * will come. */
void stripe_wait_reads (Stripe *stripe, uint64_t region, const GranuleSet *granules)
    LOCK_REQUIRES (&stripe->lock);
