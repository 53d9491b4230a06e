/* SPDX-License-Identifier: MIT */
/* jsonlfsctl rotate: gives a log the name of a generation and puts an empty one in its
 * place. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "base/stamp.h"
#include "ctl/find/names.h"
#include "ctl/find/vault.h"
#include "file/replace.h"
#include "match/generation.h"

#define STAMP_LEN 26 /* of ".20261120T101112.123456789", without the Z */

struct work {
	int dir_fd, fd;
	const char *name;
	char generation[NAME_MAX + 1];
	struct stat st;
};

static int name_generation(struct work *w)
{
	char stamp[JSONL_STAMP];

	jsonl_stamp_name_now(stamp);
	return snprintf(w->generation, sizeof(w->generation), "%s.%s", w->name, stamp) >
		       NAME_MAX
		   ? -ENAMETOOLONG
		   : 0;
}

static int is_ours(void *ctx, const char *name, unsigned char type)
{
	const struct work *w = ctx;
	size_t len = strlen(w->name);

	return strncmp(name, w->name, len) == 0 && name[len] == '.' &&
	       strlen(name) == len + STAMP_LEN + 1 && name[len + STAMP_LEN] == 'Z';
}

/* Finds the second name that a killed rotation has left the log with. This one goes on
 * with that name: by a third one the records would be there twice. 1, 0: there is none,
 * or -errno. */
