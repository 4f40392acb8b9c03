/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A double of the kernel: sees every system call by which fleecefs reads or changes its store
 * and its sources, and decides what becomes of it.
 *
 * It stands below all of fleecefs's own code: the linker's --wrap (calls_ldflags in Makefile.am)
 * leads the calls of the test program here, and from here to the C library or the sanitizer's
 * interceptor. Without a hook a call just goes on. The calling sequence of a test:
 *
 *     calls_watch (CALL_STORE, "/tmp/x/store");
 *     calls_watch (CALL_SOURCE, "/tmp/x/vm1.img");
 *     calls_hook (1 << CALL_STORE, CALLS_CHANGES, decide, NULL, &data);
 *     ... what is tested ...
 *     calls_hook (0, 0, NULL, NULL, NULL);
 *
 * The calls that a hook asked for are numbered from 1 in the order in which they come here. The
 * hook is called in the thread that makes the call, from many threads at a time; what it calls
 * itself goes on unseen. Places and hooks are changed only while no other thread makes calls.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum
{
  CALL_READ,     /* pread */
  CALL_SEEK,     /* lseek for data and holes */
  CALL_STAT,     /* fstat */
  CALL_OPEN,     /* open, openat of what is there; also directories */
  CALL_CLOSE,    /* close; when it fails, the descriptor is closed all the same */
  CALL_WRITE,    /* pwrite, pwritev */
  CALL_COPY,     /* copy_file_range, FICLONERANGE */
  CALL_ALLOCATE, /* fallocate */
  CALL_TRUNCATE, /* ftruncate */
  CALL_CREATE,   /* open, openat with O_CREAT */
  CALL_MKDIR,    /* mkdir, mkdirat */
  CALL_RENAME,   /* renameat, renameat2 */
  CALL_UNLINK,   /* unlinkat of a file */
  CALL_RMDIR,    /* rmdir, unlinkat with AT_REMOVEDIR */
  CALL_SYNC,     /* fsync, fdatasync, sync_range_end (sync-range.h) */
  CALL_GETXATTR, /* fgetxattr */
  CALL_XATTR,    /* fsetxattr, fremovexattr */
  CALL_KINDS,
} CallKind;

/* Sets of kinds, as bits. */
#define CALLS_DATA_CHANGES                                                                         \
  (1U << CALL_WRITE | 1U << CALL_COPY | 1U << CALL_ALLOCATE | 1U << CALL_TRUNCATE)
#define CALLS_NAME_CHANGES                                                                         \
  (1U << CALL_CREATE | 1U << CALL_MKDIR | 1U << CALL_RENAME | 1U << CALL_UNLINK | 1U << CALL_RMDIR)
#define CALLS_CHANGES (CALLS_DATA_CHANGES | CALLS_NAME_CHANGES)
#define CALLS_ALL ((1U << CALL_KINDS) - 1)

/* Whose file it is; of CALL_COPY, where the bytes go. */
typedef enum
{
  CALL_ELSEWHERE,
  CALL_STORE,
  CALL_SOURCE,
  CALL_PLACES,
} CallPlace;

typedef struct
{
  uint64_t number;
  CallKind kind;
  CallPlace place;
  const char *path;    /* of the file, absolute; after its removal what it was */
  int fd;              /* of the file; of its directory where there is a name */
  const char *name;    /* of open, create, mkdir, rename, unlink, rmdir; else NULL */
  const char *xattr;   /* its name; else NULL */
  const char *to_path; /* of rename, where to; else NULL */
  int to_fd;
  const char *to_name;
  uint64_t offset;   /* bytes; of truncate: the new size */
  uint64_t length;   /* of read, write, copy, allocate, xattr; of sync: 0: all of the file */
  const void *bytes; /* of write, and of xattr: the value, NULL: it is removed */
  int in_fd;         /* of copy: the other file */
  uint64_t in_offset;
  int flags; /* of open, create, renameat2; of allocate: the mode; of sync: 0 for fsync, else 1 */
} Call;

typedef enum
{
  CALL_GO_ON,
  CALL_FAIL,  /* is not done, and fails with errnum */
  CALL_SHORT, /* only the first length bytes are done, and that is what it returns */
  CALL_TEAR,  /* only the first length bytes are done, and it fails with errnum */
  CALL_DIE,   /* the process is killed before it is done, or with the first length bytes done */
  CALL_HANG,  /* waits until calls_release(), then goes on */
} CallAction;

typedef struct
{
  CallAction action;
  int errnum;
  uint64_t length; /* 0 < length < the call's, else short is all of it, and torn or dead nothing */
} CallFate;

/* Decides about a call before it is made. */
typedef CallFate (*CallsBefore) (const Call *call, void *data);
/* Hears what a call returned: the result, and errno when that is -1. */
typedef void (*CallsAfter) (const Call *call, ssize_t result, int errnum, void *data);

/* The file or directory path, absolute and without symbolic links, and all below it is of that
 * place. It need not be there yet. At most 8. */
void calls_watch (CallPlace place, const char *path);
/* No path is of any place. */
void calls_forget (void);

/* Installs a hook for the calls of these kinds at these places (bits), and numbers them from 1
 * on. before and after may be NULL; both NULL: none. */
void calls_hook (unsigned places, unsigned kinds, CallsBefore before, CallsAfter after, void *data);
/* The number of the last call. */
uint64_t calls_count (void);

/* Blocks until a thread hangs in a call. */
void calls_wait_hanging (void);
/* Lets all go that hang, and those that would from now on until the next calls_hook(). */
void calls_release (void);

/* A word for messages: "write". */
const char *calls_kind_name (CallKind kind);
