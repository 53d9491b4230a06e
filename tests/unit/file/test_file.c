/* SPDX-License-Identifier: MIT */
/* A governed file: what an append does when something comes in between, what readers see,
 * who is told of a failed sync and how often, and what a last look at the disk finds. The
 * exhaustive variants are in tests/crash. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "file/file.h"
#include "file/file_internal.h"
#include "model.h"

/* ---- a file over the model ---- */

static struct model m;
static struct jsonl_file *file;
static char saved[4096], events[4096];
static size_t nsaved;
static int save_code;
static void (*on_save)(void);
static size_t block = 32;

/* ---- calls that behave as told, in this order ---- */

static struct {
	enum model_op op;
	struct model_fault fault;
	void (*meanwhile)(void);
} script[8];
static unsigned script_len, script_at;

static void before(struct model *model, enum model_op op)
{
	unsigned n = script_at;

	if (n == script_len || script[n].op != op)
		return;
	script_at++;
	model->faults[0] = script[n].fault;
	model->faults[0].at = model->calls + 1;
	if (script[n].meanwhile)
		script[n].meanwhile();
}

static void script_add(enum model_op op, struct model_fault fault,
		       void (*meanwhile)(void))
{
	CHECK(script_len < 8);
	script[script_len].op = op;
	script[script_len].fault = fault;
	script[script_len++].meanwhile = meanwhile;
	m.before = before;
}

/* The next call of this kind, after those that were asked for before. */
static void next_call(enum model_op op, struct model_fault fault)
{
	if (script_at == script_len)
		script_at = script_len = 0;
	script_add(op, fault, NULL);
}

static void meanwhile(enum model_op op, void (*fn)(void))
{
	if (script_at == script_len)
		script_at = script_len = 0;
	script_add(op, (struct model_fault){0}, fn);
}

static int set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
		     int niov, off_t at, uint64_t offset)
{
	if (on_save)
		on_save();
	if (save_code)
		return save_code;
	for (int i = 0; i < niov; i++) {
		memcpy(saved + nsaved, iov[i].iov_base, iov[i].iov_len);
		nsaved += iov[i].iov_len;
	}
	return 0;
}

static void report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
	strcat(strcat(events, event), " ");
}

static const struct jsonl_file_events file_events = {.set_aside = set_aside,
						     .report = report};

static void begin(const char *content, bool quiet)
{
	struct jsonl_file_options opt = {
	    .maxrecord = 4096, .maxdepth = 8, .retain = true};

	model_init(&m);
	model_set_block(&m, block);
	model_put(&m, 0, content, strlen(content), true);
	nsaved = 0;
	events[0] = '\0';
	save_code = 0;
	on_save = NULL;
	script_at = script_len = 0;
	CHECK(jsonl_file_new(&m.io, model_open(&m, 0, O_RDONLY, false), &opt,
			     &file_events, NULL, &file) == 0);
	CHECK(!jsonl_file_can_append(file));
	jsonl_file_set_append_fd(file, model_open(&m, 0, O_RDWR | O_APPEND, false),
				 quiet);
	CHECK(jsonl_file_can_append(file));
}

static void end(void)
{
	jsonl_file_free(file);
	for (int n = 0; n < MODEL_FDS; n++)
		CHECK(!m.fds[n].used, "a descriptor is left open");
	model_deinit(&m);
}

static int append(const char *line, struct jsonl_file_user *user)
{
	struct iovec iov = {.iov_base = (char *)line, .iov_len = strlen(line)};

	return jsonl_file_append(file, &iov, 1, user, NULL);
}

static bool holds(const char *content)
{
	const struct model_file *f = &m.files[0];

	return f->size == strlen(content) && !memcmp(f->data, content, f->size);
}

static bool disk_holds(const char *content)
{
	const struct model_file *f = &m.files[0];

	return f->disk_size == strlen(content) && !memcmp(f->disk, content, f->disk_size);
}

static bool saved_is(const char *bytes)
{
	return nsaved == strlen(bytes) && !memcmp(saved, bytes, nsaved);
}

static off_t visible(void)
{
	off_t v = -1;

	CHECK(jsonl_file_visible(file, &v) == 0);
	return v;
}

static const struct model_fault fails = {.kind = MODEL_FAIL, .code = EIO};
/* Fails, but `keep` bytes of a write are done, and a cut all the same. */
static struct model_fault after(size_t keep)
{
	return (struct model_fault){.kind = MODEL_FAIL_AFTER, .code = EIO, .keep = keep};
}

static const struct model_fault full = {.kind = MODEL_FAIL, .code = ENOSPC};

/* ---- appending ---- */

