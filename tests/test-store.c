/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store: making, opening, its state and numbers, unmaking, and failures of the system. */
#include "base/fail.h"
#include "store-bed.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define OTHER_BOOT "01234567-89ab-4cde-8f01-23456789abcd"

START_TEST (test_create)
{
  uint64_t granule = 16384;
  Store *store = store_open (bed_path, &granule, NULL);
  g_autofree char *lock = bed_in_store ("lock");
  g_autofree char *ini = bed_in_store ("fleecefs.ini");
  g_autofree char *absolute = realpath (bed_path, NULL);
  struct statvfs fs;
  struct stat st;

  ck_assert_ptr_nonnull (store);
  ck_assert_str_eq (store_path (store), absolute);
  ck_assert (store_was_clean (store));
  ck_assert (!store_host_crashed (store));
  ck_assert_uint_eq (store_disks (store)->len, 0);
  ck_assert_ptr_null (store_find_disk (store, "a.img"));
  ck_assert_int_eq (store_statvfs (store, &fs), 0);
  ck_assert_int_eq (stat (bed_path, &st), 0);
  ck_assert_uint_eq (st.st_mode & 07777, 0700);
  ck_assert_int_eq (stat (lock, &st), 0);
  ck_assert_uint_eq (st.st_mode & 07777, 0600);
  ck_assert_int_eq (stat (ini, &st), 0);
  ck_assert_uint_eq (st.st_mode & 07777, 0600);
  bed_assert_names (store, "");
  store_free (store);

  granule = 0;
  store = store_open (bed_path, &granule, NULL);
  ck_assert_uint_eq (granule, 16384);
  store_free (store);
}
END_TEST

START_TEST (test_create_needs_parent)
{
  g_free (bed_path);
  bed_path = g_build_filename (bed_directory, "missing", "s", NULL);
  bed_assert_refused (0, ENOENT, "make the directory above it first");
}
END_TEST

START_TEST (test_half_written)
{
  static const char *const left[][3] = {
    { NULL },
    { "lock" },
    { "snapshots/" },
    { "lock", "snapshots/" },
    { "lock", "snapshots/", "fleecefs.ini.new" },
  };

  bed_make_directory (".");
  for (int i = 0; i < 3 && left[_i][i] != NULL; i++)
    if (g_str_has_suffix (left[_i][i], "/"))
      bed_make_directory (left[_i][i]);
    else
      bed_write_file (left[_i][i], strcmp (left[_i][i], "lock") == 0 ? "" : "[fleec");
  store_free (bed_open_store ());
  ck_assert (bed_exists ("fleecefs.ini"));
  ck_assert (!bed_exists ("fleecefs.ini.new"));
  store_free (bed_open_store ());
}
END_TEST

START_TEST (test_reopen)
{
  Store *store;
  const StoreDisk *disk;

  bed_make_closed_store ();
  store = bed_open_store ();
  ck_assert (store_was_clean (store));
  ck_assert_uint_eq (store_disks (store)->len, 2);
  disk = store_find_disk (store, "b.img");
  ck_assert_ptr_nonnull (disk);
  ck_assert_str_eq (disk->path, "/images/b.img");
  ck_assert_uint_eq (disk->number, 2);
  ck_assert_uint_eq (disk->size, 512);
  ck_assert_int_eq (disk->mtime, 9);
  ck_assert_int_eq (disk->write_time, 10);
  bed_assert_names (store, "1:1:monday 2:2:tuesday ");
  /* The leftovers are gone, and the number of the half-made layer is not given again. */
  ck_assert (!bed_exists ("fleecefs.ini.new"));
  ck_assert (!bed_exists ("snapshots/000001/snapshot.ini.new"));
  ck_assert (bed_exists ("snapshots/000001/a.img.qcow2"));
  ck_assert (!bed_exists ("snapshots/000007"));
  ck_assert_uint_eq (store_next_number (store, NULL), 8);
  store_free (store);
}
END_TEST

START_TEST (test_states)
{
  static const struct
  {
    const char *state;
    const char *boot_id; /* NULL: this boot */
    bool was_clean, host_crashed;
  } cases[] = {
    { "clean", NULL, true, false },
    { "clean", OTHER_BOOT, true, false },
    { "open", NULL, false, false },
    { "open", OTHER_BOOT, false, true },
  };
  Store *store = bed_make_store ();

  store_free (store);
  bed_set_value ("fleecefs.ini", "fleecefs", "state", cases[_i].state);
  if (cases[_i].boot_id != NULL)
    bed_set_value ("fleecefs.ini", "fleecefs", "boot-id", cases[_i].boot_id);
  store = bed_open_store ();
  ck_assert (store_was_clean (store) == cases[_i].was_clean);
  ck_assert (store_host_crashed (store) == cases[_i].host_crashed);

  /* To give numbers does not make anyone forget the crash. */
  for (int i = 0; i < 200; i++)
    ck_assert_uint_gt (store_next_number (store, NULL), 0);
  store_free (store);
  store = bed_open_store ();
  ck_assert (store_host_crashed (store) == cases[_i].host_crashed);
  ck_assert (store_mark_open (store, NULL));
  store_free (store);
  store = bed_open_store ();
  ck_assert (!store_was_clean (store));
  ck_assert (!store_host_crashed (store));
  ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  store = bed_open_store ();
  ck_assert (store_was_clean (store));
  store_free (store);
}
END_TEST

