/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The base layer: full-length I/O, sizes, zero blocks, scratch buffers, errors, pause
 * points, and the locks that keep QEMU and us apart.
 *
 * That a thread is held at a pause point is seen by what it has not done yet, not
 * by waiting for a while. QEMU is qemu-io: it has an image open as long as its
 * standard input is, and its prompt says when. */
#include "base/crc64.h"
#include "base/errno-map.h"
#include "base/fail.h"
#include "base/image-lock.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/name.h"
#include "base/pause.h"
#include "base/scratch.h"
#include "base/sync-range.h"
#include "base/units.h"
#include "base/zero.h"
#include "test-util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- io --- */

#define FILE_SIZE 1000

static const struct
{
  uint64_t offset;
  size_t length;
  ssize_t expected;
} reads[] = {
  { 0, 0, 0 },
  { 0, 1, 1 },
  { 0, FILE_SIZE, FILE_SIZE },
  { 0, FILE_SIZE + 1, FILE_SIZE },
  { 0, 5000, FILE_SIZE },
  { 500, 400, 400 },
  { 500, 501, 500 },
  { 999, 1, 1 },
  { 999, 10, 1 },
  { 1000, 1, 0 },
  { 1000, 0, 0 },
  { UINT64_C (1) << 40, 10, 0 },
};

START_TEST (test_read)
{
  const char *path = test_path ("f");
  uint8_t buffer[5000], expected[5000];
  int fd;

  test_make_file (path, FILE_SIZE, 1);
  fd = open (path, O_RDONLY | O_CLOEXEC);
  memset (buffer, 0xaa, sizeof buffer);
  ck_assert_int_eq (io_read (fd, buffer, reads[_i].length, reads[_i].offset), reads[_i].expected);
  test_fill (expected, (size_t) reads[_i].expected, 1, reads[_i].offset);
  test_assert_bytes ("io_read", buffer, expected, (size_t) reads[_i].expected);
  ck_assert_uint_eq (buffer[reads[_i].expected], 0xaa);

  memset (buffer, 0xaa, sizeof buffer);
  ck_assert_int_eq (io_read_full (fd, buffer, reads[_i].length, reads[_i].offset),
                    (size_t) reads[_i].expected == reads[_i].length ? 0 : -EIO);
  test_assert_bytes ("io_read_full", buffer, expected, (size_t) reads[_i].expected);
  close (fd);
}
END_TEST

static const struct
{
  const char *what;
  const char *path; /* NULL: a file of the test */
  int flags;        /* -1: closed */
  int read_errno, write_errno;
} bad_fds[] = {
  { "closed", NULL, -1, EBADF, EBADF },
  { "read-only", NULL, O_RDONLY, 0, EBADF },
  { "write-only", NULL, O_WRONLY, EBADF, 0 },
  { "full", "/dev/full", O_RDWR, 0, ENOSPC },
  { "directory", ".", O_RDONLY | O_DIRECTORY, EISDIR, EBADF },
};

START_TEST (test_io_errors)
{
  const char *path = bad_fds[_i].path != NULL ? bad_fds[_i].path : test_path ("f");
  uint8_t buffer[100] = { 1 };
  int fd = -1, w = bad_fds[_i].write_errno, r = bad_fds[_i].read_errno;

  if (bad_fds[_i].path == NULL)
    test_make_file (path, FILE_SIZE, 1);
  if (bad_fds[_i].flags >= 0)
    ck_assert_int_ge (fd = open (path, bad_fds[_i].flags | O_CLOEXEC), 0);

  ck_assert_int_eq (io_read (fd, buffer, sizeof buffer, 0), r == 0 ? 100 : -r);
  ck_assert_int_eq (io_read_full (fd, buffer, sizeof buffer, 0), -r);
  ck_assert_int_eq (io_write (fd, buffer, sizeof buffer, 0), w == 0 ? 100 : -w);
  ck_assert_int_eq (io_write_full (fd, buffer, sizeof buffer, 0), -w);
  if (fd >= 0)
    close (fd);
}
END_TEST

#define N_PARTS 300

