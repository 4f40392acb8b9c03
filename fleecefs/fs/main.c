/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the command line to the exit status: 0, 1 for what went wrong, 2 for wrong
 * usage. The one error is printed here.
 *
 * Everything that can fail comes before the fork, and what is easily wrong (words, paths,
 * devices) before anything is made. The order of the end is: the mount goes, so that
 * nobody can ask any more; then the set is closed, so that overlays and source
 * are clean; a new fleecefs that was started meanwhile waits for that.
 */
#include "config.h"

#include "base/fail.h"
#include "fs/daemon.h"
#include "fs/log.h"
#include "fs/notify.h"
#include "fs/options.h"
#include "fs/own-host.h"
#include "fs/places.h"
#include "fs/privilege.h"
#include "fs/ring.h"
#include "fs/session.h"
#include "fs/tree.h"
#include "fs/usage.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum
{
  STATUS_OK = 0,
  STATUS_FAILED = 1,
  STATUS_USAGE = 2,
};

static int
report (const GError *error)
{
  g_critical ("%s", error->message);
  if (error->domain != USAGE_ERROR)
    return STATUS_FAILED;
  fprintf (stderr, "Try 'fleecefs --help'.\n");
  return STATUS_USAGE;
}

/* Each snapshot keeps a file open for each disk: a hundred of them and a few disks are
 * more than the usual soft limit. */
static void
raise_file_limit (void)
{
  struct rlimit limit;

  if (getrlimit (RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max)
    {
      limit.rlim_cur = limit.rlim_max;
      setrlimit (RLIMIT_NOFILE, &limit);
    }
}

static Snapshots *
open_set (const Options *options, const Places *places, Session *session, GError **error)
{
  const SnapshotsConfig config = {
    .store = places->store,
    .granule = options->granule,
    .max_snapshots = options->max_snapshots,
    .max_overlay = options->max_overlay,
    .reserve = options->reserve,
    .copy = options->copy,
    .on_cbw_error = options->on_cbw_error,
    .cbw_timeout = options->cbw_timeout,
    .durable = options->durable,
    .new_store = options->new_store,
    .run_dir = places->run_dir,
    .state_dir = places->state_dir,
    .is_ending = session_is_ending,
    .is_ending_data = session,
  };

  return snapshots_open (&config, places->images, places->n_images, error);
}

/* The process that serves, with all its threads. Takes over the set. started: by a service
 * manager, perhaps, which wants to know. */
static bool
serve (Session *session, Snapshots *set, const Places *places, bool started, GError **error)
{
  g_autoptr (GError) close_error = NULL;
  bool ok;

  own_host_prepare ();
  ok = session_confine (session, places->overmount, error);
  snapshots_set_broken_func (set, session_drop_pages, session);
  log_start ();
  session_block_signals ();
  ok = ok && snapshots_start (set, error);
  session_unblock_signals ();
  if (!ok)
    {
      session_unmount (session);
      snapshots_abandon (set);
      return false;
    }
  ok = session_overmount (session, error);
  if (started && ok)
    notify_send ("READY=1"); /* the mount is there, and who asks it gets an answer */
  ok = ok && session_serve (session, error);
  if (started)
    notify_send ("STOPPING=1");
  session_unmount (session);
  if (snapshots_close (set, &close_error))
    return ok;
  if (ok)
    g_propagate_error (error, g_steal_pointer (&close_error));
  else
    g_warning ("%s", close_error->message);
  return false;
}

/* What is left of the process that the user started. Never returns: the set and the
 * session are the child's. */
G_GNUC_NORETURN static void
wait_in_parent (Session *session, const Places *places, const Daemon *daemon)
{
  g_autoptr (GError) error = NULL;
  struct stat st;

  session_leave (session);
  daemon_pass_signals (daemon);
  session_unblock_signals ();
  if (daemon_await (daemon, places, &error))
    _exit (STATUS_OK);
  /* Only what the child left behind: after a clean end of it something else may be
   * there. */
  if (stat (places->mountpoint, &st) != 0 && errno == ENOTCONN)
    session_unmount (session);
  _exit (report (error));
}

static bool
serve_in_background (Session *session, Snapshots *set, const Places *places, GError **error)
{
  Daemon daemon;
  bool forked;

  session_block_signals ();
  forked = daemon_fork (&daemon, error);
  if (!forked || daemon.child == 0)
    session_unblock_signals ();
  if (!forked)
    {
      session_unmount (session);
      snapshots_abandon (set);
      return false;
    }
  if (daemon.child != 0)
    wait_in_parent (session, places, &daemon);
  if (serve (session, set, places, false, error))
    return true;
  daemon_last_words (&daemon, (*error)->message);
  return false;
}

/* Mounts, and serves here or in the background. Takes over the set. */
static bool
run (Session *session, Snapshots *set, const Options *options, const Places *places, GError **error)
{
  g_autoptr (Tree) tree = tree_new (set, error);

  if (tree == NULL || !session_mount (session, tree, places->mountpoint, error))
    {
      snapshots_abandon (set);
      return false;
    }
  return options->foreground ? serve (session, set, places, true, error)
                             : serve_in_background (session, set, places, error);
}

static bool
start (Options *options, GError **error)
{
  g_autoptr (Session) session = session_new (options, error);
  g_autoptr (Places) places = NULL;
  Snapshots *set;

  if (session == NULL)
    return false;
  places = places_resolve (options, error);
  if (places == NULL || !session_check_device (error) || (options->io_uring && !ring_check (error)))
    return false;
  set = open_set (options, places, session, error);
  return set != NULL && run (session, set, options, places, error);
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Options) options = NULL;
  int status;

  privilege_clean_start ();
  log_init ();
  options = options_parse (argc, argv, &error);
  if (options == NULL)
    return report (error);
  if (options->help)
    fputs (usage_help (), stdout);
  else if (options->version)
    printf ("fleecefs %s (libfuse %s)\n", PACKAGE_VERSION, fuse_pkgversion ());
  if (options->help || options->version)
    {
      if (fflush (stdout) == 0)
        return STATUS_OK;
      fail_errno (&error, errno, "cannot write to standard output");
      return report (error);
    }
  log_set_level (options->log_level);
  raise_file_limit ();
  signal (SIGXFSZ, SIG_IGN); /* a write beyond RLIMIT_FSIZE is an error of that write */
  status = start (options, &error) ? STATUS_OK : report (error);
  log_end ();
  return status;
}
