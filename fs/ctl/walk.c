#include "walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "names.h"

/* Is there any use in looking at this entry? */
static int is_wanted(void *ctx, const char *name, unsigned char type)
{
	const struct ctl_walk *w = ctx;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	if (type == DT_DIR || type == DT_UNKNOWN)
		return strcmp(name, ".jsonlfs") != 0 && strcmp(name, ".git") != 0;
	return type == DT_REG && (w->every || jsonl_policy_may_govern(w->policy, name));
}

static int walk_directory(const struct ctl_walk *w, int fd, const char *shown,
			  const char *path);

static int walk_entry(const struct ctl_walk *w, int fd, const char *name,
		      const char *shown, const char *path)
{
	struct stat st;
	int rc = 0;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		/* Gone since its name was read: there is nothing to say. */
		if (errno != ENOENT)
			w->error(w->ctx, shown, -errno);
		return 0;
	}
	if (S_ISREG(st.st_mode)) {
		if (w->every ||
		    jsonl_policy_classify(w->policy, path) == JSONL_CLASS_GOVERNED)
			rc = w->file(w->ctx, fd, name, shown, path, &st);
	} else if (S_ISDIR(st.st_mode) && !w->shallow) {
		cleanup_free char *below = NULL;
		cleanup_close int sub =
		    openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (asprintf(&below, "%s/", path) < 0) {
			below = NULL;
			return -ENOMEM;
		}
		if (sub < 0)
			w->error(w->ctx, shown, -errno);
		else
			rc = walk_directory(w, sub, shown, below);
	}
	return rc;
}

/* `path` is empty or ends with a slash. */
static int walk_directory(const struct ctl_walk *w, int fd, const char *shown,
			  const char *path)
{
	const char *slash = shown[0] && shown[strlen(shown) - 1] == '/' ? "" : "/";
	struct ctl_names names = {0};
	/* The whole directory first: no file is open for long, and the order is stable.
	 */
	int rc = ctl_names_read(&names, fd, is_wanted, (void *)w);

	if (rc < 0) {
		w->error(w->ctx, shown, rc);
		rc = 0;
	}
	for (size_t i = 0; i < names.count && rc == 0; i++) {
		cleanup_free char *sub_shown = NULL;
		cleanup_free char *sub_path = NULL;

		if (asprintf(&sub_shown, "%s%s%s", shown, slash, names.list[i]) < 0)
			sub_shown = NULL;
		if (asprintf(&sub_path, "%s%s", path, names.list[i]) < 0)
			sub_path = NULL;
		rc = sub_shown && sub_path
			 ? walk_entry(w, fd, names.list[i], sub_shown, sub_path)
			 : -ENOMEM;
	}
	ctl_names_free(&names);
	return rc;
}

int ctl_walk(const struct ctl_walk *w, const char *path, const char *prefix)
{
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : walk_directory(w, fd, path, prefix);
}
