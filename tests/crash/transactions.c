/* SPDX-License-Identifier: MIT */
#include "transactions.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 12

static const char base[] = "{\"base\":1}\n";
static const char *const others[] = {"{\"other\":1}\n", "{\"other\":2}\n"};
static const char *const blocks[] = {
    "{\"a\":1}\n{\"a\":2,\"text\":\"0123456789012345678901234567\"}\n{\"a\":3}\n",
    "{\"b\":1}\n{\"b\":2}\n",
};
static const char last[] = "{\"last\":1}\n";

/* The same bytes are kept once, as the quarantine does. */
static int set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
		     int niov, off_t at, uint64_t offset)
{
	struct run *r = ctx;
	bool after;
	int rc = model_call(&r->m, MODEL_SET_ASIDE, &after);

	for (int i = 0; i < niov && (!rc || after); i++) {
		if (memmem(r->saved, r->nsaved, iov[i].iov_base, iov[i].iov_len))
			continue;
		if (r->nsaved + iov[i].iov_len > sizeof(r->saved))
			abort();
		memcpy(r->saved + r->nsaved, iov[i].iov_base, iov[i].iov_len);
		r->nsaved += iov[i].iov_len;
	}
	return rc;
}

static void report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
	struct run *r = ctx;

	if (strncmp(event, "undo-", 5) == 0 || strncmp(event, "sync-", 5) == 0)
		r->told = true;
}

static const struct jsonl_file_events events = {.set_aside = set_aside, .report = report};

/* ---- programs ---- */

static void open_log(struct run *r)
{
	static const struct jsonl_file_options opt = {
	    .maxrecord = 1 << 16, .maxdepth = 16, .retain = true};

	if (jsonl_file_new(&r->m.io, model_open(&r->m, 0, O_RDONLY, false), &opt, &events,
			   r, &r->file))
		abort();
	jsonl_file_set_append_fd(r->file, model_open(&r->m, 0, O_RDWR | O_APPEND, false),
				 true);
	memset(&r->user, 0, sizeof(r->user));
}

static void close_log(struct run *r)
{
	jsonl_file_free(r->file);
	r->file = NULL;
}

static bool append(struct run *r, const char *text)
{
	struct iovec iov = {.iov_base = (void *)text, .iov_len = strlen(text)};
	int rc = -EAGAIN;

	for (int i = 0; rc == -EAGAIN && !r->m.dead && i < TRIES; i++)
		rc = jsonl_file_append(r->file, &iov, 1, &r->user, NULL);
	if (!rc && !r->m.dead)
		rc = jsonl_file_sync(r->file, &r->user);
	return !rc && !r->m.dead;
}

static int block_commit(struct run *r, int intent, struct jsonl_stage *stage)
{
	struct jsonl_transaction t = {.io = &r->m.io,
				      .intent = &r->intent,
				      .path = "x.jsonl",
				      .ordered = r->opt->ordered,
				      .durable = true};
	int rc = -EAGAIN;

	r->intent.fd = model_open(&r->m, intent, O_RDWR | O_APPEND, false);
	for (int i = 0; rc == -EAGAIN && !r->m.dead && i < TRIES; i++)
		rc = jsonl_commit_run(&t, r->file, stage, &r->user);
	r->m.io.close(&r->m.io, r->intent.fd);
	return rc;
}

/* The first is synced by its program on the way, the other stays in memory. */
static void transaction(struct run *r, int n)
{
	struct iovec iov = {.iov_base = (void *)blocks[n], .iov_len = strlen(blocks[n])};
	struct jsonl_stage *stage;
	int dir, rc;

	if (r->m.dead)
		return;
	dir = n == 0 && !r->opt->in_memory ? model_open(&r->m, 2, O_RDONLY, true) : -1;
	if (jsonl_stage_new(&r->m.io, dir, MODEL_NAMED, "x.jsonl", NULL, NULL, &stage) ||
	    jsonl_stage_add(stage, &iov, 1))
		abort();
	if (dir >= 0)
		r->staged = jsonl_stage_sync(stage) == 0 && !r->m.dead;
	if (dir >= 0 && r->opt->rolled_back) {
		rc = jsonl_stage_discard(stage);
		r->rolled_back = !rc && !r->m.dead;
	} else {
		rc = block_commit(r, 1, stage);
		r->block_done[n] = !rc && !r->m.dead;
		/* What the mount does with it then, but for the quarantine. */
		if (rc && !r->m.dead)
			r->block_failed[n] = jsonl_stage_discard(stage) == 0;
	}
	jsonl_stage_free(stage);
	if (dir >= 0)
		r->m.io.close(&r->m.io, dir);
}

void run_programs(struct run *r)
{
	open_log(r);
	r->other_done[0] = append(r, others[0]);
	transaction(r, 0);
	r->other_done[1] = append(r, others[1]);
	transaction(r, 1);
	close_log(r);
}

/* ---- the next mount ---- */

static bool settle_intent(struct run *r, int dir)
{
	enum jsonl_recovered what;
	int rc = -EAGAIN;
	int fd = model_open(&r->m, 1, O_RDWR | O_APPEND, false);

	for (int i = 0; rc == -EAGAIN && !r->m.dead && i < TRIES; i++)
		rc = jsonl_commit_recover(&r->m.io, dir, fd, r->file, &what);
	r->m.io.close(&r->m.io, fd);
	return !rc && !r->m.dead;
}

