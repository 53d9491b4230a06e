/* SPDX-License-Identifier: MIT */
/* Implements the public functions, on top of the room file. Bytes that the file system
 * would put into the quarantine go to a file beside the log. */
#include "jsonl.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/stamp.h"
#include "file/file.h"
#include "jsonl_internal.h"
#include "json/text.h"

struct jsonl_log {
	int dir_fd;
	char name[NAME_MAX + 1];
	mode_t mode;
	int flags;   /* further flags of open(2) */
	bool create; /* if it does not exist */
	pthread_mutex_t lock; /* of appends */
	/* Changed under both locks; a sync, which takes long, holds only this one. */
	pthread_rwlock_t attached;
	struct jsonl_file *file;
	struct jsonl_file_user user;
};

int jsonl_validate(const void *line, size_t len, size_t *offset)
{
	const char *newline = memchr(line, '\n', len);
	struct jsonl_text text;
	int rc = jsonl_text_check(line, len, JSONL_PROGRAM_DEPTH, &text);

	/* JSON takes a newline for white space, but in JSON Lines it ends the record. */
	if (newline && (!rc || text.offset > (size_t)(newline - (const char *)line))) {
		rc = JSONL_TRAILING;
		text.offset = (size_t)(newline - (const char *)line);
	}
	if (offset)
		*offset = text.offset;
	return rc;
}

const char *jsonl_message(int code)
{
	return jsonl_error_text(code);
}

void jsonl_stamped_name(char to[NAME_MAX + 1], const char *name, const char *what)
{
	char stamp[JSONL_STAMP];

	jsonl_stamp_name_now(stamp);
	(void)snprintf(to, NAME_MAX + 1, "%.200s.%s-%s", name, what, stamp);
}

/* Saves a torn tail beside the log, durably. */
static int log_set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
			 int niov, off_t at, uint64_t offset)
{
	const struct jsonl_io *io = &jsonl_io_system;
	struct jsonl_log *log = ctx;
	char name[NAME_MAX + 1];
	struct stat st;
	size_t written;
	int rc;

	jsonl_stamped_name(name, log->name, "torn");
	if (fstat(jsonl_file_fd(log->file), &st) < 0)
		return -errno;
	cleanup_close int fd = io->openat(io, log->dir_fd, name,
					  O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC,
					  st.st_mode & 0666);
	if (fd < 0)
		return fd;
	rc = jsonl_io_write_full(io, fd, iov, niov, &written);
	if (!rc)
		rc = io->fsync(io, fd);
	return rc ? rc : io->fsync(io, log->dir_fd);
}

static void log_report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
	/* A library prints nothing: results are returned. */
}

static const struct jsonl_file_events log_events = {
	.set_aside = log_set_aside,
	.report = log_report,
};

