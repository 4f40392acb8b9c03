/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a process can do after privilege_drop(), and what it can not. Each case in a process of its
 * own: nothing of it can be taken back. */
#include "fs/privilege.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The errno value of each try, 0 for success. */

static int
try_exec (void)
{
  char *const argv[] = { (char *) "true", NULL };

  execv ("/bin/true", argv);
  return errno;
}

static int
try_mount (void)
{
  return mount ("none", "/", "tmpfs", MS_REMOUNT | MS_BIND, NULL) == 0 ? 0 : errno;
}

static int
try_trace (void)
{
  return ptrace (PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : errno;
}

static int
try_namespace (void)
{
  return unshare (CLONE_NEWUSER) == 0 ? 0 : errno;
}

static void *
exec_in_thread (void *data)
{
  *(int *) data = try_exec ();
  return NULL;
}

static int
try_exec_in_thread (void)
{
  pthread_t thread;
  int result = 0;

  if (pthread_create (&thread, NULL, exec_in_thread, &result) != 0)
    return errno;
  pthread_join (thread, NULL);
  return result;
}

/* What a daemon does: threads, files, messages to the system's log. */
static int
try_service (void)
{
  int fd = open ("/dev/null", O_RDWR | O_CLOEXEC);
  int log = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

  return fd >= 0 && log >= 0 && write (fd, "x", 1) == 1 ? 0 : errno;
}

static const struct
{
  const char *what;
  int (*try) (void);
  int result;
  bool needs_filter;
} cases[] = {
  { "exec", try_exec, EPERM, true },
  { "exec in a thread", try_exec_in_thread, EPERM, true },
  { "mount", try_mount, EPERM, false },
  { "ptrace", try_trace, EPERM, true },
  { "a user namespace", try_namespace, EPERM, true },
  { "service", try_service, 0, false },
};

START_TEST (dropped)
{
  pid_t child = fork ();
  int status;

  if (child == 0)
    {
      privilege_drop (0);
      /* Sanitizers have no filter; privilege.sh sees to it that the program has one. */
      _exit (prctl (PR_GET_SECCOMP) == 2 || !cases[_i].needs_filter ? cases[_i].try ()
                                                                    : cases[_i].result);
    }
  ck_assert_int_eq (waitpid (child, &status, 0), child);
  ck_assert_msg (WIFEXITED (status) && WEXITSTATUS (status) == cases[_i].result,
                 "%s: %s, should be %s", cases[_i].what, strerror (WEXITSTATUS (status)),
                 strerror (cases[_i].result));
}
END_TEST

START_TEST (closes)
{
  int kept = open ("/dev/null", O_RDONLY), low = dup (kept), high = fcntl (kept, F_DUPFD, 900);
  pid_t child = fork ();
  int status;

  if (child == 0)
    {
      privilege_close_but (kept);
      _exit (fcntl (kept, F_GETFD) >= 0 && fcntl (low, F_GETFD) < 0 && fcntl (high, F_GETFD) < 0
                     && fcntl (STDERR_FILENO, F_GETFD) >= 0
                 ? 0
                 : 1);
    }
  ck_assert_int_eq (waitpid (child, &status, 0), child);
  ck_assert_int_eq (status, 0);
  close (kept);
  close (low);
  close (high);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("privilege");
  TCase *privileges = test_case (suite, "privileges", 0);

  tcase_add_loop_test (privileges, dropped, 0, G_N_ELEMENTS (cases));
  tcase_add_test (privileges, closes);
  return test_main (suite);
}
