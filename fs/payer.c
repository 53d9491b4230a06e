/* Whose appends to logs are. The descriptor for appending is the daemon's and serves all
 * handles, but ext4 gives the blocks that it keeps back to whoever writes with root's id:
 * so each append is made with the ids of the one who asked for it. Only the call itself,
 * because what goes with an append (the quarantine, repairs) is the daemon's business. */
#include "shared.h"

static _Thread_local struct {
	const struct fs_mount *m; /* NULL: nobody */
	struct fs_ids ids;
} payer;

void fs_payer_set(const struct fs_mount *m, const struct fs_ids *who)
{
	payer.m = m;
	payer.ids = *who;
}

void fs_payer_clear(void)
{
	payer.m = NULL;
}

static int payer_begin(struct fs_caller *saved)
{
	if (payer.m)
		return fs_caller_pay(payer.m, &payer.ids, saved);
	*saved = (struct fs_caller){0};
	return 0;
}

static ssize_t payer_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			    int n)
{
	struct fs_caller saved;
	ssize_t written = payer_begin(&saved);

	if (written)
		return written;
	written = jsonl_io_system.writev(io, fd, iov, n);
	fs_caller_restore(&saved);
	return written;
}

static int payer_reserve(const struct jsonl_io *io, int fd, off_t off, off_t len)
{
	struct fs_caller saved;
	int rc = payer_begin(&saved);

	if (rc)
		return rc;
	rc = jsonl_io_system.reserve(io, fd, off, len);
	fs_caller_restore(&saved);
	return rc;
}

void fs_payer_io(struct jsonl_io *io)
{
	*io = jsonl_io_system;
	io->writev = payer_writev;
	io->reserve = payer_reserve;
}
