/* SPDX-License-Identifier: MIT */
/* What is left of the quarantine when a system call fails, when the process ends in the
 * middle, and when something is in the way. */
#include "quarantine_rig.h"

/* ---- faults ---- */

static int put_durable(struct jsonl_quarantine *q, const char *text, char *name)
{
	struct iovec iov = {.iov_base = (char *)text, .iov_len = strlen(text)};
	struct jsonl_quarantine_item item = {.iov = &iov,
					     .niov = 1,
					     .event = "torn-tail",
					     .path = "x",
					     .source_fd = -1,
					     .reserved = true,
					     .durable = true};

	return jsonl_quarantine_put(q, &item, name);
}

/* Each call of a put fails, once; then nothing is half there and the next put works. */
static void test_every_call_fails(void)
{
	static const int codes[] = {-EIO, -ENOSPC, -EDQUOT, -EINTR, 0};
	int failures = 0, calls = 0;

	for (size_t c = 0; c < sizeof(codes) / sizeof(codes[0]); c++) {
		for (int at = 1;; at++) {
			char name[JSONL_QUARANTINE_NAME];
			struct jsonl_quarantine *q;
			unsigned other, lines;
			bool reached;
			int rc;

			new_state();
			faulty_reset(0, 0, false);
			q = start(64 * MIB);
			CHECK(put_durable(q, "before", NULL) == 0);
			faulty_reset(at, codes[c], false);
			rc = put_durable(q, "during", name);
			reached = faulty.calls >= at;
			calls = faulty.calls > calls ? faulty.calls : calls;
			faulty_reset(0, 0, false);
			failures += rc < 0;
			/* A short or interrupted write is gone on with. */
			if (codes[c] == 0)
				CHECK(rc == 0, "call %d: %d", at, rc);
			if (rc == 0)
				CHECK(strcmp(content(name), "during") == 0);
			CHECK(put_durable(q, "during", name) == 0);
			CHECK(strcmp(content(name), "during") == 0);
			CHECK(put_durable(q, "after", name) == 0);
			lines = check_index(&other);
			CHECK(lines >= 3 && other <= 1, "call %d: %u, %u", at, lines,
			      other);
			/* A failed sync leaves its file, which is whole; nothing else
			 * stays. */
			CHECK(count_files() >= 3 && count_files() == lines, "call %d: %u",
			      at, count_files());
			check_usage(q);
			jsonl_quarantine_free(q);
			if (!reached)
				break;
		}
	}
	printf("%d calls in a durable put, %d puts failed\n", calls, failures);
	CHECK(calls >= 10 && failures >= 20);
}

/* The process ends at each call; a new one finds everything in order. */
static void test_every_call_is_the_last(void)
{
	for (int at = 1;; at++) {
		char name[JSONL_QUARANTINE_NAME];
		struct jsonl_quarantine *q;
		unsigned other;
		bool reached;
		int rc;

		new_state();
		faulty_reset(0, 0, false);
		q = start(64 * MIB);
		CHECK(put_durable(q, "before", NULL) == 0);
		faulty_reset(at, -EIO, true);
		rc = put_durable(q, "during", name);
		reached = faulty.calls >= at;
		jsonl_quarantine_free(q);
		faulty_reset(0, 0, false);
		q = start(64 * MIB);
		if (rc == 0)
			CHECK(strcmp(content(name), "during") == 0);
		(void)check_index(&other);
		CHECK(other <= 1);
		CHECK(put_durable(q, "during", name) == 0);
		CHECK(strcmp(content(name), "during") == 0);
		(void)check_index(&other);
		CHECK(other <= 1);
		check_usage(q);
		jsonl_quarantine_free(q);
		if (!reached)
			break;
	}
}

static void test_join_fails(void)
{
	struct iovec rest = {(void *)"rest", 4};

	for (int at = 1;; at++) {
		char name[JSONL_QUARANTINE_NAME];
		struct jsonl_quarantine *q;
		bool reached;
		int rc;

		new_state();
		faulty_reset(0, 0, false);
		q = start(64 * MIB);
		CHECK(put_durable(q, "begin", name) == 0);
		faulty_reset(at, -ENOSPC, false);
		rc = jsonl_quarantine_join(q, name, &rest, 1, true);
		reached = faulty.calls >= at;
		faulty_reset(0, 0, false);
		CHECK(strcmp(content(name), rc == 0 ? "beginrest" : "begin") == 0,
		      "call %d: %d: %s", at, rc, content(name));
		check_usage(q);
		jsonl_quarantine_free(q);
		if (!reached)
			break;
	}
}

/* ---- what is in the way ---- */

