#include "walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

struct names {
	char **list;
	size_t count, cap;
};

static void names_free(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
}

static int name_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int names_add(struct names *n, const char *name)
{
	if (n->count == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 64;
		void *grown = realloc(n->list, cap * sizeof(*n->list));

		if (!grown)
			return -ENOMEM;
		n->list = grown;
		n->cap = cap;
	}
	n->list[n->count] = strdup(name);
	return n->list[n->count] ? (n->count++, 0) : -ENOMEM;
}

/* Is there any use in looking at this entry? */
static bool is_wanted(const struct ctl_walk *w, const struct dirent *e)
{
	if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
		return false;
	if (e->d_type == DT_DIR || e->d_type == DT_UNKNOWN)
		return strcmp(e->d_name, ".jsonlfs") != 0 &&
		       strcmp(e->d_name, ".git") != 0;
	return e->d_type == DT_REG && jsonl_policy_may_govern(w->policy, e->d_name);
}

/* Reads the whole directory first: no file is open for long, and the order is stable. */
static int read_names(const struct ctl_walk *w, int fd, struct names *names)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	int rc = 0;

	if (!dir) {
		rc = -errno;
		if (copy >= 0)
			close(copy);
		return rc;
	}
	do {
		errno = 0;
		/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
		e = readdir(dir);
		if (e && is_wanted(w, e))
			rc = names_add(names, e->d_name);
		else if (!e && errno)
			rc = -errno;
	} while (e && rc == 0);
	closedir(dir);
	if (names->count)
		qsort(names->list, names->count, sizeof(*names->list), name_order);
	return rc;
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
		if (jsonl_policy_classify(w->policy, path) == JSONL_CLASS_GOVERNED)
			rc = w->file(w->ctx, fd, name, shown, &st);
	} else if (S_ISDIR(st.st_mode)) {
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
	struct names names = {0};
	int rc = read_names(w, fd, &names);

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
	names_free(&names);
	return rc;
}

int ctl_walk(const struct ctl_walk *w, const char *path, const char *prefix)
{
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : walk_directory(w, fd, path, prefix);
}
