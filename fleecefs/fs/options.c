/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/options.h"

#include "base/units.h"
#include "fs/capture.h"
#include "fs/usage.h"

#include <string.h>
#include <syslog.h>

#define MAX_SNAPSHOTS_DEFAULT 100
#define MAX_SNAPSHOTS_MAX 10000
#define THREADS_DEFAULT 16
#define THREADS_MAX 256
#define CBW_TIMEOUT_MAX 86400
#define SIZE_LIMIT (TIB << 20)

enum
{
  KEY_HELP = 1,
  KEY_VERSION,
  KEY_FOREGROUND,
  KEY_DEBUG,
  KEY_STORE,
  KEY_GRANULE,
  KEY_COPY,
  KEY_CBW_ERROR,
  KEY_CBW_TIMEOUT,
  KEY_DURABILITY,
  KEY_LOG_LEVEL,
  KEY_MAX_SNAPSHOTS,
  KEY_MAX_OVERLAY,
  KEY_RESERVE,
  KEY_THREADS,
  KEY_OVERMOUNT,
  KEY_NEW_STORE,
  KEY_MAX_READ,
  KEY_IO_URING,
  KEY_ALLOW,
  KEY_DEFAULT_PERMISSIONS,
  KEY_FSNAME,
  KEY_SUBTYPE,
  KEY_LIBFUSE_FLAG,
  KEY_IGNORED,
  KEY_REMOUNT,
};

static const struct fuse_opt known[] = {
  FUSE_OPT_KEY ("-h", KEY_HELP),
  FUSE_OPT_KEY ("--help", KEY_HELP),
  FUSE_OPT_KEY ("-V", KEY_VERSION),
  FUSE_OPT_KEY ("--version", KEY_VERSION),
  FUSE_OPT_KEY ("-f", KEY_FOREGROUND),
  FUSE_OPT_KEY ("-d", KEY_DEBUG),
  FUSE_OPT_KEY ("debug", KEY_DEBUG),
  FUSE_OPT_KEY ("store=", KEY_STORE),
  FUSE_OPT_KEY ("granule=", KEY_GRANULE),
  FUSE_OPT_KEY ("copy=", KEY_COPY),
  FUSE_OPT_KEY ("on-cbw-error=", KEY_CBW_ERROR),
  FUSE_OPT_KEY ("cbw-timeout=", KEY_CBW_TIMEOUT),
  FUSE_OPT_KEY ("durability=", KEY_DURABILITY),
  FUSE_OPT_KEY ("log-level=", KEY_LOG_LEVEL),
  FUSE_OPT_KEY ("max-snapshots=", KEY_MAX_SNAPSHOTS),
  FUSE_OPT_KEY ("max-overlay=", KEY_MAX_OVERLAY),
  FUSE_OPT_KEY ("reserve=", KEY_RESERVE),
  FUSE_OPT_KEY ("threads=", KEY_THREADS),
  FUSE_OPT_KEY ("overmount", KEY_OVERMOUNT),
  FUSE_OPT_KEY ("new-store", KEY_NEW_STORE),
  FUSE_OPT_KEY ("max_read=", KEY_MAX_READ),
  FUSE_OPT_KEY ("io_uring", KEY_IO_URING),
  FUSE_OPT_KEY ("allow_other", KEY_ALLOW),
  FUSE_OPT_KEY ("allow_root", KEY_ALLOW),
  FUSE_OPT_KEY ("default_permissions", KEY_DEFAULT_PERMISSIONS),
  FUSE_OPT_KEY ("fsname=", KEY_FSNAME),
  FUSE_OPT_KEY ("subtype=", KEY_SUBTYPE),
  FUSE_OPT_KEY ("-n", KEY_LIBFUSE_FLAG),
  FUSE_OPT_KEY ("-r", KEY_LIBFUSE_FLAG),

  /* For mount(8) and fstab; and times that a file system in user space keeps itself. */
  FUSE_OPT_KEY ("auto", KEY_IGNORED),
  FUSE_OPT_KEY ("noauto", KEY_IGNORED),
  FUSE_OPT_KEY ("user", KEY_IGNORED),
  FUSE_OPT_KEY ("user=", KEY_IGNORED),
  FUSE_OPT_KEY ("users", KEY_IGNORED),
  FUSE_OPT_KEY ("nouser", KEY_IGNORED),
  FUSE_OPT_KEY ("owner", KEY_IGNORED),
  FUSE_OPT_KEY ("group", KEY_IGNORED),
  FUSE_OPT_KEY ("defaults", KEY_IGNORED),
  FUSE_OPT_KEY ("_netdev", KEY_IGNORED),
  FUSE_OPT_KEY ("nofail", KEY_IGNORED),
  FUSE_OPT_KEY ("comment=", KEY_IGNORED),
  FUSE_OPT_KEY ("helper=", KEY_IGNORED),
  FUSE_OPT_KEY ("uhelper=", KEY_IGNORED),
  FUSE_OPT_KEY ("diratime", KEY_IGNORED),
  FUSE_OPT_KEY ("nodiratime", KEY_IGNORED),
  FUSE_OPT_KEY ("relatime", KEY_IGNORED),
  FUSE_OPT_KEY ("norelatime", KEY_IGNORED),
  FUSE_OPT_KEY ("strictatime", KEY_IGNORED),
  FUSE_OPT_KEY ("nostrictatime", KEY_IGNORED),
  FUSE_OPT_KEY ("lazytime", KEY_IGNORED),
  FUSE_OPT_KEY ("nolazytime", KEY_IGNORED),
  FUSE_OPT_KEY ("remount", KEY_REMOUNT),
  FUSE_OPT_END,
};

