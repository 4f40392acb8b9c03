/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random numbers of the torture: one state for each thread, so that what a thread does follows
 * from the seed of its phase alone. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct
{
  uint64_t state;
} Random;

/* A well mixed function of two numbers (the finalizer of splitmix64). */
static inline uint64_t
random_mix (uint64_t a, uint64_t b)
{
  uint64_t x = a + UINT64_C (0x9e3779b97f4a7c15) * (b + 1);

  x = (x ^ x >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C (0x94d049bb133111eb);
  return x ^ x >> 31;
}

static inline uint64_t
random_next (Random *random)
{
  return random_mix (random->state++, 0);
}

/* 0 to n - 1; n > 0. */
static inline uint64_t
random_below (Random *random, uint64_t n)
{
  return random_next (random) % n;
}

static inline bool
random_percent (Random *random, unsigned percent)
{
  return random_below (random, 100) < percent;
}
