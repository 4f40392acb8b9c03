/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stores that are damaged, hostile or none: each is refused, says why, and stays as it was. */
#include "store-bed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

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
  { "fleecefs.ini", "disk 2", "ctime" },
  { "fleecefs.ini", "disk 2", "mode" },
  { "fleecefs.ini", "disk 2", "uid" },
  { "fleecefs.ini", "disk 2", "gid" },
  { "fleecefs.ini", "disk 2", "links" },
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

  bed_make_closed_store ();
  bed_set_value (required_keys[_i].file, required_keys[_i].group, required_keys[_i].key, NULL);
  bed_assert_refused (0, EUCLEAN, message);
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
  { INI, "disk 1", "inode", "-1" },
  { INI, "disk 1", "inode", "" },
  { INI, "disk 1", "ctime", "9223372036854775808" },
  { INI, "disk 1", "mode", "4294967296" },
  { INI, "disk 1", "uid", "root" },
  { INI, "disk 1", "gid", "-1" },
  { INI, "disk 1", "links", "0x1" },
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
  bed_make_closed_store ();
  bed_set_value (bad_values[_i].file, bad_values[_i].group, bad_values[_i].key,
                 bad_values[_i].value);
  bed_assert_refused (0, EUCLEAN, message);
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
  g_autofree char *file
      = strcmp (step->name, ".") == 0 ? g_strdup (bed_path) : bed_in_store (step->name);
  g_autofree char *outside = g_build_filename (bed_directory, step->a, NULL);

  if (step->action == DO_WRITE)
    ck_assert (g_file_set_contents (file, step->a, -1, NULL));
  else if (step->action == DO_REPLACE)
    bed_replace (step->name, step->a, step->b);
  else if (step->action == DO_MAKE)
    bed_make_directory (step->name);
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
    bed_make_directory (".");
  else
    bed_make_closed_store ();
  for (guint i = 0; i < G_N_ELEMENTS (hostile[_i].steps) && steps[i].name != NULL; i++)
    if (!take_step (&steps[i]))
      {
        printf ("skipped: hostile %d: not permitted here\n", _i);
        return;
      }
  bed_assert_refused (0, hostile[_i].errnum, hostile[_i].message);
}
END_TEST

/* Whatever a file is cut to, it is not taken for a whole one. */
START_TEST (test_cut)
{
  const char *name = _i == 0 ? INI : RECORD;
  g_autofree char *file = bed_in_store (name);
  g_autofree char *text = NULL;

  bed_make_closed_store ();
  text = bed_read_file (name);
  for (size_t length = strlen (text) - 1; length != SIZE_MAX; length--)
    {
      ck_assert_int_eq (truncate (file, (off_t) length), 0);
      bed_assert_refused (0, EUCLEAN, "' is damaged: ");
    }
}
END_TEST

START_TEST (test_nul_byte)
{
  g_autofree char *file = bed_in_store (INI);
  g_autofree char *text = NULL;
  gsize length;

  bed_make_closed_store ();
  ck_assert (g_file_get_contents (file, &text, &length, NULL));
  text[length - 2] = '\0';
  ck_assert (g_file_set_contents (file, text, (gssize) length, NULL));
  bed_assert_refused (0, EUCLEAN, "it is not a list of groups and keys");
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("store-refused");
  TCase *tc = bed_case (suite);

  tcase_add_loop_test (tc, test_missing_key, 0, (int) G_N_ELEMENTS (required_keys));
  tcase_add_loop_test (tc, test_bad_value, 0, (int) G_N_ELEMENTS (bad_values));
  tcase_add_loop_test (tc, test_hostile, 0, (int) G_N_ELEMENTS (hostile));
  tcase_add_loop_test (tc, test_cut, 0, 2);
  tcase_add_test (tc, test_nul_byte);
  return bed_run (suite);
}