/* What the callback of fuse_opt_parse() fills. */
typedef struct
{
  Options *options;
  GPtrArray *words; /* char *: images and mountpoint */
  bool allow, default_permissions, fsname, subtype;
  GError **error;
} Parse;

void
options_free (Options *options)
{
  g_ptr_array_unref (options->images);
  g_free (options->mountpoint);
  g_free (options->store);
  fuse_opt_free_args (&options->fuse);
  g_free (options);
}

static bool
parse_number (const char *arg, guint64 min, guint64 max, unsigned *out, GError **error)
{
  const char *value = strchr (arg, '=') + 1;
  guint64 number;

  if (!g_ascii_string_to_unsigned (value, 10, min, max, &number, NULL))
    return usage_fail (
        error, "bad option '%s': give a number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT,
        arg, min, max);
  *out = (unsigned) number;
  return true;
}

static bool
parse_granule (const char *arg, uint64_t *out, GError **error)
{
  uint64_t bytes;

  if (!units_parse_size (strchr (arg, '=') + 1, &bytes) || bytes < 4 * KIB || bytes > 64 * KIB
      || (bytes & (bytes - 1)) != 0)
    return usage_fail (error, "bad option '%s': give 4k, 8k, 16k, 32k or 64k", arg);
  *out = bytes;
  return true;
}

/* A size in bytes from min on. */
static bool
parse_size (const char *arg, uint64_t min, uint64_t *out, GError **error)
{
  uint64_t bytes;

  if (!units_parse_size (strchr (arg, '=') + 1, &bytes) || bytes < min || bytes > SIZE_LIMIT)
    return usage_fail (error, "bad option '%s': give a size%s, like 500M or 20G", arg,
                       min > 0 ? " from 1M on" : "");
  *out = bytes;
  return true;
}

/* The index of the option's value among two or three words. */
static bool
parse_word (const char *arg, const char *const *words, int *out, GError **error)
{
  const char *value = strchr (arg, '=') + 1;
  g_autofree char *all = g_strjoinv (", ", (char **) words);

  for (int i = 0; words[i] != NULL; i++)
    if (strcmp (words[i], value) == 0)
      {
        *out = i;
        return true;
      }
  return usage_fail (error, "bad option '%s': what there is: %s", arg, all);
}

static bool
parse_store (const char *arg, Options *options, GError **error)
{
  const char *value = strchr (arg, '=') + 1;

  if (*value == '\0')
    return usage_fail (error, "bad option '%s': give a directory", arg);
  g_free (options->store);
  options->store = g_strdup (value);
  return true;
}