/* More parts than go into one call, some of them empty. */
START_TEST (test_write_parts)
{
  const char *path = test_path ("f");
  struct iovec parts[N_PARTS];
  uint8_t buffer[N_PARTS * 7], back[N_PARTS * 7];
  size_t length = 0;
  int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

  test_fill (buffer, sizeof buffer, 2, 0);
  for (unsigned i = 0; i < N_PARTS; i++)
    {
      parts[i] = (struct iovec){ buffer + length, i % 8 };
      length += i % 8;
    }
  ck_assert_int_eq (io_write_parts (fd, parts, N_PARTS, 100), 0);
  ck_assert_int_eq (io_read (fd, back, sizeof back, 100), (ssize_t) length);
  test_assert_bytes ("what was written", back, buffer, length);
  ck_assert_int_eq (io_write_parts (fd, parts, 0, 0), 0);
  close (fd);
  ck_assert_int_eq (io_write_parts (-1, parts, N_PARTS, 0), -EBADF);
}
END_TEST

/* Any part of it, not only whole pages; also when the file was cut off behind our back. */
START_TEST (test_sync_range)
{
  static const uint8_t bytes[256 * KIB];
  SyncRange range = { 0 }, none = { 0 };
  int fd = open (test_path ("f"), O_RDWR | O_CREAT | O_CLOEXEC, 0600), pipe_fds[2];

  ck_assert_int_eq (io_write_full (fd, bytes, sizeof bytes, 0), 0);
  ck_assert (sync_range_open (&range, fd, 64 * KIB, 128 * KIB));
  sync_range_begin (&range, 64 * KIB + 1, 4200);
  ck_assert_int_eq (sync_range_end (&range, 64 * KIB + 1, 4200), 0);
  ck_assert_int_eq (sync_range_end (&range, 64 * KIB, 128 * KIB), 0);
  ck_assert_int_eq (sync_range_end (&range, 192 * KIB - 1, 1), 0);
  ck_assert_int_eq (io_truncate (fd, 0), 0);
  ck_assert_int_eq (sync_range_end (&range, 192 * KIB - 1, 1), 0);
  sync_range_close (&range);
  sync_range_close (&none);
  close (fd);

  ck_assert_int_eq (pipe2 (pipe_fds, O_CLOEXEC), 0);
  ck_assert (!sync_range_open (&range, pipe_fds[0], 0, 4096));
  close (pipe_fds[0]);
  close (pipe_fds[1]);
}
END_TEST

#define LIMIT 4096

static const struct
{
  uint64_t offset;
  size_t length;
  ssize_t expected; /* of io_write() */
  int full;         /* of io_write_full() */
} limited_writes[] = {
  { 0, LIMIT, LIMIT, 0 },
  { 0, 2 * LIMIT, LIMIT, -EFBIG },
  { 100, LIMIT, LIMIT - 100, -EFBIG },
  { LIMIT - 1, 2, 1, -EFBIG },
  { LIMIT, 1, -EFBIG, -EFBIG },
  { 3 * LIMIT, LIMIT, -EFBIG, -EFBIG },
};

START_TEST (test_partial_write)
{
  const char *path = test_path ("f");
  uint8_t buffer[2 * LIMIT], back[2 * LIMIT];
  struct rlimit old, limit;
  void (*old_handler) (int) = signal (SIGXFSZ, SIG_IGN);
  ssize_t expected = limited_writes[_i].expected, n;
  int fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), r;

  test_fill (buffer, sizeof buffer, 2, 0);
  getrlimit (RLIMIT_FSIZE, &old);
  limit = (struct rlimit){ LIMIT, old.rlim_max };
  setrlimit (RLIMIT_FSIZE, &limit);
  n = io_write (fd, buffer, limited_writes[_i].length, limited_writes[_i].offset);
  r = io_write_full (fd, buffer, limited_writes[_i].length, limited_writes[_i].offset);
  setrlimit (RLIMIT_FSIZE, &old);
  signal (SIGXFSZ, old_handler);

  ck_assert_int_eq (n, expected);
  ck_assert_int_eq (r, limited_writes[_i].full);
  ck_assert_int_eq (io_read (fd, back, sizeof back, limited_writes[_i].offset), MAX (expected, 0));
  test_assert_bytes ("what was written", back, buffer, (size_t) MAX (expected, 0));
  close (fd);
}
END_TEST

/* --- units --- */

