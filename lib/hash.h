/* FNV-1a, 64 bits: finds candidates and tells of damage; who wants to forge one can. */
#ifndef JSONL_HASH_H
#define JSONL_HASH_H

#include <stddef.h>
#include <stdint.h>

#define JSONL_HASH_START UINT64_C(0xcbf29ce484222325)

/* Continues `hash` by `len` bytes. Any thread. */
static inline uint64_t jsonl_hash(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

#endif
