/* SPDX-License-Identifier: MIT */
#include "ctl/write/appender.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "ctl/find/vault.h"
#include "jsonl_internal.h"

int ctl_appender_open_in(struct ctl_appender *a, int dir, const char *name, bool mounted)
{
	*a = (struct ctl_appender){.fd = -1};
	if (!mounted) {
		int copy = fcntl(dir, F_DUPFD_CLOEXEC, 3);

		return copy < 0 ? -errno : jsonl_open_in(copy, name, 0666, &a->log);
	}
	a->fd = ctl_open_file(dir, name, O_WRONLY | O_APPEND | O_CREAT, 0666);
	return a->fd < 0 ? a->fd : 0;
}

int ctl_appender_open(struct ctl_appender *a, const char *path)
{
	struct ctl_vault v;
	int rc;

	*a = (struct ctl_appender){.fd = -1};
	rc = ctl_vault_place(path, &v);
	if (rc < 0)
		return rc;
	cleanup_close int dir = ctl_vault_open_directory(&v);

	rc = dir;
	if (rc >= 0)
		rc = ctl_vault_is_directory(&v)
			 ? -EINVAL
			 : ctl_appender_open_in(a, dir, v.spot.name, v.mount);
	ctl_vault_free(&v);
	return rc;
}

int ctl_appender_add(struct ctl_appender *a, const void *record, size_t len)
{
	const struct iovec iov[2] = {{.iov_base = (void *)record, .iov_len = len},
				     {.iov_base = "\n", .iov_len = 1}};
	size_t written;

	return a->log ? jsonl_append(a->log, record, len)
		      : jsonl_io_write_full(&jsonl_io_system, a->fd, iov, 2, &written);
}

bool ctl_appender_unsure(const struct ctl_appender *a, int code)
{
	static const int refusals[] = {EBADMSG, EMSGSIZE, EAGAIN, EUCLEAN, EROFS, EFBIG};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (code == -refusals[i])
			return false;
	return !a->log && code < 0;
}

int ctl_appender_sync(struct ctl_appender *a)
{
	if (a->log)
		return jsonl_sync(a->log);
	return fsync(a->fd) < 0 ? -errno : 0;
}

int ctl_appender_close(struct ctl_appender *a)
{
	int rc = 0;

	if (a->log)
		jsonl_close(a->log);
	else if (a->fd >= 0)
		rc = close(steal_fd(&a->fd)) < 0 ? -errno : 0;
	a->log = NULL;
	return rc;
}

const char *ctl_appender_explain(const char *path, int code)
{
	switch (code) {
	case -EAGAIN:
		return "another program holds the lock of the file, or is in the middle "
		       "of "
		       "a record, for five seconds now: try again when it has ended";
	case -EBADMSG:
		return "the mount refuses this record (value=, maxdepth=): see its log";
	case -EMSGSIZE:
		return "the mount refuses a record of this length (maxrecord=, "
		       "oversize=reject)";
	case -EINVAL:
		return "not a regular file";
	case -EUCLEAN:
	case JSONL_UNKNOWN_TAIL:
		return "the end of the file is not JSON Lines, so nothing is appended to "
		       "it: look at it with jsonlfsctl check, then jsonlfsctl repair";
	default:
		return ctl_explain(path, code);
	}
}
