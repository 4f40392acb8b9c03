/* SPDX-License-Identifier: GPL-2.0-or-later */
/* STORE/spare: space for the next manifest file when the file system is full.
 *
 * A manifest file is changed by writing a new file, which needs an inode and a block. The
 * spare is a file that has both. When there is no space (or quota) it is moved to the
 * name of the new file and written there; nothing has to be allocated for that, and nobody
 * else can take what was freed in between. The file that it replaces is the next spare, which is
 * why each of these files takes SPARE_SIZE_LEAST bytes of the disk, also where blocks are smaller.
 * Without a spare everything works as long as there is space.
 *
 * XFS with parent pointers (mkfs.xfs makes them from version 7 on) moves no file, not even over
 * another, without space to reserve, up to a megabyte of it. There the spare is larger; when it
 * cannot be moved its space is given back, the new file is made as if there was space, and the
 * spare gets what is left. Who fills the file system at that very moment can take it.
 *
 * dir_fd is that of the store. Not thread safe; all functions block on the disk.
 */
#pragma once

#include <stdbool.h>

#define SPARE_FILE "spare"

#define SPARE_SIZE_LEAST (4 << 10) /* bytes: a manifest of a few disks */

/* Makes sure that there is a spare, if there is space. What has the name and is no such file is
 * removed, if it can be; it is never followed or written to. Returns false when there is none. */
bool spare_keep (int dir_fd);

/* Has a new, empty file take the space that makes it a spare when it is replaced; its size stays.
 * Returns 0, also where no space can be taken in advance, or -ENOSPC or -EDQUOT. */
int spare_prepare (int fd);

/* Moves the spare to name in another directory of the same file system and opens it for
 * writing; it has any size and contents, mode 0600, and space for SPARE_SIZE_LEAST, mostly 64 KiB.
 * Returns the descriptor, or -1 when there is none. */
int spare_lend (int dir_fd, int to_dir_fd, const char *name);

/* Gives the space of the spare back to the file system; spare_keep() takes it again. Returns false
 * when there was none. */
bool spare_give_back (int dir_fd);

/* The file of that name in another directory is the spare from now on. */
void spare_return (int dir_fd, int from_dir_fd, const char *name);
