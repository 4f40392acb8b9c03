/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What fleecectl prints of a mount. */
#pragma once

#include "ctl/state.h"

/* Appends a line with the mountpoint. */
void show_mountpoint (const State *state, unsigned width, GString *out);

/* Appends the snapshots, one in a line. */
void show_list (const State *state, unsigned width, GString *out);

/* Appends all there is to see. before is an older state of the same mount, or NULL: with it, what
 * the disks do is told in bytes a second instead of bytes since the mount. */
void show_status (const State *state, const State *before, unsigned width, GString *out);
