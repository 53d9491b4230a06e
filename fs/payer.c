/* Whose appends to logs are. The descriptor for appending is the daemon's and serves all
 * handles, but ext4 gives the blocks that it keeps back to whoever writes with root's id:
 * so each append is made with the ids of the one who asked for it. Only the call itself,
 * because what goes with an append (the quarantine, repairs) is the daemon's business;
 * and not where it makes no difference, because that is one system call and not nine. */
#include "shared.h"

#include <linux/magic.h>
#include <sys/statfs.h>

/* Bytes that others may have written since a file system was asked how full it is. */
#define PAYER_MARGIN (256ULL << 20)

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

/* Quotas ask whose the file is, and those that are full say so to the daemon, too. */
static bool ids_matter(int fd, uint64_t len)
{
	struct statfs st;

	if (fstatfs(fd, &st))
		return true;
	switch (st.f_type) {
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case TMPFS_MAGIC:
		return false;
	case EXT4_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
		return st.f_bfree > st.f_bavail &&
		       st.f_bavail * (uint64_t)st.f_bsize < len + PAYER_MARGIN;
	default:
		return true;
	}
}

static int payer_begin(int fd, uint64_t len, struct fs_caller *saved)
{
	*saved = (struct fs_caller){0};
	if (!payer.m || payer.m->uid != 0 || payer.ids.uid == 0 || !ids_matter(fd, len))
		return 0;
	return fs_caller_pay(payer.m, &payer.ids, saved);
}

static ssize_t payer_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			    int n)
{
	struct fs_caller saved;
	uint64_t len = 0;
	ssize_t written;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	written = payer_begin(fd, len, &saved);
	if (written)
		return written;
	written = jsonl_io_system.writev(io, fd, iov, n);
	fs_caller_restore(&saved);
	return written;
}

static int payer_reserve(const struct jsonl_io *io, int fd, off_t off, off_t len)
{
	struct fs_caller saved;
	int rc = payer_begin(fd, (uint64_t)len, &saved);

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
