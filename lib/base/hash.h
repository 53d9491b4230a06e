/* SPDX-License-Identifier: MIT */
/* Computes FNV-1a of 64 bits: it finds candidates and shows damage, but anybody can forge
 * it. Any thread. */
#ifndef JSONL_HASH_H
#define JSONL_HASH_H

#include <stddef.h>
#include <stdint.h>

#define JSONL_HASH_START UINT64_C(0xcbf29ce484222325)

/* Returns the hash of what `hash` is the hash of, followed by data[0..len). */
static inline uint64_t jsonl_hash(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

#endif
