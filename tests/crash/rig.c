/* SPDX-License-Identifier: MIT */
#include "rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules/config.h"
#include "json/text.h"

#define MAXRECORD 65536
#define MAXDEPTH  16
#define TRIES	  12

static struct jsonl_file_options file_options = {
    .maxrecord = 1 << 20, .maxdepth = MAXDEPTH, .retain = true};

/* ---- what the file asks for ---- */

static void save(char **to, size_t *n, const struct iovec *iov, int niov)
{
	for (int i = 0; i < niov; i++) {
		if (!iov[i].iov_len)
			continue;
		*to = realloc(*to, *n + iov[i].iov_len + 1);
		if (!*to || *n + iov[i].iov_len > RIG_SAVED)
			abort();
		memcpy(*to + *n, iov[i].iov_base, iov[i].iov_len);
		*n += iov[i].iov_len;
	}
}

static void save_late(struct rig *r)
{
	struct iovec iov = {.iov_base = r->late, .iov_len = r->nlate};

	save(&r->saved, &r->nsaved, &iov, 1);
	r->nlate = 0;
}

static int rig_set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
			 int niov, off_t at, uint64_t offset)
{
	struct rig *r = ctx;
	bool after;
	int rc;

	if (r->nlate && !r->m.dead)
		save_late(r);
	rc = model_call(&r->m, MODEL_SET_ASIDE, &after);
	if (rc && !after)
		return rc;
	if (r->m.broken.late_save)
		save(&r->late, &r->nlate, iov, niov);
	else
		save(&r->saved, &r->nsaved, iov, niov);
	return rc;
}

static void rig_report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
	struct rig *r = ctx;

	if (r->m.dead)
		return;
	r->reports++;
	if (strncmp(event, "sync-", 5) == 0)
		r->sync_reports++;
	if (strncmp(event, "undo-", 5) == 0)
		r->undo_reports++;
}

static const struct jsonl_file_events rig_events = {
    .set_aside = rig_set_aside,
    .report = rig_report,
};

/* ---- programs ---- */

void rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	model_init(&r->m);
}

void rig_close(struct rig *r)
{
	rig_release(r);
	jsonl_file_free(r->file);
	r->file = NULL;
	if (r->nlate && !r->m.dead)
		save_late(r);
}

void rig_deinit(struct rig *r)
{
	rig_close(r);
	model_deinit(&r->m);
	free(r->saved);
	free(r->late);
	for (unsigned i = 0; i < r->nrecords; i++)
		free(r->records[i].text);
}

static struct rig_record *record_add(struct rig *r, const char *text, size_t len,
				     int writer)
{
	struct rig_record *rec = &r->records[r->nrecords];

	if (r->nrecords++ == RIG_RECORDS)
		abort();
	rec->text = malloc(len + 1);
	if (!rec->text)
		abort();
	memcpy(rec->text, text, len);
	rec->text[len] = '\0';
	rec->len = len;
	rec->writer = writer;
	rec->state = RIG_TRIED;
	return rec;
}

void rig_note(struct rig *r, const char *text, enum rig_state state)
{
	record_add(r, text, strlen(text), -1)->state = state;
}

static struct rig_record *record_make(struct rig *r, int writer, size_t len)
{
	char head[64], *text;
	size_t n = (size_t)snprintf(head, sizeof(head), "{\"%c\":%u,\"\xc3\xa9\":\"",
				    'a' + writer, ++r->next);
	size_t all = n + 3 > len ? n + 3 : len;
	struct rig_record *rec;

	text = malloc(all);
	if (!text)
		abort();
	memset(text, 'x', all);
	memcpy(text, head, n);
	memcpy(text + all - 3, "\"}\n", 3);
	rec = record_add(r, text, all, writer);
	free(text);
	return rec;
}

void rig_open(struct rig *r, bool quiet)
{
	bool missing = !r->m.files[0].exists;
	int fd;

	if (r->m.dead || r->file)
		return;
	fd = model_open(&r->m, 0, O_RDONLY, false);
	if (jsonl_file_new(&r->m.io, fd, &file_options, &rig_events, r, &r->file))
		abort();
	jsonl_file_set_append_fd(r->file, model_open(&r->m, 0, O_RDWR | O_APPEND, false),
				 quiet);
	memset(r->users, 0, sizeof(r->users));
	if (missing)
		jsonl_file_set_directory(r->file, model_open(&r->m, 0, O_RDONLY, true),
					 &r->users[0]);
}

