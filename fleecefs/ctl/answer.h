/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a file system says, or that it says nothing. A call that waits for a daemon which hangs
 * cannot be interrupted, and a process in it cannot end; so another process makes the call. */
#pragma once

#include <glib.h>

#define ANSWER_SECONDS 10

/* Looks at a file, of that path: new text, or NULL with an error. */
typedef GString *AnswerFunc (const char *path, GError **error);

/* What func says in a process of its own, or ETIMEDOUT after ANSWER_SECONDS without it. The program
 * has no threads. */
GString *answer_get (AnswerFunc *func, const char *path, GError **error);