static const struct
{
  const char *text;
  bool good;
  uint64_t bytes;
} sizes[] = {
  { "0", true, 0 },
  { "1", true, 1 },
  { "512", true, 512 },
  { "007", true, 7 },
  { "4k", true, 4096 },
  { "4K", true, 4096 },
  { "1m", true, MIB },
  { "1M", true, MIB },
  { "3g", true, 3 * GIB },
  { "3G", true, 3 * GIB },
  { "2t", true, 2 * TIB },
  { "2T", true, 2 * TIB },
  { "0T", true, 0 },
  { "18446744073709551615", true, UINT64_MAX },
  { "18014398509481983k", true, UINT64_MAX - 1023 },
  { "16777215T", true, UINT64_MAX - (TIB - 1) },
  { "18446744073709551616", false, 0 },
  { "18014398509481984k", false, 0 },
  { "17592186044416M", false, 0 },
  { "17179869184G", false, 0 },
  { "16777216T", false, 0 },
  { "99999999999999999999999", false, 0 },
  { "", false, 0 },
  { " 1", false, 0 },
  { "1 ", false, 0 },
  { "+1", false, 0 },
  { "-1", false, 0 },
  { "-0", false, 0 },
  { "k", false, 0 },
  { "1kk", false, 0 },
  { "1kB", false, 0 },
  { "1KiB", false, 0 },
  { "1b", false, 0 },
  { "1p", false, 0 },
  { "1.5G", false, 0 },
  { "1e3", false, 0 },
  { "0x10", false, 0 },
  { "1\n", false, 0 },
  { "\xd9\xa1", false, 0 }, /* a digit, but not an ASCII one */
};

START_TEST (test_parse_size)
{
  uint64_t bytes = 12345;

  ck_assert_msg (units_parse_size (sizes[_i].text, &bytes) == sizes[_i].good, "'%s'",
                 sizes[_i].text);
  if (sizes[_i].good)
    ck_assert_uint_eq (bytes, sizes[_i].bytes);
}
END_TEST

static const struct
{
  const char *name;
  int result;
  const char *why;
} names[] = {
  { "a", 0, NULL },
  { "2026-11-22 03:00", 0, NULL },
  { "a=b;c\\d", 0, NULL },
  { "\xc3\xa4", 0, NULL },
  { "a.", 0, NULL },
  { "", -EINVAL, "is empty" },
  { ".", -EINVAL, "begins with a dot" },
  { ".live", -EINVAL, "begins with a dot" },
  { "a/b", -EINVAL, "has a slash" },
  { "\xe4", -EILSEQ, "is not UTF-8" },
  { "\xc3", -EILSEQ, "is not UTF-8" },
  { "\xc0\xaf", -EILSEQ, "is not UTF-8" }, /* a slash, written too long */
  { "a\n", -EILSEQ, "has control characters" },
  { "\x7f", -EILSEQ, "has control characters" },
  { "\xc2\x85", -EILSEQ, "has control characters" },
  /* Cf: to the left, no space, soft hyphen, a tag; Zl, Zp. */
  { "a\xe2\x80\xaez", -EILSEQ, "has invisible characters" },
  { "\xe2\x80\x8b", -EILSEQ, "has invisible characters" },
  { "\xc2\xad", -EILSEQ, "has invisible characters" },
  { "\xf3\xa0\x81\x81", -EILSEQ, "has invisible characters" },
  { "\xe2\x80\xa8", -EILSEQ, "has invisible characters" },
  { "\xe2\x80\xa9", -EILSEQ, "has invisible characters" },
  { "\xe2\x80\xae\n", -EILSEQ, "has control characters" },
};

START_TEST (test_name)
{
  const char *why = "?";

  ck_assert_int_eq (name_check (names[_i].name, &why), names[_i].result);
  ck_assert_pstr_eq (why, names[_i].why);
  ck_assert_int_eq (name_check (names[_i].name, NULL), names[_i].result);
}
END_TEST

/* A store may have the last kind. */
START_TEST (test_known_name)
{
  bool hidden = g_strcmp0 (names[_i].why, NAME_HIDDEN) == 0;
  const char *why = "?";

  ck_assert_int_eq (name_check_known (names[_i].name, &why), hidden ? 0 : names[_i].result);
  ck_assert_pstr_eq (why, hidden ? NULL : names[_i].why);
  ck_assert_int_eq (name_check_known (names[_i].name, NULL), hidden ? 0 : names[_i].result);
}
END_TEST

START_TEST (test_name_length)
{
  g_autofree char *name = g_strnfill ((gsize) _i, 'n');

  ck_assert_int_eq (name_check (name, NULL), _i <= NAME_MAX_BYTES ? 0 : -ENAMETOOLONG);
}
END_TEST

static const struct
{
  int64_t ns;
  time_t seconds;
  long fraction;
} moments[] = {
  { 0, 0, 0 },
  { 1, 0, 1 },
  { NS_PER_S, 1, 0 },
  { 5 * NS_PER_S / 2, 2, NS_PER_S / 2 },
  { -1, -1, NS_PER_S - 1 },
  { -NS_PER_S, -1, 0 },
  { -5 * NS_PER_S / 2, -3, NS_PER_S / 2 },
  { INT64_MAX, INT64_MAX / NS_PER_S, INT64_MAX % NS_PER_S },
  { INT64_MIN, INT64_MIN / NS_PER_S - 1, INT64_MIN % NS_PER_S + NS_PER_S },
};

