/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What must be true after a crash (design.md, sections 3 and 6). */
#include "base/units.h"
#include "power-bed.h"
#include "test-util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OTHER_BOOT "boot-id=00000000-0000-4000-8000-000000000000"

/* What the manifest says, after the host has been booted. */
typedef struct
{
  bool there;
  bool open, durable;
} Found;

/* --- the store --- */

static void
forget_numbers (const char *path, const char *text, const char *key)
{
  const char *at = text;

  while ((at = strstr (at, key)) != NULL)
    for (at += strlen (key); g_ascii_isdigit (*at); at++)
      test_poke (path, (uint64_t) (at - text), "0", 1);
}

/* Images and store were copied, and are the same all the same. */
static void
forget_identities (const char *path, const char *text)
{
  forget_numbers (path, text, "\nidentity=");
  forget_numbers (path, text, "\nplace=");
}

static Found
boot_host (const char *store)
{
  g_autofree char *path = g_build_filename (store, "fleecefs.ini", NULL);
  g_autofree char *text = NULL;
  const char *boot;

  if (!g_file_get_contents (path, &text, NULL, NULL))
    return (Found){ false };
  boot = strstr (text, "boot-id=");
  ck_assert_msg (boot != NULL, "'%s' is not a manifest", path);
  test_poke (path, (uint64_t) (boot - text), OTHER_BOOT, strlen (OTHER_BOOT));
  forget_identities (path, text);
  return (Found){ true, strstr (text, "state=open") != NULL,
                  strstr (text, "durability=power") != NULL };
}

/* Is the store as the sessions must have left it at that moment? */
static void
check_manifest (const Bed *bed, uint64_t moment, const Found *found, const char *path)
{
  for (guint i = 0; i < bed->sessions->len; i++)
    {
      const BedSession *session = bed->sessions->pdata[i];
      const BedSession *next = i + 1 < bed->sessions->len ? bed->sessions->pdata[i + 1] : NULL;

      if (next != NULL && next->opened_begun <= moment)
        continue;
      if (session->opened <= moment && session->closed_begun > moment)
        ck_assert_msg (found->there && found->open && found->durable == session->durable,
                       "the store is not as the session has marked it");
      if (session->closed <= moment)
        {
          g_autofree char *output = NULL;

          ck_assert_msg (found->there && !found->open, "the store is not clean");
          /* Then the other directory is still as it was closed. The spare, which may still have the
           * name under which it was lent, is nobody's loss. */
          if (next == NULL)
            ck_assert_msg (test_run (&output, "diff", "-r", "-q", "-x", "spare", "-x", "*.new",
                                     "-I", "boot-id", "-I", "identity", "-I", "place",
                                     test_path ("live/store"), path, NULL)
                               == 0,
                           "a closed store has changed: %s", output);
        }
    }
}

/* --- the live disk --- */

/* The flush that counts: the last one that had ended. Ops that ended before it began are on disk.
 */
static uint64_t
flushed_before (const GPtrArray *ops, uint64_t moment)
{
  uint64_t flushed = 0;

  for (guint i = 0; i < ops->len; i++)
    {
      const BedOp *op = ops->pdata[i];

      if (op->kind == BED_FLUSH && op->ended <= moment)
        flushed = op->begun;
    }
  return flushed;
}

static uint64_t
size_after (const BedOp *op, uint64_t size)
{
  if (op->kind == BED_RESIZE)
    return op->offset;
  return op->kind == BED_WRITE ? MAX (size, op->offset + op->length) : size;
}

static void
apply (const Bed *bed, const BedOp *op, uint8_t *bytes)
{
  if (op->kind == BED_WRITE)
    memcpy (bytes + op->offset, op->bytes, op->length);
  else if (op->kind == BED_ZERO)
    memset (bytes + op->offset, 0, op->length);
  else if (op->kind == BED_RESIZE)
    memset (bytes + op->offset, 0, BED_CAPACITY (bed) - op->offset);
}

/* Are the n bytes at that offset what the op, alone, leaves there? */
static bool
is_left_by (const Bed *bed, const BedOp *op, uint64_t offset, const uint8_t *bytes, uint64_t n)
{
  static const uint8_t zeros[POWER_SECTOR];
  uint64_t end = op->kind == BED_RESIZE ? BED_CAPACITY (bed) : op->offset + op->length;
  uint64_t from = op->offset / POWER_SECTOR * POWER_SECTOR;

  if (op->kind == BED_FLUSH || offset < from || offset >= end)
    return false;
  if (op->kind == BED_WRITE)
    return memcmp (bytes, op->bytes + (offset - op->offset), n) == 0;
  if (offset < op->offset) /* a resize within the sector: what is before it may be anything */
    return memcmp (bytes + (op->offset - offset), zeros, n - MIN (n, op->offset - offset)) == 0;
  return memcmp (bytes, zeros, n) == 0;
}

