/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arithmetic on offsets, granules and times, and sizes as people write them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define KIB (UINT64_C (1) << 10)
#define MIB (UINT64_C (1) << 20)
#define GIB (UINT64_C (1) << 30)
#define TIB (UINT64_C (1) << 40)

#define NS_PER_S INT64_C (1000000000)

/* The number of units of unit bytes that hold n bytes, the last one perhaps in part. */
static inline uint64_t
units_div_up (uint64_t n, uint64_t unit)
{
  return n / unit + (n % unit != 0);
}

/* n rounded up to a multiple of unit. */
static inline uint64_t
units_round_up (uint64_t n, uint64_t unit)
{
  return units_div_up (n, unit) * unit;
}

static inline uint64_t
units_min (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static inline uint64_t
units_max (uint64_t a, uint64_t b)
{
  return a > b ? a : b;
}

/* Nanoseconds since the epoch as a moment, whose fraction counts forward also before 1970. */
static inline struct timespec
units_timespec (int64_t ns)
{
  int64_t seconds = ns / NS_PER_S, fraction = ns % NS_PER_S;

  return fraction < 0 ? (struct timespec){ .tv_sec = seconds - 1, .tv_nsec = fraction + NS_PER_S }
                      : (struct timespec){ .tv_sec = seconds, .tv_nsec = fraction };
}

/* Parses a size in bytes: digits and an optional suffix k, M, G or T (powers of
 * 1024, either case). Returns false for anything else and on overflow. */
bool units_parse_size (const char *text, uint64_t *out_bytes);