static int find_generation(struct work *w)
{
	struct ctl_names names = {0};
	int rc = ctl_names_read(&names, w->dir_fd, is_ours, w), found = 0;
	struct stat st;

	for (size_t i = 0; rc == 0 && !found && i < names.count; i++) {
		found =
		    fstatat(w->dir_fd, names.list[i], &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    st.st_ino == w->st.st_ino && st.st_dev == w->st.st_dev;
		if (found)
			(void)snprintf(w->generation, sizeof(w->generation), "%s",
				       names.list[i]);
	}
	ctl_names_free(&names);
	return rc ? rc : found;
}

/* Rotates on a bare vault: gives the log the generation's name besides its own, then
 * replaces its own by the empty file in one step, so that there always is a log. */
static int rotate_linked(struct work *w)
{
	struct jsonl_replace r;
	struct stat named;
	int linked = w->st.st_nlink > 1 ? find_generation(w) : 0, rc;

	if (linked < 0)
		return linked;
	rc = jsonl_replace_begin(&r, &jsonl_io_system, w->dir_fd, w->name, w->fd);
	if (rc < 0)
		return rc;
	rc = jsonl_replace_prepare(&r);
	if (rc == 0 && fstatat(w->dir_fd, w->name, &named, AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	if (rc == 0 && (named.st_ino != w->st.st_ino || named.st_dev != w->st.st_dev))
		rc = -ESTALE;
	if (rc == 0 && !linked &&
	    linkat(w->dir_fd, w->name, w->dir_fd, w->generation, 0) < 0)
		rc = -errno;
	if (rc < 0) {
		jsonl_replace_abort(&r);
		return rc;
	}
	rc = jsonl_replace_commit(&r, 0);
	if (rc < 0 && !r.renamed)
		(void)unlinkat(w->dir_fd, w->generation, 0);
	return rc;
}

/* Rotates in a mount, where a log has one name only, so that for a moment there is no
 * log. The new file is complete before that: until it has its ACL, its mode alone could
 * admit the wrong users. */
static int rotate_renamed(struct work *w)
{
	struct jsonl_replace r;
	int rc = jsonl_replace_begin(&r, &jsonl_io_system, w->dir_fd, w->name, w->fd);

	if (rc < 0)
		return rc;
	rc = jsonl_replace_prepare(&r);
	if (rc == 0 &&
	    renameat2(w->dir_fd, w->name, w->dir_fd, w->generation, RENAME_NOREPLACE) < 0)
		rc = -errno;
	if (rc < 0) {
		jsonl_replace_abort(&r);
		return rc;
	}
	rc = jsonl_replace_commit(&r, RENAME_NOREPLACE);
	/* A program has created a log meanwhile, which stays. */
	if (rc == -EEXIST)
		return jsonl_replace_settle(&r);
	if (rc < 0 && !r.renamed)
		(void)renameat2(w->dir_fd, w->generation, w->dir_fd, w->name,
				RENAME_NOREPLACE);
	return rc;
}

static int rotate(struct work *w, bool inside)
{
	int rc = inside ? 0 : fs_lock_wait(w->fd, FS_LOCK_MS);

	if (rc == 0 && fstat(w->fd, &w->st) < 0)
		rc = -errno;
	if (rc == 0 && !S_ISREG(w->st.st_mode))
		rc = -EINVAL;
	if (rc < 0 || w->st.st_size == 0)
		return rc;
	rc = name_generation(w);
	if (rc < 0)
		return rc;
	if (inside)
		return rotate_renamed(w);
	rc = rotate_linked(w);
	/* Not every file system has hard links. */
	return rc == -EPERM || rc == -EOPNOTSUPP ? rotate_renamed(w) : rc;
}

static const char *explain(const char *path, int rc)
{
	switch (rc) {
	case -EWOULDBLOCK:
		return "another program holds its lock for five seconds now: rotate "
		       "again when that has ended";
	case -EINVAL:
		return "not a regular file";
	case -ESTALE:
		return "was replaced by another program at this moment: rotate again";
	case -EACCES:
	case -EPERM:
		return "permission denied: rotate as the owner of the file and of its "
		       "directory, or as root";
	default:
		return ctl_explain(path, rc);
	}
}

static void tell(const struct work *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;

	if (w->st.st_size == 0) {
		(void)ctl_print_name(stdout, path);
		puts(": is empty: not rotated");
		return;
	}
	(void)ctl_print_name(stdout, dir ? dir : "");
	(void)ctl_print_name(stdout, w->generation);
	putchar('\n');
}

static int rotate_in(const struct ctl_vault *v, const char *path, bool quiet)
{
	cleanup_close int dir = ctl_vault_open_directory(v);
	cleanup_close int fd = ctl_vault_is_directory(v) ? -EINVAL : ctl_vault_open(v);
	struct work w = {.dir_fd = dir, .fd = fd, .name = v->spot.name};
	int rc = dir < 0 ? dir : fd < 0 ? fd : rotate(&w, v->mount);

	if (rc < 0) {
		ctl_error("%s: %s", path, explain(path, rc));
		return CTL_FAILURE;
	}
	if (!quiet)
		tell(&w, path);
	return 0;
}

static bool has_a_stem(void *ctx, size_t stem)
{
	return stem > 0;
}

static int rotate_path(const char *path, bool quiet)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	struct ctl_vault v;
	int rc, code;

	if (jsonl_generation_stems(name, strlen(name), has_a_stem, NULL)) {
		ctl_error("%s: is a generation already: name the live file", path);
		return CTL_FAILURE;
	}
	rc = ctl_vault_find(path, &v);
	if (rc < 0) {
		ctl_error("%s: %s", path, explain(path, rc));
		return CTL_FAILURE;
	}
	code = rotate_in(&v, path, quiet);
	ctl_vault_free(&v);
	return code;
}

static int rotate_run(int argc, char **argv)
{
	int i = 0, out = 1, code = 0;
	bool quiet = false;

	while ((i = ctl_next_option(argc, argv, i + 1, &out)) < argc) {
		if (strcmp(argv[i], "--quiet") == 0 || strcmp(argv[i], "-q") == 0)
			quiet = true;
		else
			return ctl_usage(&ctl_rotate, "unknown option %s", argv[i]);
	}
	if (out == 1)
		return ctl_usage(&ctl_rotate, "a file is missing");
	for (i = 1; i < out; i++)
		code |= rotate_path(argv[i], quiet);
	return code;
}

const struct ctl_command ctl_rotate = {
    .name = "rotate",
    .run = rotate_run,
    .synopsis = "[-q|--quiet] FILE...",
    .summary = "give a log the name of a generation, and begin a new one",
    .help =
	"\n"
	"FILE becomes FILE.YYYYMMDDTHHMMSS.NANOSECONDSZ (UTC), and an empty file with\n"
	"its mode and owner takes its place; the directory is synced. The new name is\n"
	"printed. Works in mounted and in unmounted vaults. In an unmounted one it\n"
	"waits for the file's lock, up to five seconds, and there is always a FILE.\n"
	"Programs that have the file open go on writing to the generation until they\n"
	"open it again. An empty file is left alone.\n"
	"\n"
	"  -q, --quiet  print nothing but errors\n"
	"\n"
	"Exit status: 0, 8 a file could not be rotated, 16 wrong usage.",
};
