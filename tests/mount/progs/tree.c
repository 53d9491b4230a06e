/* SPDX-License-Identifier: MIT */
/* A directory tree as text, one line a file, with everything that must be equal on two
 * sides: a library for differ.py, because it is asked for after every operation.
 * Attributes: mode, owner, size, links, device, time of change if it was set, target or
 * content, extended attributes, and with which other name an inode
 * is shared. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* What tree_describe looks at beyond lstat. */
#define TREE_ATTRIBUTES 1 /* extended attributes and targets of links */
#define TREE_CONTENT	2 /* hash */
#define TREE_HOLES	4 /* and where the data lies */
#define TREE_REMEMBER	8 /* what was said of a file whose change time is the same */

#define TREE_ALL_TIMES INT64_MAX /* as clock: the times of pipes, too */

#define TREE_FILES 4096
/* Change times are taken from a clock that stands still between two ticks (4 or 10 ms): a
 * file that was looked at this much later has no later change with the same time. */
#define TREE_TICK INT64_C(50000000) /* ns */

/* What was said of a file, by inode; a newer one takes the place of an older. */
static struct memory {
	dev_t dev;
	ino_t ino;
	int64_t changed; /* its change time, ns */
	int flags;
	char *text;
} memories[8192];

struct tree {
	FILE *out;
	char *text; /* of out */
	size_t size;
	int flags;
	int64_t clock; /* times from here on (ns) are "now" */
	const char *skip; /* in the top directory */
	unsigned count;
	struct {
		dev_t dev;
		ino_t ino;
		unsigned line;
	} seen[TREE_FILES];
};

static void put_text(FILE *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c > ' ' && c < 0x7f && c != '%')
			putc(c, out);
		else
			fprintf(out, "%%%02x", c);
	}
}