START_TEST (test_granule)
{
  static const struct
  {
    uint64_t wanted;
    bool layers;
    int errnum;
    const char *message;
  } cases[] = {
    { 4096, true, 0, NULL },
    { 65536, false, 0, NULL },
    { 65536, true, EINVAL, "have granule 4k, not 64k; use -o granule=4k" },
    { 2048, false, EINVAL, "power of two" },
    { 131072, false, EINVAL, "power of two" },
    { 12288, false, EINVAL, "power of two" },
  };
  uint64_t granule = cases[_i].wanted;
  Store *store;

  if (cases[_i].layers)
    bed_make_closed_store ();
  else
    store_free (bed_open_store ());
  if (cases[_i].errnum != 0)
    {
      bed_assert_refused (granule, cases[_i].errnum, cases[_i].message);
      return;
    }
  store = store_open (bed_path, &granule, NULL);
  ck_assert_ptr_nonnull (store);
  ck_assert_uint_eq (granule, cases[_i].wanted);
  ck_assert (store_mark_open (store, NULL));
  store_free (store);
  granule = 0;
  store = store_open (bed_path, &granule, NULL);
  ck_assert_uint_eq (granule, cases[_i].wanted);
  store_free (store);
}
END_TEST

/* Rounds of opening, giving some numbers and ending, with and without a crash. */
START_TEST (test_numbers_never_again)
{
  static const unsigned counts[] = { 0, 1, 63, 64, 65, 0, 200, 3 };
  uint32_t last = 0;

  for (unsigned round = 0; round < G_N_ELEMENTS (counts); round++)
    {
      Store *store = bed_open_store ();
      uint32_t first = last + 1;

      if (_i != 1) /* 1: a crash before the store is marked open */
        ck_assert (store_mark_open (store, NULL));
      for (unsigned i = 0; i < counts[round]; i++)
        {
          uint32_t number = store_next_number (store, NULL);

          ck_assert_uint_gt (number, last);
          if (_i == 2) /* closed clean: no number is lost */
            ck_assert_uint_eq (number, first + i);
          last = number;
        }
      if (_i == 2)
        ck_assert (store_mark_clean (store, NULL));
      store_free (store);
    }
}
END_TEST

START_TEST (test_numbers_of_layers)
{
  Store *store = bed_make_store ();

  bed_add_layer (store, 1500000, 70000, "big");
  ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  store = bed_open_store ();
  ck_assert (bed_exists ("snapshots/1500000"));
  bed_assert_names (store, "1:1:monday 2:2:tuesday 1500000:70000:big ");
  ck_assert_uint_eq (store_next_number (store, NULL), 1500001);
  bed_add_layer (store, 1500001, 2000000, "an id may be the greater one");
  store_free (store);
  store = bed_open_store ();
  ck_assert_uint_eq (store_next_number (store, NULL), 2000001);
  store_free (store);
}
END_TEST

START_TEST (test_numbers_run_out)
{
  Store *store;

  bed_make_closed_store ();
  bed_set_value ("fleecefs.ini", "fleecefs", "next-number", "4294967294");
  for (int round = 0; round < 3; round++)
    {
      g_autoptr (GError) error = NULL;

      store = bed_open_store ();
      if (round == 0)
        {
          ck_assert_uint_eq (store_next_number (store, NULL), UINT32_MAX - 1);
          ck_assert_uint_eq (store_next_number (store, NULL), UINT32_MAX);
        }
      ck_assert_uint_eq (store_next_number (store, &error), 0);
      ck_assert_int_eq (fail_code (error), EOVERFLOW);
      if (round == 1)
        ck_assert (store_mark_clean (store, NULL));
      store_free (store);
    }
}
END_TEST
/* Unmaking. */

START_TEST (test_discard_new)
{
  g_autofree char *before = NULL;
  g_autofree char *after = NULL;
  guint n_descriptors = bed_count_descriptors ();
  Store *store;

  if (_i > 0)
    bed_make_directory (".");
  before = bed_listing ();
  if (_i == 2) /* left by an interrupted start: removed with the rest */
    {
      bed_make_directory ("snapshots");
      bed_write_file ("lock", "");
    }
  store = bed_open_store ();
  bed_set_disks (store);
  ck_assert (store_mark_open (store, NULL));
  ck_assert_uint_eq (store_next_number (store, NULL), 1);
  store_discard_new (store);
  after = bed_listing ();
  ck_assert_str_eq (before, after);
  ck_assert_uint_eq (n_descriptors, bed_count_descriptors ());
}
END_TEST

START_TEST (test_discard_keeps)
{
  g_autofree char *before = NULL;
  g_autofree char *after = NULL;
  Store *store = bed_make_store ();

  if (_i == 1) /* not made by this open */
    {
      ck_assert (store_remove_layer (store, 1, NULL));
      ck_assert (store_remove_layer (store, 2, NULL));
      store_free (store);
      store = bed_open_store ();
    }
  before = bed_listing ();
  store_discard_new (store);
  after = bed_listing ();
  ck_assert_str_eq (before, after);
  store_free (bed_open_store ());
}
END_TEST

