/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The layers of a store, their records, and what the manifest knows of disks. */
#include "base/fail.h"
#include "store-bed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
  Store *store = bed_open_store ();
  const char *name = names[_i];
  g_autoptr (StoreRecord) record = NULL;
  g_autoptr (StoreRecord) copy = NULL;
  g_autoptr (GPtrArray) records = NULL;
  const StoreRecord *back;
  const StoreImage *image;

  ck_assert_ptr_nonnull (store_set_disk (store, name, "/x", 1, 2, 3));
  bed_set_disks (store);
  ck_assert (store_mark_open (store, NULL));
  ck_assert (store_create_layer (store, 5, NULL));
  record = bed_make_record (5, 4, name);
  g_ptr_array_add (record->images, store_image_new (name, 77, 4096, 78));
  ((StoreImage *) record->images->pdata[2])->broken = g_strdup (name);
  copy = store_record_copy (record);
  ck_assert (store_write_record (store, record, true, NULL));
  ck_assert (store_write_record (store, copy, false, NULL));
  store_free (store);

  store = bed_open_store ();
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
  static const StoreInode inode = { UINT64_MAX, INT64_MIN, UINT32_MAX, UINT32_MAX, 0, UINT64_MAX };
  Store *store = bed_open_store ();
  const StoreDisk *disk = store_set_disk (store, "d", paths[_i], 1, INT64_MAX, INT64_MIN);
  g_autofree char *absolute = g_canonicalize_filename (paths[_i], NULL);

  ck_assert_uint_eq (disk->number, 1);
  ck_assert_ptr_eq (store_set_disk (store, "d", disk->path, 2, disk->mtime, disk->write_time),
                    disk);
  store_set_disk_inode (store, "d", &inode);
  ck_assert (store_mark_open (store, NULL));
  store_free (store);
  store = bed_open_store ();
  disk = store_find_disk (store, "d");
  ck_assert_str_eq (disk->path, absolute);
  ck_assert_mem_eq (&disk->inode, &inode, sizeof inode);
  ck_assert_uint_eq (disk->size, 2);
  ck_assert_int_eq (disk->mtime, INT64_MAX);
  ck_assert_int_eq (disk->write_time, INT64_MIN);
  ck_assert_uint_eq (store_set_disk (store, "e", "/e", 0, 0, 0)->number, 2);
  store_free (store);
}
END_TEST

