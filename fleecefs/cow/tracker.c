/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cow/tracker.h"

#include "base/pause.h"

#include <stdlib.h>

#define N_STRIPES 32 /* all locked at once for a chain swap; ThreadSanitizer follows 64 */

struct _Tracker
{
  Stripe stripes[N_STRIPES];
};

Tracker *
tracker_new (void)
{
  Tracker *tracker = aligned_alloc (_Alignof(Tracker), sizeof *tracker);

  for (unsigned i = 0; tracker != NULL && i < N_STRIPES; i++)
    {
      Stripe *stripe = &tracker->stripes[i];

      lock_init (&stripe->lock, LOCK_STRIPE);
      lock_init (&stripe->meta, LOCK_ENTRIES);
      pthread_cond_init (&stripe->changed, NULL);
      stripe->n_waiting = 0;
      stripe->n_read_waits = 0;
      stripe->claims = stripe->reads = NULL;
      atomic_init (&stripe->n_reads, 0);
    }
  return tracker;
}

void
tracker_free (Tracker *tracker)
{
  for (unsigned i = 0; i < N_STRIPES; i++)
    {
      pthread_cond_destroy (&tracker->stripes[i].changed);
      lock_clear (&tracker->stripes[i].meta);
      lock_clear (&tracker->stripes[i].lock);
    }
  free (tracker);
}

Stripe *
tracker_stripe (Tracker *tracker, uint64_t region)
{
  return &tracker->stripes[region % N_STRIPES];
}

uint64_t
tracker_n_read_waits (Tracker *tracker)
{
  uint64_t n = 0;

  for (unsigned i = 0; i < N_STRIPES; i++)
    {
      lock_acquire (&tracker->stripes[i].lock);
      n += tracker->stripes[i].n_read_waits;
      lock_release (&tracker->stripes[i].lock);
    }
  return n;
}

void
tracker_lock_all (Tracker *tracker) LOCK_UNCHECKED
{
  for (unsigned i = 0; i < N_STRIPES; i++)
    lock_acquire_next (&tracker->stripes[i].lock);
}

void
tracker_unlock_all (Tracker *tracker) LOCK_UNCHECKED
{
  for (unsigned i = 0; i < N_STRIPES; i++)
    lock_release (&tracker->stripes[i].lock);
}

static void
add (TrackerEntry **list, TrackerEntry *entry)
{
  entry->next = *list;
  entry->link = list;
  if (entry->next != NULL)
    entry->next->link = &entry->next;
  *list = entry;
}

static void
take_out (Stripe *stripe, TrackerEntry *entry)
{
  *entry->link = entry->next;
  if (entry->next != NULL)
    entry->next->link = entry->link;
  if (stripe->n_waiting > 0)
    pthread_cond_broadcast (&stripe->changed);
}

GranuleSet
stripe_unclaimed (Stripe *stripe, uint64_t region, const GranuleSet *want)
{
  GranuleSet set = *want;

  for (const TrackerEntry *claim = stripe->claims; claim != NULL; claim = claim->next)
    if (claim->region == region)
      granule_set_subtract (&set, &claim->granules);
  return set;
}

void
stripe_claim (Stripe *stripe, TrackerEntry *entry)
{
  add (&stripe->claims, entry);
}

void
stripe_end_claim (Stripe *stripe, TrackerEntry *entry)
{
  take_out (stripe, entry);
}

void
stripe_begin_read (Stripe *stripe, TrackerEntry *entry)
{
  atomic_fetch_add (&stripe->n_reads, 1);
  add (&stripe->reads, entry);
}

void
stripe_end_read (Stripe *stripe, TrackerEntry *entry)
{
  take_out (stripe, entry);
  atomic_fetch_sub (&stripe->n_reads, 1);
}

void
stripe_wait (Stripe *stripe)
{
  PAUSE_POINT ("tracker:wait");
  stripe->n_waiting++;
  lock_wait (&stripe->lock, &stripe->changed);
  stripe->n_waiting--;
}

static bool
is_read (const Stripe *stripe, uint64_t region, const GranuleSet *granules)
{
  for (const TrackerEntry *read = stripe->reads; read != NULL; read = read->next)
    if (read->region == region && granule_set_overlaps (&read->granules, granules))
      return true;
  return false;
}

void
stripe_wait_reads (Stripe *stripe, uint64_t region, const GranuleSet *granules)
{
  if (is_read (stripe, region, granules))
    stripe->n_read_waits++;
  while (is_read (stripe, region, granules))
    stripe_wait (stripe);
}
