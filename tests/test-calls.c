/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The double of the kernel that other tests rely on: it sees the library's calls, and each fate
 * does what it says. */
#include "base/io.h"
#include "calls.h"
#include "source/source.h"
#include "store/store.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The call that gets a fate, and what was seen. */
typedef struct
{
  CallKind kind;
  uint64_t number; /* 0: every call of the kind */
  CallFate fate;

  unsigned seen[CALL_KINDS];
  Call last;
  char last_path[4096];
  ssize_t result;
  int errnum;
} Plan;

static CallFate
decide (const Call *call, void *data)
{
  Plan *plan = data;

  plan->seen[call->kind]++;
  plan->last = *call;
  g_strlcpy (plan->last_path, call->path, sizeof plan->last_path);
  if (call->kind == plan->kind && (plan->number == 0 || plan->number == call->number))
    return plan->fate;
  return (CallFate){ CALL_GO_ON, 0, 0 };
}

static void
hear (const Call *call, ssize_t result, int errnum, void *data)
{
  Plan *plan = data;
  char byte;

  plan->result = result;
  plan->errnum = errnum;
  if (call->kind == CALL_WRITE)
    pread (call->fd, &byte, 1, 0); /* unseen */
}

static Plan plan;

static void
set_up (void)
{
  test_set_up ();
  memset (&plan, 0, sizeof plan);
}

static void
tear_down (void)
{
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  test_tear_down ();
}