START_TEST (test_moment)
{
  struct timespec moment = units_timespec (moments[_i].ns);

  ck_assert_int_eq (moment.tv_sec, moments[_i].seconds);
  ck_assert_int_eq (moment.tv_nsec, moments[_i].fraction);
}
END_TEST

static const struct
{
  uint64_t n, unit, div_up, round_up;
} divisions[] = {
  { 0, 512, 0, 0 },
  { 1, 512, 1, 512 },
  { 511, 512, 1, 512 },
  { 512, 512, 1, 512 },
  { 513, 512, 2, 1024 },
  { 7, 1, 7, 7 },
  { 10, 3, 4, 12 },
  { UINT64_MAX, UINT64_MAX, 1, UINT64_MAX },
  { UINT64_MAX - 1, UINT64_MAX, 1, UINT64_MAX },
  { UINT64_MAX, 1, UINT64_MAX, UINT64_MAX },
};

START_TEST (test_divisions)
{
  ck_assert_uint_eq (units_div_up (divisions[_i].n, divisions[_i].unit), divisions[_i].div_up);
  ck_assert_uint_eq (units_round_up (divisions[_i].n, divisions[_i].unit), divisions[_i].round_up);
  ck_assert_uint_eq (units_min (divisions[_i].n, divisions[_i].unit),
                     MIN (divisions[_i].n, divisions[_i].unit));
  ck_assert_uint_eq (units_max (divisions[_i].n, divisions[_i].unit),
                     MAX (divisions[_i].n, divisions[_i].unit));
}
END_TEST

/* --- crc64 --- */

/* Lengths around a step of eight bytes, in one piece and in two. */
START_TEST (test_crc64)
{
  const char *digits = "123456789";
  uint8_t bytes[40];

  ck_assert_uint_eq (crc64 (0, digits, 9), UINT64_C (0x995dc9bbdf1939fa)); /* the check of xz */
  ck_assert_uint_eq (crc64 (0, digits, 0), 0);
  test_fill (bytes, sizeof bytes, 1, 0);
  for (size_t i = 0; i <= sizeof bytes; i++)
    ck_assert_uint_eq (crc64 (crc64 (0, bytes, i), bytes + i, sizeof bytes - i),
                       crc64 (0, bytes, sizeof bytes));
}
END_TEST

/* --- zero --- */

#define ZERO_LENGTHS 71

/* _i: where the block starts in the buffer, for every alignment to 16. */
START_TEST (test_zero_short)
{
  uint8_t buffer[16 + ZERO_LENGTHS + 16];

  for (size_t length = 0; length < ZERO_LENGTHS; length++)
    {
      memset (buffer, 0xff, sizeof buffer); /* what is around it does not count */
      memset (buffer + _i, 0, length);
      ck_assert_msg (zero_check (buffer + _i, length), "length %zu", length);
      for (size_t at = 0; at < length; at++)
        {
          buffer[(size_t) _i + at] = (uint8_t) (1u << at % 8);
          ck_assert_msg (!zero_check (buffer + _i, length), "length %zu, byte %zu", length, at);
          buffer[(size_t) _i + at] = 0;
        }
    }
}
END_TEST

static const size_t blocks[] = { 512, 4095, 4096, 4097, 8192, 65536 };

START_TEST (test_zero_block)
{
  g_autofree uint8_t *block = g_malloc0 (blocks[_i]);

  ck_assert (zero_check (block, blocks[_i]));
  for (size_t at = 0; at < blocks[_i];
       at += at + 67 < blocks[_i] || at == blocks[_i] - 1 ? 67 : blocks[_i] - 1 - at)
    {
      block[at] = 0x80;
      ck_assert_msg (!zero_check (block, blocks[_i]), "byte %zu of %zu", at, blocks[_i]);
      block[at] = 0;
    }
  memset (block, 0x11, blocks[_i]); /* every byte like the one 16 before it */
  ck_assert (!zero_check (block, blocks[_i]));
}
END_TEST

/* --- scratch --- */

typedef struct
{
  void *buffers[SCRATCH_N];
  bool same;
  pthread_barrier_t *together;
} Scratch;