bool rig_append(struct rig *r, int user, int n, size_t len)
{
	struct rig_record *first = &r->records[r->nrecords];
	struct iovec iov[8];
	int rc = -EAGAIN;

	if (r->m.dead || !r->file)
		return false;
	for (int i = 0; i < n; i++) {
		struct rig_record *rec = record_make(r, user, len);

		iov[i] = (struct iovec){.iov_base = rec->text, .iov_len = rec->len};
	}
	for (int tries = 0; rc == -EAGAIN && !r->m.dead && tries < TRIES; tries++) {
		rc = jsonl_file_append(r->file, iov, n, &r->users[user], NULL);
		r->retries += tries > 0;
	}
	if (r->nlate && !r->m.dead)
		save_late(r);
	if (r->m.dead)
		return false;
	for (int i = 0; i < n; i++)
		first[i].state = rc ? RIG_FAILED : RIG_WRITTEN;
	return !rc;
}

void rig_sync(struct rig *r, int user)
{
	int rc;

	if (r->m.dead || !r->file)
		return;
	rc = jsonl_file_sync(r->file, &r->users[user]);
	if (r->m.dead)
		return;
	for (unsigned i = 0; i < r->nrecords; i++)
		if (r->records[i].writer == user && r->records[i].state == RIG_WRITTEN)
			r->records[i].state = rc ? RIG_TOLD : RIG_SYNCED;
}

/* ---- a descriptor that goes through a writer ---- */

static void *writer_identify(void *ctx, void *caller)
{
	return NULL;
}

static void writer_set_aside(void *ctx, const struct jsonl_set_aside *what,
			     char name[JSONL_QUARANTINE_NAME])
{
	struct rig *r = ctx;

	name[0] = '\0';
	if (rig_set_aside(ctx, what->event, what->code, what->iov, what->niov, what->at,
			  what->offset) == 0)
		memcpy(name, "entry", 6);
	else if (!r->m.dead)
		r->sync_reports++; /* it says that the bytes are lost */
}

static void writer_join(void *ctx, const char *name, const struct iovec *iov, int niov,
			void *who)
{
	rig_set_aside(ctx, "join", 0, iov, niov, 0, 0);
}

static int writer_charge(void *ctx, int64_t bytes)
{
	struct rig *r = ctx;

	r->charged += bytes;
	return 0;
}

static void writer_note(void *ctx, const struct jsonl_writer_note *note, void *who)
{
}

/* Nobody writes a bad line here. */
static uint64_t writer_process(void *ctx, void *caller)
{
	return 1;
}

static bool writer_known(void *ctx, uint64_t process, uint64_t hash, size_t len, bool add)
{
	return false;
}

static const struct jsonl_writer_events writer_events = {
    .identify = writer_identify,
    .process = writer_process,
    .known = writer_known,
    .set_aside = writer_set_aside,
    .join = writer_join,
    .charge = writer_charge,
    .note = writer_note,
};

static bool writer_open(struct rig *r)
{
	struct jsonl_writer_options opt = {
	    .limits = {.maxdepth = MAXDEPTH, .maxrecord = MAXRECORD, .pipebuf = 4096},
	};
	off_t visible;

	if (r->writer)
		return true;
	return !jsonl_file_visible(r->file, &visible) &&
	       !jsonl_writer_new(r->file, &opt, &writer_events, r, visible, &r->writer);
}

struct rig_record *rig_expect(struct rig *r, const char *text)
{
	return record_add(r, text, strlen(text), 0);
}

/* Everything that has been sent so far and was neither acknowledged nor refused. */
static void writer_settle(struct rig *r, enum rig_state from, enum rig_state to)
{
	for (unsigned i = 0; i < r->nrecords; i++)
		if (r->records[i].writer == 0 && r->records[i].state == from)
			r->records[i].state = to;
}

