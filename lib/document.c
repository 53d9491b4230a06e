/* SPDX-License-Identifier: MIT */
/* Replaces whole files, and reads them with a fallback for damaged ones. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jsonl.h"
#include "jsonl_internal.h"
#include "file/replace.h"
#include "json/text.h"

#define DOCUMENT_MAX (256L << 20) /* bytes */

/* Opens the directory of the file that the path leads to; `name`: of the file in it.
 * *real, to be freed: the path without symbolic links, or the path itself if the file
 * does not exist. Returns a descriptor or -errno. */
static int open_place(const char *path, char **real, char name[NAME_MAX + 1])
{
	*real = realpath(path, NULL);
	if (!*real)
		*real = strdup(path);
	return *real ? jsonl_open_directory(*real, name) : -ENOMEM;
}

/* Opens a file and takes its lock. Returns the descriptor; -EAGAIN: another program holds
 * the lock, or the name stands for another file by now; -errno. */
static int open_locked(int dir_fd, const char *name)
{
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	rc = jsonl_io_system.trylock(&jsonl_io_system, fd);
	if (rc)
		return rc == -EWOULDBLOCK || rc == -EINTR ? -EAGAIN : rc;
	return jsonl_io_is_named(fd, dir_fd, name, 0) ? steal_fd(&fd) : -EAGAIN;
}

static int replace_once(int dir_fd, const char *name, const void *data, size_t len,
			mode_t mode)
{
	const struct jsonl_io *io = &jsonl_io_system;
	cleanup_close int old_fd = open_locked(dir_fd, name);
	struct jsonl_replace r;
	int rc;

	if (old_fd < 0 && old_fd != -ENOENT)
		return old_fd;
	rc = old_fd < 0 ? jsonl_replace_begin_new(&r, io, dir_fd, name, mode)
			: jsonl_replace_begin(&r, io, dir_fd, name, old_fd);
	if (rc)
		return rc;
	r.new_times = true;
	rc = jsonl_replace_write(&r, data, len);
	if (rc) {
		jsonl_replace_abort(&r);
		return rc;
	}
	rc = jsonl_replace_commit(&r, old_fd < 0 ? RENAME_NOREPLACE : 0);
	/* Another program has created it meanwhile: the next attempt replaces that
	 * one. */
	return rc == -EEXIST ? -EAGAIN : rc;
}

int jsonl_replace_file(const char *path, const void *data, size_t len, mode_t mode)
{
	cleanup_free char *real = NULL;
	char name[NAME_MAX + 1];
	cleanup_close int dir_fd = open_place(path, &real, name);
	int rc, waited = 0;

	if (dir_fd < 0)
		return dir_fd;
	do {
		rc = replace_once(dir_fd, name, data, len, mode);
	} while (jsonl_try_again(rc, &waited));
	return rc;
}

/* ---- loading ---- */

/* Reads the whole file and appends a NUL. 0 or -errno. */
static int read_all(int fd, char **text, size_t *len)
{
	cleanup_free char *bytes = NULL;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size >= DOCUMENT_MAX)
		return -EFBIG;
	bytes = malloc((size_t)st.st_size + 1);
	if (!bytes)
		return -ENOMEM;
	n = jsonl_io_read_full(&jsonl_io_system, fd, bytes, (size_t)st.st_size, 0);
	if (n < 0)
		return (int)n;
	bytes[n] = '\0';
	*len = (size_t)n;
	*text = steal_ptr(&bytes);
	return 0;
}

static int use_fallback(const char *fallback, char **text, size_t *len)
{
	*text = strdup(fallback);
	*len = strlen(fallback);
	return *text ? 0 : -ENOMEM;
}

/* Gives the locked file another name, durably; *aside: its new path. */
static int move_aside(int dir_fd, const char *path, const char *name, char **aside)
{
	const char *slash = strrchr(path, '/');
	char bad[NAME_MAX + 1];
	int rc;

	jsonl_stamped_name(bad, name, "bad");
	rc = jsonl_io_system.renameat(&jsonl_io_system, dir_fd, name, dir_fd, bad,
				      RENAME_NOREPLACE);
	if (rc == 0)
		rc = jsonl_io_system.fsync(&jsonl_io_system, dir_fd);
	if (rc == 0 && aside &&
	    asprintf(aside, "%.*s%s", slash ? (int)(slash - path) + 1 : 0, path, bad) <
		0) {
		*aside = NULL;
		rc = -ENOMEM;
	}
	return rc;
}

static int load_once(int dir_fd, const char *path, const char *name, const char *fallback,
		     char **text, size_t *len, char **aside)
{
	cleanup_free char *bytes = NULL;
	cleanup_close int fd = open_locked(dir_fd, name);
	struct jsonl_text unused;
	int verdict, rc;

	if (fd == -ENOENT)
		return use_fallback(fallback, text, len);
	if (fd < 0)
		return fd;
	rc = read_all(fd, &bytes, len);
	if (rc < 0)
		return rc;
	verdict = jsonl_text_check(bytes, *len, JSONL_PROGRAM_DEPTH, &unused);
	if (verdict == JSONL_OK) {
		*text = steal_ptr(&bytes);
		return 0;
	}
	rc = move_aside(dir_fd, path, name, aside);
	if (rc == 0)
		rc = use_fallback(fallback, text, len);
	return rc ? rc : verdict;
}

int jsonl_load(const char *path, const char *fallback, char **text, size_t *len,
	       char **aside)
{
	cleanup_free char *real = NULL;
	char name[NAME_MAX + 1];
	cleanup_close int dir_fd = open_place(path, &real, name);
	size_t unused;
	int rc, waited = 0;

	*text = NULL;
	if (aside)
		*aside = NULL;
	if (dir_fd < 0)
		return dir_fd;
	do {
		rc = load_once(dir_fd, real, name, fallback, text, len ? len : &unused,
			       aside);
	} while (jsonl_try_again(rc, &waited));
	return rc;
}
