/* SPDX-License-Identifier: MIT */
#include "base/shares.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void jsonl_shares_clear(struct jsonl_shares *s)
{
	free(s->list);
	*s = (struct jsonl_shares){0};
}

/* Returns the place of this uid's share, or where it belongs. */
static size_t place(const struct jsonl_shares *s, uid_t uid, bool *found)
{
	size_t low = 0, high = s->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (s->list[mid].uid < uid)
			low = mid + 1;
		else
			high = mid;
	}
	*found = low < s->count && s->list[low].uid == uid;
	return low;
}

const struct jsonl_share *jsonl_shares_of(const struct jsonl_shares *s, uid_t uid)
{
	static const struct jsonl_share none;
	bool found;
	size_t at = place(s, uid, &found);

	return found ? &s->list[at] : &none;
}

int jsonl_shares_charge(struct jsonl_shares *s, uid_t uid, uint64_t bytes,
			uint64_t entries)
{
	bool found;
	size_t at = place(s, uid, &found);

	if (!found) {
		if (jsonl_grow(&s->list, &s->cap, s->count + 1, sizeof(*s->list)))
			return -ENOMEM;
		memmove(&s->list[at + 1], &s->list[at],
			(s->count - at) * sizeof(*s->list));
		s->list[at] = (struct jsonl_share){.uid = uid};
		s->count++;
	}
	s->list[at].bytes += bytes;
	s->list[at].entries += entries;
	s->bytes += bytes;
	s->entries += entries;
	return 0;
}

void jsonl_shares_refund(struct jsonl_shares *s, uid_t uid, uint64_t bytes,
			 uint64_t entries)
{
	struct jsonl_share *share;
	bool found;
	size_t at = place(s, uid, &found);

	if (!found)
		return;
	share = &s->list[at];
	bytes = bytes < share->bytes ? bytes : share->bytes;
	entries = entries < share->entries ? entries : share->entries;
	share->bytes -= bytes;
	share->entries -= entries;
	s->bytes -= bytes;
	s->entries -= entries;
	/* Only shares in use are kept, so they are few however many users there have
	 * been. */
	if (share->bytes || share->entries)
		return;
	s->count--;
	memmove(share, share + 1, (s->count - at) * sizeof(*share));
}
