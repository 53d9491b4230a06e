/* SPDX-License-Identifier: MIT */
/* Finds out what the disk holds after a failed sync, and writes again what it has lost.
 * Everything here is under file->lock and flock. */
#include "file/file_internal.h"

/* Compares the kept bytes with the disk, not with the page cache: 1 the same, 0 not,
 * -errno. */
static int disk_has_kept(struct jsonl_file *f)
{
	const char *bytes = f->kept + f->kept_head;
	int rc = 1;

	for (size_t i = 0; rc == 1 && i < f->nseg; i++) {
		off_t page = f->seg[i].off & ~(off_t)(FILE_PAGE - 1);

		rc = f->io->drop_cache(f->io, f->fd, page, 0);
		if (!rc)
			rc = jsonl_file_equals(f, bytes, f->seg[i].len, f->seg[i].off);
		bytes += f->seg[i].len;
	}
	return rc;
}

/* Cuts the unsure bytes off. -EBUSY: bytes of others stand behind or between them. */
static int kept_cut_back(struct jsonl_file *f)
{
	struct stat st;
	int rc = f->io->fstat(f->io, f->append_fd, &st);

	if (rc)
		return rc;
	if (f->nseg != 1 || st.st_size > f->seg[0].off + (off_t)f->seg[0].len ||
	    st.st_size < f->seg[0].off)
		return -EBUSY;
	jsonl_file_view_hold(f, f->seg[0].off);
	rc = f->io->ftruncate(f->io, f->append_fd, f->seg[0].off);
	if (rc)
		return rc;
	f->end = f->seg[0].off;
	jsonl_file_end_look(f);
	return 0;
}

static int kept_rewrite(struct jsonl_file *f)
{
	struct iovec iov = {.iov_base = f->kept + f->kept_head, .iov_len = f->kept_len};
	size_t written;
	int rc = jsonl_io_write_full(f->io, f->append_fd, &iov, 1, &written);

	if (!rc)
		rc = f->io->fdatasync(f->io, f->append_fd);
	if (!rc)
		rc = disk_has_kept(f);
	if (rc < 0)
		return rc;
	return rc == 1 ? 0 : -EIO;
}

/* Writes the kept bytes once more and looks at the disk again. If that fails, too, sets
 * them aside and cuts the file back to what is durable. */
static int kept_restore(struct jsonl_file *f)
{
	struct iovec iov = {.iov_base = f->kept + f->kept_head, .iov_len = f->kept_len};
	/* Another host may have appended where these bytes were to be. */
	int rc = jsonl_file_is_remote(f) ? -EBUSY : kept_cut_back(f);

	if (rc == -EBUSY) {
		/* Another program has appended behind them or cut the file: nothing may
		 * be cut, so they are only saved. */
		rc = f->events->set_aside(f->ctx, "sync-failed", -EIO, &iov, 1,
					  f->seg[0].off, 0);
		f->end_known = false;
		return rc;
	}
	if (rc)
		return rc;
	if (!kept_rewrite(f)) {
		f->end = f->seg[0].off + (off_t)f->seg[0].len;
		jsonl_file_end_look(f);
		f->events->report(f->ctx, "sync-rewritten", 0, f->seg[0].off,
				  f->kept_len);
		return 0;
	}
	rc = f->events->set_aside(f->ctx, "sync-failed", -EIO, &iov, 1, f->seg[0].off, 0);
	if (!rc)
		rc = kept_cut_back(f);
	if (!rc)
		rc = f->io->fsync(f->io, f->append_fd);
	if (!rc)
		f->events->report(f->ctx, "sync-cut-back", -EIO, f->seg[0].off,
				  f->kept_len);
	return rc;
}

static int verify_all(struct jsonl_file *f, const struct file_round *r)
{
	/* Writes what is still dirty. Success proves nothing about pages that the kernel
	 * has given up, so the disk is read. */
	int rc = jsonl_file_round_run(f, r);

	if (rc)
		return rc;
	if (!f->nseg) {
		f->end_known = false;
		return f->io->drop_cache(f->io, f->fd, 0, 0);
	}
	rc = disk_has_kept(f);
	if (rc < 0)
		return rc;
	return rc == 1 ? 0 : kept_restore(f);
}

int jsonl_file_verify(struct jsonl_file *f)
{
	struct file_round r;
	int rc;

	/* With the turn nobody drops kept bytes, so they are read without sync_lock. */
	jsonl_file_turn_take(f);
	r = jsonl_file_round_begin(f, -1, false);
	r.verifies = true;
	rc = verify_all(f, &r);
	if (jsonl_file_round_end(f, &r, rc))
		jsonl_file_lead_rounds(f);
	if (rc)
		return -EIO;
	jsonl_file_view_release(f);
	f->events->report(f->ctx, "sync-verified", 0, f->end, 0);
	return 0;
}
