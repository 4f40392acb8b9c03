/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words [NAME=]IMAGE of the command line: which disks there are and what they are
 * called. No file is looked at. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct
{
  char *name; /* of the disk in the tree; valid and unlike all others */
  char *path; /* as given */
} Image;

/* An empty list (Image *, owned by the array). */
GPtrArray *images_new (void);

/* Adds the image of a word. The text before the first '=' is the name if it has no '/';
 * without one the disk is called as the last part of the path. Usage errors: a
 * name that no disk can have (name_check_known()), or that another image has; no path. */
bool images_add (GPtrArray *images, const char *word, GError **error);
