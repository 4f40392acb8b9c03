/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cyclic redundancy check of 64 bits by the polynomial of ECMA-182, reflected, as xz has it: it
 * tells for certain when up to 64 adjacent bits differ, and of anything else 1 in 2^64 passes.
 *
 * Source: ECMA-182, annex B; the .xz file format, section 6. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The check of what crc (0: nothing) is the check of, followed by these bytes. */
uint64_t crc64 (uint64_t crc, const void *data, size_t length);
