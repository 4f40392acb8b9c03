/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is told when snapshots break: the log, the manifest, the kernel.
 *
 * A layer breaks in the thread of a guest or a reader (layer.h), which leaves a note
 * (broken_leave_note) and goes on. The background thread takes the note, between two steps of a
 * merge at the latest, and tells. A snapshot of several disks can break several times.
 */
#pragma once

#include "snapshot/set-private.h"

/* A DiskBreakFunc; data is the set. */
void broken_leave_note (void *data);

/* Writes down, in the overlays, the manifest and the log, what broke since the last call.
 * Returns the snapshots that did, with or without a name (Snapshot *, references). What the
 * manifest could not take is written and returned again by the next call. */
GPtrArray *broken_write_down (Snapshots *set) LOCK_REQUIRES (&set->verbs);

/* Is there one that has not been taken? */
bool broken_has_note (Snapshots *set);

/* Takes the note, writes down what broke, has guests save no more for it, and calls the set's
 * on_broken. For the background thread; no lock is held. */
void broken_tell (Snapshots *set);
