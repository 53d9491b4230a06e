/* SPDX-License-Identifier: MIT */
/* Takes stock of the entries, by the directory and by the index, and finds for whom each
 * counts. */
#include "quarantine/quarantine_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/memory.h"
#include "report/report.h"

static int stock_order(const void *a, const void *b)
{
	const struct jsonl_quarantine_stocked *x = a, *y = b;

	return (x->name > y->name) - (x->name < y->name);
}

struct jsonl_quarantine_stocked *
jsonl_quarantine_stock_find(const struct jsonl_quarantine_stock *s, const char *name)
{
	const struct jsonl_quarantine_stocked key = {
	    .name = jsonl_hash(1, name, strlen(name))};

	return s->count ? bsearch(&key, s->list, s->count, sizeof(key), stock_order)
			: NULL;
}

static int stock_add(struct jsonl_quarantine_stock *s, const char *name,
		     const struct stat *st)
{
	uint64_t blocks = jsonl_quarantine_blocks((uint64_t)st->st_size);

	int rc = jsonl_grow(&s->list, &s->cap, s->count + 1, sizeof(*s->list));

	if (rc)
		return rc;
	s->list[s->count++] = (struct jsonl_quarantine_stocked){
	    .name = jsonl_hash(1, name, strlen(name)),
	    .blocks = blocks ? blocks : JSONL_QUARANTINE_BLOCK,
	    .uid = st->st_uid,
	};
	return 0;
}

static int stock_directory(struct jsonl_quarantine *q, struct jsonl_quarantine_stock *s)
{
	int fd = q->io->openat(q->io, q->dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	struct dirent *entry;
	struct stat st;
	int rc = 0;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		q->io->close(q->io, fd);
		return -ENOMEM;
	}
	/* No other thread has this stream. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (rc == 0 && (entry = readdir(dir))) {
		if (fstatat(q->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			rc = errno == ENOENT ? 0 : -errno;
		else if (S_ISREG(st.st_mode))
			rc = stock_add(s, entry->d_name, &st);
	}
	closedir(dir);
	if (s->count)
		qsort(s->list, s->count, sizeof(*s->list), stock_order);
	return rc;
}

/* Remembers bytes that begin at `from` in the entry; behind others if that is not 0. */
static void remember_entry(struct jsonl_quarantine *q, const char *name, const char *hash,
			   uid_t uid, uint64_t from)
{
	struct jsonl_quarantine_recent *r =
	    from ? jsonl_quarantine_table_by_name(&q->table, name) : NULL;

	if (r)
		r->part = true;
	r = jsonl_quarantine_table_add(&q->table, strtoull(hash, NULL, 16), uid);
	if (!r)
		return;
	r->part = from > 0;
	r->at = (int64_t)from;
	r->name = strdup(name);
	if (!r->name)
		jsonl_quarantine_table_forget(&q->table, r);
}

/* Takes the entry and the payer of a line, `len` bytes of the index. */
static int recall_line(struct jsonl_quarantine *q, struct jsonl_quarantine_stock *s,
		       const char *line, size_t len)
{
	struct jsonl_report *r = jsonl_report_parse(line);
	const char *name = jsonl_report_get_string(r, "file");
	const char *event = jsonl_report_get_string(r, "event");
	const char *hash = jsonl_report_get_string(r, "hash");
	uid_t uid = (uid_t)jsonl_report_get_uint(r, "uid");
	struct jsonl_quarantine_stocked *file =
	    name ? jsonl_quarantine_stock_find(s, name) : NULL;
	struct jsonl_quarantine_recent *recent;

	if (!file || !event) {
		s->dead += len;
	} else if (strcmp(event, "joined") == 0) {
		recent = jsonl_quarantine_table_by_name(&q->table, name);
		if (recent)
			jsonl_quarantine_table_changed(&q->table, recent);
		s->dead += file->joins ? len : 0;
		file->joins++;
		file->bytes += jsonl_report_get_uint(r, "bytes");
	} else if (hash) {
		file->uid = uid;
		remember_entry(q, name, hash, uid, jsonl_report_get_uint(r, "from"));
	}
	jsonl_report_free(r);
	return jsonl_quarantine_table_charge(&q->table, uid, len);
}

/* Reads the index. Lines that cannot be parsed (a crash tore them, somebody edited them)
 * are skipped. */
static int recall_index(struct jsonl_quarantine *q, struct jsonl_quarantine_stock *s)
{
	cleanup_free char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int rc;
	FILE *f = jsonl_quarantine_index_read(q, &rc);

	q->index_bytes = 0;
	while (f && rc == 0 && (n = getline(&line, &size, f)) > 0) {
		q->index_bytes += (uint64_t)n;
		rc = recall_line(q, s, line, (size_t)n);
	}
	if (f)
		fclose(f);
	return rc;
}

int jsonl_quarantine_take_stock(struct jsonl_quarantine *q,
				struct jsonl_quarantine_stock *s)
{
	int rc = stock_directory(q, s);

	if (rc == 0)
		rc = recall_index(q, s);
	for (size_t i = 0; rc == 0 && i < s->count; i++) {
		q->table.entries++;
		rc = jsonl_quarantine_table_charge(&q->table, s->list[i].uid,
						   s->list[i].blocks);
	}
	return rc;
}
