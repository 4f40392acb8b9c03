/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/pause.h"

#ifdef FLEECE_PAUSE_POINTS
#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

typedef enum
{
  POINT_FREE,
  POINT_ARMED,
  POINT_REACHED,
  POINT_RELEASED,
  POINT_WATCHED,
  POINT_NOTED,
} PointState;

typedef struct
{
  const char *name;
  PointState state;
} Point;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static Point points[8];

static Point *
find (const char *name)
{
  for (gsize i = 0; i < G_N_ELEMENTS (points); i++)
    if (points[i].state != POINT_FREE && strcmp (points[i].name, name) == 0)
      return &points[i];
  return NULL;
}

void
pause_point (const char *name)
{
  Point *point;

  pthread_mutex_lock (&lock);
  point = find (name);
  if (point != NULL && point->state == POINT_ARMED)
    {
      point->state = POINT_REACHED;
      pthread_cond_broadcast (&changed);
      while (point->state == POINT_REACHED)
        pthread_cond_wait (&changed, &lock);
      point->state = POINT_FREE;
    }
  else if (point != NULL && point->state == POINT_WATCHED)
    {
      point->state = POINT_NOTED;
      pthread_cond_broadcast (&changed);
    }
  pthread_mutex_unlock (&lock);
}

static void
set_up (const char *name, PointState state)
{
  gsize i = 0;

  pthread_mutex_lock (&lock);
  g_assert (find (name) == NULL);
  while (points[i].state != POINT_FREE)
    g_assert (++i < G_N_ELEMENTS (points));
  points[i] = (Point){ .name = name, .state = state };
  pthread_mutex_unlock (&lock);
}

void
pause_arm (const char *name)
{
  set_up (name, POINT_ARMED);
}

void
pause_watch (const char *name)
{
  set_up (name, POINT_WATCHED);
}

static bool
is_reached (const char *name)
{
  const Point *point = find (name);

  g_assert (point != NULL);
  return point->state == POINT_REACHED || point->state == POINT_NOTED;
}

const char *
pause_wait_either (const char *a, const char *b)
{
  const char *reached;

  pthread_mutex_lock (&lock);
  while (!is_reached (a) && !is_reached (b))
    pthread_cond_wait (&changed, &lock);
  reached = is_reached (a) ? a : b;
  pthread_mutex_unlock (&lock);
  return reached;
}

void
pause_wait_reached (const char *name)
{
  pause_wait_either (name, name);
}

void
pause_release (const char *name)
{
  Point *point;

  pthread_mutex_lock (&lock);
  point = find (name);
  g_assert (point != NULL);
  point->state = point->state == POINT_REACHED ? POINT_RELEASED : POINT_FREE;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
}
#else
typedef int pause_is_empty;
#endif
