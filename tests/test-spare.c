/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A manifest file is replaced on a full file system: by moving the spare, or, where a new name
 * needs space too, by giving its space back. */
#include "base/fail.h"
#include "calls.h"
#include "store/keyfile.h"
#include "store/spare.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "file"
#define CREATES (1U << CALL_CREATE)
#define RENAMES (1U << CALL_RENAME)
#define ALLOCATES (1U << CALL_ALLOCATE)

static int dir_fd;
static unsigned refused; /* kinds of calls that find no space */
static bool for_ever;    /* also when the spare has given its space back */

static bool
spare_has_space (void)
{
  struct stat st;

  return fstatat (dir_fd, SPARE_FILE, &st, 0) == 0 && st.st_blocks > 0;
}

static CallFate
decide (const Call *call, G_GNUC_UNUSED void *data)
{
  if ((refused & 1U << call->kind) != 0 && (for_ever || spare_has_space ()))
    return (CallFate){ CALL_FAIL, ENOSPC, 0 };
  return (CallFate){ CALL_GO_ON, 0, 0 };
}

static bool
save (int number, GError **error)
{
  g_autoptr (Keyfile) file = keyfile_new (test_path (FILE_NAME));

  g_key_file_set_integer (file->keys, "group", "number", number);
  return keyfile_save (file, dir_fd, FILE_NAME, true, dir_fd, error);
}

static void
assert_holds (int number)
{
  g_autoptr (Keyfile) file = keyfile_load (dir_fd, FILE_NAME, test_path (FILE_NAME), NULL);
  g_autofree char *expected = g_strdup_printf ("[group]\nnumber=%d\n", number);
  g_autofree char *text = NULL;

  ck_assert_ptr_nonnull (file);
  ck_assert (keyfile_check_end (file, NULL));
  text = g_key_file_to_data (file->keys, NULL, NULL);
  ck_assert_str_eq (text, expected);
  ck_assert_int_ne (faccessat (dir_fd, FILE_NAME ".new", F_OK, 0), 0);
}

static void
set_up (void)
{
  test_set_up ();
  dir_fd = open (test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ck_assert_int_ge (dir_fd, 0);
  refused = 0;
  for_ever = false;
  ck_assert (save (1, NULL));
  ck_assert (spare_keep (dir_fd));
  calls_watch (CALL_STORE, test_dir);
  calls_hook (1U << CALL_STORE, CREATES | RENAMES | ALLOCATES, decide, NULL, NULL);
}

static void
tear_down (void)
{
  calls_hook (0, 0, NULL, NULL, NULL);
  calls_forget ();
  close (dir_fd);
  test_tear_down ();
}

/* What it replaces is the next spare; also when what was cut off from the last one is taken by
 * others at once, and blocks are small. */
START_TEST (is_moved)
{
  refused = CREATES | (_i == 1 ? ALLOCATES : 0);
  for_ever = true;
  for (int i = 2; i <= 4; i++)
    {
      ck_assert (save (i, NULL));
      assert_holds (i);
      ck_assert (spare_keep (dir_fd));
      ck_assert (spare_has_space ());
    }
}
END_TEST

/* As XFS with parent pointers does, when it is full and when it nearly is. */
START_TEST (gives_back)
{
  refused = _i == 0 ? CREATES | RENAMES : RENAMES;
  for (int i = 2; i <= 4; i++)
    {
      ck_assert (save (i, NULL));
      assert_holds (i);
      ck_assert (!spare_has_space ());
      ck_assert (spare_keep (dir_fd));
      ck_assert (spare_has_space ());
    }
}
END_TEST

/* Somebody else takes what it gives, or there is none. */
START_TEST (is_not_enough)
{
  g_autoptr (GError) error = NULL;

  refused = _i % 2 == 0 ? CREATES | RENAMES : RENAMES;
  for_ever = true;
  if (_i >= 2)
    ck_assert_int_eq (unlinkat (dir_fd, SPARE_FILE, 0), 0);
  ck_assert (!save (2, &error));
  ck_assert_int_eq (fail_code (error), ENOSPC);
  assert_holds (1);
  refused = 0;
  ck_assert (spare_keep (dir_fd));
  ck_assert (save (3, NULL));
  assert_holds (3);
}
END_TEST

static Suite *
suite (void)
{
  Suite *suite = suite_create ("spare");
  TCase *tcase = tcase_create ("spare");

  tcase_add_checked_fixture (tcase, set_up, tear_down);
  tcase_add_loop_test (tcase, is_moved, 0, 2);
  tcase_add_loop_test (tcase, gives_back, 0, 2);
  tcase_add_loop_test (tcase, is_not_enough, 0, 4);
  suite_add_tcase (suite, tcase);
  return suite;
}

int
main (void)
{
  return test_main (suite ());
}