/* All threads have their buffers at one time, else one could get what another has freed. */
static void *
use_scratch (void *data)
{
  Scratch *scratch = data;

  for (ScratchUse use = 0; use < SCRATCH_N; use++)
    {
      scratch->buffers[use] = scratch_get (use);
      memset (scratch->buffers[use], (int) use + 1, SCRATCH_SIZE);
    }
  pthread_barrier_wait (scratch->together);
  scratch->same = true;
  for (ScratchUse use = 0; use < SCRATCH_N; use++)
    {
      const uint8_t *again = scratch_get (use);

      scratch->same = scratch->same && again == scratch->buffers[use] && again[0] == use + 1
                      && again[SCRATCH_SIZE - 1] == use + 1;
    }
  pthread_barrier_wait (scratch->together);
  return NULL;
}

START_TEST (test_scratch)
{
  enum
  {
    N = 3
  };
  pthread_barrier_t together;
  Scratch scratch[N] = { 0 };
  pthread_t threads[N];

  pthread_barrier_init (&together, NULL, N);
  for (unsigned i = 0; i < N; i++)
    {
      scratch[i].together = &together;
      ck_assert_int_eq (pthread_create (&threads[i], NULL, use_scratch, &scratch[i]), 0);
    }
  for (unsigned i = 0; i < N; i++)
    pthread_join (threads[i], NULL);
  pthread_barrier_destroy (&together);

  for (unsigned a = 0; a < N * SCRATCH_N; a++)
    {
      uintptr_t buffer = (uintptr_t) scratch[a / SCRATCH_N].buffers[a % SCRATCH_N];

      ck_assert_uint_ne (buffer, 0);
      ck_assert_uint_eq (buffer % 4096, 0);
      ck_assert (scratch[a / SCRATCH_N].same);
      for (unsigned b = 0; b < a; b++)
        {
          uintptr_t other = (uintptr_t) scratch[b / SCRATCH_N].buffers[b % SCRATCH_N];

          ck_assert_uint_ge (buffer > other ? buffer - other : other - buffer, SCRATCH_SIZE);
        }
    }
}
END_TEST

/* --- fail --- */

START_TEST (test_fail)
{
  static const int codes[] = { EPERM, ENOENT, EBUSY, EUCLEAN };
  g_autoptr (GError) plain = NULL;
  g_autoptr (GError) with_errno = NULL;
  g_autofree char *expected = g_strdup_printf ("cannot open 'a%%b': %s", g_strerror (codes[_i]));

  ck_assert (!fail (&plain, codes[_i], "disk %d of %s", 2, "a%sb"));
  ck_assert (plain->domain == FAIL_ERROR);
  ck_assert_str_eq (plain->message, "disk 2 of a%sb");
  ck_assert_int_eq (fail_code (plain), codes[_i]);

  ck_assert (!fail_errno (&with_errno, codes[_i], "cannot open '%s'", "a%b"));
  ck_assert_str_eq (with_errno->message, expected);
  ck_assert_int_eq (fail_code (with_errno), codes[_i]);

  ck_assert (!fail (NULL, codes[_i], "nobody asks"));
  ck_assert (!fail_errno (NULL, codes[_i], "nobody asks"));
}
END_TEST

START_TEST (test_fail_foreign)
{
  g_autoptr (GError) foreign = g_error_new (G_FILE_ERROR, G_FILE_ERROR_NOENT, "not ours");

  ck_assert_int_eq (fail_code (foreign), EIO);
}
END_TEST

/* Every errno, and what is beyond: for whom it passes. */
START_TEST (test_errno_map)
{
  enum
  {
    VERB = 1 << ERRNO_OF_VERB,
    LIVE = 1 << ERRNO_OF_LIVE,
    SNAPSHOT = 1 << ERRNO_OF_SNAPSHOT,
  };
  static const struct
  {
    int errnum;
    unsigned pass;
  } table[] = {
    { EDQUOT, VERB | LIVE },
    { EFBIG, VERB | LIVE },
    { EINVAL, LIVE | SNAPSHOT },
    { EMFILE, VERB },
    { ENFILE, VERB },
    { ENOMEM, VERB | LIVE | SNAPSHOT },
    { ENOSPC, VERB | LIVE },
    { ENXIO, LIVE | SNAPSHOT },
    { EOPNOTSUPP, LIVE },
    { EPERM, LIVE },
    { EROFS, VERB | LIVE },
    { ETIMEDOUT, LIVE },
    { EIO, VERB | LIVE | SNAPSHOT },
  };

  for (int errnum = 1; errnum < 5000; errnum++)
    {
      unsigned pass = 0;
      int replied = errnum == ENOSYS                                       ? EOPNOTSUPP
                    : errnum == EAGAIN || errnum == EINTR || errnum >= 512 ? EIO
                                                                           : errnum;

      for (unsigned i = 0; i < G_N_ELEMENTS (table); i++)
        if (table[i].errnum == errnum)
          pass = table[i].pass;
      for (unsigned of = 0; of < ERRNO_OF_REPLY; of++)
        ck_assert_int_eq (errno_map ((ErrnoOf) of, -errnum),
                          (pass >> of & 1) != 0 ? -errnum : -EIO);
      ck_assert_int_eq (errno_map (ERRNO_OF_REPLY, -errnum), -replied);
    }
  for (unsigned of = 0; of <= ERRNO_OF_REPLY; of++)
    {
      ck_assert_int_eq (errno_map ((ErrnoOf) of, 0), 0);
      ck_assert_int_eq (errno_map ((ErrnoOf) of, INT64_MAX), INT64_MAX);
      ck_assert_int_eq (errno_map ((ErrnoOf) of, INT64_MIN), -EIO);
    }
}
END_TEST

