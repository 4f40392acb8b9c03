/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See power-crash.h. */
#include "power-crash.h"

#include "base/io.h"
#include "base/units.h"
#include "base/zero.h"
#include "test-util.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NS_PER_S INT64_C (1000000000)

/* --- choices --- */

typedef struct
{
  unsigned digit, n;
} Digit;

static PowerChoices *
choices_new (int way)
{
  PowerChoices *choices = g_new0 (PowerChoices, 1);

  choices->way = way;
  choices->digits = g_array_new (false, false, sizeof (Digit));
  return choices;
}

PowerChoices *
power_choices_all (void)
{
  return choices_new (POWER_ALL);
}

PowerChoices *
power_choices_extreme (unsigned extreme)
{
  PowerChoices *choices = choices_new (POWER_EXTREME);

  choices->extreme = extreme;
  return choices;
}

PowerChoices *
power_choices_random (uint64_t seed)
{
  PowerChoices *choices = choices_new (POWER_RANDOM);

  choices->random.state = seed;
  return choices;
}

void
power_choices_free (PowerChoices *choices)
{
  g_array_unref (choices->digits);
  g_free (choices);
}

/* What is chosen can depend on what was chosen before; so a digit that moves forgets those after
 * it. */
bool
power_choices_next (PowerChoices *choices)
{
  GArray *digits = choices->digits;

  choices->at = 0;
  while (digits->len > 0)
    {
      Digit *last = &g_array_index (digits, Digit, digits->len - 1);

      if (++last->digit < last->n)
        return true;
      g_array_set_size (digits, digits->len - 1);
    }
  return false;
}

/* 0 to n - 1; the way is POWER_ALL. */
static unsigned
choose (PowerChoices *choices, unsigned n)
{
  GArray *digits = choices->digits;

  if (choices->at == digits->len)
    {
      Digit digit = { 0, n };

      g_array_append_val (digits, digit);
    }
  return g_array_index (digits, Digit, choices->at++).digit;
}

/* How many of n changes that come to the disk in their order are there. */
static guint
choose_cut (PowerChoices *choices, const PowerNode *node, guint n_certain, guint n)
{
  switch (choices->way)
    {
    case POWER_ALL:
      return n_certain == n ? n : n_certain + choose (choices, n - n_certain + 1);
    case POWER_EXTREME:
      return (choices->extreme >> (node->place == CALL_SOURCE) & 1) != 0 ? n : n_certain;
    default:
      return n_certain + (guint) random_below (&choices->random, n - n_certain + 1);
    }
}

/* --- files --- */

static uint64_t
sectors_of (const PowerChange *change)
{
  if (change->length == 0)
    return 0;
  return (change->offset + change->length - 1) / POWER_SECTOR - change->offset / POWER_SECTOR + 1;
}

/* What becomes of one change. */
typedef struct
{
  bool grows;
  enum
  {
    NONE,
    WHOLE,
    FIRST_SECTOR,
    NOT_FIRST_SECTOR,
    RANDOM_SECTORS
  } part;
} Fate;

static const Fate fates[] = {
  { false, NONE }, { true, WHOLE }, { true, FIRST_SECTOR }, { true, NOT_FIRST_SECTOR },
  { true, NONE }, /* of one that grows */
};

/* The number of fates that a change can have when all are tried. */
static unsigned
count_fates (const PowerChange *change, unsigned *out)
{
  unsigned n = 0;

  out[n++] = 0;
  out[n++] = 1;
  if (sectors_of (change) > 1)
    {
      out[n++] = 2;
      out[n++] = 3;
    }
  if (change->grows && change->length > 0)
    out[n++] = 4;
  return n;
}

/* percent: how likely a change of this file is kept. */
static Fate
choose_fate (PowerChoices *choices, const PowerNode *node, const PowerChange *change,
             unsigned percent)
{
  unsigned possible[G_N_ELEMENTS (fates)], n;
  bool kept;

  if (choices->way == POWER_ALL)
    {
      n = count_fates (change, possible);
      return fates[possible[choose (choices, n)]];
    }
  if (choices->way == POWER_EXTREME)
    return fates[choices->extreme >> (node->place == CALL_SOURCE) & 1];
  kept = random_percent (&choices->random, percent);
  if (random_percent (&choices->random, 20))
    return (Fate){ random_percent (&choices->random, 50), RANDOM_SECTORS };
  return fates[kept];
}

/* A file: it may be much larger than what was written to it. */
typedef struct
{
  uint8_t *bytes;
  uint64_t size;
  uint64_t capacity; /* of bytes; beyond it are zeros */
} Image;

static void
ensure (Image *image, uint64_t end)
{
  if (end <= image->capacity)
    return;
  end = units_round_up (end + end / 4, 4096);
  image->bytes = g_realloc (image->bytes, end);
  memset (image->bytes + image->capacity, 0, end - image->capacity);
  image->capacity = end;
}

