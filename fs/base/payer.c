/* SPDX-License-Identifier: MIT */
/* Makes appends to logs with the ids of the user who asked for them. The descriptor for
 * appending is the daemon's and serves all handles, but ext4 gives blocks that it keeps
 * back to any writer with root's id. Only the call itself runs with those ids, because
 * what goes with an append (the quarantine, repairs) is the daemon's own; and only where
 * it makes a difference, because it takes nine system calls instead of one. */
#include "base/payer.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/statfs.h>

#include "base/caller.h"
#include "base/io.h"
#include "base/kind.h"
#include "base/memory.h"

/* Bytes that others may write before a file system is asked again how full it is. */
#define PAYER_MARGIN (256ULL << 20)

static _Thread_local struct {
	bool set; /* false: there is no payer */
	struct fs_ids ids;
} payer;

void fs_payer_set(const struct fs_ids *who)
{
	payer.set = true;
	payer.ids = *who;
}

void fs_payer_clear(void)
{
	payer.set = false;
}

/* Returns true when it matters which user writes. For quotas the file's owner counts,
 * and those that are full say so to the daemon, too. */
static bool ids_matter(int fd, uint64_t len)
{
	const struct fs_kind *kind;
	struct statfs st;

	if (fstatfs(fd, &st))
		return true;
	kind = fs_kind_of(&st);
	if (!kind->keeps_back)
		return !kind->local;
	return st.f_bfree > st.f_bavail &&
	       st.f_bavail * (uint64_t)st.f_bsize < len + PAYER_MARGIN;
}

static int payer_begin(int fd, uint64_t len, struct fs_caller *saved)
{
	*saved = (struct fs_caller){0};
	if (!payer.set || !fs_caller_may_switch() || payer.ids.uid == 0 ||
	    !ids_matter(fd, len))
		return 0;
	return fs_caller_pay(&payer.ids, saved);
}

static const struct jsonl_io *system_of(const struct jsonl_io *io)
{
	return ((const struct fs_payer_io *)io)->system;
}

static ssize_t payer_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			    int n)
{
	struct fs_caller saved;
	ssize_t written = payer_begin(fd, jsonl_iov_length(iov, n), &saved);

	if (written)
		return written;
	written = system_of(io)->writev(io, fd, iov, n);
	fs_caller_restore(&saved);
	return written;
}

static int payer_reserve(const struct jsonl_io *io, int fd, off_t off, off_t len)
{
	struct fs_caller saved;
	int rc = payer_begin(fd, (uint64_t)len, &saved);

	if (rc)
		return rc;
	rc = system_of(io)->reserve(io, fd, off, len);
	fs_caller_restore(&saved);
	return rc;
}

void fs_payer_io(struct fs_payer_io *p, const struct jsonl_io *system)
{
	p->system = system;
	p->io = *system;
	p->io.writev = payer_writev;
	p->io.reserve = payer_reserve;
}
