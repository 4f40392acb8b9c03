/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/crc64.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

#define POLYNOMIAL UINT64_C (0xc96c5795d7870f42)

/* tables[i][b]: what byte b does to the check when i more bytes follow it. So eight bytes are one
 * step, of eight looks that do not wait for each other. */
static uint64_t tables[8][256];

static void
fill_tables (void)
{
  for (unsigned b = 0; b < 256; b++)
    {
      uint64_t crc = b;

      for (unsigned bit = 0; bit < 8; bit++)
        crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
      tables[0][b] = crc;
    }
  for (unsigned i = 1; i < 8; i++)
    for (unsigned b = 0; b < 256; b++)
      tables[i][b] = tables[i - 1][b] >> 8 ^ tables[0][tables[i - 1][b] & 0xff];
}

uint64_t
crc64 (uint64_t crc, const void *data, size_t length)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  const uint8_t *bytes = data;

  pthread_once (&once, fill_tables);
  crc = ~crc;
  for (; length >= 8; length -= 8, bytes += 8)
    {
      uint64_t word_le;

      memcpy (&word_le, bytes, sizeof word_le);
      word_le = le64toh (word_le) ^ crc;
      crc = 0;
      for (unsigned i = 0; i < 8; i++)
        crc ^= tables[7 - i][word_le >> 8 * i & 0xff];
    }
  for (; length > 0; length--)
    crc = crc >> 8 ^ tables[0][(crc ^ *bytes++) & 0xff];
  return ~crc;
}