static bool
is_sector_kept (PowerChoices *choices, Fate fate, uint64_t i)
{
  return fate.part == WHOLE || (fate.part == FIRST_SECTOR && i == 0)
         || (fate.part == NOT_FIRST_SECTOR && i > 0)
         || (fate.part == RANDOM_SECTORS && random_percent (&choices->random, 50));
}

/* Bytes beyond the image's size are zeros, or on their way: written by a change that grows. */
static void
apply (Image *image, const PowerChange *change, Fate fate, PowerChoices *choices)
{
  uint64_t end = change->offset + change->length, next;

  if (change->kind == POWER_SIZE)
    {
      if (fate.part == NONE || (fate.part == RANDOM_SECTORS && !fate.grows))
        return;
      if (change->offset < image->capacity)
        memset (image->bytes + change->offset, 0, image->capacity - change->offset);
      image->size = change->offset;
      return;
    }
  if (change->bytes != NULL)
    ensure (image, end);
  else
    end = MIN (end, image->capacity);
  for (uint64_t at = change->offset, i = 0; at < end; at = next, i++)
    {
      next = MIN (end, (at / POWER_SECTOR + 1) * POWER_SECTOR);
      if (!is_sector_kept (choices, fate, i))
        continue;
      if (change->bytes != NULL)
        memcpy (image->bytes + at, change->bytes + (at - change->offset), next - at);
      else
        memset (image->bytes + at, 0, next - at);
    }
  if (fate.grows && change->reach > image->size)
    image->size = change->reach;
}

static bool
is_certain (const PowerChange *change, uint64_t moment)
{
  return change->begun == POWER_NEVER || change->certain <= moment;
}

/* Changes before all that are uncertain need not be done anew for each state. */
static void
settle_base (PowerNode *node, uint64_t moment)
{
  Image base = { node->base, node->base_size, node->base_capacity };
  guint n = 0;

  for (; n < node->changes->len; n++)
    {
      PowerChange *change = node->changes->pdata[n];

      if (!is_certain (change, moment))
        break;
      if (change->begun != POWER_NEVER)
        apply (&base, change, fates[1], NULL);
    }
  if (n > 0)
    g_ptr_array_remove_range (node->changes, 0, n);
  node->base = base.bytes;
  node->base_size = base.size;
  node->base_capacity = base.capacity;
}

/* How many of the changes of attributes are there. */
static guint
choose_attributes (PowerChoices *choices, const PowerNode *node, uint64_t moment)
{
  guint n_certain = 0, n = 0;

  for (guint i = 0; i < node->attributes->len; i++)
    {
      const PowerAttribute *change = node->attributes->pdata[i];

      n += change->begun <= moment;
      n_certain += change->certain <= moment;
    }
  return choose_cut (choices, node, n_certain, n);
}

static void
save_attributes (const char *path, const PowerNode *node, guint n)
{
  for (guint i = 0; i < n; i++)
    {
      const PowerAttribute *change = node->attributes->pdata[i];
      gsize length;
      const void *value;

      if (change->value == NULL)
        {
          removexattr (path, change->name); /* it may not have been there */
          continue;
        }
      value = g_bytes_get_data (change->value, &length);
      ck_assert_int_eq (setxattr (path, change->name, value, length, 0), 0);
    }
}

static void
save (const char *path, const Image *image, int64_t mtime)
{
  int fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  struct timespec times[2]
      = { { .tv_nsec = UTIME_NOW }, { .tv_sec = mtime / NS_PER_S, .tv_nsec = mtime % NS_PER_S } };

  ck_assert_int_ge (fd, 0);
  for (uint64_t at = 0, n, end = MIN (image->size, image->capacity); at < end; at += n)
    {
      n = MIN (end - at, 64 * KIB);
      if (!zero_check (image->bytes + at, n) && io_write_full (fd, image->bytes + at, n, at) != 0)
        ck_abort_msg ("cannot write '%s'", path);
    }
  ck_assert_int_eq (ftruncate (fd, (off_t) image->size), 0);
  ck_assert_int_eq (futimens (fd, times), 0);
  close (fd);
}

static void
crash_file (PowerNode *node, uint64_t moment, PowerChoices *choices, const char *path)
{
  static const unsigned percents[] = { 0, 15, 50, 85, 100 };
  unsigned percent = percents[random_below (&choices->random, G_N_ELEMENTS (percents))];
  int64_t mtime = 0;
  Image image;

  settle_base (node, moment);
  image = (Image){ power_duplicate (node->base, node->base_capacity), node->base_size,
                   node->base_capacity };
  for (guint i = 0; i < node->changes->len; i++)
    {
      const PowerChange *change = node->changes->pdata[i];
      Fate fate = fates[1];

      if (change->begun > moment)
        continue;
      if (!is_certain (change, moment))
        fate = choose_fate (choices, node, change, percent);
      apply (&image, change, fate, choices);
    }
  for (guint i = 0; i < node->mtimes->len; i++)
    if (g_array_index (node->mtimes, PowerMtime, i).certain <= moment)
      mtime = g_array_index (node->mtimes, PowerMtime, i).mtime;
  save (path, &image, mtime);
  save_attributes (path, node, choose_attributes (choices, node, moment));
  g_free (image.bytes);
}

