/* SPDX-License-Identifier: MIT */
/* Keeps appended bytes in memory until they are durable, so that after a failed sync they
 * can be compared with the disk and written again. Everything here is under sync_lock. */
#include "file/file_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"

/* Bytes of memory for retained bytes, of all files of the process. */
static _Atomic size_t kept_total;

void jsonl_file_kept_free(struct jsonl_file *f)
{
	kept_total -= f->kept_cap;
	free(steal_ptr(&f->kept));
	f->kept_cap = 0;
}

void jsonl_file_kept_drop(struct jsonl_file *f, size_t n)
{
	size_t gone = 0;

	if (n > f->kept_len)
		n = f->kept_len;
	f->kept_head += n;
	f->kept_len -= n;
	f->kept_dropped += n;
	while (n && gone < f->nseg) {
		struct file_segment *s = &f->seg[gone];
		size_t take = n < s->len ? n : s->len;

		s->off += (off_t)take;
		s->len -= take;
		n -= take;
		if (!s->len)
			gone++;
	}
	if (gone) {
		f->nseg -= gone;
		memmove(f->seg, f->seg + gone, f->nseg * sizeof(*f->seg));
	}
	if (!f->kept_len) {
		f->kept_head = 0;
		if (f->kept_cap > FILE_RETAIN_SOFT || kept_total > FILE_RETAIN_TOTAL)
			jsonl_file_kept_free(f);
	}
}

static bool kept_room(struct jsonl_file *f, size_t len)
{
	size_t had = f->kept_cap;

	if (f->kept_head + f->kept_len + len <= f->kept_cap)
		return true;
	if (f->kept_head) {
		memmove(f->kept, f->kept + f->kept_head, f->kept_len);
		f->kept_head = 0;
	}
	if (jsonl_grow(&f->kept, &f->kept_cap, f->kept_len + len, 1))
		return false;
	kept_total += f->kept_cap - had;
	return true;
}

static bool kept_segment(struct jsonl_file *f, off_t off, size_t len)
{
	struct file_segment *last = f->nseg ? &f->seg[f->nseg - 1] : NULL;

	if (last && last->off + (off_t)last->len == off) {
		last->len += len;
		return true;
	}
	if (jsonl_grow(&f->seg, &f->seg_cap, f->nseg + 1, sizeof(*f->seg)))
		return false;
	f->seg[f->nseg++] = (struct file_segment){.off = off, .len = len};
	return true;
}

void jsonl_file_kept_add(struct jsonl_file *f, const struct iovec *iov, int niov,
			 off_t off)
{
	size_t len = jsonl_iov_length(iov, niov);

	if (!len || !kept_room(f, len) || !kept_segment(f, off, len))
		return;
	jsonl_iov_copy(f->kept + f->kept_head + f->kept_len, iov, niov);
	f->kept_len += len;
}

bool jsonl_file_kept_much(const struct jsonl_file *f)
{
	return f->kept_len > FILE_RETAIN_SOFT ||
	       (f->kept_len && kept_total > FILE_RETAIN_TOTAL);
}