int jsonl_open_directory(const char *path, char name[NAME_MAX + 1])
{
	const char *slash = strrchr(path, '/');
	const char *last = slash ? slash + 1 : path;
	char dir[PATH_MAX];
	int fd;

	if (snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1,
		     slash ? path : ".") >= (int)sizeof(dir) ||
	    strlen(last) > NAME_MAX)
		return -ENAMETOOLONG;
	snprintf(name, NAME_MAX + 1, "%s", last);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool same_file(int one, int other)
{
	struct stat a, b;

	return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

/* Opens the log, which is made only with `create`, for reading and for appending. -EAGAIN: it
 * was moved away in between, and the two would be different files. */
static int log_open_at(struct jsonl_log *log, bool create, int *read_fd, int *append_fd,
		       bool *created)
{
	const int flags = O_RDWR | O_APPEND | O_CLOEXEC | log->flags;
	struct stat st;

	*created = false;
	*append_fd = openat(log->dir_fd, log->name, flags);
	if (*append_fd < 0 && errno == ENOENT && create) {
		*append_fd =
		    openat(log->dir_fd, log->name, flags | O_CREAT | O_EXCL, log->mode);
		*created = *append_fd >= 0;
		if (*append_fd < 0 && errno == EEXIST)
			return -EAGAIN;
	}
	if (*append_fd < 0 || fstat(*append_fd, &st) < 0)
		return -errno;
	if (log->flags && !S_ISREG(st.st_mode))
		return -EINVAL;
	*read_fd = openat(log->dir_fd, log->name, O_RDONLY | O_CLOEXEC | log->flags);
	if (*read_fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	return same_file(*read_fd, *append_fd) ? 0 : -EAGAIN;
}

/* Opens log->file anew. 0 or -errno. */
static int log_attach(struct jsonl_log *log)
{
	static const _Atomic bool shared = true;
	struct jsonl_file_options opt = {
		.maxrecord = JSONL_PROGRAM_RECORD, .maxdepth = JSONL_PROGRAM_DEPTH, .retain = true
	};
	cleanup_close int read_fd = -1;
	cleanup_close int append_fd = -1;
	cleanup_close int dir = -1;
	bool created;
	int rc;

	/* Comes first: without it a new name could not be synced. */
	dir = fcntl(log->dir_fd, F_DUPFD_CLOEXEC, 0);
	if (dir < 0)
		return -errno;
	rc = log_open_at(log, log->create, &read_fd, &append_fd, &created);
	/* The next attempt finds the file and does not know that it is new. */
	if (rc && created)
		(void)!fsync(dir);
	if (!rc && jsonl_io_is_remote(read_fd)) {
		opt.shared = &shared;
		opt.remote = true;
	}
	if (!rc)
		rc = jsonl_file_new(opt.remote ? &jsonl_io_remote : &jsonl_io_system, read_fd,
				    &opt, &log_events, log, &log->file);
	if (rc)
		return rc;
	steal_fd(&read_fd);
	memset(&log->user, 0, sizeof(log->user));
	jsonl_file_set_append_fd(log->file, steal_fd(&append_fd), false);
	if (created)
		jsonl_file_set_directory(log->file, steal_fd(&dir), &log->user);
	return 0;
}

/* Opens the log `name`, in directory `dir_fd`, which is taken over in any case; when that
 * is -errno this is returned. */
static int log_new(int dir_fd, const char *name, mode_t mode, int flags, bool create,
		   struct jsonl_log **out)
{
	struct jsonl_log *log = calloc(1, sizeof(*log));
	int rc, waited = 0;

	if (!log) {
		if (dir_fd >= 0)
			close(dir_fd);
		return -ENOMEM;
	}
	log->mode = mode;
	log->flags = flags;
	log->create = create;
	pthread_mutex_init(&log->lock, NULL);
	pthread_rwlock_init(&log->attached, NULL);
	snprintf(log->name, sizeof(log->name), "%s", name);
	log->dir_fd = dir_fd;
	do {
		rc = dir_fd < 0 ? dir_fd : log_attach(log);
	} while (jsonl_try_again(rc, &waited));
	if (rc) {
		jsonl_close(log);
		return rc;
	}
	*out = log;
	return 0;
}

int jsonl_open_in(int dir_fd, const char *name, mode_t mode, struct jsonl_log **out)
{
	return log_new(dir_fd, name, mode, O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, true, out);
}

int jsonl_open(const char *path, mode_t mode, struct jsonl_log **out)
{
	char name[NAME_MAX + 1] = "";
	int dir_fd = jsonl_open_directory(path, name);

	return log_new(dir_fd, name, mode, 0, true, out);
}

/* Goes on with the file that has the name now, or with a new one. Earlier records are
 * synced before: later nobody could. */
static int log_follow(struct jsonl_log *log)
{
	struct jsonl_file *old = log->file;
	int rc = jsonl_file_sync(old, &log->user);

	if (rc)
		return rc;
	pthread_rwlock_wrlock(&log->attached);
	rc = log_attach(log);
	pthread_rwlock_unlock(&log->attached);
	if (!rc)
		jsonl_file_free(old);
	return rc;
}

bool jsonl_try_again(int rc, int *waited)
{
	const struct timespec pause = {.tv_nsec = JSONL_PAUSE_MS * 1000000L};

	if (rc != -EAGAIN || *waited >= JSONL_WAIT_MS)
		return false;
	nanosleep(&pause, NULL);
	*waited += JSONL_PAUSE_MS;
	return true;
}

/* Appends once, under the log's lock. The file may have lost its name while this waited
 * for flock. */
static int append_once(struct jsonl_log *log, const struct iovec *iov, int niov)
{
	off_t end;
	int rc = jsonl_file_freeze(log->file, &end);
	bool frozen = !rc;

	if (jsonl_io_is_named(jsonl_file_fd(log->file), log->dir_fd, log->name, 0)) {
		if (!frozen)
			return rc;
		rc = niov ? jsonl_file_append_frozen(log->file, iov, niov, &log->user) : 0;
		jsonl_file_unfreeze(log->file);
		return rc;
	}
	/* Whatever is wrong with the old file does not matter: it was moved away. */
	if (frozen)
		jsonl_file_unfreeze(log->file);
	rc = log_follow(log);
	return rc ? rc : -EAGAIN;
}

/* Appends, repeatedly while that returns -EAGAIN. Without vectors it only repairs the end. */
static int append_patiently(struct jsonl_log *log, const struct iovec *iov, int niov)
{
	int rc, waited = 0;

	do {
		pthread_mutex_lock(&log->lock);
		rc = append_once(log, iov, niov);
		pthread_mutex_unlock(&log->lock);
	} while (jsonl_try_again(rc, &waited));
	return rc;
}

int jsonl_append(struct jsonl_log *log, const void *record, size_t len)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)record, .iov_len = len },
		{ .iov_base = "\n", .iov_len = 1 },
	};
	int rc = jsonl_validate(record, len, NULL);

	if (!rc && len >= JSONL_PROGRAM_RECORD)
		rc = JSONL_TOO_LONG;
	return rc ? rc : append_patiently(log, iov, 2);
}

int jsonl_sync(struct jsonl_log *log)
{
	int rc;

	pthread_rwlock_rdlock(&log->attached);
	rc = jsonl_file_sync(log->file, &log->user);
	pthread_rwlock_unlock(&log->attached);
	return rc;
}

void jsonl_close(struct jsonl_log *log)
{
	if (!log)
		return;
	jsonl_file_free(log->file);
	if (log->dir_fd >= 0)
		close(log->dir_fd);
	pthread_rwlock_destroy(&log->attached);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

int jsonl_append_record(const char *path, const void *record, size_t len)
{
	struct jsonl_log *log;
	int rc = jsonl_open(path, 0666, &log);

	if (rc)
		return rc;
	rc = jsonl_append(log, record, len);
	if (!rc)
		rc = jsonl_sync(log);
	jsonl_close(log);
	return rc;
}

int jsonl_repair_tail(const char *path)
{
	char name[NAME_MAX + 1] = "";
	int dir_fd = jsonl_open_directory(path, name);
	struct jsonl_log *log;
	int rc = log_new(dir_fd, name, 0, 0, false, &log);

	if (rc)
		return rc;
	rc = append_patiently(log, NULL, 0);
	jsonl_close(log);
	return rc;
}
