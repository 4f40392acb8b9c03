/* SPDX-License-Identifier: GPL-2.0-or-later */
/* .fleecefs/status: a table for people. */
#pragma once

#include "fs/facts.h"

/* The table: the store, disks, then snapshots, oldest first, each with the moment of its freeze
 * (UTC), its name, and "ok" or "broken: REASON". */
GString *status_text (const Facts *facts);