void rig_write(struct rig *r, uint64_t owner, const char *bytes)
{
	int rc;

	if (r->m.dead || !r->file)
		return;
	rc = writer_open(r) ? -EAGAIN : -EIO;
	for (int tries = 0; rc == -EAGAIN && !r->m.dead && tries < TRIES; tries++)
		rc = jsonl_writer_write(r->writer, owner, NULL, true, 0, bytes,
					strlen(bytes));
	if (r->m.dead)
		return;
	if (rc)
		writer_settle(r, RIG_TRIED, RIG_FAILED);
	else if (strchr(bytes, '\n'))
		writer_settle(r, RIG_TRIED, RIG_WRITTEN);
}

void rig_flush(struct rig *r, uint64_t owner)
{
	int rc = -EAGAIN;

	if (r->m.dead || !r->writer)
		return;
	for (int tries = 0; rc == -EAGAIN && !r->m.dead && tries < TRIES; tries++)
		rc = jsonl_writer_flush(r->writer, owner, NULL);
	if (r->m.dead)
		return;
	if (!rc)
		writer_settle(r, RIG_TRIED, RIG_WRITTEN);
	rc = jsonl_file_sync(r->file, jsonl_writer_user(r->writer));
	if (!r->m.dead)
		writer_settle(r, RIG_WRITTEN, rc ? RIG_TOLD : RIG_SYNCED);
}

void rig_release(struct rig *r)
{
	bool committed = false;
	int rc;

	if (!r->writer)
		return;
	rc = jsonl_writer_release(r->writer, true, &committed);
	jsonl_writer_free(r->writer);
	r->writer = NULL;
	if (!r->m.dead && committed && !rc)
		writer_settle(r, RIG_TRIED, RIG_WRITTEN);
}

/* ---- judging ---- */

static struct rig_record *record_find(const struct rig *r, const char *line, size_t len)
{
	for (unsigned i = 0; i < r->nrecords; i++)
		if (r->records[i].len == len && !memcmp(r->records[i].text, line, len))
			return (struct rig_record *)&r->records[i];
	return NULL;
}

static const char *judge_line(const struct rig *r, const char *line, size_t len,
			      unsigned *seen, unsigned *last, bool any)
{
	struct jsonl_text text;
	struct rig_record *rec = record_find(r, line, len);
	unsigned n = rec ? (unsigned)(rec - r->records) : 0;

	if (!rec && any)
		return NULL; /* what was never durable may be any damage */
	/* It may go on behind a torn tail, and without the lock behind anything. */
	if (!rec && r->outside && (!r->outside_locks || r->tail) &&
	    (len == 1 || memmem(line, len, "\"outside\"", 9)))
		return NULL;
	if (jsonl_text_check(line, len - 1, MAXDEPTH, &text))
		return "a line is not a record";
	if (!rec)
		return "a record that nobody wrote";
	if (seen[n]++)
		return "a record twice";
	if (rec->writer < 0)
		return NULL;
	if (n + 1 <= last[rec->writer])
		return "records of a writer in the wrong order";
	last[rec->writer] = n + 1;
	return NULL;
}

static bool was_saved(const struct rig *r, const char *text, size_t len)
{
	const struct model_file *f = &r->m.files[0];

	return (r->nsaved && memmem(r->saved, r->nsaved, text, len)) ||
	       (r->outside && memmem(f->data, f->size, text, len));
}

static const char *judge_record(const struct rig *r, const struct rig_record *rec,
				unsigned seen, bool power)
{
	if (rec->state == RIG_SYNCED && !seen)
		return "a durable record is gone";
	/* An undo that was put off, or is not durable, may be undone by the next fault.
	 */
	if (rec->state == RIG_FAILED && seen && !power && !r->undo_reports)
		return "a refused record is in the file";
	if (rec->state == RIG_WRITTEN && !seen && !power &&
	    !was_saved(r, rec->text, rec->len - 1) && !r->sync_reports)
		return "a written record is gone, not saved, not reported";
	if (rec->state == RIG_KEPT && !seen && !was_saved(r, rec->text, rec->len - 1))
		return "a value without its newline is gone";
	if (rec->state == RIG_TOLD && !seen && !was_saved(r, rec->text, rec->len - 1) &&
	    !r->sync_reports)
		return "a record of a failed sync is gone, not saved, not reported";
	return NULL;
}