static void test_append(void)
{
	struct jsonl_file_user user = {0};
	struct jsonl_file_state state;
	struct iovec iov[2] = {{"[2]\n[3", 6}, {"]\n", 2}};
	off_t at;

	begin("[1]\n", false);
	CHECK(jsonl_file_append(file, iov, 2, &user, &at) == 0 && at == 12);
	CHECK(holds("[1]\n[2]\n[3]\n") && visible() == 12);
	CHECK(jsonl_file_equals(file, "[2]\n", 4, 4) == 1);
	CHECK(jsonl_file_equals(file, "[4]\n", 4, 4) == 0);
	CHECK(jsonl_file_equals(file, "]\n[", 3, 10) == 0);
	CHECK(jsonl_file_is_boundary(file, 0) == 1 &&
	      jsonl_file_is_boundary(file, 8) == 1);
	CHECK(jsonl_file_is_boundary(file, 12) == 1 &&
	      jsonl_file_is_boundary(file, 7) == 0);
	CHECK(jsonl_file_is_boundary(file, 13) == 0);
	jsonl_file_get_state(file, &state);
	CHECK(state.appended == 1 && state.durable == 0 && file->kept_len == 8);
	CHECK(jsonl_file_sync(file, &user) == 0 && disk_holds("[1]\n[2]\n[3]\n"));
	jsonl_file_get_state(file, &state);
	CHECK(state.durable == 1 && !file->kept_len && state.syncs == 1);
	/* Nothing more to sync. */
	CHECK(jsonl_file_sync(file, &user) == 0);
	jsonl_file_get_state(file, &state);
	CHECK(state.syncs == 1);
	end();
}

static void test_lock(void)
{
	struct jsonl_file_user user = {0};
	off_t at;

	begin("[1]\n", false);
	m.files[0].lock = -1;
	for (int i = 0; i < 3; i++)
		CHECK(append("[2]\n", &user) == -EAGAIN);
	CHECK(holds("[1]\n"));
	m.files[0].lock = 0;
	CHECK(append("[2]\n", &user) == 0 && m.files[0].lock == 0);
	CHECK(jsonl_file_freeze(file, &at) == 0 && at == 8 && m.files[0].lock > 0);
	CHECK(jsonl_file_append_frozen(file, &(struct iovec){"[3]\n", 4}, 1, &user) == 0);
	CHECK(jsonl_file_empty(file) == 0);
	jsonl_file_unfreeze(file);
	CHECK(holds("") && visible() == 0 && m.files[0].lock == 0);
	CHECK(append("[4]\n", &user) == 0 && holds("[4]\n"));
	CHECK(jsonl_file_sync(file, &user) == 0 && disk_holds("[4]\n"));
	end();
}

/* Half a record behind a line that is none: nothing is touched. */
static void test_any_end(void)
{
	struct jsonl_file_user user = {0};
	off_t at = -1;

	begin("[1]\noops\n[2", false);
	CHECK(jsonl_file_freeze(file, &at) == JSONL_UNKNOWN_TAIL && m.files[0].lock == 0);
	CHECK(append("[3]\n", &user) == JSONL_UNKNOWN_TAIL);
	CHECK(jsonl_file_freeze_any(file, &at) == JSONL_UNKNOWN_TAIL && at == 11);
	CHECK(m.files[0].lock > 0);
	jsonl_file_unfreeze(file);
	CHECK(holds("[1]\noops\n[2") && m.files[0].lock == 0);
	end();
	begin("[1]\n[2]\n", false);
	CHECK(jsonl_file_freeze_any(file, &at) == 0 && at == 8);
	jsonl_file_unfreeze(file);
	m.files[0].lock = -1;
	CHECK(jsonl_file_freeze_any(file, &at) == -EAGAIN);
	m.files[0].lock = 0;
	end();
}

