/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The background thread of a set: gives back what removed snapshots kept.
 *
 * A dead level that no intact snapshot reads through is dropped. Any other is
 * merged with its older neighbour, in the direction that copies less:
 *
 *     down   its granules go to the older level; then it leaves the chain
 *     up     the older level's granules go to it; then it takes that level's snapshot
 *            and the older level leaves the chain
 *
 * All the while the chain reads the same. Guests write on; when the dead level is
 * the newest, new copies go to the level that will stay. A merge can end at any
 * moment, also by a kill: it is done again from the start, which then finds most of it done.
 *
 * The thread also tells of snapshots that break (broken.h), between two steps of a merge.
 */
#pragma once

#include "snapshot/snapshots.h"

/* For a mkdir that is to add a level. Levels of removed snapshots, which are merged or still open,
 * are limited too, and with them descriptors and memory: when there are as many as there may be
 * snapshots, and a few more, waits a second at most for the thread to take one away. 0, or
 * -EMLINK when there is no room. With no lock held. */
int merge_make_room (Snapshots *set);

/* Starts the thread. */
void merge_start (Snapshots *set);

/* Ends it, leaving a merge undone. */
void merge_stop (Snapshots *set);
