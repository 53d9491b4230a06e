/* SPDX-License-Identifier: MIT */
#include "ctl/repair/repair_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/archived.h"
#include "base/cleanup.h"
#include "base/copy.h"
#include "base/repaired.h"
#include "base/stamp.h"

void repair_store_begin(struct repair_store *s)
{
	jsonl_stamp_name_now(s->stamp);
	s->kept[0] = s->bad[0] = '\0';
	s->archive_fd = s->bad_file.fd = -1;
	s->bad_file.renamed = s->linked = false;
}

void repair_store_end(struct repair_store *s)
{
	jsonl_replace_abort(&s->bad_file);
	if (s->archive_fd >= 0)
		(void)close(steal_fd(&s->archive_fd));
}

/* ---- bad lines ---- */

static int name_beside(const struct repair_store *s, const char *what,
		       char name[NAME_MAX + 1])
{
	int n = snprintf(name, NAME_MAX + 1, "%s.%s-%s", s->name, what, s->stamp);

	return n > NAME_MAX ? -ENAMETOOLONG : 0;
}

int repair_store_bad(struct repair_store *s, const struct jsonl_repair_change *c,
		     const void *data)
{
	const struct fs_repaired from = {
	    .path = s->path, .fd = s->old_fd, .pid = getpid(), .uid = getuid()};
	int rc = 0;

	if (s->quarantine)
		return fs_repaired_set_aside(s->quarantine, &from, c, data);
	if (!s->bad[0]) {
		rc = name_beside(s, "bad", s->bad);
		if (rc == 0)
			rc = jsonl_replace_begin(&s->bad_file, &jsonl_io_system,
						 s->dir_fd, s->bad, s->old_fd);
	}
	if (rc == 0)
		rc = jsonl_replace_write(&s->bad_file, data, c->length);
	return rc ? rc : jsonl_replace_write(&s->bad_file, "\n", 1);
}

static int settle_bad(struct repair_store *s)
{
	if (s->quarantine)
		return syncfs(s->state_fd) < 0 ? -errno : 0;
	return s->bad[0] ? jsonl_replace_commit(&s->bad_file, RENAME_NOREPLACE) : 0;
}

/* ---- the original ---- */

static int open_archive(struct repair_store *s)
{
	/* The umask may have cleared some of the mode. */
	if (mkdirat(s->state_fd, "archive", 0711) == 0) {
		if (fchmodat(s->state_fd, "archive", 0711, 0) < 0)
			return -errno;
	} else if (errno != EEXIST) {
		return -errno;
	}
	s->archive_fd = openat(s->state_fd, "archive",
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return s->archive_fd < 0 ? -errno : 0;
}

static int copy(struct repair_store *s, int dir)
{
	const struct jsonl_io *io = &jsonl_io_system;
	struct jsonl_replace r;
	struct stat st;
	int rc = fstat(s->old_fd, &st) < 0 ? -errno : 0;

	if (rc == 0)
		rc = jsonl_replace_begin(&r, io, dir, s->kept, s->old_fd);
	if (rc)
		return rc;
	rc = fs_copy_bytes(io, s->old_fd, 0, st.st_size, r.fd);
	if (rc == 0)
		return jsonl_replace_commit(&r, RENAME_NOREPLACE);
	jsonl_replace_abort(&r);
	return rc;
}

/* Keeps the original by a second name if possible: nothing is copied, and bytes that
 * somebody appends at the last moment are kept, too. */
static int keep_original(struct repair_store *s)
{
	int dir = s->archive_fd >= 0 ? s->archive_fd : s->dir_fd;
	struct stat st, old;

	if (linkat(s->dir_fd, s->name, dir, s->kept, 0) < 0) {
		if (errno == EXDEV || errno == EPERM || errno == EOPNOTSUPP)
			return copy(s, dir);
		return -errno;
	}
	s->linked = true;
	if (fstatat(dir, s->kept, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstat(s->old_fd, &old) < 0)
		return -errno;
	if (st.st_ino != old.st_ino || st.st_dev != old.st_dev)
		return -ESTALE;
	return fsync(dir) < 0 ? -errno : 0;
}

int repair_store_settle(struct repair_store *s)
{
	int rc = settle_bad(s);

	if (rc == 0 && s->state_fd >= 0) {
		rc = open_archive(s);
		if (rc == 0)
			rc = jsonl_archived_name(s->path, JSONL_ARCHIVED_OWNER, s->kept);
	} else if (rc == 0) {
		rc = name_beside(s, "orig", s->kept);
	}
	if (rc < 0) {
		s->kept[0] = '\0';
		return rc;
	}
	return keep_original(s);
}

void repair_store_undo(struct repair_store *s)
{
	if (s->kept[0])
		(void)unlinkat(s->archive_fd >= 0 ? s->archive_fd : s->dir_fd, s->kept,
			       0);
	if (s->bad_file.renamed)
		(void)unlinkat(s->dir_fd, s->bad, 0);
	s->kept[0] = '\0';
}

int repair_store_put_back(struct repair_store *s)
{
	int dir = s->archive_fd >= 0 ? s->archive_fd : s->dir_fd;

	if (!s->linked)
		return -EBUSY;
	if (renameat(dir, s->kept, s->dir_fd, s->name) < 0)
		return -errno;
	s->kept[0] = '\0';
	return fsync(s->dir_fd) < 0 ? -errno : 0;
}
