/* SPDX-License-Identifier: GPL-2.0-or-later */
/* .fleecefs/metrics: the facts in the text format of Prometheus, version 0.0.4
 * (prometheus.io/docs/instrumenting/exposition_formats). */
#pragma once

#include "fs/facts.h"

/* The text; all names begin with fleecefs_. */
GString *metrics_text (const Facts *facts);
