/* SPDX-License-Identifier: MIT */
#include "ctl/find/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "ctl/find/beneath.h"
#include "ctl/find/names.h"

#define OPEN_MAX_LEVELS 32 /* directories that are open at once, besides the first */

/* A path that grows and shrinks by names. */
struct text {
	char *s;
	size_t len, cap;
};

struct level {
	struct ctl_names names;
	size_t next;	    /* of them */
	bool directories;   /* the second pass, when files come first */
	size_t shown, path; /* lengths of both texts for this directory */
	dev_t dev;
	ino_t ino;
	int fd; /* -1: closed to keep few open */
};

struct walker {
	const struct ctl_walk *w;
	struct text shown, path; /* path: ends with a slash, or is empty */
	size_t prefix; /* bytes of path that are not below the first directory */
	struct level *levels;
	size_t depth, cap;
	int first; /* borrowed */
};

/* ---- paths ---- */

static int text_add(struct text *t, const char *s)
{
	size_t len = strlen(s);

	if (jsonl_grow(&t->s, &t->cap, t->len + len + 1, 1))
		return -ENOMEM;
	memcpy(t->s + t->len, s, len + 1);
	t->len += len;
	return 0;
}

static void text_cut(struct text *t, size_t len)
{
	t->len = len;
	t->s[len] = '\0';
}

static void show_level(struct walker *k, const struct level *l)
{
	text_cut(&k->shown, l->shown);
	text_cut(&k->path, l->path);
}

static int show_name(struct walker *k, const struct level *l, const char *name)
{
	int rc = 0;

	show_level(k, l);
	if (l->shown && k->shown.s[l->shown - 1] != '/')
		rc = text_add(&k->shown, "/");
	if (rc == 0)
		rc = text_add(&k->shown, name);
	return rc ? rc : text_add(&k->path, name);
}

/* ---- levels ---- */

/* Returns true when this entry needs a look. */
static int is_wanted(void *ctx, const char *name, unsigned char type)
{
	const struct ctl_walk *w = ctx;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	if (type == DT_DIR || type == DT_UNKNOWN)
		return strcmp(name, ".jsonlfs") != 0 && strcmp(name, ".git") != 0;
	if (type == DT_LNK)
		return w->link != NULL;
	return type == DT_REG && (w->every || jsonl_policy_may_govern(w->policy, name));
}

/* Goes down into the directory `fd`, which is taken over; its path is in both texts. The
 * whole directory is read first: no file is open for long, and the order is stable. */
static int push(struct walker *k, int fd)
{
	cleanup_close int owned = fd;
	struct level *l;
	struct stat st;
	int rc = jsonl_grow(&k->levels, &k->cap, k->depth + 1, sizeof(*k->levels));

	if (rc)
		return rc;
	l = &k->levels[k->depth];
	*l = (struct level){.shown = k->shown.len, .path = k->path.len};
	if (fstat(fd, &st) < 0)
		return -errno;
	rc = ctl_names_read(&l->names, fd, is_wanted, (void *)k->w);
	if (rc < 0)
		k->w->error(k->w->ctx, k->shown.s, rc);
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	l->fd = steal_fd(&owned);
	if (k->depth > OPEN_MAX_LEVELS && k->levels[k->depth - OPEN_MAX_LEVELS].fd >= 0)
		(void)close(steal_fd(&k->levels[k->depth - OPEN_MAX_LEVELS].fd));
	k->depth++;
	return 0;
}

static bool is_level(const struct level *l, int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == l->dev &&
	       st.st_ino == l->ino;
}

/* Opens the directory above `below` again: by "..", or by its path if `below` was moved
 * away meanwhile. */
static void reopen(struct walker *k, struct level *l, int below)
{
	cleanup_close int fd =
	    openat(below, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (!is_level(l, fd)) {
		if (fd >= 0)
			(void)close(steal_fd(&fd));
		show_level(k, l);
		if (l->path > k->prefix) {
			k->path.s[l->path - 1] = '\0';
			fd = ctl_open_beneath(k->first, k->path.s + k->prefix,
					      O_RDONLY | O_DIRECTORY, 0);
			k->path.s[l->path - 1] = '/';
		}
	}
	if (is_level(l, fd)) {
		l->fd = steal_fd(&fd);
		return;
	}
	k->w->error(k->w->ctx, k->shown.s, -ESTALE);
	ctl_names_free(&l->names);
	l->next = 0;
}

static void pop(struct walker *k)
{
	struct level *l = &k->levels[--k->depth];
	struct level *above = k->depth ? l - 1 : NULL;

	if (above && above->fd < 0)
		reopen(k, above, l->fd);
	if (l->fd >= 0)
		(void)close(l->fd);
	ctl_names_free(&l->names);
}

/* ---- entries ---- */

static int go_down(struct walker *k, int dir, const char *name)
{
	cleanup_close int fd =
	    openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		k->w->error(k->w->ctx, k->shown.s, -errno);
		return 0;
	}
	if (text_add(&k->path, "/") < 0)
		return -ENOMEM;
	return push(k, steal_fd(&fd));
}

static int visit(struct walker *k, const char *name)
{
	const struct ctl_walk *w = k->w;
	struct level *l = &k->levels[k->depth - 1];
	struct stat st;
	int rc = show_name(k, l, name);

	if (rc < 0)
		return rc;
	if (fstatat(l->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		/* Gone since its name was read: there is nothing to say. */
		if (errno != ENOENT)
			w->error(w->ctx, k->shown.s, -errno);
		return 0;
	}
	if (w->left && l->directories != S_ISDIR(st.st_mode))
		return 0;
	if (S_ISDIR(st.st_mode))
		return w->shallow ? 0 : go_down(k, l->fd, name);
	if (S_ISLNK(st.st_mode) && w->link)
		return w->link(w->ctx, l->fd, name, k->shown.s, k->path.s);
	if (S_ISREG(st.st_mode) &&
	    (w->every ||
	     jsonl_policy_classify(w->policy, k->path.s) == JSONL_CLASS_GOVERNED))
		return w->file(w->ctx, l->fd, name, k->shown.s, k->path.s, &st);
	return 0;
}

/* Ends the pass over a level, of which left() makes two: files, then directories. */
static void end_pass(struct walker *k, struct level *l)
{
	if (!k->w->left || l->directories) {
		pop(k);
		return;
	}
	show_level(k, l);
	if (l->fd >= 0)
		k->w->left(k->w->ctx, l->fd, k->shown.s);
	l->directories = true;
	l->next = 0;
}

static int run(struct walker *k)
{
	int rc = 0;

	while (rc == 0 && k->depth) {
		struct level *l = &k->levels[k->depth - 1];

		if (l->next < l->names.count)
			rc = visit(k, l->names.list[l->next++]);
		else
			end_pass(k, l);
	}
	/* Levels are left if it has ended early. */
	while (k->depth) {
		struct level *l = &k->levels[--k->depth];

		if (l->fd >= 0)
			(void)close(l->fd);
		ctl_names_free(&l->names);
	}
	return rc;
}

int ctl_walk(const struct ctl_walk *w, int fd, const char *shown, const char *prefix)
{
	struct walker k = {.w = w, .first = fd, .prefix = strlen(prefix)};
	int rc = text_add(&k.shown, shown), copy;

	if (rc == 0)
		rc = text_add(&k.path, prefix);
	if (rc == 0) {
		copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		rc = copy < 0 ? -errno : push(&k, copy);
	}
	if (rc == 0)
		rc = run(&k);
	free(k.levels);
	free(k.shown.s);
	free(k.path.s);
	return rc;
}
