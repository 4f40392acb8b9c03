/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See store-bed.h. */
#include "base/fail.h"
#include "store-bed.h"

#include <check.h>
#include <ftw.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *bed_directory;
char *bed_path;

void
bed_set_up (void)
{
  bed_directory = g_dir_make_tmp ("test-store-XXXXXX", NULL);
  ck_assert_ptr_nonnull (bed_directory);
  bed_path = g_build_filename (bed_directory, "s", NULL);
}

static int
remove_entry (const char *name, const struct stat *st, int type, struct FTW *ftw)
{
  (void) st;
  (void) type;
  (void) ftw;
  return remove (name);
}

void
bed_tear_down (void)
{
  nftw (bed_directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  g_free (bed_directory);
  g_free (bed_path);
}

/* Files. */

char *
bed_in_store (const char *name)
{
  return g_build_filename (bed_path, name, NULL);
}

void
bed_write_file (const char *name, const char *text)
{
  g_autofree char *file = bed_in_store (name);

  ck_assert (g_file_set_contents (file, text, -1, NULL));
}

char *
bed_read_file (const char *name)
{
  g_autofree char *file = bed_in_store (name);
  char *text = NULL;

  ck_assert_msg (g_file_get_contents (file, &text, NULL, NULL), "no %s", name);
  return text;
}

bool
bed_exists (const char *name)
{
  g_autofree char *file = bed_in_store (name);
  struct stat st;

  return lstat (file, &st) == 0;
}

void
bed_make_directory (const char *name)
{
  g_autofree char *file = bed_in_store (name);

  ck_assert_int_eq (g_mkdir_with_parents (file, 0700), 0);
}

void
bed_replace (const char *name, const char *from, const char *to)
{
  g_autofree char *text = bed_read_file (name);
  const char *at = strstr (text, from);
  g_autoptr (GString) changed = g_string_new (NULL);

  ck_assert_msg (at != NULL, "%s has no %s", name, from);
  g_string_append_len (changed, text, at - text);
  g_string_append (changed, to);
  g_string_append (changed, at + strlen (from));
  bed_write_file (name, changed->str);
}

void
bed_set_value (const char *name, const char *group, const char *key, const char *value)
{
  g_autoptr (GKeyFile) keys = g_key_file_new ();
  g_autofree char *file = bed_in_store (name);

  ck_assert (g_key_file_load_from_file (keys, file, G_KEY_FILE_NONE, NULL));
  if (value != NULL)
    g_key_file_set_value (keys, group, key, value);
  else
    ck_assert (g_key_file_remove_key (keys, group, key, NULL));
  ck_assert (g_key_file_save_to_file (keys, file, NULL));
}

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *) a, *(char *const *) b);
}

static void
list_into (GString *out, const char *file)
{
  struct stat st;

  if (lstat (file, &st) != 0)
    {
      g_string_append_printf (out, "%s: missing\n", file);
      return;
    }
  g_string_append_printf (out, "%s %o %ld", file, st.st_mode,
                          S_ISDIR (st.st_mode) ? 0 : (long) st.st_size);
  if (S_ISREG (st.st_mode) && st.st_size < 1 << 20)
    {
      g_autofree char *text = NULL;
      g_autofree char *sum = NULL;
      gsize length;

      ck_assert (g_file_get_contents (file, &text, &length, NULL));
      sum = g_compute_checksum_for_data (G_CHECKSUM_SHA256, (guchar *) text, length);
      g_string_append_printf (out, " %s", sum);
    }
  g_string_append_c (out, '\n');
  if (S_ISDIR (st.st_mode))
    {
      g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
      g_autoptr (GDir) dir = g_dir_open (file, 0, NULL);
      const char *name;

      while ((name = g_dir_read_name (dir)) != NULL)
        g_ptr_array_add (names, g_build_filename (file, name, NULL));
      g_ptr_array_sort (names, compare_names);
      for (guint i = 0; i < names->len; i++)
        list_into (out, names->pdata[i]);
    }
}

char *
bed_listing (void)
{
  GString *out = g_string_new (NULL);

  list_into (out, bed_directory);
  return g_string_free (out, FALSE);
}

