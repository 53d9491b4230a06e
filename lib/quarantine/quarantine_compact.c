/* SPDX-License-Identifier: MIT */
/* Writes the index anew: lines of removed entries are left out, and bytes that were
 * joined to an entry become one line. The new index is whole and synced before it takes
 * the name. Another process may append to the old one until then, without a lock: its
 * lines are carried over afterwards, and a process that appends to a file without a name
 * appends again (quarantine_index.c). */
#include "quarantine/quarantine_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "report/report.h"

#define INDEX_NAME  "quarantine.jsonl"
#define NEW_NAME    "quarantine.jsonl.new"
#define PIECE	    (64U << 10)
#define COMPACT_MIN (64U << 10) /* bytes of dead lines that are worth it */
/* Removals by others are noticed when the bound is reached, but only so often. */
#define RECOUNT_SECONDS 10

struct compaction {
	struct jsonl_quarantine *q;
	struct jsonl_quarantine_stock *stock;
	int fd; /* the new index */
	char *buf;
	size_t len;
	off_t taken; /* bytes of the old index that were read: whole lines */
};

static int flush(struct compaction *c)
{
	struct iovec iov = {.iov_base = c->buf, .iov_len = c->len};
	size_t written;
	int rc = c->len ? jsonl_io_write_full(c->q->io, c->fd, &iov, 1, &written) : 0;

	c->len = 0;
	return rc;
}

static int emit(struct compaction *c, const char *text, size_t len)
{
	struct iovec iov = {.iov_base = (char *)text, .iov_len = len};
	size_t written;
	int rc = c->len + len > PIECE ? flush(c) : 0;

	if (rc == 0 && len > PIECE)
		return jsonl_io_write_full(c->q->io, c->fd, &iov, 1, &written);
	if (rc == 0) {
		memcpy(c->buf + c->len, text, len);
		c->len += len;
	}
	return rc;
}

/* Writes a line for joined bytes: the last one of the entry counts. */
static int emit_joined(struct compaction *c, const struct jsonl_report *r,
		       struct jsonl_quarantine_stocked *file, const char *line,
		       size_t len)
{
	const char *time = jsonl_report_get_string(r, "time");
	cleanup_free char *text = NULL;

	if (file->joins > 1) {
		file->joins--;
		return 0;
	}
	if (file->bytes == jsonl_report_get_uint(r, "bytes"))
		return emit(c, line, len);
	text = jsonl_quarantine_line_joined(
	    time ? time : "", jsonl_report_get_string(r, "file"),
	    (uid_t)jsonl_report_get_uint(r, "uid"), file->bytes);
	return text ? emit(c, text, strlen(text)) : -ENOMEM;
}

/* Returns true when an entry exists: another process may have stored it since stock was
 * taken. */
