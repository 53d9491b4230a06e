/* SPDX-License-Identifier: MIT */
/* Keeps the intent of a block in an attribute of the log: see commit.h. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/commit_internal.h"
#include "base/hash.h"

#define MARK_MAGIC UINT32_C(0x4d4c534a)

static uint64_t mark_check(const struct mark *m, ino_t ino)
{
	struct mark copy = *m;

	/* The sum includes the inode number: a copy of the file may have the attribute,
	 * too. */
	copy.check = (uint64_t)ino;
	return jsonl_hash(JSONL_HASH_START, &copy, sizeof(copy));
}

static bool is_white(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Returns the length of the first value, without white space behind it. `len`: of its
 * line. */
static size_t value_length(const char *line, size_t len)
{
	while (len && is_white(line[len - 1]))
		len--;
	return len;
}

int jsonl_commit_mark_set(struct jsonl_file *f, const char *block, size_t len)
{
	const char *end = memchr(block, '\n', len);
	struct mark m = {.magic = MARK_MAGIC, .before = (uint64_t)f->end, .length = len};
	struct stat st;
	int rc = f->io->fstat(f->io, f->append_fd, &st);

	if (rc)
		return rc;
	m.first_len = (uint32_t)value_length(block, end ? (size_t)(end - block) : len);
	m.first_sum = jsonl_hash(JSONL_HASH_START, block, m.first_len);
	m.sum = jsonl_hash(JSONL_HASH_START, block, len);
	m.check = mark_check(&m, st.st_ino);
	return f->io->mark(f->io, f->append_fd, &m, sizeof(m));
}

int jsonl_commit_mark_read(struct jsonl_file *f, struct mark *m)
{
	struct stat st;
	ssize_t got = f->io->marked(f->io, f->fd, m, sizeof(*m));
	int rc;

	if (got == -ENODATA || got == -EOPNOTSUPP || got == -ERANGE)
		return 0;
	if (got < 0)
		return (int)got;
	rc = f->io->fstat(f->io, f->fd, &st);
	if (rc)
		return rc;
	return got == sizeof(*m) && m->magic == MARK_MAGIC &&
	       m->check == mark_check(m, st.st_ino);
}

static bool is_first(const struct mark *m, const char *line, size_t len)
{
	return value_length(line, len) == m->first_len &&
	       jsonl_hash(JSONL_HASH_START, line, m->first_len) == m->first_sum;
}

int jsonl_commit_mark_tells(struct jsonl_file *f, const struct mark *m, uint64_t len,
			    enum jsonl_recovered *what)
{
	cleanup_free char *there = malloc(len);
	size_t line = 0;
	ssize_t got;

	*what = JSONL_RECOVERED_UNSURE;
	if (!there)
		return -ENOMEM;
	got = jsonl_io_read_full(f->io, f->fd, there, len, (off_t)m->before);
	if (got < 0)
		return (int)got;
	while (line < (size_t)got && there[line] && there[line] != '\n')
		line++;
	/* No program writes a NUL: it is from a power cut. */
	if ((line < (size_t)got && !there[line]) || is_first(m, there, line))
		*what = JSONL_RECOVERED_CUT;
	else if (line == (size_t)got && line < m->first_len)
		*what = JSONL_RECOVERED_TORN;
	return 0;
}