/* --- pause points --- */

static atomic_uint n_past;
static atomic_uint n_past_other;

static void *
walk (void *data)
{
  (void) data;
  PAUSE_POINT ("test:a");
  atomic_fetch_add (&n_past, 1);
  PAUSE_POINT ("test:b");
  atomic_fetch_add (&n_past_other, 1);
  return NULL;
}

static pthread_t
start_walk (void)
{
  pthread_t thread;

  ck_assert_int_eq (pthread_create (&thread, NULL, walk, NULL), 0);
  return thread;
}

START_TEST (test_pause_not_armed)
{
  n_past = n_past_other = 0;
  pthread_join (start_walk (), NULL);
  ck_assert_uint_eq (n_past_other, 1);
}
END_TEST

START_TEST (test_pause_disarmed)
{
  n_past = n_past_other = 0;
  pause_arm ("test:a");
  pause_release ("test:a");
  pthread_join (start_walk (), NULL);
  ck_assert_uint_eq (n_past_other, 1);
}
END_TEST

/* The first thread is held, at one point after the other; a second one passes it by. */
START_TEST (test_pause_holds)
{
  pthread_t held;

  n_past = n_past_other = 0;
  pause_arm ("test:a");
  pause_arm ("test:b");
  held = start_walk ();
  pause_wait_reached ("test:a");
  ck_assert_uint_eq (n_past, 0);

  pause_release ("test:a");
  pause_wait_reached ("test:b");
  ck_assert_uint_eq (n_past, 1);
  ck_assert_uint_eq (n_past_other, 0);

  pthread_join (start_walk (), NULL);
  ck_assert_uint_eq (n_past, 2);
  ck_assert_uint_eq (n_past_other, 1);

  pause_release ("test:b");
  pthread_join (held, NULL);
  ck_assert_uint_eq (n_past_other, 2);
}
END_TEST

/* A point can be armed again after it held somebody, and all eight places are reused. */
START_TEST (test_pause_again)
{
  n_past = n_past_other = 0;
  for (unsigned i = 1; i <= 20; i++)
    {
      pthread_t held;

      pause_arm ("test:b");
      held = start_walk ();
      pause_wait_reached ("test:b");
      ck_assert_uint_eq (n_past, i);
      ck_assert_uint_eq (n_past_other, i - 1);
      pause_release ("test:b");
      pthread_join (held, NULL);
    }
}
END_TEST

/* --- image locks --- */

static int
open_image (const char *path)
{
  int fd = open (path, O_RDWR | O_CLOEXEC);

  ck_assert_int_ge (fd, 0);
  return fd;
}

static const char *
make_image (void)
{
  const char *path = test_path ("disk.img");

  test_make_file (path, MIB, 1);
  return path;
}

static void
assert_refused (const char *path, const char *holder)
{
  g_autoptr (GError) error = NULL;
  int fd = open_image (path);

  ck_assert (!image_lock_own (fd, path, &error));
  ck_assert_int_eq (fail_code (error), EBUSY);
  ck_assert_ptr_nonnull (strstr (error->message, path));
  ck_assert_msg (strstr (error->message, holder) != NULL, "no '%s' in: %s", holder, error->message);
  close (fd);
}

static int
own (const char *path)
{
  g_autoptr (GError) error = NULL;
  int fd = open_image (path);

  ck_assert_msg (image_lock_own (fd, path, &error), "%s", error != NULL ? error->message : "");
  return fd;
}