/* What others add is never overwritten, and is looked at before ours is put behind it. */
static void test_outside(void)
{
	struct jsonl_file_user user = {0};

	begin("[1]\n", false);
	m.fresh_times = true;
	CHECK(append("[2]\n", &user) == 0);
	model_outside(&m, 0, "[3]\n", 4);
	CHECK(visible() == 12);
	CHECK(append("[4]\n", &user) == 0 && holds("[1]\n[2]\n[3]\n[4]\n"));
	/* In the middle of a record: it is waited for, and shown to nobody. */
	model_outside(&m, 0, "[5", 2);
	CHECK(append("[6]\n", &user) == -EAGAIN && visible() == 16);
	model_outside(&m, 0, "]\n", 2);
	CHECK(append("[6]\n", &user) == 0 && holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\n"));
	model_outside(&m, 0, "[7]\n", 4);
	CHECK(append("[8]\n", &user) == 0 && !events[0]);
	CHECK(visible() == (off_t)m.files[0].size);
	end();
}

static void outside_half(void)
{
	model_outside(&m, 0, "[3", 2);
}

static void outside_whole(void)
{
	model_outside(&m, 0, "[3]\n", 4);
}

static void test_outside_between(void)
{
	struct jsonl_file_user user = {0};

	begin("[1]\n", false);
	CHECK(append("[2]\n", &user) == 0);
	meanwhile(MODEL_WRITEV, outside_whole);
	CHECK(append("[4]\n", &user) == 0 && holds("[1]\n[2]\n[3]\n[4]\n"));
	CHECK(!events[0], "%s", events);
	meanwhile(MODEL_WRITEV, outside_half);
	CHECK(append("[5]\n", &user) == 0 && holds("[1]\n[2]\n[3]\n[4]\n[3[5]\n"));
	CHECK(strcmp(events, "fused-outside ") == 0, "%s", events);
	/* What was retained stands where it really is: a failed sync is fixed there. */
	CHECK(jsonl_file_sync(file, &user) == 0);
	meanwhile(MODEL_WRITEV, outside_whole);
	CHECK(append("[6]\n", &user) == 0);
	CHECK(file->nseg == 1 && file->seg[0].off == 26, "%d", (int)file->seg[0].off);
	end();
}

/* ---- what is half written is undone ---- */

static void test_undo(void)
{
	struct jsonl_file_user user = {0};

	begin("[1]\n", false);
	for (size_t keep = 1; keep < 8; keep++) {
		/* Short, and then the disk is full. */
		next_call(MODEL_WRITEV,
			  (struct model_fault){.kind = MODEL_SHORT, .keep = keep});
		next_call(MODEL_WRITEV, full);
		CHECK(append("[2]\n[3]\n", &user) == -ENOSPC, "after %zu bytes", keep);
		CHECK(holds("[1]\n") && visible() == 4, "after %zu bytes", keep);
	}
	/* Written, and said to have failed (file systems that sync within write). */
	next_call(MODEL_WRITEV, after(8));
	CHECK(append("[2]\n[3]\n", &user) == -EIO && holds("[1]\n") && visible() == 4);
	/* Interrupted and short writes are gone on with. */
	next_call(MODEL_WRITEV, (struct model_fault){.kind = MODEL_FAIL, .code = EINTR});
	CHECK(append("[2]\n", &user) == 0);
	next_call(MODEL_WRITEV, (struct model_fault){.kind = MODEL_SHORT, .keep = 2});
	CHECK(append("[3]\n", &user) == 0 && holds("[1]\n[2]\n[3]\n"));
	CHECK(!events[0], "%s", events);
	end();
}

/* Cutting back fails, too: readers keep what they had, and the next append does it first.
 */
static void test_undo_late(void)
{
	struct jsonl_file_user user = {0};

	begin("[1]\n", false);
	CHECK(append("[2]\n", &user) == 0);
	next_call(MODEL_WRITEV, after(6));
	next_call(MODEL_FTRUNCATE, fails);
	CHECK(append("[3]\n[4]\n", &user) == -EIO && m.files[0].size == 14);
	CHECK(strstr(events, "undo-delayed") && visible() == 8);
	CHECK(append("[5]\n", &user) == 0 && holds("[1]\n[2]\n[5]\n") && visible() == 12);
	/* It says that it failed, but has cut: nothing is left to undo, nothing to tell.
	 */
	next_call(MODEL_WRITEV, after(6));
	next_call(MODEL_FTRUNCATE, after(0));
	CHECK(append("[6]\n[7]\n", &user) == -EIO && holds("[1]\n[2]\n[5]\n"));
	CHECK(append("[8]\n", &user) == 0 && holds("[1]\n[2]\n[5]\n[8]\n"));
	CHECK(!strstr(events, "undo-failed"), "%s", events);
	/* Somebody outside goes on behind what could not be undone: told, nothing cut. */
	next_call(MODEL_WRITEV, after(6));
	next_call(MODEL_FTRUNCATE, fails);
	CHECK(append("[6]\n[7]\n", &user) == -EIO && m.files[0].size == 22);
	model_outside(&m, 0, "9]\n", 3);
	CHECK(append("[10]\n", &user) == 0);
	CHECK(strstr(events, "undo-failed"), "%s", events);
	CHECK(holds("[1]\n[2]\n[5]\n[8]\n[6]\n[79]\n[10]\n"), "%.*s",
	      (int)m.files[0].size, m.files[0].data);
	/* Somebody outside wrote in between, so what stands there is not ours alone. */
	next_call(MODEL_WRITEV, after(2));
	meanwhile(MODEL_FSTAT, outside_whole);
	CHECK(append("[11]\n", &user) == -EIO && strstr(events, "undo-delayed"));
	end();
}

static void outside_same(void)
{
	model_outside(&m, 0, "[0]\n[2]\n", 8);
}

/* Nothing was written, but somebody outside has appended: there is nothing to undo, and
 * nothing to tell. */
static void test_undo_of_nothing(void)
{
	struct jsonl_file_user user = {0};

	begin("[1]\n", false);
	next_call(MODEL_WRITEV, full);
	meanwhile(MODEL_FSTAT, outside_whole);
	CHECK(append("[2]\n", &user) == -ENOSPC && holds("[1]\n[3]\n"));
	CHECK(visible() == 8 && append("[4]\n", &user) == 0);
	CHECK(holds("[1]\n[3]\n[4]\n") && !events[0], "%s", events);
	/* In mid-record: how much of it is ours cannot be told. */
	next_call(MODEL_WRITEV, full);
	meanwhile(MODEL_FSTAT, outside_half);
	CHECK(append("[5]\n", &user) == -ENOSPC);
	CHECK(strstr(events, "undo-delayed"), "%s", events);
	end();
	/* A record like ours is among theirs: it may be ours. */
	begin("[1]\n", false);
	next_call(MODEL_WRITEV, full);
	meanwhile(MODEL_FSTAT, outside_same);
	CHECK(append("[2]\n[3]\n", &user) == -ENOSPC);
	CHECK(strstr(events, "undo-delayed"), "%s", events);
	end();
}

/* The file goes before there is a next append: the records of a write that was said to
 * have failed must not be there for whoever comes next. */
static void test_free_undo(void)
{
	struct jsonl_file_user user = {0};

	for (int again = 0; again < 2; again++) {
		begin("[1]\n", false);
		next_call(MODEL_WRITEV, after(6));
		next_call(MODEL_FTRUNCATE, fails);
		CHECK(append("[2]\n[3]\n", &user) == -EIO && m.files[0].size == 10);
		if (again)
			next_call(MODEL_FTRUNCATE, fails);
		jsonl_file_free(file);
		CHECK(again ? !!strstr(events, "undo-failed") : holds("[1]\n"), "%.*s %s",
		      (int)m.files[0].size, m.files[0].data, events);
		CHECK(!nsaved);
		model_deinit(&m);
	}
}

/* Room is reserved before a long append; a full disk is met before anything is written.
 */
static void test_reserve(void)
{
	struct jsonl_file_user user = {0};
	struct jsonl_file_options opt = {
	    .maxrecord = 1 << 20, .maxdepth = 8, .retain = true};
	size_t len = FILE_RESERVE_FROM;
	char *line = malloc(len + 1);
	static const int refused[] = {ENOSPC, EDQUOT, EFBIG, EIO};

	memset(line, ' ', len);
	line[0] = '1';
	line[len - 1] = '\n';
	line[len] = '\0';
	begin("[1]\n", false);
	file->opt = opt;
	for (size_t i = 0; i < 4; i++) {
		unsigned writes = 0;

		m.calls = 0;
		next_call(MODEL_RESERVE,
			  (struct model_fault){.kind = MODEL_FAIL, .code = refused[i]});
		CHECK(append(line, &user) == -refused[i] && holds("[1]\n"));
		for (unsigned n = 0; n < m.calls; n++)
			writes += m.trace[n] == MODEL_WRITEV;
		CHECK(writes == 0);
	}
	/* Where it is not possible, undoing must do. */
	next_call(MODEL_RESERVE,
		  (struct model_fault){.kind = MODEL_FAIL, .code = EOPNOTSUPP});
	CHECK(append(line, &user) == 0 && m.files[0].size == 4 + len);
	m.calls = 0;
	CHECK(append("[2]\n", &user) == 0);
	for (unsigned n = 0; n < m.calls; n++)
		CHECK(m.trace[n] != MODEL_RESERVE);
	end();
	free(line);
}

/* ---- tails ---- */

static void test_tails(void)
{
	struct jsonl_file_user user = {0};

	begin("[1]\n[2", true);
	CHECK(visible() == 4 && holds("[1]\n[2"));
	CHECK(append("[3]\n", &user) == 0 && holds("[1]\n[3]\n") && saved_is("[2"));
	CHECK(strcmp(events, "repaired ") == 0);
	end();
	begin("[1]\n[2]", true);
	CHECK(visible() == 7);
	CHECK(append("[3]\n", &user) == 0 && holds("[1]\n[2]\n[3]\n") && !nsaved);
	end();
	begin("hello\nwor", true);
	CHECK(visible() == 9);
	CHECK(append("[3]\n", &user) == JSONL_UNKNOWN_TAIL && holds("hello\nwor"));
	end();
	/* What cannot be saved is not cut. */
	begin("[1]\n[2", true);
	save_code = -ENOSPC;
	CHECK(append("[3]\n", &user) == -ENOSPC && holds("[1]\n[2"));
	save_code = 0;
	CHECK(append("[3]\n", &user) == 0 && holds("[1]\n[3]\n"));
	end();
	/* Somebody goes on while it is being saved: hands off. */
	begin("[1]\n[2", true);
	m.fresh_times = true;
	on_save = outside_half;
	CHECK(append("[3]\n", &user) == -EAGAIN && holds("[1]\n[2[3"), "%.*s",
	      (int)m.files[0].size, m.files[0].data);
	end();
}

/* A tail rests for two seconds before it is touched, unless nobody had the file open for
 * writing, and then only that very tail. */
static void test_rest(void)
{
	struct jsonl_file_user user = {0};
	const struct timespec pause = {.tv_sec = 2, .tv_nsec = 50000000};

	begin("[1]\n", true);
	m.fresh_times = true;
	model_outside(&m, 0, "[2", 2);
	CHECK(append("[3]\n", &user) == -EAGAIN && holds("[1]\n[2") && !nsaved);
	/* By the file's own time stamp. */
	clock_gettime(CLOCK_REALTIME, &m.files[0].mtime);
	m.files[0].mtime.tv_sec -= 1;
	CHECK(append("[3]\n", &user) == -EAGAIN);
	m.files[0].mtime.tv_sec -= 1;
	CHECK(append("[3]\n", &user) == 0 && holds("[1]\n[3]\n") && saved_is("[2"));
	end();
	/* By watching it, when the clock of the disk is ahead. */
	begin("[1]\n[2", false);
	clock_gettime(CLOCK_REALTIME, &m.files[0].mtime);
	m.files[0].mtime.tv_sec += 1000;
	CHECK(append("[3]\n", &user) == -EAGAIN);
	nanosleep(&pause, NULL);
	CHECK(append("[3]\n", &user) == 0 && holds("[1]\n[3]\n"));
	end();
}

static int append_open(const char *text, struct jsonl_file_user *user)
{
	struct iovec iov = {.iov_base = (char *)text, .iov_len = strlen(text)};

	return jsonl_file_append_open(file, &iov, 1, user, NULL);
}

static unsigned writes_now(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m.calls && i < MODEL_CALLS; i++)
		n += m.trace[i] == MODEL_WRITEV;
	return n;
}

