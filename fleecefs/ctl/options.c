/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/options.h"

#include "ctl/text.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define WATCH_DEFAULT 2
#define WATCH_MAX 3600
#define WAIT_MAX 86400

/* An option stands for its letter. */
static const struct
{
  const char *name;
  Command command;
  const char *options;
} commands[] = {
  { "list", COMMAND_LIST, "j" },
  { "status", COMMAND_STATUS, "jw" },
  { "umount", COMMAND_UMOUNT, "dflt" },
};

static const struct option known[] = { { "dead", no_argument, NULL, 'd' },
                                       { "force", no_argument, NULL, 'f' },
                                       { "help", no_argument, NULL, 'h' },
                                       { "json", no_argument, NULL, 'j' },
                                       { "lazy", no_argument, NULL, 'l' },
                                       { "timeout", required_argument, NULL, 't' },
                                       { "version", no_argument, NULL, 'V' },
                                       { "watch", optional_argument, NULL, 'w' },
                                       { 0 } };

#define LETTERS "dfhjlt:Vw::"

const char options_help[]
    = "Usage: fleecectl list [--json] [PATH...]\n"
      "       fleecectl status [--json | --watch[=SECONDS]] [PATH...]\n"
      "       fleecectl umount [--force | --lazy] [--timeout=SECONDS] MOUNTPOINT...\n"
      "       fleecectl umount --dead MOUNTPOINT...\n"
      "Show mounts of fleecefs: those that a PATH is in, or all. Unmount some.\n"
      "\n"
      "  list                 the snapshots\n"
      "  status               disks, snapshots, the space of the store, merges\n"
      "  umount               unmount, and wait until image and store are closed\n"
      "\n"
      "  -j, --json           print a JSON array: for each mount what is in\n"
      "                       MOUNTPOINT/.fleecefs/status.json, and the mountpoint\n"
      "  -w, --watch[=SECONDS]\n"
      "                       go on, with rates, until interrupted [2]\n"
      "  -f, --force          unmount also what is in use, or hangs\n"
      "  -l, --lazy           unmount also what is in use, and then do not wait\n"
      "  -t, --timeout=SECONDS\n"
      "                       wait no longer than that [300]\n"
      "  -d, --dead           unmount what nobody serves any more, and only that\n"
      "  -h, --help           print this text\n"
      "  -V, --version        print the version\n"
      "\n"
      "See fleecectl(8), and fleecefs(8) on the fields.\n";

void
options_report (const char *message)
{
  g_autofree char *line = text_printable (message);

  fprintf (stderr, "fleecectl: %s\n", line);
}

/* Returns STATUS_USAGE. */
G_GNUC_PRINTF (1, 2)
static int
report_usage (const char *format, ...)
{
  g_autofree char *message = NULL;
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  options_report (message);
  fprintf (stderr, "Try 'fleecectl --help'.\n");
  return STATUS_USAGE;
}

static gboolean
parse_seconds (const char *value, unsigned least, unsigned most, unsigned *out)
{
  guint64 seconds;

  if (!g_ascii_string_to_unsigned (value, 10, least, most, &seconds, NULL))
    return FALSE;
  *out = (unsigned) seconds;
  return TRUE;
}

/* One that has a value. */
static int
take_value (Options *options, int letter, const char *value)
{
  if (letter == 't' && !parse_seconds (value, 0, WAIT_MAX, &options->how.seconds))
    return report_usage ("bad option '--timeout=%s': give seconds from 0 to %d", value, WAIT_MAX);
  if (letter == 'w' && value == NULL)
    options->watch = WATCH_DEFAULT;
  else if (letter == 'w' && !parse_seconds (value, 1, WATCH_MAX, &options->watch))
    return report_usage ("bad option '--watch=%s': give seconds from 1 to %d", value, WATCH_MAX);
  return STATUS_OK;
}

/* Of letters in one word getopt(3) tells which it was. */
static int
refuse (const char *word)
{
  return optopt != 0 && strchr (LETTERS, optopt) == NULL ? report_usage ("bad option '-%c'", optopt)
                                                         : report_usage ("bad option '%s'", word);
}

/* given: the letters of the options, each once. */
static int
parse_options (int argc, char **argv, Options *options, GString *given)
{
  int status = STATUS_OK, letter;

  opterr = 0;
  while (status == STATUS_OK && (letter = getopt_long (argc, argv, LETTERS, known, NULL)) != -1)
    {
      if (letter == '?')
        return refuse (argv[optind - 1]);
      if (letter == 'h' || letter == 'V')
        {
          options->command = letter == 'h' ? COMMAND_HELP : COMMAND_VERSION;
          break;
        }
      if (strchr (given->str, letter) == NULL)
        g_string_append_c (given, (char) letter);
      status = take_value (options, letter, optarg);
    }
  options->json = strchr (given->str, 'j') != NULL;
  options->dead = strchr (given->str, 'd') != NULL;
  options->how.force = strchr (given->str, 'f') != NULL;
  options->how.lazy = options->how.force || strchr (given->str, 'l') != NULL;
  return status;
}

static const char *
long_name (char letter)
{
  const struct option *option = known;

  while (option->val != letter)
    option++;
  return option->name;
}

static int
parse_command (Options *options, const char *name, const char *given)
{
  for (unsigned i = 0; i < G_N_ELEMENTS (commands); i++)
    if (strcmp (commands[i].name, name) == 0)
      {
        size_t good = strspn (given, commands[i].options);

        options->command = commands[i].command;
        return given[good] == '\0'
                   ? STATUS_OK
                   : report_usage ("--%s is not for %s", long_name (given[good]), name);
      }
  return report_usage ("unknown command '%s'", name);
}

static int
check (const Options *options, const char *given)
{
  if (options->watch != 0 && options->json)
    return report_usage ("--watch and --json do not go together");
  if (options->command == COMMAND_UMOUNT && *options->paths == NULL)
    return report_usage ("no mountpoint given");
  if (options->dead && strlen (given) > 1)
    return report_usage ("--dead goes with no other option");
  return STATUS_OK;
}

int
options_parse (int argc, char **argv, Options *options)
{
  g_autoptr (GString) given = g_string_new (NULL);
  int status;

  *options = (Options){ .command = COMMAND_LIST,
                        .how = { .seconds = UNMOUNT_SECONDS, .program = "fleecectl" } };
  status = parse_options (argc, argv, options, given);
  if (status != STATUS_OK || options->command != COMMAND_LIST)
    return status;
  if (argv[optind] == NULL)
    return report_usage ("no command given");
  options->paths = argv + optind + 1;
  status = parse_command (options, argv[optind], given->str);
  return status == STATUS_OK ? check (options, given->str) : status;
}