/* --- directories --- */

/* Of all that were made or counted. */
static uint64_t n_states;

/* How many of the changes are certain, and how many have begun. */
static guint
count_changes (const PowerNode *node, uint64_t moment, guint *out_n_certain)
{
  guint n = 0;

  *out_n_certain = 0;
  for (guint i = 0; i < node->name_changes->len; i++)
    {
      const PowerNameChange *change = node->name_changes->pdata[i];

      if (change->begun > moment)
        break;
      n = i + 1;
      if (change->certain <= moment)
        *out_n_certain = n;
    }
  return n;
}

/* A move is on disk if it is in the other directory, where that has been made before. In both,
 * changes are in the order of time, so these limits never cross. */
static void
limit_by_moves (const PowerNode *node, uint64_t state, guint *n_certain, guint *n)
{
  for (guint i = *n_certain; i < *n; i++)
    {
      const PowerNameChange *change = node->name_changes->pdata[i];

      if (change->other == NULL || change->other->state != state)
        continue;
      if (change->other_index < change->other->cut)
        *n_certain = i + 1;
      else
        *n = i;
    }
}

/* The names that are there: char * to PowerNode *. */
static GHashTable *
crash_names (PowerNode *node, uint64_t moment, PowerChoices *choices)
{
  GHashTable *names = g_hash_table_new (g_str_hash, g_str_equal);
  guint n_certain, n = count_changes (node, moment, &n_certain);
  GHashTableIter iter;
  gpointer name, child;

  limit_by_moves (node, n_states, &n_certain, &n);
  node->cut = choose_cut (choices, node, n_certain, n);
  node->state = n_states;
  g_hash_table_iter_init (&iter, node->base_names);
  while (g_hash_table_iter_next (&iter, &name, &child))
    g_hash_table_insert (names, name, child);
  for (guint i = 0; i < node->cut; i++)
    {
      const PowerNameChange *change = node->name_changes->pdata[i];

      if (change->exchanged != NULL)
        g_hash_table_replace (names, change->gone, change->exchanged);
      else if (change->gone != NULL)
        g_hash_table_remove (names, change->gone);
      if (change->come != NULL)
        g_hash_table_replace (names, change->come, change->node);
    }
  return names;
}

static void
crash_node (PowerNode *node, uint64_t moment, PowerChoices *choices, const char *path)
{
  g_autoptr (GHashTable) names = NULL;
  g_autoptr (GList) sorted = NULL;

  if (!node->is_directory)
    {
      crash_file (node, moment, choices, path);
      return;
    }
  ck_assert_int_eq (mkdir (path, 0700), 0);
  names = crash_names (node, moment, choices);
  sorted = g_list_sort (g_hash_table_get_keys (names), (GCompareFunc) strcmp);
  for (GList *at = sorted; at != NULL; at = at->next) /* in the same order each time */
    {
      g_autofree char *child = g_build_filename (path, at->data, NULL);

      crash_node (g_hash_table_lookup (names, at->data), moment, choices, child);
    }
}

void
power_crash (PowerLog *log, uint64_t moment, PowerChoices *choices, const char *path)
{
  n_states++;
  crash_node (power_log_root (log), moment, choices, path);
}

/* --- counting --- */

/* Goes through the choices of one state without making it. */
static void
walk (PowerNode *node, uint64_t moment, PowerChoices *choices)
{
  g_autoptr (GHashTable) names = NULL;
  g_autoptr (GList) sorted = NULL;

  for (guint i = 0; !node->is_directory && i < node->changes->len; i++)
    {
      const PowerChange *change = node->changes->pdata[i];

      if (change->begun <= moment && !is_certain (change, moment))
        choose_fate (choices, node, change, 0);
    }
  if (!node->is_directory)
    {
      choose_attributes (choices, node, moment);
      return;
    }
  names = crash_names (node, moment, choices);
  sorted = g_list_sort (g_hash_table_get_keys (names), (GCompareFunc) strcmp);
  for (GList *at = sorted; at != NULL; at = at->next)
    walk (g_hash_table_lookup (names, at->data), moment, choices);
}

unsigned
power_count (PowerLog *log, uint64_t moment, unsigned limit)
{
  g_autoptr (PowerChoices) choices = power_choices_all ();
  unsigned n = 0;

  do
    {
      n_states++;
      walk (power_log_root (log), moment, choices);
      n++;
    }
  while (n <= limit && power_choices_next (choices));
  return n;
}
