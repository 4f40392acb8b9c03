/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where it is written down that layers are broken, so that a kill cannot make us forget it: in
 * their overlays, before the guest's write. When the store does not take that (its disk fails, or
 * hangs), the fact is noted at the image, where the guest's write goes: a note says that overlays
 * of this store miss old blocks. It does not say which, so the next start breaks them all. */
#include "cow/disk-private.h"

#include <errno.h>

int
note_set (Disk *disk)
{
  int r = 0;

  lock_acquire (&disk->note_lock);
  if (disk->n_notes == 0 && disk->store_id != NULL)
    r = source_set_note (disk->source, disk->store_id);
  if (r == 0 && disk->n_notes == 0 && disk->durable)
    r = source_flush (disk->source, false);
  if (r == 0)
    disk->n_notes++;
  lock_release (&disk->note_lock);
  return r;
}

void
note_clear (Disk *disk)
{
  lock_acquire (&disk->note_lock);
  if (disk->n_notes > 0 && --disk->n_notes == 0)
    source_clear_note (disk->source);
  lock_release (&disk->note_lock);
}

void
note_break (Disk *disk, Chain *chain)
{
  int r = chain_record_break (chain);

  if (r < 0)
    {
      g_warning ("cannot mark overlays in the store as broken: %s", g_strerror (-r));
      r = note_set (disk);
      if (r < 0)
        g_warning ("nor leave a note of it at '%s': %s; if fleecefs is killed before it can, the "
                   "snapshots will seem to be right",
                   source_path (disk->source), g_strerror (-r));
    }
  chain_stop_if_broken (chain);
}
