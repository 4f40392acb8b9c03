/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Big-endian numbers at any address of a file's bytes. */
#pragma once

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* Each loads or stores one number; no alignment is needed. */
static inline uint32_t
be_load32 (const uint8_t *bytes)
{
  uint32_t value_be;

  memcpy (&value_be, bytes, sizeof value_be);
  return be32toh (value_be);
}

static inline uint64_t
be_load64 (const uint8_t *bytes)
{
  uint64_t value_be;

  memcpy (&value_be, bytes, sizeof value_be);
  return be64toh (value_be);
}

static inline void
be_store32 (uint8_t *bytes, uint32_t value)
{
  uint32_t value_be = htobe32 (value);

  memcpy (bytes, &value_be, sizeof value_be);
}

static inline void
be_store64 (uint8_t *bytes, uint64_t value)
{
  uint64_t value_be = htobe64 (value);

  memcpy (bytes, &value_be, sizeof value_be);
}