static int stage_keep(struct run *r, struct jsonl_stage *stage)
{
	size_t len = (size_t)jsonl_stage_length(stage);
	char buf[1024];
	const char *bytes;
	struct iovec iov = {.iov_len = len};
	ssize_t got = jsonl_stage_read(stage, 0, buf, sizeof(buf), &bytes);

	if (got < 0)
		return (int)got;
	if ((size_t)got < len)
		abort();
	iov.iov_base = (void *)bytes;
	return set_aside(r, "transaction", 0, &iov, 1, -1, 0);
}

static bool settle_stage(struct run *r, int dir)
{
	struct jsonl_stage *stage;
	char *path;
	int rc = jsonl_stage_open(&r->m.io, dir, MODEL_NAMED, &stage, &path);

	if (rc)
		return rc == -ENOENT;
	if (path && jsonl_stage_length(stage)) {
		rc = r->opt->keep ? block_commit(r, r->opt->lost_intent ? 3 : 1, stage)
				  : -ECANCELED;
		if (rc && !r->m.dead)
			rc = stage_keep(r, stage);
	}
	if ((!rc || r->opt->careless) && !r->m.dead)
		rc = jsonl_stage_discard(stage);
	jsonl_stage_free(stage);
	free(path);
	return !rc && !r->m.dead;
}

bool run_recover(struct run *r)
{
	int dir = model_open(&r->m, 2, O_RDONLY, true);
	bool done;

	open_log(r);
	done = r->opt->no_recovery || (settle_intent(r, dir) && settle_stage(r, dir));
	close_log(r);
	r->m.io.close(&r->m.io, dir);
	return done;
}

/* ---- judging ---- */

static unsigned times(const char *data, size_t size, const char *text, size_t len)
{
	unsigned n = 0;

	for (const char *at = data;
	     (at = memmem(at, size - (size_t)(at - data), text, len)); at += len)
		n++;
	return n;
}

/* Lines of the block that are there, each by itself; more than there are when one is
 * there twice. */
static unsigned lines_of(const char *data, size_t size, const char *block, unsigned *all)
{
	unsigned n = 0;

	for (*all = 0; *block; (*all)++) {
		size_t len = strcspn(block, "\n") + 1;

		n += times(data, size, block, len);
		block += len;
	}
	return n;
}

/* The first block, as far as it was staged. */
static const char *judge_stage(const struct run *r, const char *data, size_t size)
{
	const char *block = blocks[0];
	bool there = memmem(data, size, block, strlen(block));
	bool saved = memmem(r->saved, r->nsaved, block, strlen(block));

	if (there && saved)
		return "a block that is there was set aside, too";
	if (r->rolled_back && (there || saved))
		return "a block that was taken back has come back";
	if (r->staged && !r->opt->rolled_back && !r->block_failed[0] && !there && !saved)
		return "a block that was synced is neither there nor set aside";
	if (saved && r->opt->keep && !r->told && !r->hindered)
		return "a block was set aside that could have been appended";
	return NULL;
}

/* With killed=commit the records that a program has written appear, and before it has
 * been synced a stage may hold the first ones: then those `n`, in one piece. */
static bool begun(const struct run *r, const char *data, size_t size, unsigned n)
{
	const char *end = blocks[0];

	if (!r->opt->keep || r->staged)
		return false;
	for (unsigned i = 0; i < n && end; i++) {
		end = strchr(end, '\n');
		end += end != NULL;
	}
	return end && times(data, size, blocks[0], (size_t)(end - blocks[0])) == 1;
}

static const char *judge(const struct run *r, const char *data, size_t size, bool power)
{
	if (times(data, size, base, strlen(base)) != 1 ||
	    times(data, size, last, strlen(last)) != 1)
		return "a durable record is gone, or there twice";
	for (int i = 0; i < 2; i++) {
		unsigned there = times(data, size, others[i], strlen(others[i])), all;

		if (there > 1 || (r->other_done[i] && !there))
			return "somebody else's record is gone, or there twice";
		there = lines_of(data, size, blocks[i], &all);
		if (there &&
		    (there != all ||
		     times(data, size, blocks[i], strlen(blocks[i])) != 1) &&
		    !(i == 0 && begun(r, data, size, there)))
			return "a part of a block";
		if (r->block_done[i] && !there)
			return "a block that was committed is gone";
		if (r->block_failed[i] && there && !power && !r->told)
			return "a block that was refused is there";
	}
	if (!r->wide && memchr(data, '\0', size))
		return "NULs";
	return judge_stage(r, data, size);
}

const char *run_judge(struct run *r, bool power)
{
	bool appended;

	open_log(r);
	appended = append(r, last);
	close_log(r);
	return !appended ? "nothing can be appended after it"
			 : judge(r, r->m.files[0].disk, r->m.files[0].disk_size, power);
}

/* ---- life ---- */

void run_init(struct run *r, const struct run_options *opt)
{
	memset(r, 0, sizeof(*r));
	model_init(&r->m);
	model_put(&r->m, 0, base, strlen(base), true);
	model_put(&r->m, 1, "", 0, true);
	model_put(&r->m, 3, "", 0, true);
	r->opt = opt;
	r->m.broken = opt->broken;
}

void run_restart(struct run *to, const struct run *from)
{
	*to = *from;
	model_copy(&to->m, &from->m);
	to->file = NULL;
	memset(&to->intent, 0, sizeof(to->intent));
	model_restart(&to->m);
	to->m.broken = from->opt->broken;
	to->m.calls = 0;
}

void run_deinit(struct run *r)
{
	model_deinit(&r->m);
}