static void test_obstacles(void)
{
	struct jsonl_quarantine *q = NULL;
	char name[JSONL_QUARANTINE_NAME];
	struct iovec iov = {(void *)"x", 1};
	uint64_t bytes, entries;
	struct stat st;
	int fd;

	new_state();
	faulty_reset(0, 0, false);
	CHECK(symlinkat("/tmp", state_fd, "quarantine") == 0);
	CHECK(jsonl_quarantine_new(&faulty.io, state_fd, MIB, &q) < 0);
	CHECK(unlinkat(state_fd, "quarantine", 0) == 0);
	if (geteuid() == 0) {
		CHECK(mkdirat(state_fd, "quarantine", 0700) == 0);
		CHECK(fchownat(state_fd, "quarantine", 1234, 1234, 0) == 0);
		CHECK(jsonl_quarantine_new(&faulty.io, state_fd, MIB, &q) == -EPERM);
		CHECK(unlinkat(state_fd, "quarantine", AT_REMOVEDIR) == 0);
	}
	/* An index that is a link, or ends in half a line, or is full of other things. */
	CHECK(symlinkat("elsewhere", state_fd, "quarantine.jsonl") == 0);
	CHECK(jsonl_quarantine_new(&faulty.io, state_fd, MIB, &q) == -ELOOP);
	CHECK(unlinkat(state_fd, "quarantine.jsonl", 0) == 0);
	fd = openat(state_fd, "quarantine.jsonl", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(write(fd,
		    "\xff\n[]\n{\"file\":1}\n{\"file\":\"a\",\"hash\":\"zz\"}\n{\"half",
		    47) == 47);
	close(fd);
	q = start(MIB);
	CHECK(put_text(q, "x", "new", name) == 0);
	CHECK(strstr(content(NULL), "{\"half\n{\"time\""));
	check_usage(q);
	/* Somebody puts another index in its place. */
	CHECK(renameat(state_fd, "quarantine.jsonl", state_fd, "old") == 0);
	CHECK(unlinkat(state_fd, "old", 0) == 0);
	CHECK(put_text(q, "x", "newer", name) == 0);
	CHECK(content(NULL) && strstr(content(NULL), name));
	jsonl_quarantine_free(q);

	/* A vault that cannot be written. */
	CHECK(jsonl_quarantine_new(&faulty.io, -1, MIB, &q) == 0);
	CHECK(put_text(q, "x", "y", NULL) == -EROFS);
	CHECK(jsonl_quarantine_join(q, "x", &iov, 1, false) == -EROFS);
	jsonl_quarantine_usage(q, &bytes, &entries);
	CHECK(bytes == 0 && entries == 0);
	CHECK(fstat(state_fd, &st) == 0);
	jsonl_quarantine_free(q);
	jsonl_quarantine_free(NULL);
}

/* Stock is taken anew when somebody asks for more than fits, and that fails: the bound
 * holds all the same, and the entries are known. */
static void test_recount_fails(void)
{
	static char big[200 << 10];
	char first[JSONL_QUARANTINE_NAME], name[JSONL_QUARANTINE_NAME];
	uint64_t bytes, entries, bytes2, entries2;
	struct jsonl_quarantine *q;

	for (int at = 1; at <= 4; at++) {
		new_state();
		faulty_reset(0, 0, false);
		q = start(MIB);
		CHECK(put_text(q, "x", "first", first) == 0);
		while (memset(big, 'a' + count_files() % 26, sizeof(big)),
		       put(q, "x", big, sizeof(big), 0, NULL) == 0)
			;
		jsonl_quarantine_usage(q, &bytes, &entries);
		q->last_recount -= 3600;
		faulty_reset(at, -EMFILE, false);
		memset(big, 'Z', sizeof(big));
		CHECK(put(q, "x", big, sizeof(big), 0, NULL) == -ENOSPC, "call %d", at);
		if (faulty.calls >= at) {
			jsonl_quarantine_usage(q, &bytes2, &entries2);
			CHECK(bytes == bytes2 && entries == entries2, "call %d: %llu in %llu",
			      at, (unsigned long long)bytes2,
			      (unsigned long long)entries2);
		}
		faulty_reset(0, 0, false);
		memset(big, 'Y', sizeof(big));
		CHECK(put(q, "x", big, sizeof(big), 0, NULL) == -ENOSPC, "call %d", at);
		CHECK(put_text(q, "x", "first", name) == 0 && strcmp(name, first) == 0);
		check_usage(q);
		jsonl_quarantine_free(q);
	}
}

int main(void)
{
	if (!rig_begin("test_quarantine_faults"))
		return check_done();
	test_every_call_fails();
	test_every_call_is_the_last();
	test_join_fails();
	test_obstacles();
	test_recount_fails();
	return rig_end();
}
