/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Going into the background. All that can fail was done before, in the process that
 * the user sees; what is left for the child is to answer. The parent waits for
 * the answer, so that "fleecefs ... && mkdir MNT/x" works. */
#pragma once

#include "fs/places.h"

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct
{
  pid_t child; /* 0 in the child itself */
  int pipe;    /* for the child's last words: where it writes, and the parent reads */
} Daemon;

/* Forks; no thread may exist. The child is then a daemon: its own session, in /, standard
 * streams at /dev/null, messages to the system's log. */
bool daemon_fork (Daemon *daemon, GError **error);

/* From now on a signal that ends a program ends the child instead, and daemon_await() fails when
 * that is gone: whoever interrupts a start finds no mount then. A second one ends this process. */
void daemon_pass_signals (const Daemon *daemon);

/* Blocks until the mount is answered as the root of our file system, and the images are covered if
 * they are to be. Fails when the child is gone before, with its last words if it left any. */
bool daemon_await (const Daemon *daemon, const Places *places, GError **error);

/* In the child: says why it ends to a parent that still waits. */
void daemon_last_words (const Daemon *daemon, const char *words);