static int
open_file (const char *name)
{
  int fd = open (test_path (name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

  ck_assert_int_ge (fd, 0);
  return fd;
}

static void
arm (CallKind kind, uint64_t number, CallFate fate)
{
  plan = (Plan){ .kind = kind, .number = number, .fate = fate };
  calls_hook (1U << CALL_STORE | 1U << CALL_SOURCE, CALLS_ALL, decide, hear, &plan);
}

START_TEST (test_sees_the_store)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (StoreRecord) record = store_record_new ();
  uint64_t granule = 0;
  Store *store;

  calls_watch (CALL_STORE, test_path ("store"));
  arm (CALL_KINDS, 0, (CallFate){ CALL_GO_ON, 0, 0 });
  store = store_open (test_path ("store"), &granule, &error);
  ck_assert_msg (store != NULL, "%s", error != NULL ? error->message : "");
  ck_assert (store_mark_open (store, &error));
  record->layer = store_next_number (store, &error);
  ck_assert (store_create_layer (store, record->layer, &error));
  ck_assert (store_write_record (store, record, true, &error));
  ck_assert_int_eq (plan.last.kind, CALL_CLOSE);
  ck_assert (store_remove_layer (store, record->layer, &error));
  store_free (store);

  ck_assert_uint_gt (plan.seen[CALL_OPEN], 0);
  ck_assert_uint_gt (plan.seen[CALL_CREATE], 0);
  ck_assert_uint_eq (plan.seen[CALL_MKDIR], 3);
  ck_assert_uint_eq (plan.seen[CALL_RENAME], 3);
  ck_assert_uint_gt (plan.seen[CALL_UNLINK], 0);
  ck_assert_uint_eq (plan.seen[CALL_RMDIR], 1);
  ck_assert_uint_gt (plan.seen[CALL_WRITE], 0);
  ck_assert_uint_gt (plan.seen[CALL_SYNC], 0);
}
END_TEST

START_TEST (test_sees_the_source)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (Source) source = NULL;
  char bytes[100] = { 0 };
  uint64_t size;
  bool has_note;

  test_make_file (test_path ("disk"), 1 << 20, 1);
  calls_watch (CALL_SOURCE, test_path ("disk"));
  arm (CALL_KINDS, 0, (CallFate){ CALL_GO_ON, 0, 0 });
  source = source_open (test_path ("disk"), &error);
  ck_assert_msg (source != NULL, "%s", error != NULL ? error->message : "");
  ck_assert_int_eq (source_size (source, &size), 0);
  ck_assert_int_eq (plan.last.kind, CALL_STAT);
  ck_assert_int_eq (source_read (source, bytes, sizeof bytes, 7), sizeof bytes);
  ck_assert_int_eq (plan.last.kind, CALL_READ);
  ck_assert_uint_eq (plan.last.place, CALL_SOURCE);
  ck_assert_uint_eq (plan.last.offset, 7);
  ck_assert_uint_eq (plan.last.length, sizeof bytes);
  ck_assert_str_eq (plan.last_path, test_path ("disk"));
  ck_assert_int_eq (source_write (source, bytes, sizeof bytes, 8, IO_SYNC_NONE), sizeof bytes);
  ck_assert_int_eq (plan.last.kind, CALL_WRITE);
  ck_assert_ptr_eq (plan.last.bytes, bytes);
  ck_assert_int_eq (plan.result, sizeof bytes);
  ck_assert_int_eq (source_truncate (source, 5000), 0);
  ck_assert_int_eq (plan.last.kind, CALL_TRUNCATE);
  ck_assert_int_eq (source_allocate (source, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
                    0);
  ck_assert_int_eq (plan.last.kind, CALL_ALLOCATE);
  source_find (source, 0, SOURCE_HOLE);
  ck_assert_int_eq (plan.last.kind, CALL_SEEK);
  ck_assert_int_eq (source_flush (source, false), 0);
  ck_assert_int_eq (plan.last.kind, CALL_SYNC);
  ck_assert_int_eq (source_has_note (source, "id", &has_note), 0);
  ck_assert_int_eq (plan.last.kind, CALL_GETXATTR);
  source_set_note (source, "id"); /* may fail: not all file systems have attributes */
  ck_assert_int_eq (plan.last.kind, CALL_XATTR);
  ck_assert_ptr_nonnull (plan.last.bytes);
  source_clear_note (source);
  ck_assert_int_eq (plan.last.kind, CALL_XATTR);
  ck_assert_ptr_null (plan.last.bytes);
  ck_assert_uint_eq (calls_count (), plan.last.number);
}
END_TEST

START_TEST (test_fails)
{
  char bytes[100] = { 0 };
  struct stat st;
  int fd = open_file ("x");

  calls_watch (CALL_STORE, test_path ("x"));
  arm (CALL_WRITE, 2, (CallFate){ CALL_FAIL, ENOSPC, 0 });
  ck_assert_int_eq (pwrite (fd, bytes, sizeof bytes, 0), sizeof bytes);
  ck_assert_int_eq (pwrite (fd, bytes, sizeof bytes, 100), -1);
  ck_assert_int_eq (errno, ENOSPC);
  ck_assert_int_eq (plan.errnum, ENOSPC);
  ck_assert_int_eq (fstat (fd, &st), 0);
  ck_assert_int_eq (st.st_size, sizeof bytes);
  ck_assert_int_eq (pwrite (fd, bytes, sizeof bytes, 100), sizeof bytes);

  arm (CALL_SYNC, 0, (CallFate){ CALL_FAIL, EIO, 0 });
  ck_assert_int_eq (fsync (fd), -1);
  ck_assert_int_eq (errno, EIO);
  ck_assert_int_eq (fdatasync (fd), -1);
  arm (CALL_STAT, 0, (CallFate){ CALL_FAIL, ESTALE, 0 });
  ck_assert_int_eq (fstat (fd, &st), -1);
  ck_assert_int_eq (errno, ESTALE);
  arm (CALL_CLOSE, 0, (CallFate){ CALL_FAIL, EDQUOT, 0 });
  ck_assert_int_eq (close (fd), -1);
  ck_assert_int_eq (errno, EDQUOT);
  ck_assert_int_eq (fcntl (fd, F_GETFD), -1);
}
END_TEST

START_TEST (test_cuts)
{
  char bytes[100] = { 0 };
  struct stat st;
  int fd = open_file ("x");

  calls_watch (CALL_STORE, test_path ("x"));
  arm (CALL_WRITE, 0, (CallFate){ CALL_SHORT, 0, 1 });
  ck_assert_int_eq (pwrite (fd, bytes, sizeof bytes, 0), 1);
  ck_assert_int_eq (io_write_full (fd, bytes, sizeof bytes, 0), 0);
  ck_assert_uint_eq (plan.seen[CALL_WRITE], 101);
  arm (CALL_READ, 1, (CallFate){ CALL_SHORT, 0, 50 });
  ck_assert_int_eq (pread (fd, bytes, sizeof bytes, 0), 50);
  arm (CALL_WRITE, 1, (CallFate){ CALL_TEAR, EIO, 20 });
  ck_assert_int_eq (pwrite (fd, bytes, sizeof bytes, 100), -1);
  ck_assert_int_eq (errno, EIO);
  ck_assert_int_eq (fstat (fd, &st), 0);
  ck_assert_int_eq (st.st_size, 120);
  close (fd);
}
END_TEST

/* Parts that a short write ends within, or between; the first one only, or each. */
START_TEST (test_short_parts)
{
  char bytes[100], back[100];
  int fd = open_file ("x");

  calls_watch (CALL_STORE, test_path ("x"));
  for (unsigned n = 1; n < sizeof bytes; n++)
    {
      struct iovec parts[] = { { bytes, 10 }, { bytes + 10, sizeof bytes - 10 } };

      memset (bytes, (int) n, 10);
      memset (bytes + 10, (int) n + 100, sizeof bytes - 10);
      arm (CALL_WRITE, n % 2, (CallFate){ CALL_SHORT, 0, n });
      ck_assert_int_eq (io_write_parts (fd, parts, 2, 5), 0);
      calls_hook (0, 0, NULL, NULL, NULL);
      ck_assert_int_eq (io_read_full (fd, back, sizeof back, 5), 0);
      ck_assert_mem_eq (back, bytes, sizeof back);
    }
  close (fd);
}
END_TEST

START_TEST (test_kills)
{
  pid_t child = fork ();
  int status;

  if (child == 0)
    {
      int fd = open (test_path ("x"), O_RDWR | O_CREAT, 0600);

      calls_watch (CALL_STORE, test_path ("x"));
      arm (CALL_SYNC, 2, (CallFate){ CALL_DIE, 0, 0 });
      if (pwrite (fd, "abc", 3, 0) == 3)
        fsync (fd);
      _exit (0);
    }
  ck_assert_int_eq (waitpid (child, &status, 0), child);
  ck_assert (WIFSIGNALED (status));
  ck_assert_int_eq (WTERMSIG (status), SIGKILL);
}
END_TEST

static void *
write_one (void *data)
{
  return pwrite (*(int *) data, "y", 1, 0) == 1 ? data : NULL;
}

START_TEST (test_hangs)
{
  int fd = open_file ("x");
  pthread_t thread;
  char byte = 0;
  void *result;

  calls_watch (CALL_STORE, test_path ("x"));
  ck_assert_int_eq (pwrite (fd, "x", 1, 0), 1);
  arm (CALL_WRITE, 0, (CallFate){ CALL_HANG, 0, 0 });
  ck_assert_int_eq (pthread_create (&thread, NULL, write_one, &fd), 0);
  calls_wait_hanging ();
  ck_assert_int_eq (pread (fd, &byte, 1, 0), 1);
  ck_assert_int_eq (byte, 'x');
  calls_release ();
  pthread_join (thread, &result);
  ck_assert_ptr_eq (result, &fd);
  ck_assert_int_eq (pread (fd, &byte, 1, 0), 1);
  ck_assert_int_eq (byte, 'y');
  close (fd);
}
END_TEST

START_TEST (test_tells_places_apart)
{
  int fd = open_file ("x.img"), other = open_file ("x");

  calls_watch (CALL_STORE, test_path ("x"));
  arm (CALL_KINDS, 0, (CallFate){ CALL_GO_ON, 0, 0 });
  ck_assert_int_eq (pwrite (fd, "abc", 3, 0), 3);
  ck_assert_uint_eq (calls_count (), 0);
  ck_assert_int_eq (pwrite (other, "abc", 3, 0), 3);
  ck_assert_uint_eq (calls_count (), 1);
  ck_assert_int_eq (unlink (test_path ("x")), 0);
  ck_assert_int_eq (pwrite (other, "abc", 3, 0), 3);
  ck_assert_uint_eq (calls_count (), 2);
  ck_assert_str_eq (plan.last_path, test_path ("x"));
  calls_hook (1U << CALL_STORE, 1U << CALL_SYNC, decide, hear, &plan);
  ck_assert_int_eq (pwrite (other, "abc", 3, 0), 3);
  ck_assert_uint_eq (calls_count (), 0);
  close (fd);
  close (other);
}
END_TEST

static Suite *
suite (void)
{
  Suite *s = suite_create ("calls");
  TCase *tcase = tcase_create ("calls");

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  suite_add_tcase (s, tcase);
  tcase_add_test (tcase, test_sees_the_store);
  tcase_add_test (tcase, test_sees_the_source);
  tcase_add_test (tcase, test_fails);
  tcase_add_test (tcase, test_cuts);
  tcase_add_test (tcase, test_short_parts);
  tcase_add_test (tcase, test_kills);
  tcase_add_test (tcase, test_hangs);
  tcase_add_test (tcase, test_tells_places_apart);
  return s;
}

int
main (void)
{
  return test_main (suite ());
}