/* A copy ends without a newline: it goes in front of the next append, in one write. */
static void test_open_end(void)
{
	struct jsonl_file_user user = {0};
	off_t end_now;

	begin("", true);
	CHECK(append("[1]\n", &user) == 0 && append_open("[2]", &user) == 0);
	CHECK(holds("[1]\n[2]") && jsonl_file_visible(file, &end_now) == 0 && end_now == 7);
	CHECK(jsonl_file_freeze_as_is(file, &end_now) == 0 && end_now == 7);
	jsonl_file_unfreeze(file);
	m.calls = 0;
	CHECK(append("[3]\n", &user) == 0 && holds("[1]\n[2]\n[3]\n"));
	CHECK(writes_now() == 1);
	/* What begins with it brings it. */
	CHECK(append_open("[4]", &user) == 0 && append("\n[5]\n", &user) == 0);
	CHECK(append_open("[6]", &user) == 0 && append("\r\n", &user) == 0);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\r\n"));
	/* A failed write leaves it as it was. */
	CHECK(append_open("[7]", &user) == 0);
	next_call(MODEL_WRITEV, (struct model_fault){.kind = MODEL_FAIL, .code = ENOSPC});
	CHECK(append("[8]\n", &user) == -ENOSPC);
	m.faults[0].at = 0;
	CHECK(append("[8]\n", &user) == 0);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\r\n[7]\n[8]\n"));
	/* Who needs whole lines gets them. */
	CHECK(append_open("[9]", &user) == 0 && jsonl_file_freeze(file, &end_now) == 0);
	jsonl_file_unfreeze(file);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\r\n[7]\n[8]\n[9]\n"));
	end();
	/* A file that ends so when it is opened. */
	begin("\xef\xbb\xbf[1]", true);
	CHECK(append("[2]\n", &user) == 0 && holds("\xef\xbb\xbf[1]\n[2]\n"));
	end();
}

