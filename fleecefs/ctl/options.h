/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of fleecectl, and what it says of it. */
#pragma once

#include "ctl/unmount.h"

#include <glib.h>

/* Exit statuses. */
enum
{
  STATUS_OK = 0,
  STATUS_FAILED = 1,
  STATUS_USAGE = 2,
};

typedef enum
{
  COMMAND_HELP,
  COMMAND_VERSION,
  COMMAND_LIST,
  COMMAND_STATUS,
  COMMAND_UMOUNT,
} Command;

typedef struct
{
  Command command;
  gboolean json;
  unsigned watch; /* seconds; 0: once */
  gboolean dead;  /* only mounts that nobody serves */
  UnmountHow how;
  char **paths; /* up to NULL; of COMMAND_UMOUNT at least one, else none means all mounts */
} Options;

extern const char options_help[];

/* Prints a message of fleecectl to standard error, as one line, whatever is in it: names may hold
 * anything. */
void options_report (const char *message);

/* Fills it in from the words of the command line. Returns STATUS_OK; or STATUS_USAGE, and what is
 * wrong was reported. */
int options_parse (int argc, char **argv, Options *options);
