/* The public functions, on top of file.c. What the file system keeps in its quarantine, a
 * program without it keeps beside the log. */
#include "jsonl.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "file.h"
#include "text.h"

#define LOG_MAXRECORD (16u << 20) /* bytes; of a torn tail that is judged */
#define LOG_MAXDEPTH  128
#define LOG_WAIT_MS   5000

struct jsonl_log {
	struct jsonl_file *file;
	int dir_fd;
	char name[NAME_MAX + 1];
	pthread_mutex_t lock; /* under it: */
	struct jsonl_file_user user;
};

int jsonl_validate(const void *line, size_t len, size_t *offset)
{
	const char *newline = memchr(line, '\n', len);
	struct jsonl_text text;
	int rc = jsonl_text_check(line, len, LOG_MAXDEPTH, &text);

	/* White space to JSON, but the end of the record to JSON Lines. */
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

/* Saves a torn tail beside the log, durably, before it is cut. */
static int log_set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
			 int niov, off_t at, uint64_t offset)
{
	const struct jsonl_io *io = &jsonl_io_system;
	struct jsonl_log *log = ctx;
	char name[NAME_MAX + 64], stamp[32];
	struct timespec now;
	struct stat st;
	struct tm tm;
	size_t written;
	int rc;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	snprintf(name, sizeof(name), "%.200s.torn-%s.%09ld", log->name, stamp, now.tv_nsec);
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
	/* A library prints nothing; what matters comes back as a code. */
}

static const struct jsonl_file_events log_events = {
	.set_aside = log_set_aside,
	.report = log_report,
};

/* Splits the path, opens its directory, and the log for reading and for appending. */
static int log_open_at(struct jsonl_log *log, const char *path, mode_t mode, int *read_fd,
		       int *append_fd, bool *created)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char dir[PATH_MAX];

	if (snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1,
		     slash ? path : ".") >= (int)sizeof(dir) ||
	    strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	snprintf(log->name, sizeof(log->name), "%s", name);
	log->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (log->dir_fd < 0)
		return -errno;
	*append_fd = openat(log->dir_fd, name,
			    O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	*created = *append_fd >= 0;
	if (*append_fd < 0 && errno == EEXIST)
		*append_fd = openat(log->dir_fd, name, O_RDWR | O_APPEND | O_CLOEXEC);
	if (*append_fd < 0)
		return -errno;
	*read_fd = openat(log->dir_fd, name, O_RDONLY | O_CLOEXEC);
	return *read_fd < 0 ? -errno : 0;
}

int jsonl_open(const char *path, mode_t mode, struct jsonl_log **out)
{
	const struct jsonl_file_options opt = {
		.maxrecord = LOG_MAXRECORD, .maxdepth = LOG_MAXDEPTH, .retain = true
	};
	struct jsonl_log *log = calloc(1, sizeof(*log));
	cleanup_close int read_fd = -1;
	cleanup_close int append_fd = -1;
	bool created = false;
	int rc;

	if (!log)
		return -ENOMEM;
	log->dir_fd = -1;
	pthread_mutex_init(&log->lock, NULL);
	rc = log_open_at(log, path, mode, &read_fd, &append_fd, &created);
	if (!rc)
		rc = jsonl_file_new(&jsonl_io_system, read_fd, &opt, &log_events, log,
				    &log->file);
	if (rc) {
		jsonl_close(log);
		return rc;
	}
	steal_fd(&read_fd);
	jsonl_file_set_append_fd(log->file, steal_fd(&append_fd), false);
	if (created) {
		int dir = fcntl(log->dir_fd, F_DUPFD_CLOEXEC, 0);

		if (dir >= 0)
			jsonl_file_set_directory(log->file, dir, &log->user);
	}
	*out = log;
	return 0;
}

static int append_patiently(struct jsonl_log *log, const struct iovec *iov, int niov)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	int rc;

	for (int waited = 0;; waited += 2) {
		pthread_mutex_lock(&log->lock);
		rc = jsonl_file_append(log->file, iov, niov, &log->user, NULL);
		pthread_mutex_unlock(&log->lock);
		if (rc != -EAGAIN || waited >= LOG_WAIT_MS)
			return rc;
		nanosleep(&pause, NULL);
	}
}

int jsonl_append(struct jsonl_log *log, const void *record, size_t len)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)record, .iov_len = len },
		{ .iov_base = "\n", .iov_len = 1 },
	};
	int rc = jsonl_validate(record, len, NULL);

	return rc ? rc : append_patiently(log, iov, 2);
}

int jsonl_sync(struct jsonl_log *log)
{
	return jsonl_file_sync(log->file, &log->user);
}

void jsonl_close(struct jsonl_log *log)
{
	if (!log)
		return;
	jsonl_file_free(log->file);
	if (log->dir_fd >= 0)
		close(log->dir_fd);
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