/* The locks belong to the open file description: our own second one is refused like another's,
 * and goes by without harm to the first. */
START_TEST (test_lock_twice)
{
  const char *path = make_image ();
  int fd = own (path);

  assert_refused (path, "another process");
  assert_refused (path, "another process");
  close (fd);
  close (own (path));
}
END_TEST

START_TEST (test_lock_readonly_fd)
{
  const char *path = make_image ();
  g_autoptr (GError) error = NULL;
  int fd = own (path), other = open (path, O_PATH | O_CLOEXEC);

  ck_assert (!image_lock_own (other, path, &error));
  ck_assert_int_eq (fail_code (error), EBADF);
  ck_assert_ptr_nonnull (strstr (error->message, path));
  close (other);
  close (fd);
}
END_TEST

/* A child process that owns the image until its `go` is closed. */
static pid_t
fork_owner (const char *path, int *out_go)
{
  int ready[2], go[2];
  char byte = 0;
  pid_t pid;

  ck_assert_int_eq (pipe2 (ready, O_CLOEXEC), 0);
  ck_assert_int_eq (pipe2 (go, O_CLOEXEC), 0);
  pid = fork ();
  ck_assert_int_ge (pid, 0);
  if (pid == 0)
    {
      int fd = open (path, O_RDWR | O_CLOEXEC);

      close (go[1]);
      byte = image_lock_own (fd, path, NULL) ? 'y' : 'n';
      if (write (ready[1], &byte, 1) != 1 || read (go[0], &byte, 1) != 0)
        _exit (1);
      _exit (0);
    }
  close (ready[1]);
  close (go[0]);
  ck_assert_int_eq (read (ready[0], &byte, 1), 1);
  close (ready[0]);
  ck_assert_int_eq (byte, 'y');
  *out_go = go[1];
  return pid;
}

START_TEST (test_lock_child)
{
  const char *path = make_image ();
  int go, status, fd;
  pid_t pid = fork_owner (path, &go);
  g_autofree char *in_parentheses = g_strdup_printf (" (pid %d)", (int) pid);
  g_autofree char *comm = NULL;
  g_autofree char *holder = NULL;
  g_autofree char *message = NULL;
  g_autoptr (GError) error = NULL;

  ck_assert (g_file_get_contents ("/proc/self/comm", &comm, NULL, NULL));
  holder = g_strconcat (g_strchomp (comm), in_parentheses, NULL);
  assert_refused (path, holder);
  fd = open_image (path);
  ck_assert (!image_lock_fail_in_use (fd, "it", &error));
  close (fd);
  message = g_strdup_printf ("it is in use by %s; stop that first", holder);
  ck_assert_str_eq (error->message, message);

  close (go);
  ck_assert_int_eq (waitpid (pid, &status, 0), pid);
  ck_assert_int_eq (status, 0);
  close (own (path));
}
END_TEST

/* The child has locks of two files; it is named for the one that is asked for. */
START_TEST (test_lock_other_file)
{
  const char *path = make_image (), *other = test_path ("other.img");
  g_autoptr (GError) error = NULL;
  int go, fd;
  pid_t pid = fork_owner (path, &go);

  test_make_file (other, MIB, 1);
  fd = own (other);
  ck_assert (!image_lock_fail_in_use (fd, "it", &error));
  ck_assert_str_eq (error->message, "it is in use by another process; stop that first");
  close (fd);
  close (go);
  ck_assert_int_eq (waitpid (pid, NULL, 0), pid);
}
END_TEST

/* What QEMU may do to an image that we own. */
static const struct
{
  const char *args[8];
  const char *refusal; /* NULL: allowed */
} qemu_calls[] = {
  { { "qemu-io", "-f", "raw", "-c", "write 0 512" }, "Failed to get" },
  { { "qemu-io", "-f", "raw", "-c", "read 0 512" }, "Failed to get" },
  { { "qemu-img", "resize", "-f", "raw", "--shrink" }, "Failed to get" },
  { { "qemu-img", "map", "-f", "raw" }, NULL }, /* a reader that expects writers */
};

