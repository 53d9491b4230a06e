/* SPDX-License-Identifier: MIT */
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define FIRST 64 /* bytes that a list begins with */

int jsonl_grow(void *list, size_t *cap, size_t want, size_t size)
{
	size_t more = *cap ? *cap : (FIRST + size - 1) / size, bytes;
	void *grown;

	if (want <= *cap)
		return 0;
	while (more < want)
		if (__builtin_mul_overflow(more, 2, &more))
			return -ENOMEM;
	if (__builtin_mul_overflow(more, size, &bytes))
		return -ENOMEM;
	memcpy(&grown, list, sizeof(grown));
	grown = realloc(grown, bytes);
	if (!grown)
		return -ENOMEM;
	memcpy(list, &grown, sizeof(grown));
	*cap = more;
	return 0;
}

size_t jsonl_iov_length(const struct iovec *iov, int n)
{
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}

void jsonl_iov_copy(void *to, const struct iovec *iov, int n)
{
	char *at = to;

	for (int i = 0; i < n; i++) {
		/* memcpy must not get NULL, even for no bytes. */
		if (iov[i].iov_len)
			memcpy(at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
}
