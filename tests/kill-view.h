/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots as a mount shows them. They are called by numbers. Functions return -errno on failure.
 */
#pragma once

#include "kill-mount.h"
#include "torture-witness.h"

/* An open snapshot, with all its files. */
typedef struct
{
  const Mount *mount;
  int directory;
  int files[BED_MAX_DISKS];
  WitnessView view;
} View;

/* mkdir, rmdir, rename. Return 0 or -errno. */
int view_make (const Mount *mount, unsigned n_name);
int view_remove (const Mount *mount, unsigned n_name);
int view_rename (const Mount *mount, unsigned n_from, unsigned n_to);

/* The numbers that are listed; g_hash_table_unref(). */
GHashTable *view_list (const Mount *mount);

/* Opens it. With direct, reads bypass the kernel's pages. Returns 0 or -errno. */
int view_open (const Mount *mount, unsigned n_name, bool direct, View *out);
void view_close (View *view);
