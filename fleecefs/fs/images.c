/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/images.h"

#include "base/name.h"
#include "fs/usage.h"
#include "snapshot/snapshots.h"

#include <string.h>

static void
image_free (gpointer data)
{
  Image *image = data;

  g_free (image->name);
  g_free (image->path);
  g_free (image);
}

GPtrArray *
images_new (void)
{
  return g_ptr_array_new_with_free_func (image_free);
}

/* The rules of snapshots' names, so that every name in the tree obeys one set. A store may know the
 * disk already, by a name that would no longer do. */
static bool
check_name (const Image *image, GError **error)
{
  const char *why;

  return name_check_known (image->name, &why) == 0
         || usage_fail (error, "the name of the disk '%s' %s; choose one by NAME=%s", image->name,
                        why, image->path);
}

bool
images_add (GPtrArray *images, const char *word, GError **error)
{
  const char *equals = strchr (word, '=');
  const char *slash = strchr (word, '/');
  Image *image = g_new0 (Image, 1);

  g_ptr_array_add (images, image);
  if (equals != NULL && (slash == NULL || slash > equals))
    {
      image->name = g_strndup (word, (gsize) (equals - word));
      image->path = g_strdup (equals + 1);
    }
  else
    {
      image->name = g_path_get_basename (word);
      image->path = g_strdup (word);
    }
  if (*image->path == '\0')
    return usage_fail (error, "no image after '%s'", word);
  if (!check_name (image, error))
    return false;
  for (guint i = 0; i + 1 < images->len; i++)
    {
      const Image *other = images->pdata[i];

      if (strcmp (other->name, image->name) == 0 && strcmp (other->path, image->path) == 0)
        return usage_fail (error, "'%s' is given twice; name it once, and quote paths with spaces",
                           image->path);
      if (strcmp (other->name, image->name) == 0)
        return usage_fail (error, "'%s' and '%s' would both be called '%s'; name one by NAME=%s",
                           other->path, image->path, image->name, image->path);
    }
  return true;
}