static void
check_live (const Bed *bed, uint64_t moment, unsigned disk, const char *path)
{
  const GPtrArray *ops = bed->ops[disk];
  uint64_t flushed = flushed_before (ops, moment), size = bed->first_size, length;
  g_autofree uint8_t *certain = power_duplicate (bed->first[disk], BED_CAPACITY (bed));
  g_autofree uint8_t *got = test_load (path, &length);
  g_autoptr (GPtrArray) maybe = g_ptr_array_new ();
  bool size_is_right;

  for (guint i = 0; i < ops->len; i++)
    {
      BedOp *op = ops->pdata[i];

      if (op->ended < flushed)
        {
          apply (bed, op, certain);
          size = size_after (op, size);
        }
      else if (op->begun <= moment)
        g_ptr_array_add (maybe, op);
    }
  size_is_right = length == size;
  for (guint i = 0; i < maybe->len; i++)
    size_is_right = size_is_right || length == size_after (maybe->pdata[i], size)
                    || length == size_after (maybe->pdata[i], 0);
  ck_assert_msg (size_is_right, "disk %u: %" PRIu64 " bytes, flushed were %" PRIu64, disk, length,
                 size);

  for (uint64_t at = 0; at < length; at += POWER_SECTOR)
    {
      uint64_t n = MIN (POWER_SECTOR, length - at);
      bool right = memcmp (got + at, certain + at, n) == 0;

      for (guint i = 0; i < maybe->len && !right; i++)
        right = is_left_by (bed, maybe->pdata[i], at, got + at, n);
      if (!right) /* each assertion is a message to libcheck, and these are many */
        ck_abort_msg ("disk %u: a flushed write at %" PRIu64 " is lost", disk, at);
    }
}

/* --- the snapshots --- */

static Snapshots *
open_set (const Bed *bed, const char *path, bool durable)
{
  g_autofree char *store = g_build_filename (path, "store", NULL);
  char *sources[BED_DISKS] = { NULL };
  SnapshotsImage images[BED_DISKS];
  SnapshotsConfig config = {
    .store = store, .granule = bed->config.granule, .max_snapshots = 100, .durable = durable
  };
  g_autoptr (GError) error = NULL;
  Snapshots *set;

  config.copy = bed->config.copy;
  for (unsigned i = 0; i < bed->config.n_disks; i++)
    {
      sources[i] = g_build_filename (path, bed->images[i].name, NULL);
      images[i] = (SnapshotsImage){ bed->images[i].name, sources[i] };
    }
  set = snapshots_open (&config, images, bed->config.n_disks, &error);
  ck_assert_msg (set != NULL, "the store cannot be opened: %s",
                 error != NULL ? error->message : "");
  ck_assert_msg (snapshots_start (set, &error), "%s", error != NULL ? error->message : "");
  for (unsigned i = 0; i < bed->config.n_disks; i++)
    g_free (sources[i]);
  return set;
}

static void
close_set (Snapshots *set)
{
  g_autoptr (GError) error = NULL;

  ck_assert_msg (snapshots_close (set, &error), "%s", error != NULL ? error->message : "");
}

static bool
has_name (const BedSnapshot *snapshot, uint64_t moment, const char *name)
{
  return (snapshot->renamed > moment && strcmp (snapshot->name, name) == 0)
         || (snapshot->renamed_begun <= moment && g_strcmp0 (snapshot->new_name, name) == 0);
}

/* The model of a snapshot that was found. */
static guint
find_model (const Bed *bed, uint64_t moment, const char *name)
{
  for (guint i = 0; i < bed->snapshots->len; i++)
    {
      const BedSnapshot *model = bed->snapshots->pdata[i];

      if (has_name (model, moment, name) && model->made_begun <= moment && model->removed > moment)
        return i;
    }
  ck_abort_msg ("a snapshot '%s' that should not be there", name);
}