static bool
parse_own (Parse *parse, const char *arg, int key)
{
  static const char *const copy_words[] = { "auto", "bounce", "offload", NULL };
  static const char *const cbw_words[] = { "break-snapshot", "break-guest-write", NULL };
  static const char *const durability_words[] = { "process", "power", NULL };
  static const char *const level_words[] = { "error", "warning", "notice", "info", "debug", NULL };
  Options *options = parse->options;
  int word = 0;

  switch (key)
    {
    case KEY_STORE:
      return parse_store (arg, options, parse->error);
    case KEY_GRANULE:
      return parse_granule (arg, &options->granule, parse->error);
    case KEY_MAX_SNAPSHOTS:
      return parse_number (arg, 1, MAX_SNAPSHOTS_MAX, &options->max_snapshots, parse->error);
    case KEY_MAX_OVERLAY:
      return parse_size (arg, MIB, &options->max_overlay, parse->error);
    case KEY_RESERVE:
      return parse_size (arg, 0, &options->reserve, parse->error);
    case KEY_THREADS:
      return parse_number (arg, 1, THREADS_MAX, &options->threads, parse->error);
    case KEY_COPY:
      if (!parse_word (arg, copy_words, &word, parse->error))
        return false;
      options->copy
          = (DiskCopyMethod[]){ DISK_COPY_AUTO, DISK_COPY_BOUNCE, DISK_COPY_OFFLOAD }[word];
      return true;
    case KEY_CBW_ERROR:
      if (!parse_word (arg, cbw_words, &word, parse->error))
        return false;
      options->on_cbw_error
          = (DiskCbwError[]){ DISK_CBW_BREAK_SNAPSHOT, DISK_CBW_BREAK_GUEST_WRITE }[word];
      return true;
    case KEY_CBW_TIMEOUT:
      return parse_number (arg, 0, CBW_TIMEOUT_MAX, &options->cbw_timeout, parse->error);
    case KEY_DURABILITY:
      if (!parse_word (arg, durability_words, &word, parse->error))
        return false;
      options->durable = word == 1;
      return true;
    case KEY_LOG_LEVEL:
      if (!parse_word (arg, level_words, &word, parse->error))
        return false;
      options->log_level = (int[]){ LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG }[word];
      return true;
    default:
      return usage_fail (parse->error, "unknown option '%s'", arg);
    }
}

/* Returns 1 to leave the option to libfuse, 0 when it is done with, -1 on error. */
static int
parse_one (void *data, const char *arg, int key, struct fuse_args *out_args)
{
  Parse *parse = data;
  Options *options = parse->options;

  (void) out_args;
  switch (key)
    {
    case KEY_HELP:
      options->help = true;
      return 0;
    case KEY_VERSION:
      options->version = true;
      return 0;
    case KEY_DEBUG:
      options->debug = true;
      options->foreground = true;
      return 1;
    case KEY_OVERMOUNT:
      options->overmount = true;
      return 0;
    case KEY_NEW_STORE:
      options->new_store = true;
      return 0;
    case KEY_FOREGROUND:
      options->foreground = true;
      return 0;
    case KEY_MAX_READ:
      return parse_number (arg, 1, G_MAXINT32, &options->max_read, parse->error) ? 1 : -1;
    case KEY_IO_URING:
      options->io_uring = true;
      return 1;
    case KEY_ALLOW:
      parse->allow = true;
      return 1;
    case KEY_DEFAULT_PERMISSIONS:
      parse->default_permissions = true;
      return 1;
    case KEY_FSNAME:
      parse->fsname = true;
      return 1;
    case KEY_SUBTYPE:
      parse->subtype = true;
      return 1;
    case KEY_LIBFUSE_FLAG:
      return 1;
    case KEY_IGNORED:
      return 0;
    case KEY_REMOUNT:
      usage_fail (parse->error, "a mount cannot be changed by remount; unmount it, and mount anew");
      return -1;
    case FUSE_OPT_KEY_NONOPT:
      g_ptr_array_add (parse->words, g_strdup (arg));
      return 0;
    case FUSE_OPT_KEY_OPT:
      if (arg[0] == '\0' || g_str_has_prefix (arg, "x-") || g_str_has_prefix (arg, "X-"))
        return 0;
      if (arg[0] != '-')
        return 1; /* -o something: libfuse knows, or will refuse it */
      usage_fail (parse->error, "unknown option '%s'", arg);
      return -1;
    default:
      return parse_own (parse, arg, key) ? 0 : -1;
    }
}

