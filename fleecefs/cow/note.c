/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where it is written down that layers are broken, so that a kill cannot make us forget it: in
 * their overlays, before the guest's write. When the store does not take that (its disk fails, or
 * hangs), the fact is noted where the store has no part, and the next start breaks all snapshots of
 * the disk, for a note does not say which overlays miss old blocks. The places are
 *
 *     a note at the image    where the guest's write goes (source.h);
 *     the mark of the store  at the image (mark.h), which is taken away: that needs no space, and a
 *                            store that was not closed is not trusted without it;
 *     the seal            when the image can have neither (store/seal.h).
 *
 * When none takes it the guest's write is held: it is tried again each second, until one of them
 * does, or until the process ends and the write is refused. It is in its write section as long, so
 * a mkdir waits for it, and then all writes do.
 */
#include "cow/disk-private.h"
#include "source/mark.h"

#include <errno.h>

/* At the source. */
static int
leave_note (Disk *disk) LOCK_REQUIRES (&disk->note_lock)
{
  int r = disk->store_id != NULL ? source_set_note (disk->source, disk->store_id) : 0;

  if (r < 0 && disk->marked)
    {
      r = mark_clear (disk->source);
      disk->mark_is_taken = disk->mark_is_taken || r == 0;
    }
  return r == 0 && disk->durable ? source_flush (disk->source, false) : r;
}

int
note_set (Disk *disk)
{
  int r = 0;

  lock_acquire (&disk->note_lock);
  if (disk->n_notes == 0)
    r = leave_note (disk);
  if (r < 0 && disk->seal != NULL)
    r = seal_break (disk->seal, disk->number);
  if (r == 0)
    disk->n_notes++;
  lock_release (&disk->note_lock);
  return r;
}

/* What cannot be taken back stays, and the next start after a kill believes it. */
void
note_clear (Disk *disk)
{
  lock_acquire (&disk->note_lock);
  if (disk->n_notes > 0 && --disk->n_notes == 0)
    {
      source_clear_note (disk->source);
      if (disk->mark_is_taken && mark_set (disk->source, disk->store_id) == 0)
        disk->mark_is_taken = false;
      if (disk->seal != NULL)
        seal_mend (disk->seal, disk->number);
    }
  lock_release (&disk->note_lock);
}

int
note_break (Disk *disk, Chain *chain)
{
  int r = chain_record_break (chain);

  if (r < 0)
    r = note_set (disk);
  if (r == 0)
    chain_stop_if_broken (chain);
  return r;
}

void
note_hold (Disk *disk)
{
  if (atomic_fetch_add (&disk->n_held, 1) == 0)
    g_warning (
        "a write to '%s' is held: it breaks snapshots, and that can be written down nowhere, "
        "not in the store, not at the image, and not in /run or /var/lib; it goes on when one "
        "of them takes it",
        source_path (disk->source));
}

void
note_let_go (Disk *disk)
{
  if (atomic_fetch_sub (&disk->n_held, 1) == 1)
    g_warning ("writes to '%s' %s", source_path (disk->source),
               note_is_ending (disk) ? "that were held are refused, for fleecefs ends"
                                     : "go on: it is written down that snapshots are broken");
}

bool
note_is_ending (Disk *disk)
{
  return atomic_load (&disk->is_settling)
         || (disk->is_ending != NULL && disk->is_ending (disk->is_ending_data));
}

int
note_break_for_write (Disk *disk, Chain *chain)
{
  int r = note_break (disk, chain);

  if (r == 0)
    return 0;
  note_hold (disk);
  while (r < 0 && !note_is_ending (disk))
    {
      g_usleep (NOTE_RETRY_MS * 1000);
      r = note_break (disk, chain);
    }
  note_let_go (disk);
  return r < 0 ? -EIO : 0;
}
