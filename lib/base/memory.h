/* SPDX-License-Identifier: MIT */
/* Grows lists, and adds up and copies vectors of bytes. No state; any thread. */
#ifndef JSONL_MEMORY_H
#define JSONL_MEMORY_H

#include <stddef.h>
#include <sys/uio.h>

#include "base/error.h"

/* Makes room for `want` items of `size` bytes. `list`: address of the pointer to the first
 * item, NULL in the beginning; *cap: items that it has room for, which at least doubles when
 * it grows. Returns 0, or -ENOMEM: nothing has changed. */
int jsonl_grow(void *list, size_t *cap, size_t want, size_t size) jsonl_must_check;

/* Returns the sum of the lengths, bytes. */
size_t jsonl_iov_length(const struct iovec *iov, int n);
/* Copies the bytes of all vectors to `to`, one after another. */
void jsonl_iov_copy(void *to, const struct iovec *iov, int n);

#endif
