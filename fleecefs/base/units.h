/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arithmetic on offsets and granules, and sizes as people write them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define KIB (UINT64_C (1) << 10)
#define MIB (UINT64_C (1) << 20)
#define GIB (UINT64_C (1) << 30)
#define TIB (UINT64_C (1) << 40)

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

/* Parses a size in bytes: digits and an optional suffix k, M, G or T (powers of
 * 1024, either case). Returns false for anything else and on overflow. */
bool units_parse_size (const char *text, uint64_t *out_bytes);
