/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store: making, opening, numbers, records, locks, and what it refuses.
 *
 * Each test has a directory of its own; the store is "s" in it. A store that is
 * refused must be as it was: listing() of before and after are compared. */
#include "base/fail.h"
#include "store/store.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define OTHER_BOOT "01234567-89ab-4cde-8f01-23456789abcd"

static char *directory; /* of the test */
static char *path;      /* of the store */

static void
set_up (void)
{
  directory = g_dir_make_tmp ("test-store-XXXXXX", NULL);
  ck_assert_ptr_nonnull (directory);
  path = g_build_filename (directory, "s", NULL);
}

static int
remove_entry (const char *name, const struct stat *st, int type, struct FTW *ftw)
{
  (void) st;
  (void) type;
  (void) ftw;
  return remove (name);
}

static void
tear_down (void)
{
  nftw (directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  g_free (directory);
  g_free (path);
}

/* Files. */

static char *
in_store (const char *name)
{
  return g_build_filename (path, name, NULL);
}

static void
write_file (const char *name, const char *text)
{
  g_autofree char *file = in_store (name);

  ck_assert (g_file_set_contents (file, text, -1, NULL));
}

static char *
read_file (const char *name)
{
  g_autofree char *file = in_store (name);
  char *text = NULL;

  ck_assert_msg (g_file_get_contents (file, &text, NULL, NULL), "no %s", name);
  return text;
}

static bool
exists (const char *name)
{
  g_autofree char *file = in_store (name);
  struct stat st;

  return lstat (file, &st) == 0;
}

static void
make_directory (const char *name)
{
  g_autofree char *file = in_store (name);

  ck_assert_int_eq (g_mkdir_with_parents (file, 0700), 0);
}

static void
replace (const char *name, const char *from, const char *to)
{
  g_autofree char *text = read_file (name);
  const char *at = strstr (text, from);
  g_autoptr (GString) changed = g_string_new (NULL);

  ck_assert_msg (at != NULL, "%s has no %s", name, from);
  g_string_append_len (changed, text, at - text);
  g_string_append (changed, to);
  g_string_append (changed, at + strlen (from));
  write_file (name, changed->str);
}

static void
set_value (const char *name, const char *group, const char *key, const char *value)
{
  g_autoptr (GKeyFile) keys = g_key_file_new ();
  g_autofree char *file = in_store (name);

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

/* All that is in the test's directory: names, kinds, modes, sizes, contents. */
static char *
listing (void)
{
  GString *out = g_string_new (NULL);

  list_into (out, directory);
  return g_string_free (out, FALSE);
}

static guint
count_descriptors (void)
{
  g_autoptr (GDir) dir = g_dir_open ("/proc/self/fd", 0, NULL);
  guint n = 0;

  while (g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

/* Stores. */

static Store *
open_store (void)
{
  uint64_t granule = 0;
  g_autoptr (GError) error = NULL;
  Store *store = store_open (path, &granule, &error);

  ck_assert_msg (store != NULL, "%s", error != NULL ? error->message : "no error");
  return store;
}

static void
assert_refused (uint64_t granule, int errnum, const char *message)
{
  g_autofree char *before = listing ();
  g_autofree char *after = NULL;
  g_autoptr (GError) error = NULL;
  guint n_descriptors = count_descriptors ();

  ck_assert_ptr_null (store_open (path, &granule, &error));
  ck_assert_ptr_nonnull (error);
  ck_assert_msg (strstr (error->message, message) != NULL, "'%s' is not in: %s", message,
                 error->message);
  ck_assert_msg (strpbrk (error->message, "\n\033") == NULL, "not one line: %s", error->message);
  ck_assert_msg (fail_code (error) == errnum, "code %d: %s", fail_code (error), error->message);
  after = listing ();
  ck_assert_str_eq (before, after);
  ck_assert_uint_eq (n_descriptors, count_descriptors ());
}

static StoreRecord *
make_record (uint32_t layer, uint32_t id, const char *name)
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

static void
add_layer (Store *store, uint32_t layer, uint32_t id, const char *name)
{
  g_autoptr (StoreRecord) record = make_record (layer, id, name);
  g_autofree char *overlay = g_strdup_printf ("snapshots/%06u/a.img.qcow2", layer);

  ck_assert (store_create_layer (store, layer, NULL));
  write_file (overlay, "QFI");
  ck_assert (store_write_record (store, record, true, NULL));
}

static void
set_disks (Store *store)
{
  ck_assert_ptr_nonnull (store_set_disk (store, "a.img", "/images/a.img", 1 << 20, -7, 8));
  ck_assert_ptr_nonnull (store_set_disk (store, "b.img", "/images/b.img", 512, 9, 10));
}

/* A store with two disks and the layers 1 (monday) and 2 (tuesday), open. */
static Store *
make_store (void)
{
  Store *store = open_store ();

  set_disks (store);
  ck_assert (store_mark_open (store, NULL));
  ck_assert_uint_eq (store_next_number (store, NULL), 1);
  ck_assert_uint_eq (store_next_number (store, NULL), 2);
  add_layer (store, 1, 1, "monday");
  add_layer (store, 2, 2, "tuesday");
  return store;
}

/* The same, closed, and with leftovers that an open of a good store removes. */
static void
make_closed_store (void)
{
  Store *store = make_store ();

  ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  write_file ("fleecefs.ini.new", "half");
  write_file ("snapshots/000001/snapshot.ini.new", "half");
  make_directory ("snapshots/000007");
  write_file ("snapshots/000007/a.img.qcow2", "QFI");
  write_file ("snapshots/000007/snapshot.ini.new", "half");
}

static void
assert_names (Store *store, const char *expected)
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

START_TEST (test_create)
{
  uint64_t granule = 16384;
  Store *store = store_open (path, &granule, NULL);
  g_autofree char *lock = in_store ("lock");
  g_autofree char *ini = in_store ("fleecefs.ini");
  g_autofree char *absolute = realpath (path, NULL);
  struct statvfs fs;
  struct stat st;

  ck_assert_ptr_nonnull (store);
  ck_assert_str_eq (store_path (store), absolute);
  ck_assert (store_was_clean (store));
  ck_assert (!store_host_crashed (store));
  ck_assert_uint_eq (store_disks (store)->len, 0);
  ck_assert_ptr_null (store_find_disk (store, "a.img"));
  ck_assert_int_eq (store_statvfs (store, &fs), 0);
  ck_assert_int_eq (stat (path, &st), 0);
  ck_assert_uint_eq (st.st_mode & 07777, 0700);
  ck_assert_int_eq (stat (lock, &st), 0);
  ck_assert_uint_eq (st.st_mode & 07777, 0600);
  ck_assert_int_eq (stat (ini, &st), 0);
  ck_assert_uint_eq (st.st_mode & 07777, 0600);
  assert_names (store, "");
  store_free (store);

  granule = 0;
  store = store_open (path, &granule, NULL);
  ck_assert_uint_eq (granule, 16384);
  store_free (store);
}
END_TEST

START_TEST (test_create_needs_parent)
{
  g_free (path);
  path = g_build_filename (directory, "missing", "s", NULL);
  assert_refused (0, ENOENT, "make the directory above it first");
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

  make_directory (".");
  for (int i = 0; i < 3 && left[_i][i] != NULL; i++)
    if (g_str_has_suffix (left[_i][i], "/"))
      make_directory (left[_i][i]);
    else
      write_file (left[_i][i], strcmp (left[_i][i], "lock") == 0 ? "" : "[fleec");
  store_free (open_store ());
  ck_assert (exists ("fleecefs.ini"));
  ck_assert (!exists ("fleecefs.ini.new"));
  store_free (open_store ());
}
END_TEST

START_TEST (test_reopen)
{
  Store *store;
  const StoreDisk *disk;

  make_closed_store ();
  store = open_store ();
  ck_assert (store_was_clean (store));
  ck_assert_uint_eq (store_disks (store)->len, 2);
  disk = store_find_disk (store, "b.img");
  ck_assert_ptr_nonnull (disk);
  ck_assert_str_eq (disk->path, "/images/b.img");
  ck_assert_uint_eq (disk->number, 2);
  ck_assert_uint_eq (disk->size, 512);
  ck_assert_int_eq (disk->mtime, 9);
  ck_assert_int_eq (disk->write_time, 10);
  assert_names (store, "1:1:monday 2:2:tuesday ");
  /* The leftovers are gone, and the number of the half-made layer is not given again. */
  ck_assert (!exists ("fleecefs.ini.new"));
  ck_assert (!exists ("snapshots/000001/snapshot.ini.new"));
  ck_assert (exists ("snapshots/000001/a.img.qcow2"));
  ck_assert (!exists ("snapshots/000007"));
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
  Store *store = make_store ();

  store_free (store);
  set_value ("fleecefs.ini", "fleecefs", "state", cases[_i].state);
  if (cases[_i].boot_id != NULL)
    set_value ("fleecefs.ini", "fleecefs", "boot-id", cases[_i].boot_id);
  store = open_store ();
  ck_assert (store_was_clean (store) == cases[_i].was_clean);
  ck_assert (store_host_crashed (store) == cases[_i].host_crashed);

  /* To give numbers does not make anyone forget the crash. */
  for (int i = 0; i < 200; i++)
    ck_assert_uint_gt (store_next_number (store, NULL), 0);
  store_free (store);
  store = open_store ();
  ck_assert (store_host_crashed (store) == cases[_i].host_crashed);
  ck_assert (store_mark_open (store, NULL));
  store_free (store);
  store = open_store ();
  ck_assert (!store_was_clean (store));
  ck_assert (!store_host_crashed (store));
  ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  store = open_store ();
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
    make_closed_store ();
  else
    store_free (open_store ());
  if (cases[_i].errnum != 0)
    {
      assert_refused (granule, cases[_i].errnum, cases[_i].message);
      return;
    }
  store = store_open (path, &granule, NULL);
  ck_assert_ptr_nonnull (store);
  ck_assert_uint_eq (granule, cases[_i].wanted);
  ck_assert (store_mark_open (store, NULL));
  store_free (store);
  granule = 0;
  store = store_open (path, &granule, NULL);
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
      Store *store = open_store ();
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
  Store *store = make_store ();

  add_layer (store, 1500000, 70000, "big");
  ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  store = open_store ();
  ck_assert (exists ("snapshots/1500000"));
  assert_names (store, "1:1:monday 2:2:tuesday 1500000:70000:big ");
  ck_assert_uint_eq (store_next_number (store, NULL), 1500001);
  add_layer (store, 1500001, 2000000, "an id may be the greater one");
  store_free (store);
  store = open_store ();
  ck_assert_uint_eq (store_next_number (store, NULL), 2000001);
  store_free (store);
}
END_TEST

START_TEST (test_numbers_run_out)
{
  Store *store;

  make_closed_store ();
  set_value ("fleecefs.ini", "fleecefs", "next-number", "4294967294");
  for (int round = 0; round < 3; round++)
    {
      g_autoptr (GError) error = NULL;

      store = open_store ();
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

static const char *const names[] = {
  "monday",
  "a=b",
  "a;b;c;",
  " spaces at both ends ",
  "back\\slash\\n\\",
  "[disk 1]",
  "# not a comment",
  "%41%zz",
  "\"quoted\" 'name'",
  "Größe-日本語-\xf0\x9f\x92\xbe",
  "snapshot.ini",
  "a..b",
};

START_TEST (test_record_round_trip)
{
  Store *store = open_store ();
  const char *name = names[_i];
  g_autoptr (StoreRecord) record = NULL;
  g_autoptr (StoreRecord) copy = NULL;
  g_autoptr (GPtrArray) records = NULL;
  const StoreRecord *back;
  const StoreImage *image;

  ck_assert_ptr_nonnull (store_set_disk (store, name, "/x", 1, 2, 3));
  set_disks (store);
  ck_assert (store_mark_open (store, NULL));
  ck_assert (store_create_layer (store, 5, NULL));
  record = make_record (5, 4, name);
  g_ptr_array_add (record->images, store_image_new (name, 77, 4096, 78));
  ((StoreImage *) record->images->pdata[2])->broken = g_strdup (name);
  copy = store_record_copy (record);
  ck_assert (store_write_record (store, record, true, NULL));
  ck_assert (store_write_record (store, copy, false, NULL));
  store_free (store);

  store = open_store ();
  records = store_read_records (store, NULL);
  ck_assert_ptr_nonnull (records);
  ck_assert_uint_eq (records->len, 1);
  back = records->pdata[0];
  ck_assert_uint_eq (back->layer, 5);
  ck_assert_uint_eq (back->id, 4);
  ck_assert_str_eq (back->name, name);
  ck_assert_int_eq (back->created, record->created);
  ck_assert_uint_eq (back->images->len, 3);
  image = back->images->pdata[1];
  ck_assert_str_eq (image->disk, "b.img");
  ck_assert_uint_eq (image->size, INT64_MAX);
  ck_assert_uint_eq (image->allocated, INT64_MAX);
  ck_assert_int_eq (image->mtime, INT64_MIN);
  image = back->images->pdata[2];
  ck_assert_str_eq (image->disk, name);
  ck_assert_uint_eq (image->size, 77);
  ck_assert_uint_eq (image->allocated, 4096);
  ck_assert_str_eq (image->broken, name);
  image = back->images->pdata[0];
  ck_assert_ptr_null (image->broken);
  store_free (store);
}
END_TEST

START_TEST (test_disk_round_trip)
{
  static const char *const paths[] = {
    "/images/a.img", "/with space/=;#[x]", "/per%cent%20", "/b\\ack\nline\ttab",
    "/latin-\xe4-1", "/utf-8-ä",           " relative",
  };
  Store *store = open_store ();
  const StoreDisk *disk = store_set_disk (store, "d", paths[_i], 1, INT64_MAX, INT64_MIN);
  g_autofree char *absolute = g_canonicalize_filename (paths[_i], NULL);

  ck_assert_uint_eq (disk->number, 1);
  ck_assert_ptr_eq (store_set_disk (store, "d", disk->path, 2, disk->mtime, disk->write_time),
                    disk);
  ck_assert (store_mark_open (store, NULL));
  store_free (store);
  store = open_store ();
  disk = store_find_disk (store, "d");
  ck_assert_str_eq (disk->path, absolute);
  ck_assert_uint_eq (disk->size, 2);
  ck_assert_int_eq (disk->mtime, INT64_MAX);
  ck_assert_int_eq (disk->write_time, INT64_MIN);
  ck_assert_uint_eq (store_set_disk (store, "e", "/e", 0, 0, 0)->number, 2);
  store_free (store);
}
END_TEST

START_TEST (test_disk_limits)
{
  Store *store = open_store ();

  ck_assert_ptr_null (store_set_disk (store, "a/b", "/x", 0, 0, 0));
  ck_assert_ptr_null (store_set_disk (store, ".a", "/x", 0, 0, 0));
  ck_assert_ptr_null (store_set_disk (store, "\xff", "/x", 0, 0, 0));
  for (unsigned i = 1; i <= 4095; i++)
    {
      g_autofree char *name = g_strdup_printf ("disk%u", i);

      ck_assert_uint_eq (store_set_disk (store, name, "/x", 0, 0, 0)->number, i);
    }
  ck_assert_ptr_null (store_set_disk (store, "one more", "/x", 0, 0, 0));
  ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  store = open_store ();
  ck_assert_uint_eq (store_disks (store)->len, 4095);
  ck_assert_uint_eq (store_find_disk (store, "disk4095")->number, 4095);
  store_free (store);
}
END_TEST

static const char *
reason_of (const GPtrArray *records)
{
  const StoreRecord *record = records->pdata[0];

  return ((const StoreImage *) record->images->pdata[0])->broken;
}

/* Why a snapshot is broken is shown in lists and logs: it is one line, also when another hand
 * wrote it, and comes back as it was saved. */
START_TEST (test_reason)
{
  g_autofree char *longest = g_strnfill (9000, 'x');
  const char *const reasons[][2] = {
    { "disk full: '/a b/\xc3\xa4'", "disk full: '/a b/\xc3\xa4'" },
    { "x\n  tuesday  ok\t\033[31m\xc2\x85", "x?  tuesday  ok??[31m?" },
    { "\xff", "\xef\xbf\xbd" },
    { longest, longest + 4500 },
  };
  Store *store = make_store ();
  g_autoptr (StoreRecord) record = make_record (1, 1, "monday");
  g_autoptr (GPtrArray) records = NULL;

  ((StoreImage *) record->images->pdata[0])->broken = g_strdup (reasons[_i][0]);
  ck_assert (store_write_record (store, record, true, NULL));
  records = store_read_records (store, NULL);
  ck_assert_str_eq (reason_of (records), reasons[_i][1]);
  g_clear_pointer (&records, g_ptr_array_unref);

  if (_i == 1) /* the same by another hand */
    set_value ("snapshots/000001/snapshot.ini", "disk 1", "broken",
               "x\\n  tuesday  ok\\t\033[31m\xc2\x85");
  records = store_read_records (store, NULL);
  ck_assert_str_eq (reason_of (records), reasons[_i][1]);
  store_free (store);
}
END_TEST

START_TEST (test_unknown_keys)
{
  g_autofree char *text = NULL;
  Store *store;

  make_closed_store ();
  set_value ("fleecefs.ini", "fleecefs", "colour", "red");
  replace ("fleecefs.ini", "[end]", "[later]\nkey=1\n[end]");
  set_value ("snapshots/000001/snapshot.ini", "snapshot", "colour", "red");
  replace ("snapshots/000001/snapshot.ini", "[end]", "[later]\nkey=1\n[end]");
  write_file ("README", "mine");
  store = open_store ();
  assert_names (store, "1:1:monday 2:2:tuesday ");
  ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  text = read_file ("fleecefs.ini");
  ck_assert_ptr_nonnull (strstr (text, "colour=red"));
  ck_assert_ptr_nonnull (strstr (text, "[later]\nkey=1"));
  ck_assert (exists ("README"));
}
END_TEST

START_TEST (test_write_record_refuses)
{
  Store *store = make_store ();
  g_autoptr (StoreRecord) record = make_record (1, 1, "monday");
  g_autofree char *before = listing ();
  g_autofree char *after = NULL;
  g_autoptr (GError) error = NULL;
  int errnum = EINVAL;

  if (_i == 0)
    record->layer = 0;
  else if (_i == 1)
    record->id = 0;
  else if (_i == 2)
    g_clear_pointer (&record->name, g_free);
  else if (_i == 3)
    record->name[0] = '/';
  else if (_i == 4)
    g_ptr_array_add (record->images, store_image_new ("c.img", 1, 1, 1));
  else if (_i == 5)
    g_ptr_array_add (record->images, store_image_new ("a.img", 1, 1, 1));
  else if (_i == 6)
    ((StoreImage *) record->images->pdata[0])->size = (uint64_t) INT64_MAX + 1;
  else
    {
      record->layer = 99;
      errnum = ENOENT;
    }
  ck_assert (!store_write_record (store, record, true, &error));
  ck_assert_int_eq (fail_code (error), errnum);
  after = listing ();
  ck_assert_str_eq (before, after);
  store_free (store);
}
END_TEST

START_TEST (test_layers)
{
  Store *store = make_store ();
  g_autoptr (GError) error = NULL;
  g_autofree char *overlay = store_overlay_name ("a.img");
  g_autofree char *reference = store_overlay_reference (2, "a.img");
  g_autofree char *before = NULL;
  g_autofree char *after = NULL;
  int fd = store_open_layer (store, 1, NULL);

  ck_assert_str_eq (reference, "../000002/a.img.qcow2");
  ck_assert_int_ge (fd, 0);
  ck_assert_int_eq (faccessat (fd, overlay, R_OK, 0), 0);
  ck_assert_int_eq (faccessat (fd, reference, R_OK, 0), 0);
  close (fd);
  ck_assert (!store_create_layer (store, 1, &error));
  ck_assert_int_eq (fail_code (error), EEXIST);
  g_clear_error (&error);
  ck_assert_int_eq (store_open_layer (store, 3, &error), -1);
  ck_assert_int_eq (fail_code (error), ENOENT);
  g_clear_error (&error);

  /* A half-made layer of this session is not read and not in the way. */
  ck_assert (store_create_layer (store, 3, NULL));
  assert_names (store, "1:1:monday 2:2:tuesday ");

  ck_assert (store_remove_layer (store, 1, NULL));
  ck_assert (!exists ("snapshots/000001"));
  ck_assert (store_remove_layer (store, 1, NULL));
  ck_assert (store_remove_layer (store, 3, NULL));
  assert_names (store, "2:2:tuesday ");

  make_directory ("snapshots/000002/mine");
  before = listing ();
  ck_assert (!store_remove_layer (store, 2, &error));
  ck_assert_int_eq (fail_code (error), EUCLEAN);
  after = listing ();
  ck_assert_str_eq (before, after);
  store_free (store);
}
END_TEST

/* A layer without a snapshot, and records with and without the caller's own array. */
START_TEST (test_nameless_layer)
{
  Store *store = make_store ();
  StoreRecord *record = g_new0 (StoreRecord, 1);

  record->layer = 1;
  record->images = g_ptr_array_new ();
  g_ptr_array_add (record->images, store_image_new ("a.img", 5, 0, 6));
  ck_assert (store_write_record (store, record, true, NULL));
  store_record_free (record);
  store_free (store);
  store = open_store ();
  assert_names (store, "1:0:- 2:2:tuesday ");
  store_free (store);
}
END_TEST

START_TEST (test_interrupted_merge)
{
  Store *store = make_store ();
  g_autoptr (StoreRecord) record = make_record (2, 1, "monday");

  if (_i == 1) /* renamed while the older layer could not be removed */
    {
      g_free (record->name);
      record->name = g_strdup ("renamed");
    }
  add_layer (store, 3, 3, "wednesday");
  ck_assert (store_write_record (store, record, true, NULL));
  store_free (store);
  store = open_store ();
  ck_assert (exists ("snapshots/000001/snapshot.ini"));
  assert_names (store, _i == 1 ? "2:1:renamed 3:3:wednesday " : "2:1:monday 3:3:wednesday ");
  ck_assert (exists ("snapshots/000001/a.img.qcow2"));
  ck_assert (store_remove_superseded (store, NULL));
  ck_assert (!exists ("snapshots/000001"));
  assert_names (store, _i == 1 ? "2:1:renamed 3:3:wednesday " : "2:1:monday 3:3:wednesday ");
  store_free (store);
}
END_TEST

/* A merge moved the snapshot on, the old layer could not be removed, and the snapshot was removed
 * then, or got another name. */
START_TEST (test_moved_and_not_removed)
{
  Store *store = make_store ();
  g_autoptr (StoreRecord) moved = make_record (2, 1, "monday");
  g_autofree char *mine = in_store ("snapshots/000001/mine");

  ck_assert (store_write_record (store, moved, true, NULL));
  make_directory ("snapshots/000001/mine");
  ck_assert (!store_remove_layer (store, 1, NULL));
  if (_i == 1)
    {
      /* It is killed now. */
      store_free (store);
      ck_assert_int_eq (rmdir (mine), 0);
      store = open_store ();
      assert_names (store, "2:1:monday ");
      store_free (store);
      return;
    }
  moved->id = 0;
  g_clear_pointer (&moved->name, g_free);
  ck_assert (store_write_record (store, moved, true, NULL));
  ck_assert (!exists ("snapshots/000001/snapshot.ini"));
  ck_assert (store_remove_layer (store, 2, NULL));
  store_free (store);
  ck_assert_int_eq (rmdir (mine), 0);
  store = open_store ();
  assert_names (store, "");
  ck_assert (!exists ("snapshots/000001"));
  store_free (store);
}
END_TEST

/* A store that was left open and is another directory now; a rename makes none of it. Loop: is it
 * a copy; was it closed. */
START_TEST (test_copied)
{
  bool copied = _i % 2 == 1, closed = _i / 2 == 1;
  g_autofree char *other = g_strconcat (path, "2", NULL);
  const char *command[] = { "cp", "-a", path, other, NULL };
  g_autofree char *id = NULL;
  Store *store = make_store ();
  struct statx st;

  ck_assert (store_mark_open (store, NULL));
  id = g_strdup (store_id (store));
  ck_assert_int_ne (store_next_number (store, NULL), 0);
  if (closed)
    ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  ck_assert_int_eq (statx (AT_FDCWD, path, 0, STATX_BTIME, &st), 0);
  if ((st.stx_mask & STATX_BTIME) == 0)
    return; /* nothing tells */
  if (copied)
    ck_assert (g_spawn_sync (NULL, (char **) command, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                             NULL, NULL, NULL));
  else
    ck_assert_int_eq (rename (path, other), 0);
  g_free (path);
  path = g_steal_pointer (&other);
  for (int i = 0; i < 2; i++) /* until somebody has dealt with it */
    {
      store = open_store ();
      ck_assert_int_eq (store_was_copied (store), copied && !closed);
      ck_assert_str_eq (store_found_id (store), id);
      ck_assert_int_eq (strcmp (store_id (store), id) != 0, copied);
      store_free (store);
    }
  store = open_store ();
  g_free (id);
  id = g_strdup (store_id (store));
  ck_assert (store_mark_open (store, NULL));
  store_free (store);
  store = open_store ();
  ck_assert (!store_was_copied (store));
  ck_assert_str_eq (store_id (store), id);
  ck_assert_str_eq (store_found_id (store), id);
  store_free (store);
}
END_TEST

/* Removal of a layer that ended after its first step. */
START_TEST (test_half_removed_layer)
{
  g_autofree char *record = NULL;
  Store *store = make_store ();

  store_free (store);
  record = in_store ("snapshots/000001/snapshot.ini");
  ck_assert_int_eq (unlink (record), 0);
  store = open_store ();
  ck_assert (!exists ("snapshots/000001"));
  assert_names (store, "2:2:tuesday ");
  store_free (store);
}
END_TEST

/* What is refused. */

static const struct
{
  const char *file, *group, *key;
} required_keys[] = {
  { "fleecefs.ini", "fleecefs", "format" },
  { "fleecefs.ini", "fleecefs", "uuid" },
  { "fleecefs.ini", "fleecefs", "boot-id" },
  { "fleecefs.ini", "fleecefs", "state" },
  { "fleecefs.ini", "fleecefs", "granule" },
  { "fleecefs.ini", "fleecefs", "next-number" },
  { "fleecefs.ini", "disk 2", "name" },
  { "fleecefs.ini", "disk 2", "path" },
  { "fleecefs.ini", "disk 2", "size" },
  { "fleecefs.ini", "disk 2", "mtime" },
  { "fleecefs.ini", "disk 2", "write-time" },
  { "snapshots/000002/snapshot.ini", "snapshot", "id" },
  { "snapshots/000002/snapshot.ini", "snapshot", "name" },
  { "snapshots/000002/snapshot.ini", "snapshot", "created" },
  { "snapshots/000002/snapshot.ini", "disk 2", "name" },
  { "snapshots/000002/snapshot.ini", "disk 2", "size" },
  { "snapshots/000002/snapshot.ini", "disk 2", "allocated" },
  { "snapshots/000002/snapshot.ini", "disk 2", "mtime" },
};

START_TEST (test_missing_key)
{
  g_autofree char *message
      = g_strdup_printf ("%s' is damaged: it has no key '%s' in [%s]", required_keys[_i].file,
                         required_keys[_i].key, required_keys[_i].group);

  make_closed_store ();
  set_value (required_keys[_i].file, required_keys[_i].group, required_keys[_i].key, NULL);
  assert_refused (0, EUCLEAN, message);
}
END_TEST

#define INI "fleecefs.ini"
#define RECORD "snapshots/000002/snapshot.ini"
#define OVERLAY "snapshots/000001/a.img.qcow2"
#define NOT_REGULAR "000001/a.img.qcow2' is damaged: it is not a regular file; move it away"
#define LONG_NAME                                                                                  \
  "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"    \
  "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234" \
  "56789012345678901234567890"

static const struct
{
  const char *file, *group, *key, *value;
} bad_values[] = {
  { INI, "fleecefs", "format", "0" },
  { INI, "fleecefs", "format", "-1" },
  { INI, "fleecefs", "format", "" },
  { INI, "fleecefs", "format", "one" },
  { INI, "fleecefs", "format", "18446744073709551617" },
  { INI, "fleecefs", "uuid", "1234" },
  { INI, "fleecefs", "boot-id", "../../etc" },
  { INI, "fleecefs", "state", "closed" },
  { INI, "fleecefs", "granule", "2048" },
  { INI, "fleecefs", "granule", "131072" },
  { INI, "fleecefs", "granule", "5000" },
  { INI, "fleecefs", "granule", "-4096" },
  { INI, "fleecefs", "granule", "4096 " },
  { INI, "fleecefs", "granule", "0x1000" },
  { INI, "fleecefs", "next-number", "0" },
  { INI, "fleecefs", "next-number", "-1" },
  { INI, "fleecefs", "next-number", "4294967297" },
  { INI, "disk 1", "name", "" },
  { INI, "disk 1", "name", "." },
  { INI, "disk 1", "name", ".." },
  { INI, "disk 1", "name", ".hidden" },
  { INI, "disk 1", "name", "a/b" },
  { INI, "disk 1", "name", "../../x" },
  { INI, "disk 1", "name", "a\\nb" },
  { INI, "disk 1", "name", "a\033[31mb" },
  { INI, "disk 1", "name", "\xc2\x85" },
  { INI, "disk 1", "name", "\xff" },
  { INI, "disk 1", "name", "\xed\xa0\x80" },
  { INI, "disk 1", "name", "bad\\escape" },
  { INI, "disk 1", "name", LONG_NAME },
  { INI, "disk 2", "name", "a.img" },
  { INI, "disk 1", "path", "" },
  { INI, "disk 1", "path", "relative" },
  { INI, "disk 1", "path", "/a%00b" },
  { INI, "disk 1", "path", "/a%zz" },
  { INI, "disk 1", "size", "-1" },
  { INI, "disk 1", "size", "9223372036854775808" },
  { INI, "disk 1", "size", "18446744073709551616" },
  { INI, "disk 1", "size", "1e6" },
  { INI, "disk 1", "size", "4096;" },
  { INI, "disk 1", "mtime", "9223372036854775808" },
  { INI, "disk 1", "mtime", "--5" },
  { INI, "disk 1", "write-time", "-9223372036854775809" },
  { INI, "disk 1", "write-time", "yesterday" },
  { RECORD, "snapshot", "id", "0" },
  { RECORD, "snapshot", "id", "-1" },
  { RECORD, "snapshot", "id", "4294967296" },
  { RECORD, "snapshot", "name", "" },
  { RECORD, "snapshot", "name", ".." },
  { RECORD, "snapshot", "name", ".latest" },
  { RECORD, "snapshot", "name", "a/b" },
  { RECORD, "snapshot", "name", "a\\tb" },
  { RECORD, "snapshot", "name", "\x7f" },
  { RECORD, "snapshot", "name", "\xc3" },
  { RECORD, "snapshot", "name", LONG_NAME },
  { RECORD, "snapshot", "created", "now" },
  { RECORD, "disk 1", "name", "../a.img" },
  { RECORD, "disk 1", "size", "-1" },
  { RECORD, "disk 1", "size", "9223372036854775808" },
  { RECORD, "disk 1", "allocated", "-1" },
  { RECORD, "disk 1", "mtime", "" },
  { RECORD, "disk 1", "broken", "\xff" },
};

START_TEST (test_bad_value)
{
  g_autofree char *message
      = g_strdup_printf ("%s' is damaged: key '%s' in [%s] is not ", bad_values[_i].file,
                         bad_values[_i].key, bad_values[_i].group);

  if (strcmp (bad_values[_i].value, "a.img") == 0)
    {
      g_free (message);
      message = g_strdup ("key 'name' in [disk 2] is not different from");
    }
  make_closed_store ();
  set_value (bad_values[_i].file, bad_values[_i].group, bad_values[_i].key, bad_values[_i].value);
  assert_refused (0, EUCLEAN, message);
}
END_TEST

typedef enum
{
  DO_NOTHING,
  DO_WRITE,
  DO_REPLACE,
  DO_MAKE,
  DO_LINK,
  DO_FIFO,
  DO_SOCKET,
  DO_DEVICE,
  DO_CHMOD,
  DO_CHOWN,
  DO_SECOND_NAME,
  DO_MOVE,
  DO_LENGTHEN,
  DO_FILL,
} Action;

typedef struct
{
  Action action;
  const char *name, *a, *b;
} Step;

/* What is done to a good store, or in its place to an empty directory. Names are relative
 * to the store; MOVE goes to a place outside of it. */
#define STEP(action, name, a, b)                                                                   \
  {                                                                                                \
    DO_##action, name, a, b                                                                        \
  }
#define EMPTY STEP (NOTHING, ".", "", "")
#define WRITE(name, text) STEP (WRITE, name, text, "")
#define REPLACE(name, from, to) STEP (REPLACE, name, from, to)
#define MAKE(name) STEP (MAKE, name, "", "") /* a directory */
#define LINK(name, target) STEP (LINK, name, target, "")
#define FIFO(name) STEP (FIFO, name, "", "")
#define SOCKET(name) STEP (SOCKET, name, "", "")
#define DEVICE(name) STEP (DEVICE, name, "", "") /* as /dev/zero; root only */
#define CHMOD(name, mode) STEP (CHMOD, name, mode, "")
#define CHOWN(name) STEP (CHOWN, name, "", "") /* to uid 1; root only */
#define SECOND_NAME(name, to) STEP (SECOND_NAME, name, to, "")
#define MOVE(name, to) STEP (MOVE, name, to, "")
#define HUGE(name) STEP (LENGTHEN, name, "", "") /* 65 MiB */
#define FILL(name) STEP (FILL, name, "", "")     /* 65537 lines */

static const struct
{
  Step steps[4];
  int errnum;
  const char *message;
} hostile[] = {
  /* Not a store. */
  { { EMPTY, WRITE ("notes.txt", "mine") },
    EINVAL,
    "is not a fleecefs store: it has no fleecefs.ini; give another directory with -o store=DIR" },
  { { EMPTY, WRITE (".hidden", "") }, EINVAL, "is not a fleecefs store" },
  { { EMPTY, MAKE ("sub") }, EINVAL, "is not a fleecefs store" },
  { { EMPTY, WRITE ("lock", "12") }, EINVAL, "is not a fleecefs store" },
  { { EMPTY, WRITE ("lock", ""), WRITE ("x", "") }, EINVAL, "is not a fleecefs store" },
  { { EMPTY, LINK ("lock", "/dev/null") }, EINVAL, "is not a fleecefs store" },
  { { EMPTY, WRITE ("snapshots", "") }, EINVAL, "is not a fleecefs store" },
  { { EMPTY, LINK ("snapshots", "/") }, EINVAL, "is not a fleecefs store" },
  { { EMPTY, MAKE ("snapshots/000001") }, EINVAL, "is not a fleecefs store" },
  { { EMPTY, MAKE ("fleecefs.ini.new") }, EINVAL, "is not a fleecefs store" },
  { { MOVE ("fleecefs.ini", "gone") }, EINVAL, "is not a fleecefs store" },
  { { MOVE (".", "gone"), WRITE (".", "a file") }, ENOTDIR, "cannot open the store" },
  { { MOVE (".", "gone"), LINK (".", "nowhere") }, ENOTDIR, "cannot open the store" },
  { { MOVE (".", "gone"), LINK (".", "gone") }, ENOTDIR, "cannot open the store" },

  /* The manifest as a whole. */
  { { REPLACE (INI, "format=1", "format=2") },
    ENOTSUP,
    "was made by a newer fleecefs (format 2); use that version" },
  { { WRITE (INI, "[fleecefs]\nformat=7\n") }, ENOTSUP, "(format 7)" },
  { { REPLACE (INI, "\n[end]", "") }, EUCLEAN, "fleecefs.ini' is damaged: it was cut" },
  { { REPLACE (INI, "[end]", "[end]\n[later]") }, EUCLEAN, "it was cut" },
  { { WRITE (INI, "") }, EUCLEAN, "fleecefs.ini' is damaged: it has no key 'format'" },
  { { WRITE (INI, "hello") }, EUCLEAN, "fleecefs.ini' is damaged: it is not a list" },
  { { WRITE (INI, "[fleecefs\nformat=1\n") }, EUCLEAN, "is not a list of groups" },
  { { REPLACE (INI, "[disk 2]", "[disk 1]") }, EUCLEAN, "a group is there twice" },
  { { REPLACE (INI, "[disk 2]", " \t[disk 1]  ") }, EUCLEAN, "a group is there twice" },
  { { REPLACE (INI, "[disk 2]", "[disk 01]") }, EUCLEAN, "not [disk N] with N from 1 to 4095" },
  { { REPLACE (INI, "[disk 2]", "[disk 0]") }, EUCLEAN, "not [disk N]" },
  { { REPLACE (INI, "[disk 2]", "[disk 4096]") }, EUCLEAN, "not [disk N]" },
  { { REPLACE (INI, "[disk 2]", "[disk -1]") }, EUCLEAN, "not [disk N]" },
  { { REPLACE (INI, "[disk 2]", "[disk 4294967298]") }, EUCLEAN, "not [disk N]" },
  { { REPLACE (INI, "[disk 2]", "[disk ]") }, EUCLEAN, "not [disk N]" },
  { { REPLACE (INI, "[disk 2]", "[disk x]") }, EUCLEAN, "not [disk N]" },
  { { MOVE (INI, "gone"), LINK (INI, "../gone") },
    EUCLEAN,
    "fleecefs.ini' is damaged: it is a symbolic link" },
  { { MOVE (INI, "gone"), FIFO (INI) }, EUCLEAN, "it is not a regular file" },
  { { MOVE (INI, "gone"), MAKE (INI) }, EUCLEAN, "it is not a regular file" },
  { { HUGE (INI) }, EUCLEAN, "fleecefs.ini' is damaged: it is larger than" },
  { { FILL (INI) }, EUCLEAN, "fleecefs.ini' is damaged: it has over 65536 lines" },

  /* Other things in the store. */
  { { MOVE ("lock", "gone"), LINK ("lock", "../gone") }, EUCLEAN, "lock' is damaged" },
  { { MOVE ("lock", "gone"), FIFO ("lock") }, EUCLEAN, "lock' is damaged" },
  { { MOVE ("lock", "gone"), MAKE ("lock") }, EUCLEAN, "lock' is damaged" },
  { { MOVE ("lock", "gone"), REPLACE (RECORD, "id=", "ID=") }, EUCLEAN, "has no key 'id'" },
  { { MOVE ("fleecefs.ini.new", "gone"), LINK ("fleecefs.ini.new", "../gone") },
    EUCLEAN,
    "fleecefs.ini.new' is damaged" },
  { { MOVE ("fleecefs.ini.new", "gone"), MAKE ("fleecefs.ini.new") },
    EUCLEAN,
    "fleecefs.ini.new' is damaged" },
  { { MOVE ("snapshots", "gone") }, EUCLEAN, "it has no directory 'snapshots'" },
  { { MOVE ("snapshots", "gone"), LINK ("snapshots", "../gone") },
    EUCLEAN,
    "snapshots' is damaged: it is not a directory" },
  { { MOVE ("snapshots", "gone"), WRITE ("snapshots", "") }, EUCLEAN, "not a directory" },

  /* Layers. */
  { { WRITE ("snapshots/notes", "") }, EUCLEAN, "'notes' is not the number of a layer" },
  { { MAKE ("snapshots/a\nb\033") }, EUCLEAN, "'a\\nb\\033' is not the number of a layer" },
  { { MAKE ("snapshots/3") }, EUCLEAN, "'3' is not the number of a layer" },
  { { MAKE ("snapshots/00003") }, EUCLEAN, "is not the number" },
  { { MAKE ("snapshots/0000003") }, EUCLEAN, "is not the number" },
  { { MAKE ("snapshots/000000") }, EUCLEAN, "is not the number" },
  { { MAKE ("snapshots/4294967296") }, EUCLEAN, "is not the number" },
  { { MAKE ("snapshots/-00003") }, EUCLEAN, "is not the number" },
  { { MAKE ("snapshots/00003x") }, EUCLEAN, "is not the number" },
  { { WRITE ("snapshots/000003", "") }, EUCLEAN, "000003' is damaged: it is not a directory" },
  { { MAKE ("../outside"), LINK ("snapshots/000003", "../../outside") },
    EUCLEAN,
    "000003' is damaged: it is not a directory" },
  { { MAKE ("snapshots/000007/mine") },
    EUCLEAN,
    "000007/mine' is damaged: it is not a regular file" },
  { { LINK ("snapshots/000007/x\n", "/") },
    EUCLEAN,
    "000007/x\\n' is damaged: it is not a regular file" },
  { { FIFO ("snapshots/000007/pipe") },
    EUCLEAN,
    "000007/pipe' is damaged: it is not a regular file" },
  { { MOVE (RECORD, "gone"), LINK (RECORD, "../../../gone") },
    EUCLEAN,
    "snapshot.ini' is damaged" },
  { { MOVE (RECORD, "gone"), FIFO (RECORD) }, EUCLEAN, "it is not a regular file" },
  { { MOVE (RECORD, "gone"), MAKE (RECORD) }, EUCLEAN, "it is not a regular file" },
  { { LINK (RECORD ".new", "/dev/null") }, EUCLEAN, "snapshot.ini.new' is damaged" },
  { { MAKE (RECORD ".new") }, EUCLEAN, "snapshot.ini.new' is damaged" },

  /* In the place of an overlay. */
  { { MOVE (OVERLAY, "gone"), LINK (OVERLAY, "../../../gone") }, EUCLEAN, NOT_REGULAR },
  { { MOVE (OVERLAY, "gone"), LINK (OVERLAY, "/dev/zero") }, EUCLEAN, NOT_REGULAR },
  { { MOVE (OVERLAY, "gone"), FIFO (OVERLAY) }, EUCLEAN, NOT_REGULAR },
  { { MOVE (OVERLAY, "gone"), SOCKET (OVERLAY) }, EUCLEAN, NOT_REGULAR },
  { { MOVE (OVERLAY, "gone"), MAKE (OVERLAY) }, EUCLEAN, NOT_REGULAR },
  { { MOVE (OVERLAY, "gone"), DEVICE (OVERLAY) }, EUCLEAN, NOT_REGULAR },
  { { LINK ("snapshots/000001/notes", "nowhere") }, EUCLEAN, "notes' is damaged: it is not a" },

  /* Devices and sockets elsewhere. */
  { { MOVE (INI, "gone"), SOCKET (INI) }, ENXIO, "fleecefs.ini': No such device or address" },
  { { MOVE (INI, "gone"), DEVICE (INI) }, EUCLEAN, "it is not a regular file" },
  { { MOVE (INI ".new", "gone"), SOCKET (INI ".new") }, EUCLEAN, "fleecefs.ini.new' is damaged" },
  { { MOVE ("lock", "gone"), SOCKET ("lock") }, ENXIO, "lock': No such device or address" },
  { { MOVE ("lock", "gone"), DEVICE ("lock") }, EUCLEAN, "lock' is damaged" },
  { { MOVE (RECORD, "gone"), SOCKET (RECORD) }, EUCLEAN, "it is not a regular file" },
  { { MOVE (RECORD, "gone"), DEVICE (RECORD) }, EUCLEAN, "it is not a regular file" },
  { { MOVE ("snapshots", "gone"), FIFO ("snapshots") }, EUCLEAN, "not a directory" },
  { { MOVE ("snapshots", "gone"), DEVICE ("snapshots") }, EUCLEAN, "not a directory" },
  { { FIFO ("snapshots/000003") }, EUCLEAN, "000003' is damaged: it is not a directory" },
  { { EMPTY, FIFO ("lock") }, EINVAL, "is not a fleecefs store" },
  { { EMPTY, DEVICE ("fleecefs.ini.new") }, EINVAL, "is not a fleecefs store" },

  /* What others can change. */
  { { CHMOD (".", "777") }, EPERM, "/s' can be written by other users (mode 777); chmod go-w it" },
  { { CHMOD (".", "720") }, EPERM, "/s' can be written by other users" },
  { { CHMOD (".", "702") }, EPERM, "/s' can be written by other users" },
  { { EMPTY, CHMOD (".", "770") }, EPERM, "/s' can be written by other users" },
  { { CHMOD (INI, "622") }, EPERM, "fleecefs.ini' can be written by other users" },
  { { CHMOD ("lock", "660") }, EPERM, "lock' can be written by other users" },
  { { CHMOD ("snapshots", "770") }, EPERM, "snapshots' can be written by other users" },
  { { CHMOD ("snapshots/000001", "707") }, EPERM, "000001' can be written by other users" },
  { { CHMOD ("snapshots/000007", "707") }, EPERM, "000007' can be written by other users" },
  { { CHMOD (RECORD, "606") }, EPERM, "snapshot.ini' can be written by other users" },
  { { CHMOD (OVERLAY, "606") }, EPERM, "a.img.qcow2' can be written by other users" },
  { { CHOWN (".") }, EPERM, "/s' belongs to another user (uid 1)" },
  { { CHOWN (INI) }, EPERM, "fleecefs.ini' belongs to another user (uid 1)" },
  { { CHOWN ("lock") }, EPERM, "lock' belongs to another user (uid 1)" },
  { { CHOWN ("snapshots") }, EPERM, "snapshots' belongs to another user (uid 1)" },
  { { CHOWN ("snapshots/000002") }, EPERM, "000002' belongs to another user (uid 1)" },
  { { CHOWN (RECORD) }, EPERM, "snapshot.ini' belongs to another user (uid 1)" },
  { { CHOWN (OVERLAY) }, EPERM, "a.img.qcow2' belongs to another user (uid 1)" },
  { { SECOND_NAME (INI, "x") }, EPERM, "fleecefs.ini' has 2 names" },
  { { SECOND_NAME ("lock", "x") }, EPERM, "lock' has 2 names" },
  { { SECOND_NAME (RECORD, "x") }, EPERM, "snapshot.ini' has 2 names" },
  { { SECOND_NAME (OVERLAY, "x") }, EPERM, "a.img.qcow2' has 2 names (hard links); put a copy" },
  { { SECOND_NAME (OVERLAY, "s/snapshots/000002/b.img.qcow2") }, EPERM, "' has 2 names" },

  /* Records. */
  { { WRITE (RECORD, "") }, EUCLEAN, "000002/snapshot.ini' is damaged: it was cut" },
  { { WRITE (RECORD, "[end]\n") }, EUCLEAN, "it was cut" },
  { { WRITE (RECORD, "\n[end]\n") }, EUCLEAN, "it has no key 'created'" },
  { { WRITE (RECORD, "x") }, EUCLEAN, "000002/snapshot.ini' is damaged: it is not a list" },
  { { HUGE (RECORD) }, EUCLEAN, "000002/snapshot.ini' is damaged: it is larger than" },
  { { REPLACE (RECORD, "[disk 2]", "[disk 1]") }, EUCLEAN, "a group is there twice" },
  { { REPLACE (RECORD, "[disk 2]", "[disk 3]") }, EUCLEAN, "disk 3, 'b.img', is not in" },
  { { REPLACE (RECORD, "b.img", "c.img") }, EUCLEAN, "disk 2, 'c.img', is not in" },
  { { REPLACE (RECORD, "b.img", "a.img") }, EUCLEAN, "disk 2, 'a.img', is not in" },
  { { REPLACE (RECORD, "[disk 2]", "[disk 5000]") }, EUCLEAN, "not [disk N]" },
  { { REPLACE (RECORD, "tuesday", "monday") }, EUCLEAN, "two snapshots have the name 'monday'" },
  { { REPLACE (RECORD, "id=2", "id=1") }, EUCLEAN, "layers 1 and 2 are both snapshot 1" },
  { { MAKE ("snapshots/000003"),
      WRITE ("snapshots/000003/snapshot.ini",
             "[snapshot]\nid=1\nname=x\ncreated=1700000000123456790\n[end]\n") },
    EUCLEAN,
    "layer 3 and an older one are both snapshot 1" },
  { { WRITE (RECORD, "[snapshot]\nid=1\nname=x\ncreated=1700000000123456790\n[end]\n"),
      MAKE ("snapshots/000003"),
      WRITE ("snapshots/000003/snapshot.ini",
             "[snapshot]\nid=1\nname=x\ncreated=1700000000123456790\n[end]\n") },
    EUCLEAN,
    "layers 2 and 3 are both snapshot 1" },
};

static void
make_socket (const char *file)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  ck_assert_int_ge (fd, 0);
  ck_assert_uint_lt (g_strlcpy (address.sun_path, file, sizeof address.sun_path),
                     sizeof address.sun_path);
  ck_assert_int_eq (bind (fd, (const struct sockaddr *) &address, sizeof address), 0);
  close (fd);
}

/* False when it is not permitted here. */
static bool
take_step (const Step *step)
{
  g_autofree char *file = strcmp (step->name, ".") == 0 ? g_strdup (path) : in_store (step->name);
  g_autofree char *outside = g_build_filename (directory, step->a, NULL);

  if (step->action == DO_WRITE)
    ck_assert (g_file_set_contents (file, step->a, -1, NULL));
  else if (step->action == DO_REPLACE)
    replace (step->name, step->a, step->b);
  else if (step->action == DO_MAKE)
    make_directory (step->name);
  else if (step->action == DO_LINK)
    ck_assert_int_eq (symlink (step->a, file), 0);
  else if (step->action == DO_FIFO)
    ck_assert_int_eq (mkfifo (file, 0600), 0);
  else if (step->action == DO_SOCKET)
    make_socket (file);
  else if (step->action == DO_DEVICE)
    {
      bool made = mknod (file, S_IFCHR | 0600, makedev (1, 5)) == 0;

      ck_assert (made || errno == EPERM);
      return made;
    }
  else if (step->action == DO_CHMOD)
    ck_assert_int_eq (chmod (file, (mode_t) strtoul (step->a, NULL, 8)), 0);
  else if (step->action == DO_CHOWN)
    {
      bool given = chown (file, 1, (gid_t) -1) == 0;

      ck_assert (given || errno == EPERM);
      return given;
    }
  else if (step->action == DO_SECOND_NAME)
    ck_assert_int_eq (link (file, outside), 0);
  else if (step->action == DO_MOVE)
    ck_assert_int_eq (rename (file, outside), 0);
  else if (step->action == DO_FILL)
    {
      g_autofree char *lines = g_strnfill (65537, '\n');

      ck_assert (g_file_set_contents (file, lines, -1, NULL));
    }
  else if (step->action == DO_LENGTHEN)
    ck_assert_int_eq (truncate (file, 65 << 20), 0);
  return true;
}

START_TEST (test_hostile)
{
  const Step *steps = hostile[_i].steps;

  if (steps[0].action == DO_NOTHING)
    make_directory (".");
  else
    make_closed_store ();
  for (guint i = 0; i < G_N_ELEMENTS (hostile[_i].steps) && steps[i].name != NULL; i++)
    if (!take_step (&steps[i]))
      {
        printf ("skipped: hostile %d: not permitted here\n", _i);
        return;
      }
  assert_refused (0, hostile[_i].errnum, hostile[_i].message);
}
END_TEST

/* Whatever a file is cut to, it is not taken for a whole one. */
START_TEST (test_cut)
{
  const char *name = _i == 0 ? INI : RECORD;
  g_autofree char *file = in_store (name);
  g_autofree char *text = NULL;

  make_closed_store ();
  text = read_file (name);
  for (size_t length = strlen (text) - 1; length != SIZE_MAX; length--)
    {
      ck_assert_int_eq (truncate (file, (off_t) length), 0);
      assert_refused (0, EUCLEAN, "' is damaged: ");
    }
}
END_TEST

START_TEST (test_nul_byte)
{
  g_autofree char *file = in_store (INI);
  g_autofree char *text = NULL;
  gsize length;

  make_closed_store ();
  ck_assert (g_file_get_contents (file, &text, &length, NULL));
  text[length - 2] = '\0';
  ck_assert (g_file_set_contents (file, text, (gssize) length, NULL));
  assert_refused (0, EUCLEAN, "it is not a list of groups and keys");
}
END_TEST

/* Locks. In a child process a failed expectation is its exit status. */

static void
assert_child_ends (pid_t child)
{
  int status;

  ck_assert_int_eq (waitpid (child, &status, 0), child);
  ck_assert_msg (WIFEXITED (status) && WEXITSTATUS (status) == 0, "status %x", status);
}

START_TEST (test_in_use)
{
  Store *store = make_store ();

  assert_refused (0, EBUSY, "is in use by another process");
  store_free (store);
  store_free (open_store ());
}
END_TEST

/* The parent's store. A child must not free it, and has it in sight here: leak checkers look. */
static Store *held;

/* For a child: is the store refused because the parent has it? */
static bool
is_refused_for_parent (void)
{
  uint64_t granule = 0;
  g_autoptr (GError) error = NULL;
  g_autoptr (Store) second = store_open (path, &granule, &error);
  g_autofree char *who = g_strdup_printf ("(pid %d)", (int) getppid ());

  return second == NULL && fail_code (error) == EBUSY
         && strstr (error->message, "' is in use by ") != NULL
         && strstr (error->message, who) != NULL;
}

START_TEST (test_in_use_by_other_process)
{
  pid_t child;

  held = make_store ();
  child = fork ();
  if (child == 0)
    _exit (is_refused_for_parent () ? 0 : 1);
  assert_child_ends (child);
  store_free (held);
}
END_TEST

/* Returns when another process holds the byte that says "serving". */
static void
await_serving_byte (void)
{
  g_autofree char *file = in_store ("lock");
  int fd = open (file, O_RDWR | O_CLOEXEC);
  struct flock lock;

  ck_assert_int_ge (fd, 0);
  do
    {
      sched_yield ();
      lock = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1 };
      ck_assert_int_eq (fcntl (fd, F_OFD_GETLK, &lock), 0);
    }
  while (lock.l_type == F_UNLCK);
  close (fd);
}

/* A child that opens the store and then writes a byte to the pipe. It ends with 0 if the
 * store is then as expected: with the two disks and clean, or new. */
static pid_t
start_opener (int pipe_fds[2], bool expect_new)
{
  pid_t child;

  ck_assert_int_eq (pipe (pipe_fds), 0);
  child = fork ();
  if (child == 0)
    {
      uint64_t granule = 0;
      Store *store = store_open (path, &granule, NULL);
      bool ok = store != NULL && write (pipe_fds[1], "x", 1) == 1 && store_was_clean (store)
                && store_disks (store)->len == (expect_new ? 0 : 2);

      store_free (store);
      _exit (ok ? 0 : 1);
    }
  return child;
}

START_TEST (test_waits_for_closing)
{
  bool discard = _i > 0;
  int pipe_fds[2];
  struct pollfd poll_fd;
  char byte;
  pid_t child;

  if (_i == 2) /* the directory stays, and the child must not be content with the removed lock */
    make_directory (".");
  held = open_store ();
  if (!discard)
    ck_assert (store_mark_open (held, NULL));
  store_stop_serving (held);
  child = start_opener (pipe_fds, discard);
  await_serving_byte ();
  assert_refused (0, EBUSY, "is in use by ");

  /* All this is before the child has the store, or it would find it open and without disks. */
  set_disks (held);
  if (!discard)
    ck_assert (store_mark_clean (held, NULL));
  poll_fd = (struct pollfd){ .fd = pipe_fds[0], .events = POLLIN };
  ck_assert_int_eq (poll (&poll_fd, 1, 0), 0);
  if (discard)
    store_discard_new (held);
  else
    store_free (held);
  ck_assert_int_eq (read (pipe_fds[0], &byte, 1), 1);
  assert_child_ends (child);
  ck_assert (exists ("fleecefs.ini"));
  ck_assert (exists ("lock"));
  close (pipe_fds[0]);
  close (pipe_fds[1]);
}
END_TEST

/* Unmaking. */

START_TEST (test_discard_new)
{
  g_autofree char *before = NULL;
  g_autofree char *after = NULL;
  guint n_descriptors = count_descriptors ();
  Store *store;

  if (_i > 0)
    make_directory (".");
  before = listing ();
  if (_i == 2) /* left by an interrupted start: removed with the rest */
    {
      make_directory ("snapshots");
      write_file ("lock", "");
    }
  store = open_store ();
  set_disks (store);
  ck_assert (store_mark_open (store, NULL));
  ck_assert_uint_eq (store_next_number (store, NULL), 1);
  store_discard_new (store);
  after = listing ();
  ck_assert_str_eq (before, after);
  ck_assert_uint_eq (n_descriptors, count_descriptors ());
}
END_TEST

START_TEST (test_discard_keeps)
{
  g_autofree char *before = NULL;
  g_autofree char *after = NULL;
  Store *store = make_store ();

  if (_i == 1) /* not made by this open */
    {
      ck_assert (store_remove_layer (store, 1, NULL));
      ck_assert (store_remove_layer (store, 2, NULL));
      store_free (store);
      store = open_store ();
    }
  before = listing ();
  store_discard_new (store);
  after = listing ();
  ck_assert_str_eq (before, after);
  store_free (open_store ());
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
  Store *store = make_store ();
  g_autoptr (StoreRecord) record = make_record (1, 1, "renamed");
  g_autofree char *before = NULL;
  g_autofree char *after = NULL;
  uint32_t last = 0, number = 0;

  while (last < 64) /* up to the end of the reserved ones */
    last = store_next_number (store, NULL);
  before = listing ();
  forbid_writes (true);
  ck_assert (!store_write_record (store, record, true, NULL));
  ck_assert (!store_mark_clean (store, NULL));
  for (int i = 0; i < 65 && (number = store_next_number (store, NULL)) != 0; i++)
    last = number;
  ck_assert_uint_eq (number, 0);
  after = listing ();
  forbid_writes (false);
  ck_assert_str_eq (before, after);
  assert_names (store, "1:1:monday 2:2:tuesday ");
  ck_assert_uint_eq (store_next_number (store, NULL), last + 1);
  store_free (store);
  store = open_store ();
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
    make_directory (".");
  before = listing ();
  forbid_writes (true);
  ck_assert_ptr_null (store_open (path, &granule, &error));
  forbid_writes (false);
  ck_assert_int_eq (fail_code (error), EFBIG);
  after = listing ();
  ck_assert_str_eq (before, after);
}
END_TEST

/* No descriptor is left for the Nth open() and those after it, for every N. */
START_TEST (test_out_of_descriptors)
{
  guint n_descriptors = count_descriptors ();
  int lowest = dup (STDIN_FILENO);
  g_autofree char *before = NULL;
  struct rlimit old, few;
  Store *store = NULL;
  int n_failures;

  close (lowest);
  if (_i == 1)
    {
      store = make_store ();
      store_free (store);
      store = NULL;
    }
  before = listing ();
  ck_assert_int_eq (getrlimit (RLIMIT_NOFILE, &old), 0);
  for (n_failures = 0;; n_failures++)
    {
      g_autofree char *after = NULL;
      uint64_t granule = 0;

      ck_assert_int_lt (n_failures, 20);
      few = old;
      few.rlim_cur = (rlim_t) (lowest + n_failures);
      ck_assert_int_eq (setrlimit (RLIMIT_NOFILE, &few), 0);
      store = store_open (path, &granule, NULL);
      ck_assert_int_eq (setrlimit (RLIMIT_NOFILE, &old), 0);
      if (store != NULL)
        break;
      after = listing ();
      ck_assert_str_eq (before, after);
      ck_assert_uint_eq (n_descriptors, count_descriptors ());
    }
  ck_assert_int_ge (n_failures, 4);
  store_free (store);
  ck_assert_uint_eq (n_descriptors, count_descriptors ());
}
END_TEST

static void
add_layer_tests (TCase *tc)
{
  tcase_add_loop_test (tc, test_record_round_trip, 0, (int) G_N_ELEMENTS (names));
  tcase_add_loop_test (tc, test_disk_round_trip, 0, 7);
  tcase_add_test (tc, test_disk_limits);
  tcase_add_loop_test (tc, test_reason, 0, 4);
  tcase_add_test (tc, test_unknown_keys);
  tcase_add_loop_test (tc, test_write_record_refuses, 0, 8);
  tcase_add_test (tc, test_layers);
  tcase_add_test (tc, test_nameless_layer);
  tcase_add_loop_test (tc, test_interrupted_merge, 0, 2);
  tcase_add_loop_test (tc, test_moved_and_not_removed, 0, 2);
  tcase_add_loop_test (tc, test_copied, 0, 4);
  tcase_add_test (tc, test_half_removed_layer);
}

static Suite *
store_suite (void)
{
  Suite *suite = suite_create ("store");
  TCase *tc = tcase_create ("store");

  tcase_add_checked_fixture (tc, set_up, tear_down);
  tcase_set_timeout (tc, 60);
  tcase_add_test (tc, test_create);
  tcase_add_test (tc, test_create_needs_parent);
  tcase_add_loop_test (tc, test_half_written, 0, 5);
  tcase_add_test (tc, test_reopen);
  tcase_add_loop_test (tc, test_states, 0, 4);
  tcase_add_loop_test (tc, test_granule, 0, 6);
  tcase_add_loop_test (tc, test_numbers_never_again, 0, 3);
  tcase_add_test (tc, test_numbers_of_layers);
  tcase_add_test (tc, test_numbers_run_out);
  add_layer_tests (tc);
  tcase_add_loop_test (tc, test_missing_key, 0, (int) G_N_ELEMENTS (required_keys));
  tcase_add_loop_test (tc, test_bad_value, 0, (int) G_N_ELEMENTS (bad_values));
  tcase_add_loop_test (tc, test_hostile, 0, (int) G_N_ELEMENTS (hostile));
  tcase_add_loop_test (tc, test_cut, 0, 2);
  tcase_add_test (tc, test_nul_byte);
  tcase_add_test (tc, test_in_use);
  tcase_add_test (tc, test_in_use_by_other_process);
  tcase_add_loop_test (tc, test_waits_for_closing, 0, 3);
  tcase_add_loop_test (tc, test_discard_new, 0, 3);
  tcase_add_loop_test (tc, test_discard_keeps, 0, 2);
  tcase_add_test (tc, test_write_fails);
  tcase_add_loop_test (tc, test_create_fails, 0, 2);
  tcase_add_loop_test (tc, test_out_of_descriptors, 0, 2);
  suite_add_tcase (suite, tc);
  return suite;
}

int
main (void)
{
  SRunner *runner = srunner_create (store_suite ());
  int n_failed;

  umask (022); /* what others can write to is refused */
  srunner_run_all (runner, CK_NORMAL);
  n_failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