START_TEST (test_lock_refuses_qemu)
{
  const char *path = make_image ();
  const char *const *a = qemu_calls[_i].args;
  bool resize = strcmp (a[1], "resize") == 0;
  const char *tail[] = { path, resize ? "512K" : NULL, NULL };
  const char *argv[8] = { NULL };
  g_autofree char *output = NULL;
  g_autofree uint8_t *bytes = NULL, *expected = g_malloc (MIB);
  size_t length;
  unsigned n = 0;
  int fd, status;

  if (!test_have (a[0]))
    {
      test_skip ("locks against QEMU", "no qemu-img or qemu-io");
      return;
    }
  while (a[n] != NULL)
    {
      argv[n] = a[n];
      n++;
    }
  argv[n] = tail[0];
  argv[n + 1] = tail[1];

  fd = own (path);
  status = test_run (&output, argv[0], argv[1], argv[2], argv[3], argv[4], argv[5], argv[6], NULL);
  close (fd);
  if (qemu_calls[_i].refusal == NULL)
    ck_assert_msg (status == 0, "%s", output);
  else
    ck_assert_msg (status != 0 && strstr (output, qemu_calls[_i].refusal) != NULL, "%s", output);

  bytes = test_load (path, &length);
  ck_assert_uint_eq (length, MIB);
  test_fill (expected, MIB, 1, 0);
  test_assert_bytes ("the image", bytes, expected, MIB);

  g_free (g_steal_pointer (&output));
  if (!resize) /* and when we are gone it may */
    ck_assert_msg (
        test_run (&output, argv[0], argv[1], argv[2], argv[3], argv[4], argv[5], argv[6], NULL)
            == 0,
        "%s", output);
}
END_TEST

START_TEST (test_lock_refused_by_qemu)
{
  const char *path = make_image ();
  g_autofree char *holder = NULL;
  TestChild qemu;

  if (!test_have ("qemu-io"))
    {
      test_skip ("locks against QEMU", "no qemu-io");
      return;
    }
  qemu = test_start ("qemu-io", "-f", "raw", path, NULL);
  test_expect (&qemu, "qemu-io> ");
  holder = g_strdup_printf ("qemu-io (pid %d)", (int) qemu.pid);
  assert_refused (path, holder);
  test_end (&qemu);
  close (own (path));
}
END_TEST

static Suite *
base_suite (void)
{
  Suite *suite = suite_create ("base");
  TCase *io = test_case (suite, "io", 0);
  TCase *units = test_case (suite, "units", 0);
  TCase *names_case = test_case (suite, "names", 0);
  TCase *memory = test_case (suite, "memory", 0);
  TCase *errors = test_case (suite, "errors", 0);
  TCase *pauses = test_case (suite, "pause", 0);
  TCase *locks = test_case (suite, "image-lock", 60);

  tcase_add_loop_test (io, test_read, 0, G_N_ELEMENTS (reads));
  tcase_add_loop_test (io, test_io_errors, 0, G_N_ELEMENTS (bad_fds));
  tcase_add_loop_test (io, test_partial_write, 0, G_N_ELEMENTS (limited_writes));
  tcase_add_test (io, test_write_parts);
  tcase_add_test (io, test_sync_range);
  tcase_add_loop_test (units, test_parse_size, 0, G_N_ELEMENTS (sizes));
  tcase_add_loop_test (units, test_divisions, 0, G_N_ELEMENTS (divisions));
  tcase_add_loop_test (units, test_moment, 0, G_N_ELEMENTS (moments));
  tcase_add_loop_test (names_case, test_known_name, 0, G_N_ELEMENTS (names));
  tcase_add_loop_test (names_case, test_name, 0, G_N_ELEMENTS (names));
  tcase_add_loop_test (names_case, test_name_length, NAME_MAX_BYTES - 1, NAME_MAX_BYTES + 2);
  tcase_add_test (memory, test_crc64);
  tcase_add_loop_test (memory, test_zero_short, 0, 16);
  tcase_add_loop_test (memory, test_zero_block, 0, G_N_ELEMENTS (blocks));
  tcase_add_test (memory, test_scratch);
  tcase_add_loop_test (errors, test_fail, 0, 4);
  tcase_add_test (errors, test_fail_foreign);
  tcase_add_test (errors, test_errno_map);
  tcase_add_test (pauses, test_pause_not_armed);
  tcase_add_test (pauses, test_pause_disarmed);
  tcase_add_test (pauses, test_pause_holds);
  tcase_add_test (pauses, test_pause_again);
  tcase_add_test (locks, test_lock_twice);
  tcase_add_test (locks, test_lock_readonly_fd);
  tcase_add_test (locks, test_lock_child);
  tcase_add_test (locks, test_lock_other_file);
  tcase_add_loop_test (locks, test_lock_refuses_qemu, 0, G_N_ELEMENTS (qemu_calls));
  tcase_add_test (locks, test_lock_refused_by_qemu);
  return suite;
}

int
main (void)
{
  return test_main (base_suite ());
}