static uint64_t mix(uint64_t hash, const unsigned char *data, size_t len)
{
	uint64_t word = 0;

	for (; len >= 8; data += 8, len -= 8) {
		memcpy(&word, data, 8);
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 29;
	}
	word = len;
	memcpy(&word, data, len);
	return (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
}

/* Only the data between holes is read. In the hash, blocks of nothing but zeros count as
 * holes: what is preallocated is one or the other, by what the page cache happens to hold. */
static void put_content(struct tree *t, const char *path, off_t size)
{
	static const unsigned char zeros[4096];
	static unsigned char block[4096];
	uint64_t hash = 0;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	off_t at = 0, end;
	ssize_t n;

	if (fd < 0) {
		fprintf(t->out, " open:%d", errno);
		return;
	}
	while (at < size && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		if (t->flags & TREE_HOLES)
			fprintf(t->out, " %lld-%lld", (long long)at, (long long)end);
		for (at -= at % 4096; at < end; at += 4096) {
			n = pread(fd, block, sizeof(block), at);
			if (n <= 0) {
				fprintf(t->out, " read:%d", n ? errno : 0);
				goto out;
			}
			if (memcmp(block, zeros, (size_t)n) == 0)
				continue;
			hash = mix(hash ^ (uint64_t)at, block, (size_t)n);
		}
	}
	fprintf(t->out, " content:%016" PRIx64, hash);
out:
	close(fd);
}

static void put_attributes(struct tree *t, const char *path)
{
	static char names[65536], value[65536];
	static const char *sorted[256];
	ssize_t len = llistxattr(path, names, sizeof(names)), n;
	unsigned count = 0;

	if (len < 0)
		fprintf(t->out, " listxattr:%d", errno);
	for (char *p = names; p < names + len && count < 256; p += strlen(p) + 1) {
		unsigned at = count++;

		for (; at && strcmp(sorted[at - 1], p) > 0; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = p;
	}
	for (unsigned i = 0; i < count; i++) {
		n = lgetxattr(path, sorted[i], value, sizeof(value));
		fprintf(t->out, " %s=", sorted[i]);
		if (n < 0)
			fprintf(t->out, "!%d", errno);
		else if (n <= 64)
			put_text(t->out, value, (size_t)n);
		else
			fprintf(t->out, "%zd:%016" PRIx64, n,
				mix(0, (unsigned char *)value, (size_t)n));
	}
}

static void put_sharing(struct tree *t, const struct stat *st)
{
	unsigned i;

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return;
	for (i = 0; i < t->count; i++) {
		if (t->seen[i].dev == st->st_dev && t->seen[i].ino == st->st_ino)
			break;
	}
	if (i == t->count && i < TREE_FILES) {
		t->seen[i].dev = st->st_dev;
		t->seen[i].ino = st->st_ino;
		t->count++;
	}
	fprintf(t->out, " inode:%u", i);
}

static void put_status(struct tree *t, const struct stat *st)
{
	int64_t time = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;

	fprintf(t->out, " %o %u:%u links:%lu", st->st_mode, st->st_uid, st->st_gid,
		(unsigned long)st->st_nlink);
	if (!S_ISDIR(st->st_mode))
		fprintf(t->out, " size:%lld", (long long)st->st_size);
	if (st->st_rdev)
		fprintf(t->out, " dev:%u:%u", major(st->st_rdev), minor(st->st_rdev));
	/* What goes through a pipe is stamped in the kernel's inode alone. */
	if (t->clock == TREE_ALL_TIMES || (time < t->clock && !S_ISFIFO(st->st_mode)))
		fprintf(t->out, " time:%lld", (long long)time);
}

static void put_detail(struct tree *t, const char *path, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n;

	if (t->flags & TREE_ATTRIBUTES && S_ISLNK(st->st_mode)) {
		n = readlink(path, target, sizeof(target));
		fputs(" -> ", t->out);
		put_text(t->out, target, n < 0 ? 0 : (size_t)n);
	}
	if (t->flags & TREE_CONTENT && S_ISREG(st->st_mode))
		put_content(t, path, st->st_size);
	if (t->flags & TREE_ATTRIBUTES)
		put_attributes(t, path);
}

/* put_detail, or what it put when it was last asked about the same state of the file. Of a
 * mount this would say nothing: only a local file system stamps every change. */
static void put_remembered(struct tree *t, const char *path, const struct stat *st)
{
	struct memory *m = &memories[st->st_ino % (sizeof(memories) / sizeof(*memories))];
	int64_t changed = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
	struct timespec now;
	long at;

	if (m->text && m->dev == st->st_dev && m->ino == st->st_ino && m->changed == changed &&
	    m->flags == t->flags) {
		fputs(m->text, t->out);
		return;
	}
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	at = ftell(t->out);
	put_detail(t, path, st);
	if ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec - changed < TREE_TICK ||
	    fflush(t->out))
		return;
	free(m->text);
	m->text = strdup(t->text + at);
	m->dev = st->st_dev;
	m->ino = st->st_ino;
	m->changed = changed;
	m->flags = t->flags;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void visit(struct tree *t, char *path, size_t len, size_t top);

static void visit_children(struct tree *t, char *path, size_t len, size_t top)
{
	struct dirent **list;
	int n = scandir(path, &list, NULL, by_name);

	if (n < 0) {
		fprintf(t->out, "scandir:%d\n", errno);
		return;
	}
	for (int i = 0; i < n; i++) {
		const char *name = list[i]->d_name;
		size_t more = strlen(name);

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
		    (len > top || strcmp(name, t->skip) != 0) && len + more + 2 < PATH_MAX) {
			path[len] = '/';
			memcpy(path + len + 1, name, more + 1);
			visit(t, path, len + 1 + more, top);
			path[len] = 0;
		}
		free(list[i]);
	}
	free(list);
}

static void visit(struct tree *t, char *path, size_t len, size_t top)
{
	struct stat st;

	put_text(t->out, path + top, len - top);
	if (lstat(path, &st)) {
		fprintf(t->out, " lstat:%d\n", errno);
		return;
	}
	if (len > top)
		put_status(t, &st);
	put_sharing(t, &st);
	if (t->flags & TREE_REMEMBER)
		put_remembered(t, path, &st);
	else
		put_detail(t, path, &st);
	putc('\n', t->out);
	if (S_ISDIR(st.st_mode))
		visit_children(t, path, len, top);
}

/* The text is the caller's to free. */
char *tree_describe(const char *root, const char *skip, int64_t clock, int flags)
{
	static struct tree t; /* for one caller at a time */
	static char path[PATH_MAX + 256];
	size_t len = strlen(root);

	if (len + 256 > PATH_MAX)
		return NULL;
	memcpy(path, root, len + 1);
	t.flags = flags;
	t.clock = clock;
	t.skip = skip;
	t.count = 0;
	t.out = open_memstream(&t.text, &t.size);
	if (!t.out)
		return NULL;
	visit(&t, path, len, len);
	return fclose(t.out) ? NULL : t.text;
}
