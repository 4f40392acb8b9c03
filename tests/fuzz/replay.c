/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Feeds the harness the files that are given, and those in the directories that are given. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned
replay_file (const char *path)
{
  g_autofree char *bytes = NULL;
  g_autofree uint8_t *exact = NULL; /* no byte more, so that a read beyond is seen */
  gsize length;

  fuzz_check (g_file_get_contents (path, &bytes, &length, NULL));
  exact = g_malloc (length);
  for (gsize i = 0; i < length; i++)
    exact[i] = (uint8_t) bytes[i];
  LLVMFuzzerTestOneInput (exact, length);
  return 1;
}

static unsigned
replay (const char *path)
{
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  unsigned n = 0;
  const char *name;

  if (dir == NULL)
    return replay_file (path);
  while ((name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *file = g_build_filename (path, name, NULL);

      n += replay_file (file);
    }
  return n;
}

int
main (int argc, char **argv)
{
  unsigned n = 0;

  for (int i = 1; i < argc; i++)
    n += replay (argv[i]);
  printf ("%u inputs\n", n);
  return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