static const char *judge(const struct rig *r, const char *data, size_t size, bool power,
			 bool any)
{
	unsigned seen[RIG_RECORDS] = {0}, last[RIG_USERS] = {0};
	const char *wrong = NULL;

	if (size && data[size - 1] != '\n') {
		if (!any)
			return "the file does not end with a newline";
		while (size && data[size - 1] != '\n')
			size--;
	}
	for (size_t at = 0; !wrong && at < size;) {
		size_t len = (size_t)((const char *)memchr(data + at, '\n', size - at) -
				      (data + at)) +
			     1;

		wrong = judge_line(r, data + at, len, seen, last, any);
		at += len;
	}
	for (unsigned i = 0; !wrong && i < r->nrecords; i++)
		wrong = judge_record(r, &r->records[i], seen[i], power);
	if (!wrong && r->ntorn && !any && !was_saved(r, r->torn, r->ntorn))
		wrong = "a torn tail was cut and not saved";
	return wrong;
}

static const char *recover(struct rig *r, bool power, bool any)
{
	off_t end;
	int rc;

	r->nlate = 0;
	model_restart(&r->m);
	rig_open(r, true);
	if (!rig_append(r, 2, 1, 0)) {
		/* After damage in the middle the end may not be JSON Lines any more. */
		rc = any ? jsonl_file_freeze(r->file, &end) : 0;
		if (rc != JSONL_UNKNOWN_TAIL)
			return "nothing can be appended after it";
		return judge(r, r->m.files[0].data, r->m.files[0].size, power, any);
	}
	rig_sync(r, 2);
	if (r->records[r->nrecords - 1].state != RIG_SYNCED)
		return "nothing can be made durable after it";
	/* What counts is on the disk. */
	if (r->m.files[0].size != r->m.files[0].disk_size ||
	    memcmp(r->m.files[0].data, r->m.files[0].disk, r->m.files[0].size) != 0)
		return "the disk differs from what programs see";
	return judge(r, r->m.files[0].disk, r->m.files[0].disk_size, power, any);
}

const char *rig_recover(struct rig *r, bool power)
{
	if (r->file)
		rig_close(r);
	return recover(r, power, false);
}

const char *rig_recover_from(const struct rig *r, struct model *after, bool any)
{
	struct rig *copy = malloc(sizeof(*copy));
	const char *wrong;

	if (!copy)
		abort();
	*copy = *r;
	copy->file = NULL;
	copy->m = *after;
	copy->saved = copy->late = NULL;
	copy->nsaved = copy->nlate = 0;
	save(&copy->saved, &copy->nsaved, &(struct iovec){r->saved, r->nsaved}, 1);
	for (unsigned i = 0; i < copy->nrecords; i++) {
		copy->records[i].text = malloc(copy->records[i].len + 1);
		if (!copy->records[i].text)
			abort();
		memcpy(copy->records[i].text, r->records[i].text,
		       copy->records[i].len + 1);
	}
	wrong = recover(copy, true, any);
	if (wrong && getenv("RIG_VERBOSE"))
		rig_print(&copy->m, copy);
	rig_close(copy);
	*after = copy->m; /* its buffers may have moved */
	for (unsigned i = 0; i < copy->nrecords; i++)
		free(copy->records[i].text);
	free(copy->saved);
	free(copy->late);
	free(copy);
	return wrong;
}

static void print_bytes(const char *label, const char *data, size_t size)
{
	printf("    %s %zu: ", label, size);
	for (size_t i = 0; i < size && i < 200; i++) {
		unsigned char c = (unsigned char)data[i];

		if (c == '\n')
			printf("\\n");
		else if (c == 0)
			printf("\\0");
		else
			putchar(c);
	}
	printf("\n");
}

void rig_print(const struct model *m, const struct rig *r)
{
	static const char *const states[] = {"tried", "written", "durable",
					     "told",  "failed",	 "kept"};

	print_bytes("file", m->files[0].data, m->files[0].size);
	print_bytes("disk", m->files[0].disk, m->files[0].disk_size);
	print_bytes("saved", r->saved, r->nsaved);
	for (unsigned i = 0; i < r->nrecords; i++)
		printf("    %s %d: %.60s%s", states[r->records[i].state],
		       r->records[i].writer, r->records[i].text,
		       r->records[i].len > 60 ? "\n" : "");
}