/* The last word is the mountpoint, the others are images. */
static bool
take_words (Options *options, const GPtrArray *words, GError **error)
{
  if (words->len < 2)
    return usage_fail (
        error, "%s", words->len == 0 ? "no image and no mountpoint given" : "no mountpoint given");
  for (guint i = 0; i + 1 < words->len; i++)
    if (!images_add (options->images, words->pdata[i], error))
      return false;
  options->mountpoint = g_strdup (words->pdata[words->len - 1]);
  if (*options->mountpoint == '\0')
    return usage_fail (error, "the mountpoint is an empty word");
  if (options->images->len > 1 && options->store == NULL)
    return usage_fail (error,
                       "several images ('%s', '%s'...) need a place for their snapshots; "
                       "give -o store=DIR",
                       (const char *) words->pdata[0], (const char *) words->pdata[1]);
  return true;
}

static void
add_fuse_option (Options *options, const char *option)
{
  char *escaped = NULL;

  if (fuse_opt_add_opt_escaped (&escaped, option) != 0
      || fuse_opt_insert_arg (&options->fuse, 1, "-o") != 0
      || fuse_opt_insert_arg (&options->fuse, 2, escaped) != 0)
    g_error ("out of memory");
  free (escaped);
}

/* What every mount gets unless the user said otherwise. */
static void
add_defaults (Options *options, const Parse *parse)
{
  const Image *first = options->images->pdata[0];

  if (!parse->fsname)
    {
      /* Symbolic links stay: mount -a compares this with the words of fstab. */
      g_autofree char *path = g_canonicalize_filename (first->path, NULL);
      g_autofree char *fsname = g_strconcat ("fsname=", path, NULL);

      add_fuse_option (options, fsname);
    }
  if (!parse->subtype)
    add_fuse_option (options, "subtype=fleecefs");
  /* Without it the kernel would leave permission checks to us, who make none. */
  if (parse->allow && !parse->default_permissions)
    add_fuse_option (options, "default_permissions");
}

static bool
parse_words (Parse *parse, GError **error)
{
  Options *options = parse->options;
  Capture capture;
  int result;
  g_autofree char *text = NULL;

  capture_begin (&capture); /* libfuse prints its own complaints */
  result = fuse_opt_parse (&options->fuse, parse, known, parse_one);
  text = capture_end (&capture);
  if (result == 0)
    return true;
  if (*error == NULL)
    {
      g_autofree char *line = capture_last_line (text);

      usage_fail (error, "%s", *line != '\0' ? line : "bad command line");
    }
  return false;
}

Options *
options_parse (int argc, char **argv, GError **error)
{
  g_autoptr (Options) options = g_new0 (Options, 1);
  g_autoptr (GPtrArray) words = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GError) own_error = NULL;
  Parse parse = { .options = options, .words = words, .error = &own_error };
  bool ok;

  options->images = images_new ();
  options->max_snapshots = MAX_SNAPSHOTS_DEFAULT;
  options->threads = THREADS_DEFAULT;
  options->log_level = LOG_NOTICE;
  options->copy = DISK_COPY_AUTO;
  options->on_cbw_error = DISK_CBW_BREAK_SNAPSHOT;
  options->fuse = (struct fuse_args) FUSE_ARGS_INIT (argc, argv);

  ok = parse_words (&parse, &own_error);
  if (options->debug)
    options->log_level = LOG_DEBUG;
  if (ok && !options->help && !options->version)
    {
      ok = take_words (options, words, &own_error);
      if (ok)
        add_defaults (options, &parse);
    }
  if (ok)
    return g_steal_pointer (&options);
  g_propagate_error (error, g_steal_pointer (&own_error));
  return NULL;
}
