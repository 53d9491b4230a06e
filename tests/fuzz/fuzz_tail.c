/* SPDX-License-Identifier: MIT */
/* Whatever a file ends with: readers see whole lines, an append repairs without losing a
 * byte, and a second look finds nothing to repair. */
#include "file/tail.h"

#include <fcntl.h>

#include "file/file.h"
#include "model.h"
#include "json/text.h"
#include "tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONTENT	  2048
#define MAXRECORD 40
#define MAXDEPTH  4

static char saved[CONTENT];
static size_t nsaved;

static int set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
		     int niov, off_t at, uint64_t offset)
{
	REQUIRE(niov == 1 && iov->iov_len <= sizeof(saved));
	memcpy(saved, iov->iov_base, iov->iov_len);
	nsaved = iov->iov_len;
	return 0;
}

static void report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
}

static const struct jsonl_file_events events = {.set_aside = set_aside, .report = report};

static struct jsonl_tail inspect(struct model *m)
{
	int fd = model_open(m, 0, O_RDONLY, false);
	struct jsonl_tail tail;

	REQUIRE(jsonl_tail_inspect(&m->io, fd, (off_t)m->files[0].size, MAXRECORD,
				   MAXDEPTH, &tail) == 0);
	m->io.close(&m->io, fd);
	return tail;
}

/* Every whole line from `start` on holds a NUL: a record is never cut with a hole. */
static bool only_holes(const char *content, size_t start, size_t len)
{
	const char *nl;

	while ((nl = memchr(content + start, '\n', len - start))) {
		size_t end = (size_t)(nl - content);

		if (!memchr(content + start, '\0', end - start))
			return false;
		start = end + 1;
	}
	return true;
}

static void check_tail(const struct jsonl_tail *tail, const char *content, size_t len)
{
	bool whole = !len || content[len - 1] == '\n';
	size_t start = (size_t)tail->start;
	struct jsonl_text text;

	REQUIRE(tail->size == (off_t)len && tail->start >= 0 && start <= len);
	REQUIRE(tail->visible == tail->start || tail->visible == tail->size);
	REQUIRE(whole ? tail->state == JSONL_TAIL_CLEAN || tail->state == JSONL_TAIL_TORN
		      : tail->state != JSONL_TAIL_CLEAN);
	if (tail->state == JSONL_TAIL_CLEAN || tail->state == JSONL_TAIL_UNKNOWN)
		return;
	REQUIRE(!start || content[start - 1] == '\n');
	REQUIRE((tail->state == JSONL_TAIL_VALID) == (tail->visible == tail->size));
	if (tail->state == JSONL_TAIL_TORN) {
		REQUIRE(only_holes(content, start, len));
		return;
	}
	REQUIRE(!memchr(content + start, '\n', len - start));
	REQUIRE(jsonl_text_check(content + start, len - start, MAXDEPTH, &text) ==
		    JSONL_OK &&
		!text.can_grow);
}

/* What one append makes of it. */
static void repair(struct model *m, const struct jsonl_tail *tail, const char *content,
		   size_t len)
{
	struct jsonl_file_options opt = {
	    .maxrecord = MAXRECORD, .maxdepth = MAXDEPTH, .retain = true};
	struct iovec record = {.iov_base = "[\"new\"]\n", .iov_len = 8};
	struct jsonl_file_user user = {0};
	const struct model_file *f = &m->files[0];
	size_t kept = (size_t)tail->visible;
	struct jsonl_file *file;
	int rc;

	nsaved = 0;
	REQUIRE(jsonl_file_new(&m->io, model_open(m, 0, O_RDONLY, false), &opt, &events,
			       NULL, &file) == 0);
	jsonl_file_set_append_fd(file, model_open(m, 0, O_RDWR | O_APPEND, false), true);
	rc = jsonl_file_append(file, &record, 1, &user, NULL);
	if (tail->state == JSONL_TAIL_UNKNOWN) {
		REQUIRE(rc == JSONL_UNKNOWN_TAIL && f->size == len && !nsaved);
		REQUIRE(!len || !memcmp(f->data, content, len));
		jsonl_file_free(file);
		return;
	}
	REQUIRE(rc == 0 && jsonl_file_sync(file, &user) == 0);
	REQUIRE(nsaved == (tail->state == JSONL_TAIL_TORN ? len - kept : 0));
	REQUIRE(!nsaved || !memcmp(saved, content + kept, nsaved));
	REQUIRE(!kept || !memcmp(f->disk, content, kept));
	if (tail->state == JSONL_TAIL_VALID)
		REQUIRE(f->disk[kept++] == '\n');
	REQUIRE(f->disk_size == kept + 8 && !memcmp(f->disk + kept, "[\"new\"]\n", 8));
	jsonl_file_free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char content[CONTENT];
	struct input in = {.data = data, .left = size};
	struct jsonl_tail tail;
	struct model m;
	size_t len = 0, nuls;

	while (in.left > 1)
		len += token_add(content + len, sizeof(content) - len, input_byte(&in));
	nuls = input_byte(&in) % 16;
	for (size_t n = nuls % 8; n > 4 && len < sizeof(content); n--)
		content[len++] = '\0';
	/* The rest of a batch behind a block that was never written. */
	if (nuls >= 8 && len + 4 < sizeof(content)) {
		memcpy(content + len, ":2}\n", 4);
		len += 4;
	}
	model_init(&m);
	model_put(&m, 0, content, len, true);
	tail = inspect(&m);
	check_tail(&tail, content, len);
	repair(&m, &tail, content, len);
	if (tail.state != JSONL_TAIL_UNKNOWN) {
		tail = inspect(&m);
		REQUIRE(tail.state == JSONL_TAIL_CLEAN && tail.visible == tail.size);
	}
	model_deinit(&m);
	return 0;
}
