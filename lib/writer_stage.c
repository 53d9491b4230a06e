/* Records that wait for the end of their transaction: commit=close. */
#include "writer_internal.h"

/* Tells of the memory that the stage has given back. */
static void stage_charged(struct jsonl_writer *w)
{
	size_t now = jsonl_stage_memory(w->opt.stage);

	if (now < w->staged_charged &&
	    w->events->charge(w->ctx, (int64_t)now - (int64_t)w->staged_charged) == 0)
		w->staged_charged = now;
}

static int stage_add(struct jsonl_writer *w, const struct iovec *iov, int niov)
{
	size_t len = 0;
	int rc = 0;

	for (int i = 0; i < niov; i++)
		len += iov[i].iov_len;
	/* Before a file takes it all, the old part is in memory, too; no more than that.
	 */
	if (jsonl_stage_length(w->opt.stage) + len <= JSONL_STAGE_MEMORY)
		rc = w->events->charge(w->ctx, (int64_t)len);
	else
		len = 0;
	if (rc)
		return rc;
	w->staged_charged += len;
	rc = jsonl_stage_add(w->opt.stage, iov, niov);
	stage_charged(w);
	return rc;
}

int jsonl_writer_append(struct jsonl_writer *w, const struct iovec *iov, int niov,
			uint64_t records)
{
	int rc;

	if (!w->opt.stage)
		return jsonl_file_append(w->file, iov, niov, &w->user, NULL);
	if (!w->staged) {
		rc = jsonl_file_visible(w->file, &w->begin);
		if (rc)
			return rc;
	}
	rc = stage_add(w, iov, niov);
	if (!rc)
		w->staged += records;
	return rc;
}

void jsonl_writer_staged(struct jsonl_writer *w, uint64_t *records, uint64_t *bytes)
{
	pthread_mutex_lock(&w->lock);
	*records = w->staged;
	*bytes = jsonl_stage_length(w->opt.stage);
	pthread_mutex_unlock(&w->lock);
}

int jsonl_writer_commit(struct jsonl_writer *w, struct jsonl_transaction *c)
{
	int rc;

	pthread_mutex_lock(&w->lock);
	c->records = w->staged;
	rc = jsonl_commit_run(c, w->file, w->opt.stage, &w->user);
	if (!rc)
		w->staged = 0;
	stage_charged(w);
	pthread_mutex_unlock(&w->lock);
	return jsonl_writer_errno(rc);
}

int jsonl_writer_stage_sync(struct jsonl_writer *w)
{
	int rc;

	pthread_mutex_lock(&w->lock);
	rc = jsonl_stage_sync(w->opt.stage);
	stage_charged(w);
	pthread_mutex_unlock(&w->lock);
	return rc;
}

bool jsonl_writer_is_begin(struct jsonl_writer *w, off_t size)
{
	bool is;

	pthread_mutex_lock(&w->lock);
	is = size == w->open_size || size == w->begin;
	pthread_mutex_unlock(&w->lock);
	return is;
}

int jsonl_writer_rollback(struct jsonl_writer *w, off_t end)
{
	struct jsonl_slot **lists[2];
	int rc;

	pthread_mutex_lock(&w->lock);
	lists[0] = &w->slots;
	lists[1] = &w->orphans;
	for (int i = 0; i < 2; i++) {
		while (*lists[i]) {
			struct jsonl_slot *s = *lists[i];

			*lists[i] = s->next;
			jsonl_slot_free(w, s);
		}
	}
	w->norphans = 0;
	rc = jsonl_stage_discard(w->opt.stage);
	stage_charged(w);
	w->staged = 0;
	w->virtual_end = end;
	pthread_mutex_unlock(&w->lock);
	return rc;
}