/* The repair's own sync fails: that is not believed when it works the next time. */
static void test_repair_sync(void)
{
	struct jsonl_file_user user = {0};
	struct jsonl_file_state state;
	/* The newline that is added is the last byte of its block. */
	char content[33] = "[1]\n\"xxxxxxxxxxxxxxxxxxxxxxxxx\"";
	off_t end_now;

	CHECK(strlen(content) == 31);
	begin(content, true);
	m.loss = MODEL_LOSE_DATA;
	next_call(MODEL_FDATASYNC, fails);
	CHECK(jsonl_file_freeze(file, &end_now) == -EIO);
	jsonl_file_get_state(file, &state);
	CHECK(state.poisoned);
	CHECK(append("[3]\n", &user) == 0);
	CHECK(jsonl_file_sync(file, &user) == 0);
	CHECK(memcmp(m.files[0].data, m.files[0].disk, m.files[0].disk_size) == 0);
	CHECK(memchr(m.files[0].disk, '\0', m.files[0].disk_size) == NULL);
	end();
}

/* ---- failed syncs ---- */

static struct jsonl_file_state state_now(void)
{
	struct jsonl_file_state state;

	jsonl_file_get_state(file, &state);
	return state;
}

static void test_told_once(void)
{
	struct jsonl_file_user a = {0}, b = {0}, c = {0}, idle = {0};

	begin("[1]\n", false);
	m.loss = MODEL_LOSE_DATA;
	CHECK(append("[2]\n", &c) == 0 && jsonl_file_sync(file, &c) == 0);
	CHECK(append("[3]\n", &a) == 0 && append("[4]\n", &b) == 0);
	next_call(MODEL_FDATASYNC, fails);
	CHECK(jsonl_file_sync(file, &a) == -EIO);
	CHECK(state_now().poisoned && file->nfailures == 1);
	/* Those that close later are told, too, once each; others are not. */
	CHECK(jsonl_file_sync(file, &b) == -EIO);
	CHECK(jsonl_file_sync(file, &a) == 0 && jsonl_file_sync(file, &b) == 0);
	CHECK(jsonl_file_sync(file, &c) == 0 && jsonl_file_sync(file, &idle) == 0);
	CHECK(state_now().poisoned);
	/* The next append looks at the disk, finds NULs, writes once more. */
	CHECK(append("[5]\n", &b) == 0 && !state_now().poisoned);
	CHECK(strstr(events, "sync-rewritten") && strstr(events, "sync-verified"), "%s",
	      events);
	CHECK(jsonl_file_sync(file, &b) == 0 && disk_holds("[1]\n[2]\n[3]\n[4]\n[5]\n"));
	CHECK(jsonl_file_sync(file, &a) == 0);
	/* A second failure is news again. */
	CHECK(append("[6]\n", &a) == 0);
	next_call(MODEL_FDATASYNC, fails);
	CHECK(jsonl_file_sync(file, &a) == -EIO && jsonl_file_sync(file, &a) == 0);
	CHECK(jsonl_file_sync(file, &b) == 0);
	end();
}

