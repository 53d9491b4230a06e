#include "repair_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

#define COPY_PIECE (256UL << 10)
#define PATH_SHOWN 120 /* bytes of a path in the name of an archived file */

void repair_store_begin(struct repair_store *s)
{
	struct timespec now;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(s->stamp, sizeof(s->stamp), "%Y%m%dT%H%M%S", &tm);
	(void)snprintf(s->stamp + n, sizeof(s->stamp) - n, ".%09ldZ", now.tv_nsec);
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

static int to_quarantine(struct repair_store *s, const struct jsonl_repair_change *c,
			 const void *data)
{
	const struct iovec iov = {.iov_base = (void *)data, .iov_len = c->length};
	const struct jsonl_quarantine_item item = {
	    .iov = &iov,
	    .niov = 1,
	    .event = "repair",
	    .code = c->verdict,
	    .offset = c->wrong,
	    .at = (int64_t)c->offset,
	    .path = s->path,
	    .program = "jsonlfsctl repair",
	    .pid = getpid(),
	    .uid = getuid(),
	    .source_fd = s->old_fd,
	    .reserved = true,
	};

	return jsonl_quarantine_put(s->quarantine, &item, NULL);
}

static int name_beside(const struct repair_store *s, const char *what,
		       char name[NAME_MAX + 1])
{
	int n = snprintf(name, NAME_MAX + 1, "%s.%s-%s", s->name, what, s->stamp);

	return n > NAME_MAX ? -ENAMETOOLONG : 0;
}

int repair_store_bad(struct repair_store *s, const struct jsonl_repair_change *c,
		     const void *data)
{
	int rc = 0;

	if (s->quarantine)
		return to_quarantine(s, c, data);
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

/* As the mount names what it archives: 20261120T101112.123456789Z-dir%2Fname.jsonl */
static void name_in_archive(struct repair_store *s)
{
	const char *path = s->path;
	size_t n = (size_t)snprintf(s->kept, sizeof(s->kept), "%s-", s->stamp);

	if (strlen(path) > PATH_SHOWN)
		path += strlen(path) - PATH_SHOWN;
	for (; *path && n + 4 < sizeof(s->kept); path++) {
		if (*path == '/' || *path == '%')
			n += (size_t)snprintf(s->kept + n, sizeof(s->kept) - n, "%%%02X",
					      (unsigned char)*path);
		else
			s->kept[n++] = *path;
	}
	s->kept[n] = '\0';
}

static int open_archive(struct repair_store *s)
{
	/* The umask may have taken something from it. */
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
	cleanup_free char *buf = malloc(COPY_PIECE);
	struct jsonl_replace r;
	off_t at = 0;
	ssize_t n = 1;
	int rc;

	if (!buf)
		return -ENOMEM;
	rc = jsonl_replace_begin(&r, io, dir, s->kept, s->old_fd);
	while (rc == 0 && n > 0) {
		n = jsonl_io_read_full(io, s->old_fd, buf, COPY_PIECE, at);
		rc = n < 0 ? (int)n : jsonl_replace_write(&r, buf, (size_t)n);
		at += n;
	}
	if (rc == 0)
		return jsonl_replace_commit(&r, RENAME_NOREPLACE);
	jsonl_replace_abort(&r);
	return rc;
}

/* One more name for the same file, where that is possible: nothing is copied, and bytes
 * that somebody appends to it at the last moment are kept, too. */
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
		name_in_archive(s);
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
