/* SPDX-License-Identifier: MIT */
/* The intent and the mark of a block that a crash cut off, of any bytes, also such as verify:
 * recovery never changes what is in the log but by cutting its end, and only after it was set
 * aside; and it is done once. */
#include <fcntl.h>

#include "base/hash.h"
#include "block/commit_internal.h"
#include "model.h"
#include "tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONTENT 1024

enum { LOG, INTENT };

static struct model model;

/* What is cut is the end of the file, and is handed over while it is still there. */
static int set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
		     int niov, off_t at, uint64_t offset)
{
	const struct model_file *f = &model.files[LOG];

	REQUIRE(niov == 1 && at >= 0 && (size_t)at + iov->iov_len == f->size);
	REQUIRE(!memcmp(f->data + at, iov->iov_base, iov->iov_len));
	*(size_t *)ctx = (size_t)at;
	return 0;
}

static void report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
}

static const struct jsonl_file_events events = {.set_aside = set_aside, .report = report};

static uint64_t small(struct input *in, size_t len)
{
	uint8_t byte = input_byte(in);

	return byte == 255 ? UINT64_MAX - input_byte(in)
	       : byte > 250 ? (uint64_t)1 << input_byte(in) % 64
			    : byte % (len + 8);
}

/* An intent that verifies, of a place, a length and a beginning that may be those of the log.
 * Returns its length. */
static size_t make_intent(struct input *in, const char *content, size_t len, bool path_only,
			  char *to)
{
	struct intent i = {.magic = COMMIT_MAGIC, .path_len = 7};
	size_t at;

	memcpy(i.bytes, "x.jsonl", 7);
	if (!path_only) {
		i.before = small(in, len);
		i.length = small(in, len);
		at = i.before < len ? (size_t)i.before : len;
		i.sum = input_byte(in) % 2 && i.length <= len - at
			    ? jsonl_hash(JSONL_HASH_START, content + at, i.length)
			    : input_byte(in);
		if (input_byte(in) % 2) {
			i.stage_len = 5;
			memcpy(i.bytes + 7, MODEL_NAMED, 5);
		}
		i.head_len = (uint32_t)(input_byte(in) % (len - at + 1)) % COMMIT_HEAD;
		memcpy(i.bytes + 7 + i.stage_len, content + at, i.head_len);
		if (i.head_len && input_byte(in) % 4 == 0)
			i.bytes[7 + i.stage_len + i.head_len - 1] ^= 1;
	}
	i.check = jsonl_commit_intent_check(&i);
	memcpy(to, &i, jsonl_commit_intent_size(&i));
	return jsonl_commit_intent_size(&i);
}

/* The file of the intent: one or two that verify, with bytes of the input in them now and
 * then; or these bytes alone. */
static void put_intent(struct input *in, const char *content, size_t len)
{
	static char file[2 * sizeof(struct intent) + CONTENT];
	uint8_t how = input_byte(in);
	size_t n = 0;

	if (how % 4)
		n = make_intent(in, content, len, how % 4 == 1, file);
	if (how % 4 == 1)
		n += make_intent(in, content, len, false, file + n);
	for (int k = how / 4 % 4; n && k > 1; k--) /* damaged */
		file[(input_byte(in) * 7U) % n] ^= (char)input_byte(in);
	while (how % 4 == 0 && in->left && n < CONTENT)
		file[n++] = (char)input_byte(in);
	model_put(&model, INTENT, file, n, true);
}

static void put_mark(struct input *in, int fd, const char *content, size_t len)
{
	struct mark m = {.magic = UINT32_C(0x4d4c534a)};
	uint8_t how = input_byte(in);
	struct stat st;
	size_t at;

	if (how % 3 == 0)
		return;
	m.before = small(in, len);
	m.length = small(in, len);
	at = m.before < len ? (size_t)m.before : len;
	m.first_len = (uint32_t)small(in, len - at);
	m.first_sum = m.first_len <= len - at
			  ? jsonl_hash(JSONL_HASH_START, content + at, m.first_len)
			  : 0;
	m.sum = input_byte(in) % 2 && m.length <= len - at
		    ? jsonl_hash(JSONL_HASH_START, content + at, m.length)
		    : 1;
	REQUIRE(model.io.fstat(&model.io, fd, &st) == 0);
	m.check = (uint64_t)st.st_ino;
	m.check = jsonl_hash(JSONL_HASH_START, &m, sizeof(m));
	if (how % 3 == 2)
		((char *)&m)[input_byte(in) % sizeof(m)] ^= (char)input_byte(in);
	REQUIRE(model.io.mark(&model.io, fd, &m, sizeof(m)) == 0);
}

static void recover(const char *content, size_t len)
{
	const struct model_file *f = &model.files[LOG];
	struct jsonl_file_options opt = {.maxrecord = 64, .maxdepth = 8};
	int intent = model_open(&model, INTENT, O_RDWR | O_APPEND, false);
	int dir = model_open(&model, LOG, O_RDONLY, true), rc;
	enum jsonl_recovered what, again;
	char stage[JSONL_STAGE_NAME];
	struct jsonl_file *file;
	size_t cut = len;
	char *path;

	path = jsonl_commit_pending(&model.io, intent, stage, &rc);
	REQUIRE(rc == 0 && (!path || strlen(stage) < sizeof(stage)));
	REQUIRE(jsonl_file_new(&model.io, model_open(&model, LOG, O_RDONLY, false), &opt,
			       &events, &cut, &file) == 0);
	jsonl_file_set_append_fd(file, model_open(&model, LOG, O_RDWR | O_APPEND, false),
				 true);
	rc = jsonl_commit_recover(&model.io, dir, intent, file, &what);
	REQUIRE(rc == 0 || rc == -EAGAIN || rc == -EINVAL);
	REQUIRE(f->size == cut && f->size <= len);
	REQUIRE(!f->size || !memcmp(f->data, content, f->size));
	REQUIRE(path || (what == JSONL_RECOVERED_NONE && f->size == len));
	REQUIRE(what != JSONL_RECOVERED_CUT || f->size < len);
	if (!rc) {
		REQUIRE(jsonl_commit_recover(&model.io, dir, intent, file, &again) == 0);
		REQUIRE(again == JSONL_RECOVERED_NONE && f->size == cut);
	}
	jsonl_file_free(file);
	free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char content[CONTENT];
	struct input in = {.data = data, .left = size};
	size_t len = 0, tokens = input_byte(&in) % 16;

	while (tokens--)
		len += token_add(content + len, sizeof(content) - len, input_byte(&in));
	for (size_t nuls = input_byte(&in) % 8; nuls > 4 && len < sizeof(content); nuls--)
		content[len++] = '\0';
	model_init(&model);
	model_put(&model, LOG, content, len, true);
	put_mark(&in, model_open(&model, LOG, O_RDWR, false), content, len);
	put_intent(&in, content, len);
	recover(content, len);
	model_deinit(&model);
	return 0;
}