/* Told even if it appended again after the failure. */
static void test_told_later(void)
{
	struct jsonl_file_user a = {0}, b = {0};

	begin("[1]\n", false);
	CHECK(append("[2]\n", &a) == 0 && append("[3]\n", &b) == 0);
	next_call(MODEL_FDATASYNC, fails);
	CHECK(jsonl_file_sync(file, &a) == -EIO);
	CHECK(append("[4]\n", &b) == 0 && !state_now().poisoned);
	CHECK(jsonl_file_sync(file, &b) == -EIO);
	CHECK(jsonl_file_sync(file, &b) == 0);
	/* More failures than are remembered apart: still told. */
	CHECK(append("[5]\n", &b) == 0);
	for (int i = 0; i < FILE_FAILURES + 3; i++) {
		CHECK(append("[6]\n", &a) == 0);
		next_call(MODEL_FDATASYNC, fails);
		CHECK(jsonl_file_sync(file, &a) == -EIO);
	}
	CHECK(jsonl_file_sync(file, &b) == -EIO && jsonl_file_sync(file, &b) == 0);
	end();
}

static struct jsonl_file_user other;

static void sync_other(void)
{
	script_add(MODEL_FDATASYNC, fails, NULL);
	CHECK(jsonl_file_sync(file, &other) == -EIO);
}

/* A sync fails between the write of an append and its being noted: the failed sync may
 * have taken its bytes along, so its close must not say that they are durable. */
static void test_failure_within_append(void)
{
	struct jsonl_file_user a = {0};

	begin("[1]\n", false);
	other = (struct jsonl_file_user){0};
	m.loss = MODEL_LOSE_DATA;
	CHECK(append("[2]\n", &other) == 0);
	meanwhile(MODEL_POSITION, sync_other);
	CHECK(append("[3]\n", &a) == 0 && state_now().poisoned);
	CHECK(!disk_holds("[1]\n[2]\n[3]\n"));
	CHECK(jsonl_file_sync(file, &a) == -EIO, "the disk does not have it");
	CHECK(append("[4]\n", &a) == 0 && jsonl_file_sync(file, &a) == 0);
	CHECK(disk_holds("[1]\n[2]\n[3]\n[4]\n"));
	end();
}

static void never(struct jsonl_waiter *w, int rc)
{
	CHECK(false, "the answer was given already");
}

