/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is a block all zeros? Looks at the first bytes first: most blocks that are
 * not zero show it there. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* True when all length bytes of buffer are zero (also for length 0). */
bool zero_check (const void *buffer, size_t length);