START_TEST (test_disk_limits)
{
  Store *store = bed_open_store ();

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
  store = bed_open_store ();
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
  Store *store = bed_make_store ();
  g_autoptr (StoreRecord) record = bed_make_record (1, 1, "monday");
  g_autoptr (GPtrArray) records = NULL;

  ((StoreImage *) record->images->pdata[0])->broken = g_strdup (reasons[_i][0]);
  ck_assert (store_write_record (store, record, true, NULL));
  records = store_read_records (store, NULL);
  ck_assert_str_eq (reason_of (records), reasons[_i][1]);
  g_clear_pointer (&records, g_ptr_array_unref);

  if (_i == 1) /* the same by another hand */
    bed_set_value ("snapshots/000001/snapshot.ini", "disk 1", "broken",
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

  bed_make_closed_store ();
  bed_set_value ("fleecefs.ini", "fleecefs", "colour", "red");
  bed_replace ("fleecefs.ini", "[end]", "[later]\nkey=1\n[end]");
  bed_set_value ("snapshots/000001/snapshot.ini", "snapshot", "colour", "red");
  bed_replace ("snapshots/000001/snapshot.ini", "[end]", "[later]\nkey=1\n[end]");
  bed_write_file ("README", "mine");
  store = bed_open_store ();
  bed_assert_names (store, "1:1:monday 2:2:tuesday ");
  ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  text = bed_read_file ("fleecefs.ini");
  ck_assert_ptr_nonnull (strstr (text, "colour=red"));
  ck_assert_ptr_nonnull (strstr (text, "[later]\nkey=1"));
  ck_assert (bed_exists ("README"));
}
END_TEST

START_TEST (test_write_record_refuses)
{
  Store *store = bed_make_store ();
  g_autoptr (StoreRecord) record = bed_make_record (1, 1, "monday");
  g_autofree char *before = bed_listing ();
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
  after = bed_listing ();
  ck_assert_str_eq (before, after);
  store_free (store);
}
END_TEST

START_TEST (test_layers)
{
  Store *store = bed_make_store ();
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
  bed_assert_names (store, "1:1:monday 2:2:tuesday ");

  ck_assert (store_remove_layer (store, 1, NULL));
  ck_assert (!bed_exists ("snapshots/000001"));
  ck_assert (store_remove_layer (store, 1, NULL));
  ck_assert (store_remove_layer (store, 3, NULL));
  bed_assert_names (store, "2:2:tuesday ");

  bed_make_directory ("snapshots/000002/mine");
  before = bed_listing ();
  ck_assert (!store_remove_layer (store, 2, &error));
  ck_assert_int_eq (fail_code (error), EUCLEAN);
  after = bed_listing ();
  ck_assert_str_eq (before, after);
  store_free (store);
}
END_TEST

/* A layer without a snapshot, and records with and without the caller's own array. */
START_TEST (test_nameless_layer)
{
  Store *store = bed_make_store ();
  StoreRecord *record = g_new0 (StoreRecord, 1);

  record->layer = 1;
  record->images = g_ptr_array_new ();
  g_ptr_array_add (record->images, store_image_new ("a.img", 5, 0, 6));
  ck_assert (store_write_record (store, record, true, NULL));
  store_record_free (record);
  store_free (store);
  store = bed_open_store ();
  bed_assert_names (store, "1:0:- 2:2:tuesday ");
  store_free (store);
}
END_TEST

START_TEST (test_interrupted_merge)
{
  Store *store = bed_make_store ();
  g_autoptr (StoreRecord) record = bed_make_record (2, 1, "monday");

  if (_i == 1) /* renamed while the older layer could not be removed */
    {
      g_free (record->name);
      record->name = g_strdup ("renamed");
    }
  bed_add_layer (store, 3, 3, "wednesday");
  ck_assert (store_write_record (store, record, true, NULL));
  store_free (store);
  store = bed_open_store ();
  ck_assert (bed_exists ("snapshots/000001/snapshot.ini"));
  bed_assert_names (store, _i == 1 ? "2:1:renamed 3:3:wednesday " : "2:1:monday 3:3:wednesday ");
  ck_assert (bed_exists ("snapshots/000001/a.img.qcow2"));
  ck_assert (store_remove_superseded (store, NULL));
  ck_assert (!bed_exists ("snapshots/000001"));
  bed_assert_names (store, _i == 1 ? "2:1:renamed 3:3:wednesday " : "2:1:monday 3:3:wednesday ");
  store_free (store);
}
END_TEST

/* A merge moved the snapshot on, the old layer could not be removed, and the snapshot was removed
 * then, or got another name. */
START_TEST (test_moved_and_not_removed)
{
  Store *store = bed_make_store ();
  g_autoptr (StoreRecord) moved = bed_make_record (2, 1, "monday");
  g_autofree char *mine = bed_in_store ("snapshots/000001/mine");

  ck_assert (store_write_record (store, moved, true, NULL));
  bed_make_directory ("snapshots/000001/mine");
  ck_assert (!store_remove_layer (store, 1, NULL));
  if (_i == 1)
    {
      /* It is killed now. */
      store_free (store);
      ck_assert_int_eq (rmdir (mine), 0);
      store = bed_open_store ();
      bed_assert_names (store, "2:1:monday ");
      store_free (store);
      return;
    }
  moved->id = 0;
  g_clear_pointer (&moved->name, g_free);
  ck_assert (store_write_record (store, moved, true, NULL));
  ck_assert (!bed_exists ("snapshots/000001/snapshot.ini"));
  ck_assert (store_remove_layer (store, 2, NULL));
  store_free (store);
  ck_assert_int_eq (rmdir (mine), 0);
  store = bed_open_store ();
  bed_assert_names (store, "");
  ck_assert (!bed_exists ("snapshots/000001"));
  store_free (store);
}
END_TEST

/* A store that was left open and is another directory now; a rename makes none of it. Loop: is it
 * a copy; was it closed. */
START_TEST (test_copied)
{
  bool copied = _i % 2 == 1, closed = _i / 2 == 1;
  g_autofree char *other = g_strconcat (bed_path, "2", NULL);
  const char *command[] = { "cp", "-a", bed_path, other, NULL };
  g_autofree char *id = NULL;
  Store *store = bed_make_store ();
  struct statx st;

  ck_assert (store_mark_open (store, NULL));
  id = g_strdup (store_id (store));
  ck_assert_int_ne (store_next_number (store, NULL), 0);
  if (closed)
    ck_assert (store_mark_clean (store, NULL));
  store_free (store);
  ck_assert_int_eq (statx (AT_FDCWD, bed_path, 0, STATX_BTIME, &st), 0);
  if ((st.stx_mask & STATX_BTIME) == 0)
    return; /* nothing tells */
  if (copied)
    ck_assert (g_spawn_sync (NULL, (char **) command, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                             NULL, NULL, NULL));
  else
    ck_assert_int_eq (rename (bed_path, other), 0);
  g_free (bed_path);
  bed_path = g_steal_pointer (&other);
  for (int i = 0; i < 2; i++) /* until somebody has dealt with it */
    {
      store = bed_open_store ();
      ck_assert_int_eq (store_was_copied (store), copied && !closed);
      ck_assert_str_eq (store_found_id (store), id);
      ck_assert_int_eq (strcmp (store_id (store), id) != 0, copied);
      store_free (store);
    }
  store = bed_open_store ();
  g_free (id);
  id = g_strdup (store_id (store));
  ck_assert (store_mark_open (store, NULL));
  store_free (store);
  store = bed_open_store ();
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
  Store *store = bed_make_store ();

  store_free (store);
  record = bed_in_store ("snapshots/000001/snapshot.ini");
  ck_assert_int_eq (unlink (record), 0);
  store = bed_open_store ();
  ck_assert (!bed_exists ("snapshots/000001"));
  bed_assert_names (store, "2:2:tuesday ");
  store_free (store);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("store-layers");
  TCase *tc = bed_case (suite);

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
  return bed_run (suite);
}