static void well(struct jsonl_waiter *w, int rc)
{
	CHECK(rc == 0);
}

/* fsync asks the disk whatever we know; after a failure it says when the disk is well. */
static void test_force(void)
{
	struct jsonl_file_user a = {0};
	struct jsonl_waiter w = {.done = never};
	int rc;

	begin("[1]\n", false);
	CHECK(append("[2]\n", &a) == 0);
	next_call(MODEL_FDATASYNC, fails);
	CHECK(jsonl_file_sync(file, &a) == -EIO);
	next_call(MODEL_FDATASYNC, fails);
	CHECK(jsonl_file_wait(file, &a, true, &w, &rc) == JSONL_WAIT_DONE && rc == -EIO);
	CHECK(state_now().poisoned);
	CHECK(jsonl_file_wait(file, &a, true, &w, &rc) == JSONL_WAIT_DONE && rc == 0);
	CHECK(!state_now().poisoned && disk_holds("[1]\n[2]\n"));
	end();
}

/* Emptied since somebody else's sync: an fsync waits for that, too. */
static void test_force_emptied(void)
{
	struct jsonl_file_user a = {0}, b = {0};
	struct jsonl_waiter w = {.done = never};
	off_t at;
	int rc;

	begin("[1]\n", false);
	CHECK(append("[2]\n", &a) == 0 && append("[3]\n", &b) == 0);
	CHECK(jsonl_file_sync(file, &b) == 0);
	CHECK(jsonl_file_wait(file, &a, true, &w, &rc) == JSONL_WAIT_DONE && rc == 0);
	CHECK(append("[4]\n", &a) == 0 && append("[5]\n", &b) == 0);
	CHECK(jsonl_file_sync(file, &b) == 0);
	CHECK(jsonl_file_freeze(file, &at) == 0 && jsonl_file_empty(file) == 0);
	jsonl_file_unfreeze(file);
	w.done = well;
	CHECK(jsonl_file_wait(file, &a, true, &w, &rc) == JSONL_WAIT_LEAD);
	jsonl_file_lead(file);
	CHECK(disk_holds(""));
	end();
}

/* The disk does not take it a second time, either: saved, then cut, or kept in memory. */
static void test_cut_back(void)
{
	struct jsonl_file_user a = {0};

	for (int full_quarantine = 0; full_quarantine < 2; full_quarantine++) {
		a = (struct jsonl_file_user){0};
		begin("[1]\n", false);
		m.loss = MODEL_LOSE_DATA;
		CHECK(append("[2]\n", &a) == 0);
		next_call(MODEL_FDATASYNC, fails);
		CHECK(jsonl_file_sync(file, &a) == -EIO);
		save_code = full_quarantine ? -ENOSPC : 0;
		next_call(MODEL_WRITEV, full);
		if (full_quarantine) {
			CHECK(append("[3]\n", &a) == -EIO && state_now().poisoned);
			CHECK(file->kept_len == 4 && visible() == 4);
			/* Once there is room again, nothing has been lost. */
			save_code = 0;
			CHECK(append("[3]\n", &a) == 0 && holds("[1]\n[2]\n[3]\n") &&
			      !nsaved);
		} else {
			CHECK(append("[3]\n", &a) == 0 && holds("[1]\n[3]\n"));
			CHECK(saved_is("[2]\n") && strstr(events, "sync-cut-back"));
		}
		CHECK(jsonl_file_sync(file, &a) == 0);
		CHECK(!memcmp(m.files[0].data, m.files[0].disk, m.files[0].size));
		end();
	}
}

/* Somebody outside has appended behind what is unsure, or has cut it off. */
static void test_unsure_and_outside(void)
{
	struct jsonl_file_user a = {0};

	block = 4;
	for (int cut = 0; cut < 2; cut++) {
		a = (struct jsonl_file_user){0};
		begin("[1]\n", false);
		m.loss = MODEL_LOSE_ALL;
		CHECK(append("[2]\n", &a) == 0);
		next_call(MODEL_FDATASYNC, fails);
		CHECK(jsonl_file_sync(file, &a) == -EIO);
		if (cut)
			m.files[0].size =
			    0; /* O_TRUNC by a program that goes round the mount */
		else
			model_outside(&m, 0, "[9]\n", 4);
		CHECK(append("[3]\n", &a) == 0, "%s", cut ? "cut" : "appended");
		/* The bytes that the disk lost are a hole; with what came behind it on the
		 * same line it is saved and cut like any torn end. */
		CHECK(nsaved == (cut ? 4u : 12u) &&
		      !memcmp(saved, cut ? "[2]\n" : "[2]\n\0\0\0\0[9]\n", nsaved));
		CHECK(m.files[0].size >= 4 &&
		      !memcmp(m.files[0].data + m.files[0].size - 4, "[3]\n", 4));
		end();
	}
	block = 32;
}

