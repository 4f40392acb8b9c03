/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Buffers that belong to a thread: made at its first use of them, page aligned,
 * freed when the thread ends. So the I/O path does not allocate per request, and
 * memory is bounded by SCRATCH_N * SCRATCH_SIZE for each thread. */
#pragma once

#include <stddef.h>

#define SCRATCH_SIZE ((size_t) 1 << 20)

typedef enum
{
  SCRATCH_COPY,  /* old blocks on their way from the source to an overlay */
  SCRATCH_REPLY, /* bytes on their way to a reader */
  SCRATCH_N,
} ScratchUse;

/* The calling thread's buffer of SCRATCH_SIZE bytes for this use, or NULL when
 * there is no memory. The contents are whatever the last user left. */
void *scratch_get (ScratchUse use);
