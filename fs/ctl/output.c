/* SPDX-License-Identifier: MIT */
#include "ctl/output.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/find/vault.h"

#define TRIES 100 /* random names for the new file */

static const char *explain(const char *path, int rc)
{
	switch (rc) {
	case -EINVAL:
		return "is there and no regular file: name another";
	case -EPERM:
		return "its directory belongs to somebody else, or everybody can write "
		       "to "
		       "it: name a file in a directory of root's or of the vault's "
		       "owner, "
		       "as /var/lib/jsonlfs/check.json";
	case -ENOENT:
		return "there is no such directory: make it first";
	case -ELOOP:
		return "a symbolic link on the way lies in a vault, or is somebody "
		       "else's: "
		       "name the place itself";
	default:
		return ctl_explain(path, rc);
	}
}

static uid_t owner_of(const char *vault)
{
	uid_t owner = 0;
	struct ctl_vault v;
	struct stat st;

	if (vault && ctl_vault_find(vault, &v) == 0) {
		if (fstatat(v.root_fd, "", &st, AT_EMPTY_PATH) == 0)
			owner = st.st_uid;
		ctl_vault_free(&v);
	}
	return owner;
}

/* Refuses a directory in which other users could put a file of theirs in place of the new
 * one. In a sticky directory they cannot. */
static int judge_directory(int dir, uid_t owner)
{
	struct stat st;

	if (fstat(dir, &st) < 0)
		return -errno;
	if (st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != owner)
		return -EPERM;
	return (st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX) ? -EPERM : 0;
}

static int judge_name(const struct ctl_output *o)
{
	struct stat st;

	if (fstatat(o->dir, o->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	return S_ISREG(st.st_mode) ? 0 : -EINVAL;
}

static int find_directory(struct ctl_output *o, uid_t owner)
{
	struct ctl_mounts mounts;
	struct ctl_spot s;
	int rc = ctl_mounts_read(&mounts);

	if (rc == 0)
		rc = ctl_spot_find(&s, o->path, &mounts, CTL_LINKS_OWN);
	if (rc == 0) {
		o->dir = ctl_open_beneath(s.dir, ".", O_RDONLY | O_DIRECTORY, 0);
		rc = o->dir < 0 ? o->dir : 0;
		(void)snprintf(o->name, sizeof(o->name), "%s", s.name);
		ctl_spot_close(&s);
	}
	ctl_mounts_free(&mounts);
	if (rc == 0)
		rc = strcmp(o->name, ".") == 0 ? -EISDIR : judge_directory(o->dir, owner);
	return rc ? rc : judge_name(o);
}

/* Creates the file under a random name, which nobody can have taken on purpose. */
static int make_file(struct ctl_output *o)
{
	unsigned long long number;
	int fd = -EEXIST;

	for (int i = 0; i < TRIES && fd == -EEXIST; i++) {
		if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
			return -EIO;
		(void)snprintf(o->temp, sizeof(o->temp), ".%.200s.new-%016llx", o->name,
			       number);
		fd = openat(o->dir, o->temp,
			    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
		fd = fd < 0 ? -errno : fd;
	}
	return fd;
}

int ctl_output_begin(struct ctl_output *o, const char *path, const char *vault)
{
	cleanup_close int fd = -1;
	int rc;

	*o = (struct ctl_output){.path = path, .dir = -1, .saved = -1};
	if (!path)
		return 0;
	rc = find_directory(o, owner_of(vault));
	if (rc == 0)
		rc = fd = make_file(o);
	if (rc >= 0) {
		(void)fflush(stdout);
		o->saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		rc = dup2(fd, STDOUT_FILENO) < 0 ? -errno : 0;
	}
	if (rc == 0)
		return 0;
	ctl_error("%s: %s", path, explain(path, rc));
	if (fd >= 0)
		(void)unlinkat(o->dir, o->temp, 0);
	if (o->dir >= 0)
		(void)close(steal_fd(&o->dir));
	return CTL_FAILURE;
}

static int settle(const struct ctl_output *o)
{
	if (fflush(stdout) != 0 || ferror(stdout) || fsync(STDOUT_FILENO) < 0)
		return errno ? -errno : -EIO;
	if (renameat(o->dir, o->temp, o->dir, o->name) < 0 || fsync(o->dir) < 0)
		return -errno;
	return 0;
}

int ctl_output_end(struct ctl_output *o, int code)
{
	int rc;

	if (!o->path)
		return code;
	rc = code & CTL_USAGE ? 0 : settle(o);
	if (code & CTL_USAGE || rc < 0)
		(void)unlinkat(o->dir, o->temp, 0);
	if (rc < 0) {
		ctl_error("%s: %s: the report was not written, an earlier one stays",
			  o->path, jsonl_error_text(rc));
		code |= CTL_FAILURE;
		clearerr(stdout);
	}
	if (o->saved >= 0) {
		(void)fflush(stdout);
		(void)dup2(o->saved, STDOUT_FILENO);
		(void)close(steal_fd(&o->saved));
	}
	(void)close(steal_fd(&o->dir));
	return code;
}
