/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/usage.h"

G_DEFINE_QUARK (fleecefs_usage_error, usage_error)

static const char help_text[]
    = "Usage: fleecefs [-f] [-d] [-o OPTIONS] [NAME=]IMAGE... MOUNTPOINT\n"
      "Serve live disk images, and a frozen file of each for every snapshot.\n"
      "\n"
      "  mkdir MOUNTPOINT/monday      make a snapshot of all disks at one instant\n"
      "  MOUNTPOINT/monday/DISK       the disk as it was then, read-only\n"
      "  MOUNTPOINT/.live/DISK        the live disk, for the guest\n"
      "  MOUNTPOINT/.latest/DISK      the newest snapshot under a path that stays\n"
      "  rmdir MOUNTPOINT/monday      drop the snapshot\n"
      "  umount MOUNTPOINT            stop (without root: fusermount3 -u MOUNTPOINT)\n"
      "\n"
      "  -f                   stay in the foreground\n"
      "  -d                   as -f, and print every request\n"
      "  -h, --help           print this text\n"
      "  -V, --version        print the version\n"
      "  -o OPTION[,...]\n"
      "    store=DIR          where snapshots keep their blocks; IMAGE.fleece beside a\n"
      "                       single image file, to be given in all other cases\n"
      "    granule=SIZE       copy unit of a new store, 4k to 64k [4k]\n"
      "    copy=METHOD        auto, bounce or offload [auto]\n"
      "    on-cbw-error=WHAT  break-snapshot or break-guest-write [break-snapshot]\n"
      "    max-overlay=SIZE   the most that all old blocks may take together\n"
      "    reserve=SIZE       space to leave free in the store's file system [0]\n"
      "    max-snapshots=N    1 to 10000 [100]\n"
      "    threads=N          1 to 256 [16]\n"
      "    cbw-timeout=N      seconds that a guest's write waits for its copies; then the\n"
      "                       policy decides; 0: no limit [0]\n"
      "    durability=WHAT    what snapshots survive: process, the death of fleecefs; power,\n"
      "                       that of the host too, at the price of a sync [process]\n"
      "    log-level=LEVEL    error, warning, notice, info or debug [notice]\n"
      "    new-store          begin with an empty store, though one that was not closed\n"
      "                       knows the image and is gone\n"
      "    overmount          each live disk also under its image's own path (root)\n"
      "    io_uring           less work for each request, but more of them wait; see the\n"
      "                       manual for what it needs\n"
      "    allow_other, allow_root, ro, ...\n"
      "                       those of mount(8) and of FUSE\n"
      "\n"
      "DISK is NAME, or the last part of IMAGE. See fleecefs(8). What goes on: fleecectl status.\n";

bool
usage_fail (GError **error, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  if (error != NULL)
    *error = g_error_new_valist (USAGE_ERROR, 0, format, args);
  va_end (args);
  return false;
}

const char *
usage_help (void)
{
  return help_text;
}