/* A short write that could not be undone stands behind what a sync failed over. */
static void test_unsure_and_undo(void)
{
	struct jsonl_file_user a = {0};

	begin("[1]\n", false);
	m.loss = MODEL_LOSE_DATA;
	CHECK(append("[2]\n", &a) == 0);
	next_call(MODEL_WRITEV, after(6));
	next_call(MODEL_FTRUNCATE, fails);
	CHECK(append("[3]\n[4]\n", &a) == -EIO && m.files[0].size == 14);
	next_call(MODEL_FDATASYNC, fails);
	CHECK(jsonl_file_sync(file, &a) == -EIO);
	CHECK(append("[5]\n", &a) == 0 && holds("[1]\n[2]\n[5]\n"), "%.*s",
	      (int)m.files[0].size, m.files[0].data);
	CHECK(!nsaved);
	end();
}

/* The file goes while it is unsure: a last look, else what memory holds is saved. */
static void test_free_unsure(void)
{
	struct jsonl_file_user a = {0};

	for (int locked = 0; locked < 2; locked++) {
		a = (struct jsonl_file_user){0};
		begin("[1]\n", false);
		m.loss = MODEL_LOSE_DATA;
		CHECK(append("[2]\n", &a) == 0);
		next_call(MODEL_FDATASYNC, fails);
		CHECK(jsonl_file_sync(file, &a) == -EIO);
		m.files[0].lock = locked ? -1 : 0;
		jsonl_file_free(file);
		if (locked)
			CHECK(saved_is("[2]\n"));
		else
			CHECK(disk_holds("[1]\n[2]\n") && !nsaved);
		model_deinit(&m);
	}
}

static void test_directory(void)
{
	struct jsonl_file_user a = {0}, b = {0};

	begin("", false);
	m.files[0].exists_on_disk = false;
	jsonl_file_set_directory(file, model_open(&m, 0, O_RDONLY, true), &a);
	/* The new name alone is something to make durable. */
	next_call(MODEL_FSYNC, fails);
	CHECK(jsonl_file_sync(file, &a) == -EIO && !m.files[0].exists_on_disk);
	CHECK(append("[1]\n", &b) == 0 && m.files[0].exists_on_disk);
	CHECK(jsonl_file_sync(file, &b) == 0);
	end();
	begin("", false);
	m.files[0].exists_on_disk = false;
	a = b = (struct jsonl_file_user){0};
	jsonl_file_set_directory(file, model_open(&m, 0, O_RDONLY, true), &a);
	jsonl_file_set_directory(file, model_open(&m, 0, O_RDONLY, true), &b);
	CHECK(append("[1]\n", &b) == 0 && jsonl_file_sync(file, &b) == 0);
	CHECK(m.files[0].exists_on_disk && disk_holds("[1]\n"));
	CHECK(state_now().syncs == 1 && jsonl_file_sync(file, &a) == 0);
	CHECK(state_now().syncs == 1, "one round for both");
	end();
}

static struct jsonl_file_user newcomer;

static void new_name(void)
{
	jsonl_file_set_directory(file, model_open(&m, 0, O_RDONLY, true), &newcomer);
}

/* A name that comes while the disk is being looked at is not vouched for by that. */
static void test_directory_while_verifying(void)
{
	struct jsonl_file_user a = {0};

	begin("", false);
	newcomer = a;
	m.files[0].exists_on_disk = false;
	CHECK(append("[1]\n", &a) == 0);
	next_call(MODEL_FDATASYNC, fails);
	CHECK(jsonl_file_sync(file, &a) == -EIO);
	meanwhile(MODEL_DROP_CACHE, new_name);
	CHECK(append("[2]\n", &a) == 0 && !state_now().poisoned);
	CHECK(script_at == script_len && newcomer.last);
	CHECK(jsonl_file_sync(file, &newcomer) == -EIO, "told, since it was poisoned");
	CHECK(jsonl_file_sync(file, &newcomer) == 0 && m.files[0].exists_on_disk);
	end();
}

int main(void)
{
	test_append();
	test_lock();
	test_any_end();
	test_outside();
	test_outside_between();
	test_undo();
	test_undo_late();
	test_undo_of_nothing();
	test_free_undo();
	test_reserve();
	test_tails();
	test_rest();
	test_open_end();
	test_repair_sync();
	test_told_once();
	test_told_later();
	test_failure_within_append();
	test_force();
	test_force_emptied();
	test_cut_back();
	test_unsure_and_outside();
	test_unsure_and_undo();
	test_free_unsure();
	test_directory();
	test_directory_while_verifying();
	return check_done();
}