/* Failures of the system. */

/* While it is set no file can be written to. */
static void
forbid_writes (bool forbid)
{
  static struct rlimit old;
  struct rlimit none;

  if (!forbid)
    {
      ck_assert_int_eq (setrlimit (RLIMIT_FSIZE, &old), 0);
      return;
    }
  signal (SIGXFSZ, SIG_IGN);
  ck_assert_int_eq (getrlimit (RLIMIT_FSIZE, &old), 0);
  none = (struct rlimit){ .rlim_cur = 0, .rlim_max = old.rlim_max };
  ck_assert_int_eq (setrlimit (RLIMIT_FSIZE, &none), 0);
}

START_TEST (test_write_fails)
{
  Store *store = bed_make_store ();
  g_autoptr (StoreRecord) record = bed_make_record (1, 1, "renamed");
  g_autofree char *before = NULL;
  g_autofree char *after = NULL;
  uint32_t last = 0, number = 0;

  while (last < 64) /* up to the end of the reserved ones */
    last = store_next_number (store, NULL);
  before = bed_listing ();
  forbid_writes (true);
  ck_assert (!store_write_record (store, record, true, NULL));
  ck_assert (!store_mark_clean (store, NULL));
  for (int i = 0; i < 65 && (number = store_next_number (store, NULL)) != 0; i++)
    last = number;
  ck_assert_uint_eq (number, 0);
  after = bed_listing ();
  forbid_writes (false);
  ck_assert_str_eq (before, after);
  bed_assert_names (store, "1:1:monday 2:2:tuesday ");
  ck_assert_uint_eq (store_next_number (store, NULL), last + 1);
  store_free (store);
  store = bed_open_store ();
  ck_assert (!store_was_clean (store));
  ck_assert_uint_gt (store_next_number (store, NULL), last + 1);
  store_free (store);
}
END_TEST

START_TEST (test_create_fails)
{
  g_autofree char *before = NULL;
  g_autofree char *after = NULL;
  g_autoptr (GError) error = NULL;
  uint64_t granule = 0;

  if (_i == 1)
    bed_make_directory (".");
  before = bed_listing ();
  forbid_writes (true);
  ck_assert_ptr_null (store_open (bed_path, &granule, &error));
  forbid_writes (false);
  ck_assert_int_eq (fail_code (error), EFBIG);
  after = bed_listing ();
  ck_assert_str_eq (before, after);
}
END_TEST

/* No descriptor is left for the Nth open() and those after it, for every N. */
START_TEST (test_out_of_descriptors)
{
  guint n_descriptors = bed_count_descriptors ();
  int lowest = dup (STDIN_FILENO);
  g_autofree char *before = NULL;
  struct rlimit old, few;
  Store *store = NULL;
  int n_failures;

  close (lowest);
  if (_i == 1)
    {
      store = bed_make_store ();
      store_free (store);
      store = NULL;
    }
  before = bed_listing ();
  ck_assert_int_eq (getrlimit (RLIMIT_NOFILE, &old), 0);
  for (n_failures = 0;; n_failures++)
    {
      g_autofree char *after = NULL;
      uint64_t granule = 0;

      ck_assert_int_lt (n_failures, 20);
      few = old;
      few.rlim_cur = (rlim_t) (lowest + n_failures);
      ck_assert_int_eq (setrlimit (RLIMIT_NOFILE, &few), 0);
      store = store_open (bed_path, &granule, NULL);
      ck_assert_int_eq (setrlimit (RLIMIT_NOFILE, &old), 0);
      if (store != NULL)
        break;
      after = bed_listing ();
      ck_assert_str_eq (before, after);
      ck_assert_uint_eq (n_descriptors, bed_count_descriptors ());
    }
  ck_assert_int_ge (n_failures, 4);
  store_free (store);
  ck_assert_uint_eq (n_descriptors, bed_count_descriptors ());
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("store");
  TCase *tc = bed_case (suite);

  tcase_add_test (tc, test_create);
  tcase_add_test (tc, test_create_needs_parent);
  tcase_add_loop_test (tc, test_half_written, 0, 5);
  tcase_add_test (tc, test_reopen);
  tcase_add_loop_test (tc, test_states, 0, 4);
  tcase_add_loop_test (tc, test_granule, 0, 6);
  tcase_add_loop_test (tc, test_numbers_never_again, 0, 3);
  tcase_add_test (tc, test_numbers_of_layers);
  tcase_add_test (tc, test_numbers_run_out);
  tcase_add_loop_test (tc, test_discard_new, 0, 3);
  tcase_add_loop_test (tc, test_discard_keeps, 0, 2);
  tcase_add_test (tc, test_write_fails);
  tcase_add_loop_test (tc, test_create_fails, 0, 2);
  tcase_add_loop_test (tc, test_out_of_descriptors, 0, 2);
  return bed_run (suite);
}