guint
bed_count_descriptors (void)
{
  g_autoptr (GDir) dir = g_dir_open ("/proc/self/fd", 0, NULL);
  guint n = 0;

  while (g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

/* Stores. */

Store *
bed_open_store (void)
{
  uint64_t granule = 0;
  g_autoptr (GError) error = NULL;
  Store *store = store_open (bed_path, &granule, &error);

  ck_assert_msg (store != NULL, "%s", error != NULL ? error->message : "no error");
  return store;
}

void
bed_assert_refused (uint64_t granule, int errnum, const char *message)
{
  g_autofree char *before = bed_listing ();
  g_autofree char *after = NULL;
  g_autoptr (GError) error = NULL;
  guint n_descriptors = bed_count_descriptors ();

  ck_assert_ptr_null (store_open (bed_path, &granule, &error));
  ck_assert_ptr_nonnull (error);
  ck_assert_msg (strstr (error->message, message) != NULL, "'%s' is not in: %s", message,
                 error->message);
  ck_assert_msg (strpbrk (error->message, "\n\033") == NULL, "not one line: %s", error->message);
  ck_assert_msg (fail_code (error) == errnum, "code %d: %s", fail_code (error), error->message);
  after = bed_listing ();
  ck_assert_str_eq (before, after);
  ck_assert_uint_eq (n_descriptors, bed_count_descriptors ());
}

StoreRecord *
bed_make_record (uint32_t layer, uint32_t id, const char *name)
{
  StoreRecord *record = store_record_new ();

  record->layer = layer;
  record->id = id;
  record->name = g_strdup (name);
  record->created = 1700000000123456789 + id;
  g_ptr_array_add (record->images, store_image_new ("a.img", 1 << 20, 1 << 19, -5));
  g_ptr_array_add (record->images, store_image_new ("b.img", INT64_MAX, INT64_MAX, INT64_MIN));
  return record;
}

void
bed_add_layer (Store *store, uint32_t layer, uint32_t id, const char *name)
{
  g_autoptr (StoreRecord) record = bed_make_record (layer, id, name);
  g_autofree char *overlay = g_strdup_printf ("snapshots/%06u/a.img.qcow2", layer);

  ck_assert (store_create_layer (store, layer, NULL));
  bed_write_file (overlay, "QFI");
  ck_assert (store_write_record (store, record, true, NULL));
}

void
bed_set_disks (Store *store)
{
  ck_assert_ptr_nonnull (store_set_disk (store, "a.img", "/images/a.img", 1 << 20, -7, 8));
  ck_assert_ptr_nonnull (store_set_disk (store, "b.img", "/images/b.img", 512, 9, 10));
}

Store *
bed_make_store (void)
{
  Store *store = bed_open_store ();

  bed_set_disks (store);
  ck_assert (store_mark_open (store, NULL));
  ck_assert_uint_eq (store_next_number (store, NULL), 1);
  ck_assert_uint_eq (store_next_number (store, NULL), 2);
  bed_add_layer (store, 1, 1, "monday");
  bed_add_layer (store, 2, 2, "tuesday");
  return store;
}

void
bed_make_closed_store (void)
{
  Store *store = bed_make_store ();

  ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  bed_write_file ("fleecefs.ini.new", "half");
  bed_write_file ("snapshots/000001/snapshot.ini.new", "half");
  bed_make_directory ("snapshots/000007");
  bed_write_file ("snapshots/000007/a.img.qcow2", "QFI");
  bed_write_file ("snapshots/000007/snapshot.ini.new", "half");
}

void
bed_assert_names (Store *store, const char *expected)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) records = store_read_records (store, &error);
  g_autoptr (GString) names = g_string_new (NULL);

  ck_assert_msg (records != NULL, "%s", error != NULL ? error->message : "no error");
  for (guint i = 0; i < records->len; i++)
    {
      const StoreRecord *record = records->pdata[i];

      g_string_append_printf (names, "%u:%u:%s ", record->layer, record->id,
                              record->name != NULL ? record->name : "-");
    }
  ck_assert_str_eq (names->str, expected);
}

int
bed_run (Suite *suite)
{
  SRunner *runner = srunner_create (suite);
  int n_failed;

  umask (022); /* what others can write to is refused */
  srunner_run_all (runner, CK_NORMAL);
  n_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

TCase *
bed_case (Suite *suite)
{
  TCase *tc = tcase_create ("store");

  tcase_add_checked_fixture (tc, bed_set_up, bed_tear_down);
  tcase_set_timeout (tc, 60);
  suite_add_tcase (suite, tc);
  return tc;
}
