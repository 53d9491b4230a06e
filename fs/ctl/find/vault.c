/* SPDX-License-Identifier: MIT */
#include "ctl/find/vault.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/find/content.h"

#define STATE_NAME ".jsonlfs"

/* ---- reading the state ---- */

char *ctl_vault_read(const struct ctl_vault *v, const char *name, int *error)
{
	cleanup_free char *path = NULL;
	cleanup_close int fd = -1;
	size_t len;

	*error = v->mount ? -ENOMEM : -ENOENT;
	if (!v->mount)
		return NULL;
	if (v->part) {
		*error = -EXDEV;
		return NULL;
	}
	if (asprintf(&path, "%s/%s", STATE_NAME, name) < 0) {
		path = NULL;
		return NULL;
	}
	fd = ctl_open_file(v->root_fd, path, O_RDONLY, 0);
	*error = fd;
	return fd < 0 ? NULL : ctl_content_read(fd, &len, error);
}

int ctl_vault_state(const struct ctl_vault *v, const char *state)
{
	cleanup_close int fd = -1;
	struct ctl_spot s;
	int rc = 0;

	if (v->part && !state)
		return -EXDEV;

	if (state) {
		rc = ctl_spot_find(&s, state, &v->mounts, CTL_LINKS_OUTSIDE);
		if (rc < 0)
			return rc;
		fd = openat(s.dir, s.name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		rc = fd < 0 ? -errno : 0;
		ctl_spot_close(&s);
	} else {
		fd = ctl_open_beneath(v->root_fd, STATE_NAME, O_RDONLY | O_DIRECTORY, 0);
		rc = fd < 0 ? fd : 0;
	}
	if (rc < 0)
		return rc;
	/* In a mount the daemon vouches for it. */
	if (!(v->mount && !state) && !ctl_is_trusted(fd, NULL))
		return -EKEYREJECTED;
	return steal_fd(&fd);
}

/* ---- finding it ---- */

/* Returns the path of an open directory, as the kernel has it. To be freed; NULL out of
 * memory. */
static char *path_of(int fd)
{
	cleanup_free char *path = malloc(PATH_MAX);
	char link[64];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = path ? readlink(link, path, PATH_MAX - 1) : -1;
	if (n < 0)
		return NULL;
	path[n] = '\0';
	return steal_ptr(&path);
}

/* Returns `path` relative to `root`, which it begins with. */
static const char *below(const char *path, const char *root)
{
	size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

	if (strncmp(path, root, len) == 0)
		path += len;
	return path + (*path == '/');
}

/* Opens the root of a mounted vault. A bind mount shows a part of it only: then another
 * mount that shows all of it serves, if there is one. */
static int open_mounted(struct ctl_vault *v, char **inner, const char *dir)
{
	const struct ctl_mount *whole = ctl_mounts_whole(&v->mounts, v->mount);
	const struct ctl_mount *shown = whole ? whole : v->mount;
	const struct ctl_mount *opened;
	const char *rest = below(dir, v->mount->point);
	const char *part = whole ? below(v->mount->root, "/") : "";

	v->root_fd = open(shown->point, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (v->root_fd < 0)
		return -errno;
	opened = ctl_mounts_of(&v->mounts, v->root_fd);
	v->part = !whole || !opened || opened->dev != shown->dev;
	if (asprintf(inner, "%s%s%s", part, *part && *rest ? "/" : "", rest) < 0) {
		*inner = NULL;
		return -ENOMEM;
	}
	v->root = strdup(shown->point);
	return v->root ? 0 : -ENOMEM;
}

/* Opens the root of a bare vault; where there is no vault, the directory itself. */
static int open_bare(struct ctl_vault *v, char **inner, const char *dir)
{
	v->root_fd =
	    fcntl(v->spot.root >= 0 ? v->spot.root : v->spot.dir, F_DUPFD_CLOEXEC, 3);
	if (v->root_fd < 0)
		return -errno;
	v->is_vault = v->spot.root >= 0;
	v->root = path_of(v->root_fd);
	*inner = v->root ? strdup(below(dir, v->root)) : NULL;
	return *inner ? 0 : -ENOMEM;
}

static int name_it(struct ctl_vault *v, const char *inner)
{
	bool directory = strcmp(v->spot.name, ".") == 0;
	const char *slash = *inner ? "/" : "";

	if (asprintf(&v->prefix, "%s%s", inner, slash) < 0)
		v->prefix = NULL;
	if (asprintf(&v->name, "%s%s%s", inner, directory ? "" : slash,
		     directory ? "" : v->spot.name) < 0)
		v->name = NULL;
	return v->prefix && v->name ? 0 : -ENOMEM;
}

static int fill(struct ctl_vault *v, const char *path)
{
	cleanup_free char *dir = NULL;
	cleanup_free char *inner = NULL;
	cleanup_free char *text = NULL;
	int rc = ctl_mounts_read(&v->mounts);

	if (rc == 0)
		rc = ctl_spot_find(&v->spot, path, &v->mounts, CTL_LINKS_OUTSIDE);
	if (rc < 0)
		return rc;
	dir = path_of(v->spot.dir);
	if (!dir)
		return -errno;
	v->mount = ctl_mounts_of(&v->mounts, v->spot.dir);
	rc = v->mount ? open_mounted(v, &inner, dir) : open_bare(v, &inner, dir);
	if (rc == 0)
		rc = name_it(v, inner);
	if (rc < 0)
		return rc;
	text = ctl_vault_read(v, "status.json", &v->status_error);
	if (text) {
		v->status = jsonl_report_parse(text);
		v->status_error = v->status ? 0 : -EBADMSG;
	}
	return 0;
}

/* Returns true when the current directory is in a mount that was unmounted. The system
 * call says so, getcwd() of glibc does not. */
static bool is_unreachable(void)
{
	static const char mark[] = "(unreachable)";
	char cwd[PATH_MAX];

	return syscall(SYS_getcwd, cwd, sizeof(cwd)) > 0 &&
	       strncmp(cwd, mark, strlen(mark)) == 0;
}

int ctl_vault_place(const char *path, struct ctl_vault *v)
{
	int rc;

	*v = (struct ctl_vault){.root_fd = -1, .spot = {.dir = -1, .root = -1}};
	rc = path[0] != '/' && is_unreachable() ? -ENOTCONN : fill(v, path);
	if (rc < 0)
		ctl_vault_free(v);
	return rc;
}

int ctl_vault_find(const char *path, struct ctl_vault *v)
{
	int rc = ctl_vault_place(path, v);

	if (rc == 0 && v->spot.missing) {
		ctl_vault_free(v);
		return -ENOENT;
	}
	return rc;
}

void ctl_vault_free(struct ctl_vault *v)
{
	free(v->root);
	free(v->prefix);
	free(v->name);
	jsonl_report_free(v->status);
	if (v->root_fd >= 0)
		(void)close(v->root_fd);
	ctl_spot_close(&v->spot);
	ctl_mounts_free(&v->mounts);
	*v = (struct ctl_vault){.root_fd = -1, .spot = {.dir = -1, .root = -1}};
}

/* ---- what it holds ---- */

bool ctl_vault_is_directory(const struct ctl_vault *v)
{
	return strcmp(v->spot.name, ".") == 0;
}

int ctl_vault_open(const struct ctl_vault *v)
{
	if (ctl_vault_is_directory(v))
		return ctl_open_beneath(v->spot.dir, ".", O_RDONLY | O_DIRECTORY, 0);
	return ctl_open_file(v->spot.dir, v->spot.name, O_RDONLY, 0);
}

int ctl_vault_open_directory(const struct ctl_vault *v)
{
	return ctl_open_beneath(v->spot.dir, ".", O_RDONLY | O_DIRECTORY, 0);
}

int ctl_open_input(const char *path)
{
	struct ctl_vault v;
	int rc = ctl_vault_place(path, &v);

	if (rc < 0)
		return rc;
	/* A pipe that the shell has made (/dev/fd/N) cannot be found by names. */
	if (v.spot.missing && !v.mount && !v.is_vault) {
		rc = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
		rc = rc < 0 ? -errno : rc;
	} else {
		rc = ctl_vault_is_directory(&v) ? -EISDIR : ctl_vault_open(&v);
	}
	ctl_vault_free(&v);
	return rc;
}

bool ctl_vault_serves(const struct ctl_vault *v, int fd)
{
	struct stat st, root;

	return fstat(fd, &st) == 0 &&
	       fstatat(v->root_fd, "", &root, AT_EMPTY_PATH) == 0 &&
	       st.st_dev == root.st_dev;
}

bool ctl_vault_has_mount(const struct ctl_vault *v, int fd,
			 const struct ctl_mount **mount)
{
	*mount = ctl_mounts_of(&v->mounts, fd);
	return *mount != NULL;
}

void ctl_vault_refuse(const char *command, const char *path,
		      const struct ctl_mount *mount)
{
	bool itself = strcmp(mount->source, mount->point) == 0;

	if (mount->source[0] == '/' && !itself)
		ctl_error("%s: lies in a mount of jsonlfs, where `%s` may not change it: "
			  "unmount it (umount %s), or name the file below the backing "
			  "directory %s",
			  path, command, mount->point, mount->source);
	else
		ctl_error(
		    "%s: lies in a mount of jsonlfs, where `%s` may not change it: "
		    "unmount it (umount %s), run this again, and mount it as before",
		    path, command, mount->point);
}

const char *ctl_explain(const char *path, int rc)
{
	static char *mount_text;

	free(mount_text);
	mount_text = ctl_mounts_explain(path, rc);
	if (mount_text)
		return mount_text;
	switch (rc) {
	case -ELOOP:
		return "a symbolic link inside a vault, which anybody may have put "
		       "there, is "
		       "not followed: name the file itself";
	case -EXDEV:
		return "this is a part of a mount of jsonlfs (bind mount), whose root is "
		       "not "
		       "visible from here: run this where the whole vault is mounted, or "
		       "outside this container";
	case -EKEYREJECTED:
		return "the state directory (.jsonlfs) belongs to somebody else, or "
		       "others "
		       "can write to it, so that what is in it may be forged: nothing "
		       "was "
		       "done; do it as the user whom it belongs to";
	default:
		return jsonl_error_text(rc);
	}
}
