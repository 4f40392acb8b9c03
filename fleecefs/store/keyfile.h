/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The small text files of the store: GKeyFile, read with suspicion and replaced atomically.
 *
 * The last line is "[end]": so a file that was cut, at whatever byte, is not taken for a shorter
 * one. It is no group of the Keyfile. Each file takes 4 KiB of the disk at least, and what was made
 * from the spare (spare.h) has a line of spaces before the last one, to fill them.
 *
 * GKeyFile takes a number that does not fit, "-1" for an unsigned one and a group
 * that is there twice. These functions do not. What is wrong in a file is reported
 * with the code EUCLEAN and a message that names the file, the group and the key.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct
{
  GKeyFile *keys; /* for g_key_file_set_string() and the like */
  char *path;     /* for messages */
  bool has_end;   /* its last line was there when it was loaded */
} Keyfile;

/* An empty one. */
Keyfile *keyfile_new (const char *path);
void keyfile_free (Keyfile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Keyfile, keyfile_free)

/* Reads the file name in dir_fd. NULL with ENOENT when it is missing, EUCLEAN when
 * it is not a regular file of at most 64 MiB and 65536 lines or not a key
 * file, EPERM when others may write to it (base/trust.h). Blocks. */
Keyfile *keyfile_load (int dir_fd, const char *name, const char *path, GError **error);

/* Fails when the last line was not there. Apart from keyfile_load(), because a file of a newer
 * format, of which only the number of the format is known, may end otherwise. */
bool keyfile_check_end (const Keyfile *file, GError **error);

/* Puts the keys in the place of the file name (mode 0600): whoever opens that name finds
 * the old file or the new one, never a part. With durable, that is true after a loss of
 * power too, and the new one is there for good when this returns. After a failure the old
 * one is there; only with the code ENOTRECOVERABLE it may be the new one. dir_fd is of the
 * directory (not O_PATH). The temporary file is "NAME.new"; when there is no space for it and
 * spare_fd is not -1 but that of the store, the spare there (spare.h) becomes it, or gives its
 * space for it. Blocks. */
bool keyfile_save (const Keyfile *file, int dir_fd, const char *name, bool durable, int spare_fd,
                   GError **error);

/* Is the key there? */
bool keyfile_has (const Keyfile *file, const char *group, const char *key);

/* A decimal number in min..max. */
bool keyfile_get_unsigned (const Keyfile *file, const char *group, const char *key, uint64_t min,
                           uint64_t max, uint64_t *out, GError **error);
/* A decimal number with an optional minus sign. */
bool keyfile_get_signed (const Keyfile *file, const char *group, const char *key, int64_t *out,
                         GError **error);
/* A string (UTF-8), escapes resolved; NULL on failure. */
char *keyfile_get_text (const Keyfile *file, const char *group, const char *key, GError **error);

/* Sets *error: the value of the key is not `expected` ("a size in bytes"). Returns false. */
bool keyfile_fail_value (const Keyfile *file, const char *group, const char *key,
                         const char *expected, GError **error);
