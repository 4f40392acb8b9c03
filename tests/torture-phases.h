/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two kinds of phases. Each runs until its work is done or bed_is_late(), and ends with
 * the set closed and all compared. */
#pragma once

#include "torture-bed.h"

/* One thread changes disks and snapshots at random, and a byte array with them; others read
 * snapshots all the while. See torture-exact.c. */
void torture_exact (Bed *bed, Random *random);

/* Many threads write blocks with versions; each snapshot must be one instant. See
 * torture-blocks.c. */
void torture_blocks (Bed *bed, Random *random);