static void
check_bytes (const Bed *bed, Snapshot *snapshot, const BedSnapshot *model)
{
  g_autofree char *broken = snapshot_dup_broken (snapshot);

  if (broken != NULL && bed->may_break)
    return;
  ck_assert_msg (broken == NULL, "snapshot '%s' is broken: %s", model->name, broken);
  for (unsigned i = 0; i < bed->config.n_disks; i++)
    {
      g_autofree uint8_t *got = g_malloc (model->sizes[i] + 1);

      ck_assert_uint_eq (snapshot_size (snapshot, i), model->sizes[i]);
      ck_assert_int_eq (snapshot_read (snapshot, i, got, model->sizes[i] + 1, 0), model->sizes[i]);
      test_assert_bytes (model->name, got, model->images[i], model->sizes[i]);
    }
}

static void
check_broken (const Bed *bed, Snapshot *snapshot, const BedSnapshot *model)
{
  g_autofree char *broken = snapshot_dup_broken (snapshot);
  uint8_t byte;

  ck_assert_msg (broken != NULL && strstr (broken, "the host went down") != NULL,
                 "snapshot '%s' does not say that the host went down: %s", model->name,
                 broken != NULL ? broken : "it is not broken");
  for (unsigned i = 0; i < bed->config.n_disks; i++)
    for (uint64_t at = 0; at < model->sizes[i]; at += model->sizes[i] / 7 + 1)
      ck_assert_int_eq (snapshot_read (snapshot, i, &byte, 1, at), -EIO);
}

/* Every snapshot that is promised is there, no other, and what is there is right or says that it
 * is broken. */
static void
check_snapshots (const Bed *bed, uint64_t moment, Snapshots *set, bool broken)
{
  g_autofree bool *found = g_new0 (bool, bed->snapshots->len);
  Snapshot *snapshot = NULL;
  uint32_t id = 0;

  while ((snapshot = snapshots_next (set, id)) != NULL)
    {
      g_autofree char *name = snapshot_dup_name (snapshot);
      guint i = name != NULL ? find_model (bed, moment, name) : 0;

      id = snapshot_id (snapshot);
      if (name != NULL)
        {
          ck_assert_msg (!found[i], "snapshot '%s' is there twice", name);
          found[i] = true;
          (broken ? check_broken : check_bytes) (bed, snapshot, bed->snapshots->pdata[i]);
        }
      snapshot_unref (snapshot);
    }
  for (guint i = 0; i < bed->snapshots->len; i++)
    {
      const BedSnapshot *model = bed->snapshots->pdata[i];

      ck_assert_msg (found[i] || model->made > moment || model->removed_begun <= moment,
                     "snapshot '%s' is lost", model->name);
    }
}

/* --- afterwards --- */

/* Guests go on: over what was copied half, and what was not. */
static void
write_on (const Bed *bed, Snapshots *set)
{
  uint8_t bytes[4 * POWER_SECTOR];

  memset (bytes, 0xee, sizeof bytes);
  for (unsigned i = 0; i < bed->config.n_disks; i++)
    for (uint64_t at = 0; at + sizeof bytes < bed->config.size; at += 64 * KIB)
      ck_assert_int_eq (disk_write (snapshots_disk (set, i), bytes, sizeof bytes, at, IO_SYNC_NONE),
                        sizeof bytes);
}

static void
check_overlays (const char *path)
{
  g_autofree char *output = NULL;
  g_autofree char *command = g_strdup_printf (
      "for f in %s/store/snapshots/*/*.qcow2; do [ ! -e \"$f\" ] || qemu-img check -q -f qcow2 "
      "\"$f\" || exit 1; done",
      path);

  if (test_have ("qemu-img"))
    ck_assert_msg (test_run (&output, "sh", "-c", command, NULL) == 0, "qemu-img check: %s",
                   output);
}

void
power_check (Bed *bed, uint64_t moment, const char *path, PowerDepth depth)
{
  g_autofree char *store = g_build_filename (path, "store", NULL);
  Found found = boot_host (store);
  bool broken = found.open && !found.durable;
  Snapshots *set;

  check_manifest (bed, moment, &found, store);
  for (unsigned i = 0; i < bed->config.n_disks; i++)
    {
      g_autofree char *source = g_build_filename (path, bed->images[i].name, NULL);

      check_live (bed, moment, i, source);
    }
  set = open_set (bed, path, found.durable);
  check_snapshots (bed, moment, set, broken);
  if (depth == POWER_WRITE)
    {
      write_on (bed, set);
      check_snapshots (bed, moment, set, broken);
    }
  close_set (set);
  if (depth == POWER_CLOSE)
    return;
  if (!broken && !bed->may_break)
    check_overlays (path);
  set = open_set (bed, path, found.durable);
  check_snapshots (bed, moment, set, broken);
  close_set (set);
}
