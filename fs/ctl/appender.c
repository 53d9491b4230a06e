#include "appender.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "place.h"

int ctl_appender_open(struct ctl_appender *a, const char *path)
{
	struct ctl_place place;
	struct stat st;
	bool inside;
	int rc;

	*a = (struct ctl_appender){.fd = -1};
	rc = ctl_place_find(path, &place);
	if (rc < 0)
		return rc;
	inside = place.inside;
	ctl_place_free(&place);
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return -EINVAL;
	if (!inside)
		return jsonl_open(path, 0666, &a->log);
	a->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_CLOEXEC, 0666);
	return a->fd < 0 ? -errno : 0;
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

const char *ctl_appender_explain(int code)
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
	case -ENOTCONN:
		return "the mount is dead: mount it again, then append";
	case -EUCLEAN:
	case JSONL_UNKNOWN_TAIL:
		return "the end of the file is not JSON Lines, so nothing is appended to "
		       "it: look at it with jsonlfsctl check, then jsonlfsctl repair";
	default:
		return jsonl_error_text(code);
	}
}