static bool is_there(struct compaction *c, const char *name)
{
	return jsonl_quarantine_is_entry(name) &&
	       faccessat(c->q->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int compact_line(struct compaction *c, const char *line, size_t len)
{
	struct jsonl_report *r = jsonl_report_parse(line);
	const char *name = jsonl_report_get_string(r, "file");
	const char *event = jsonl_report_get_string(r, "event");
	struct jsonl_quarantine_stocked *file =
	    name ? jsonl_quarantine_stock_find(c->stock, name) : NULL;
	int rc = 0;

	if (file && event && strcmp(event, "joined") == 0 && file->joins)
		rc = emit_joined(c, r, file, line, len);
	else if (event && (file || (name && is_there(c, name))))
		rc = emit(c, line, len);
	jsonl_report_free(r);
	return rc;
}

static int compact_lines(struct compaction *c, FILE *old)
{
	cleanup_free char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int rc = 0;

	/* Half a line at the end may still be completed. */
	while (rc == 0 && (n = getline(&line, &size, old)) > 0 && line[n - 1] == '\n') {
		rc = compact_line(c, line, (size_t)n);
		c->taken += n;
	}
	return rc ? rc : flush(c);
}

/* Carries over the lines that came to the old index since it was read. Best effort: their
 * entries are there. */
static void carry_over(struct compaction *c, int old)
{
	ssize_t n;

	while ((n = c->q->io->pread(c->q->io, old, c->buf, PIECE, c->taken)) > 0) {
		c->len = (size_t)n;
		c->taken += n;
		if (flush(c) < 0)
			return;
	}
	(void)!c->q->io->fsync(c->q->io, c->fd);
}

static int compact_into(struct compaction *c, FILE *old)
{
	const struct jsonl_io *io = c->q->io;
	struct stat st;
	int rc = io->fstat(io, fileno(old), &st);

	if (rc == 0 && fchmod(c->fd, st.st_mode & 0666) < 0)
		rc = -errno;
	if (rc == 0)
		rc = compact_lines(c, old);
	if (rc == 0)
		rc = io->fsync(io, c->fd);
	if (rc == 0)
		rc = io->renameat(io, c->q->state_fd, NEW_NAME, c->q->state_fd,
				  INDEX_NAME, 0);
	if (rc == 0) {
		(void)!io->fsync(io, c->q->state_fd);
		if (io->fstat(io, fileno(old), &st) == 0 && st.st_size > c->taken)
			carry_over(c, fileno(old));
	} else {
		(void)io->unlinkat(io, c->q->state_fd, NEW_NAME);
	}
	return rc;
}

/* Writes the index anew. Under lock. 0, -EWOULDBLOCK (somebody else does it), or -errno:
 * then the old one stands. */
static int compact(struct jsonl_quarantine *q, struct jsonl_quarantine_stock *stock)
{
	const struct jsonl_io *io = q->io;
	cleanup_free char *buf = malloc(PIECE);
	struct compaction c = {.q = q, .stock = stock, .buf = buf};
	int rc;
	FILE *old = jsonl_quarantine_index_read(q, &rc);

	if (!old || !buf) {
		if (old)
			fclose(old);
		return rc ? rc : buf ? 0 : -ENOMEM;
	}
	rc = io->trylock(io, fileno(old));
	/* A process that died may have left one; with the lock held it is no other's. */
	if (rc == 0)
		(void)io->unlinkat(io, q->state_fd, NEW_NAME);
	if (rc == 0) {
		c.fd =
		    io->openat(io, q->state_fd, NEW_NAME,
			       O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
		rc = c.fd < 0 ? c.fd : compact_into(&c, old);
		if (c.fd >= 0)
			(void)io->close(io, c.fd);
	}
	fclose(old);
	return rc;
}

/* ---- taking stock ---- */

/* Fills the table anew; entries that cannot be counted count as before. Entries that
 * gather go on in either case. */
static int recount_once(struct jsonl_quarantine *q, struct jsonl_quarantine_stock *s)
{
	struct jsonl_quarantine_table *old = malloc(sizeof(*old));
	uint64_t index_bytes = q->index_bytes;
	int rc;

	if (!old)
		return -ENOMEM;
	*old = q->table;
	memset(&q->table, 0, sizeof(q->table));
	q->table.max = old->max;
	rc = jsonl_quarantine_take_stock(q, s);
	if (rc == 0) {
		memcpy(q->table.gathers, old->gathers, sizeof(old->gathers));
		memset(old->gathers, 0, sizeof(old->gathers));
		jsonl_quarantine_table_clear(old);
	} else {
		jsonl_quarantine_table_clear(&q->table);
		q->table = *old;
		q->index_bytes = index_bytes;
	}
	free(old);
	return rc;
}

int jsonl_quarantine_recount(struct jsonl_quarantine *q, bool all)
{
	struct jsonl_quarantine_stock stock = {0};
	int rc;

	q->last_recount = jsonl_quarantine_seconds();
	rc = recount_once(q, &stock);
	if (rc == 0 && stock.dead &&
	    (all || (stock.dead >= COMPACT_MIN && stock.dead >= q->index_bytes / 4)) &&
	    compact(q, &stock) == 0) {
		free(stock.list);
		stock = (struct jsonl_quarantine_stock){0};
		rc = recount_once(q, &stock);
	}
	free(stock.list);
	return rc;
}

bool jsonl_quarantine_refresh(struct jsonl_quarantine *q)
{
	if (q->inflight || jsonl_quarantine_seconds() - q->last_recount < RECOUNT_SECONDS)
		return false;
	return jsonl_quarantine_recount(q, false) == 0;
}
