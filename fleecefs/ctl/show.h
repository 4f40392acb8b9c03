/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What fleecectl prints of mounts (State *). New strings, of lines of at most width columns. */
#pragma once

#include "ctl/state.h"

/* The snapshots, one in a line. */
char *show_lists (const GPtrArray *states, unsigned width);

/* All there is to see. before: older states, or NULL; of a mount that is among them what the disks
 * do is told in bytes a second instead of bytes since the mount. The oldest snapshots share a line
 * when there would be more than height lines; it may still have more. */
char *show_statuses (const GPtrArray *states, const GPtrArray *before, unsigned width,
                     unsigned height);
