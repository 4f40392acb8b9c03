/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/zero.h"

#include <string.h>

bool
zero_check (const void *buffer, size_t length)
{
  const unsigned char *bytes = buffer;
  const size_t head = 16;
  size_t i;

  for (i = 0; i < length && i < head; i++)
    if (bytes[i] != 0)
      return false;

  /* The head is zero and every byte equals the one 16 before it. */
  return length <= head || memcmp (bytes, bytes + head, length - head) == 0;
}
