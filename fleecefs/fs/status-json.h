/* SPDX-License-Identifier: GPL-2.0-or-later */
/* .fleecefs/status.json: the facts for programs. The fields are described in fleecefs(8). */
#pragma once

#include "fs/facts.h"

/* One JSON object, in UTF-8; what is not UTF-8 in a path is replaced. */
GString *status_json_text (const Facts *facts);
