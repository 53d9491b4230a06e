/* SPDX-License-Identifier: MIT */
/* Bad lines: what the program is told, and when; what is set aside, once; and that no
 * good record is lost, and no program is silenced or left untold. Each test names its
 * mode. */
#include "writer_rig.h"

static void begin_mode(int onbad, const char *content)
{
	reset();
	options.onbad = onbad;
	begin(content);
}

#define REPORT	   JSONL_ONBAD_REPORT
#define QUARANTINE JSONL_ONBAD_QUARANTINE
#define REFUSE	   JSONL_ONBAD_REFUSE

/* ---- onbad=report ---- */

static void test_report_refuses(void)
{
	begin_mode(REPORT, "[1]\n");
	CHECK(put(1, "{oops}\n") == -EBADMSG && holds("[1]\n"));
	CHECK(entry_is(0, "refused", JSONL_UNEXPECTED, 1, "{oops}\n") &&
	      entries[0].at == 4 && entries[0].lines == 1);
	/* Blank lines are nothing; several bad ones are one entry. */
	CHECK(put(2, "\n{bad\n \nworse\n") == -EBADMSG);
	CHECK(entry_is(1, "refused", JSONL_UNEXPECTED, 1, "{bad\nworse\n") &&
	      entries[1].lines == 2);
	/* The fragment goes with it, and the byte is counted from its beginning. */
	CHECK(put(3, "[4,") == 0 && put(3, "oops]\n") == -EBADMSG);
	CHECK(entry_is(2, "refused", JSONL_BAD_LITERAL, 3, "[4,oops]\n"));
	/* Every verdict has its errno. */
	CHECK(put(4, "{}{}\n") == -EBADMSG && entries[3].code == JSONL_FUSED);
	CHECK(put(5, "\xef\xbb\xbf\xef\xbb\xbf{}\n") == -EBADMSG &&
	      entries[4].code == JSONL_BOM);
	CHECK(write_len(6, "{}\0\n", 4) == -EBADMSG && entries[5].code == JSONL_NUL);
	CHECK(put(7, "[\"\xff\"]\n") == -EBADMSG && entries[6].code == JSONL_BAD_UTF8);
	/* A write that has failed is told at close, too: run-times hide errors. */
	for (uint64_t owner = 1; owner <= 7; owner++)
		CHECK(flush(owner) == -EBADMSG);
	end();
	CHECK(nentries == 7);
}

/* One bad line never costs a good one. */
static void test_report_goes_on(void)
{
	begin_mode(REPORT, "");
	CHECK(put(1, "[1]\nbad\n[2]\n[3") == 0 && holds("[1]\n[2]\n"));
	CHECK(entry_is(0, "bad-record", JSONL_BAD_LITERAL, 0, "bad\n"));
	CHECK(put(1, "]\n") == 0 && holds("[1]\n[2]\n[3]\n"));
	/* A program that runs is not stopped, not even by a request of bad lines alone.
	 */
	CHECK(put(1, "worse\n") == 0 && put(1, "[4]\n") == 0);
	/* One that has a record to finish is not, either. */
	CHECK(put(2, "oops\n{\"a\"") == 0 && put(2, ":1}\n") == 0);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n{\"a\":1}\n") && nentries == 3);
	CHECK(flush(1) == -EBADMSG && flush(2) == -EBADMSG);
	end();
	/* When the good ones cannot be appended, none of it has happened. */
	begin_mode(REPORT, "");
	m.files[0].lock = -1;
	CHECK(put(1, "[5]\nx\n") == -EAGAIN && nentries == 0 && flush(1) == 0);
	m.files[0].lock = 0;
	CHECK(put(1, "[5]\nx\n") == 0 && nentries == 1 && flush(1) == -EBADMSG);
	end();
}

/* Who has written it is told, at each close, and nobody else. */
static void test_report_debts(void)
{
	begin_mode(REPORT, "");
	CHECK(put(1, "[1]\nbad\n") == 0 && put(2, "[2]\n") == 0);
	for (int n = 0; n < 3; n++)
		CHECK(flush(2) == 0 && flush(3) == 0 && flush(1) == -EBADMSG);
	/* The number of the file table is used again by another process. */
	CHECK(jsonl_writer_flush(writer, 1, process(9)) == 0);
	CHECK(jsonl_writer_write(writer, 1, process(9), true, 0, "[3]\n", 4) == 0);
	CHECK(jsonl_writer_flush(writer, 1, process(9)) == 0);
	CHECK(flush(1) == -EBADMSG);
	/* fsync: once to the process that wrote, and again for what is new. */
	CHECK(settle(2) == 0 && settle(1) == -EBADMSG && settle(1) == 0);
	CHECK(put(1, "worse\n") == 0 && settle(2) == 0 && settle(1) == -EBADMSG);
	CHECK(settle(1) == 0 && flush(1) == -EBADMSG);
	end();
	/* A process of another namespace has no number: its file table is one. */
	begin_mode(REPORT, "");
	CHECK(jsonl_writer_write(writer, 5, NULL, true, 0, "[1]\nbad\n", 8) == 0);
	CHECK(jsonl_writer_flush(writer, 6, NULL) == 0);
	CHECK(jsonl_writer_flush(writer, 5, NULL) == -EBADMSG);
	CHECK(jsonl_writer_settle(writer, NULL) == -EBADMSG);
	end();
	/* More processes than are remembered: those in debt stay. */
	begin_mode(REPORT, "");
	CHECK(put(1, "[1]\nbad\n") == 0 && flush(1) == -EBADMSG);
	for (uint64_t owner = 2; owner < 1000; owner++)
		CHECK(put(owner, "[2]\n") == 0 && flush(owner) == 0);
	CHECK(flush(1) == -EBADMSG);
	end();
}

/* A record of it has been appended: whatever it closed meanwhile, it is running. */
static void test_report_accepted(void)
{
	begin_mode(REPORT, "");
	CHECK(put(1, "[1]\n") == 0 && flush(1) == 0 && put(1, "bad\n") == 0);
	CHECK(put(2, "[2]") == 0 && flush(2) == 0 && put(2, "\nworse\n") == 0);
	/* The same number, another process. */
	CHECK(flush(1) == -EBADMSG);
	CHECK(jsonl_writer_write(writer, 1, process(9), true, 0, "new\n", 4) == -EBADMSG);
	/* What is only set aside is not accepted. */
	CHECK(put(3, "bad\n") == -EBADMSG && put(3, "bad\n") == 0);
	CHECK(put(3, "other\n") == -EBADMSG);
	end();
	/* A running program that goes on in a new file is not stopped there, but told. */
	rotated = true;
	begin_mode(REPORT, "");
	CHECK(put(1, "# created\n") == 0 && put(1, "[1]\n") == 0 && nentries == 1);
	CHECK(flush(1) == -EBADMSG && holds("[1]\n"));
	end();
	begin_mode(REPORT, "[1]\n");
	CHECK(put(1, "# created\n") == -EBADMSG);
	end();
	begin_mode(REFUSE, "");
	CHECK(put(1, "# created\n") == -EBADMSG);
	end();
	rotated = false;
}

/* A line that comes again, in whatever shape, is set aside once, and told once. */
static void test_report_again(void)
{
	begin_mode(REPORT, "");
	CHECK(put(1, "bad\nworse\n") == -EBADMSG && nentries == 1);
	/* All of it, a part, in pieces, with more around it. */
	CHECK(put(1, "bad\nworse\n") == 0 && put(1, "worse\n") == 0);
	CHECK(put(1, "b") == 0 && put(1, "ad\n[1]\nwor") == 0 &&
	      put(1, "se\n[2]\n") == 0);
	CHECK(put(1, "[3]\nbad\n") == 0 && holds("[1]\n[2]\n[3]\n") && nentries == 1);
	/* Twice at once: two records that both went wrong. Together again: none is new. */
	CHECK(put(1, "[4]\nnew\nnew\n") == 0 && nentries == 2);
	CHECK(entry_is(1, "bad-record", JSONL_BAD_LITERAL, 1, "new\nnew\n"));
	CHECK(entries[1].lines == 2 && put(1, "new\nnew\n") == 0 && nentries == 2);
	/* Of another process it is another line. */
	CHECK(put(2, "bad\n") == -EBADMSG && nentries == 3);
	end();
	CHECK(nentries == 3);
}

/* The file is opened anew, and what was refused is sent again. */
static void test_report_reopened(void)
{
	struct jsonl_writer *second;
	bool committed;

	begin_mode(REPORT, "");
	CHECK(put(1, "bad\n") == -EBADMSG && flush(1) == -EBADMSG);
	CHECK(jsonl_writer_new(file, &options, &rig_events, NULL, 0, &second) == 0);
	CHECK(jsonl_writer_write(second, 1, process(1), true, 0, "bad\n[1]\n", 8) == 0);
	CHECK(holds("[1]\n") && nentries == 1);
	CHECK(jsonl_writer_flush(second, 1, process(1)) == 0);
	CHECK(jsonl_writer_release(second, true, &committed) == 0);
	jsonl_writer_free(second);
	end();
}

/* What was refused with its fragment brings the fragment back; anything else does not. */
static void test_report_fragment(void)
{
	for (int again = 0; again < 2; again++) {
		begin_mode(REPORT, "");
		CHECK(put(1, "{\"a\":") == 0 && put(1, "x}\n") == -EBADMSG);
		CHECK(entry_is(0, "refused", JSONL_BAD_LITERAL, 5, "{\"a\":x}\n"));
		if (again)
			CHECK(put(1, "x}\n[1]\n") == 0 && nentries == 1);
		else
			CHECK(put(1, "y}\n[1]\n") == 0 && nentries == 2);
		CHECK(holds("[1]\n") && charged == 0);
		end();
	}
	/* Somebody has the lock: the fragment is not lost on the way. */
	begin_mode(REPORT, "");
	CHECK(put(1, "{\"a\":") == 0 && put(1, "x}\n") == -EBADMSG);
	m.files[0].lock = -1;
	CHECK(put(1, "x}\n[1]\n") == -EAGAIN && put(1, "x}\n[1]\n") == -EAGAIN);
	m.files[0].lock = 0;
	CHECK(put(1, "x}\n[1]\n") == 0 && holds("[1]\n") && nentries == 1);
	end();
	/* At a close it is forgotten: the number may be another process by then. */
	begin_mode(REPORT, "");
	CHECK(put(1, "{\"a\":") == 0 && put(1, "x}\n") == -EBADMSG);
	CHECK(flush(1) == -EBADMSG && put(2, "x}\n[1]\n") == 0 && nentries == 2);
	CHECK(charged == 0);
	end();
}

/* More lines than are remembered come again in one request. */
static void test_report_many(void)
{
	static char lines[2 * JSONL_KNOWN_LINES * 8];
	size_t len = 0;

	begin_mode(REPORT, "");
	for (int n = 0; n < 2 * JSONL_KNOWN_LINES; n++)
		len += (size_t)sprintf(lines + len, "x%d\n", n);
	nentries = 0;
	quarantine_full = true;
	CHECK(write_len(1, lines, len) == -EBADMSG && nentries > 500);
	nentries = 0;
	/* Nobody is stuck with a request that is refused for ever. */
	CHECK(write_len(1, lines, len) == 0 && nentries == 0);
	end();
}

/* A line that outgrows maxrecord is bad up to its newline. */
static void test_report_too_long(void)
{
	char big[4200], again[4300];

	memset(big, 'x', sizeof(big));
	big[0] = '"';
	begin_mode(REPORT, "");
	CHECK(write_len(1, big, sizeof(big)) == -EMSGSIZE && nentries == 1);
	CHECK(entries[0].code == JSONL_TOO_LONG && charged == 0);
	CHECK(put(1, "{\"a\":1}") == 0 && put(1, "\"\n[1]\n") == 0 && holds("[1]\n"));
	CHECK(entries[0].len == sizeof(big) + 9 && nentries == 1);
	CHECK(settle(1) == -EMSGSIZE && flush(1) == -EMSGSIZE);
	/* It comes again, in other pieces; nothing of it is stored, or told, twice. */
	memcpy(again, big, sizeof(big));
	memcpy(again + sizeof(big), "{\"a\":1}\"\n[2]\n", 13);
	CHECK(write_len(1, again, sizeof(big) + 13) == 0 && holds("[1]\n[2]\n"));
	CHECK(nentries == 1 && settle(1) == 0);
	end();
	/* A short write, after which the program sends the refused piece again. */
	begin_mode(REPORT, "");
	CHECK(write_len(1, big, 4000) == 0 && write_len(1, big, 200) == -EMSGSIZE);
	CHECK(write_len(1, big, 200) == 0 && put(1, "\"\n[1]\n") == 0);
	CHECK(entries[0].len == 4202 && nentries == 1 && holds("[1]\n"));
	/* A program that runs is not stopped. */
	CHECK(write_len(1, big, 4000) == 0 && write_len(1, big, 200) == 0);
	/* It drops what it has not written yet. */
	CHECK(put(1, "{\"b\":1}\n") == 0 && holds("[1]\n{\"b\":1}\n"));
	end();
	/* Whole in one request: as any other bad line. */
	begin_mode(REPORT, "");
	memcpy(again + sizeof(big), "\"\n", 2);
	CHECK(write_len(1, again, sizeof(big) + 2) == -EMSGSIZE && flush(1) == -EMSGSIZE);
	CHECK(write_len(1, again, sizeof(big) + 2) == 0 && nentries == 1);
	end();
	/* Its process ends in the middle of it: the next one's record is its own. */
	begin_mode(REPORT, "");
	CHECK(write_len(1, big, sizeof(big)) == -EMSGSIZE && flush(1) == -EMSGSIZE);
	CHECK(put(2, "{\"b\":1}\n") == 0 && holds("{\"b\":1}\n") && flush(2) == 0);
	end();
	begin_mode(REPORT, "");
	CHECK(write_len(1, big, sizeof(big)) == -EMSGSIZE && flush(1) == -EMSGSIZE);
	CHECK(put(2, "rest\"\n{\"b\":1}\n") == 0 && holds("{\"b\":1}\n"));
	CHECK(entries[0].len == sizeof(big) + 6 && nentries == 1);
	end();
}

/* commit=close: a bad line spoils the block; one that is known already does not. */
static void test_report_block(void)
{
	struct jsonl_stage *stage;
	uint64_t records, bytes;

	reset();
	options.onbad = REPORT;
	begin("");
	jsonl_writer_free(writer);
	CHECK(jsonl_stage_new(&m.io, -1, "s", "x", NULL, NULL, &stage) == 0);
	options.stage = stage;
	CHECK(jsonl_writer_new(file, &options, &rig_events, NULL, 0, &writer) == 0);
	CHECK(put(1, "[1]\n") == 0 && jsonl_writer_spoiled(writer) == JSONL_OK);
	CHECK(put(1, "bad\n[2]\n") == 0 && holds(""));
	CHECK(jsonl_writer_spoiled(writer) == JSONL_BAD_LITERAL && settle(1) == -EBADMSG);
	jsonl_writer_staged(writer, &records, &bytes);
	CHECK(records == 2 && bytes == 8 && flush(1) == -EBADMSG);
	/* Taken back: nothing is bad any more. */
	CHECK(jsonl_writer_rollback(writer, 0) == 0);
	CHECK(jsonl_writer_spoiled(writer) == JSONL_OK && flush(1) == 0);
	CHECK(put(1, "[1]\nbad\n[2]\n") == 0 && flush(1) == 0 && nentries == 1);
	CHECK(jsonl_writer_spoiled(writer) == JSONL_OK);
	CHECK(jsonl_writer_rollback(writer, 0) == 0);
	end();
	jsonl_stage_free(stage);
	reset();
}

/* ---- onbad=quarantine ---- */

/* Nothing is an error: not a request of bad lines, not a half at close. */
static void test_quarantine(void)
{
	begin_mode(QUARANTINE, "");
	CHECK(put(1, "oops\n") == 0 && nentries == 1);
	CHECK(put(1, "[1") == 0 && put(1, "]]\n[2]\nx\n\n{}{}\n[3]\n[4") == 0);
	CHECK(holds("[2]\n[3]\n") && nentries == 2);
	CHECK(entry_is(1, "bad-record", JSONL_TRAILING, 3, "[1]]\nx\n{}{}\n"));
	CHECK(entries[1].lines == 3);
	CHECK(settle(1) == 0 && flush(1) == 0);
	/* The half goes on elsewhere: here it is set aside. */
	end();
	CHECK(entry_is(2, "fragment", JSONL_INCOMPLETE, 2, "[4") && nentries == 3);
	/* An append that fails is no matter of bad lines. */
	begin_mode(QUARANTINE, "");
	CHECK(put(1, "{}") == 0);
	m.faults[0] =
	    (struct model_fault){.at = m.calls + 3, .kind = MODEL_FAIL, .code = ENOSPC};
	CHECK(flush(1) == -ENOSPC);
	end();
	/* Too long for one request, with what is behind it. */
	begin_mode(QUARANTINE, "");
	for (int n = 0; n < 100; n++)
		CHECK(put(1, "[\"0123456789012345678901234567890123456789\",") == 0);
	CHECK(put(1, "]\n[1]\n") == 0 && holds("[1]\n") && flush(1) == 0);
	end();
	CHECK(nentries == 1 && entries[0].len == 4402);
}

/* ---- onbad=refuse ---- */

/* All or none: good ones beside it are not appended, and are in the quarantine with it.
 */
static void test_refuse(void)
{
	begin_mode(REFUSE, "[1]\n");
	CHECK(put(2, "[2]\n{bad\n[3]\n") == -EBADMSG && holds("[1]\n"));
	CHECK(entry_is(0, "refused", JSONL_UNEXPECTED, 4 + 1, "[2]\n{bad\n[3]\n"));
	CHECK(put(3, "[4,") == 0 && put(3, "oops]\n[5]\n") == -EBADMSG);
	CHECK(entry_is(1, "refused", JSONL_BAD_LITERAL, 3, "[4,oops]\n[5]\n"));
	/* The write has told; close does not. */
	CHECK(flush(2) == 0 && flush(3) == 0 && settle(2) == 0);
	/* Also in mid-stream. */
	CHECK(put(4, "[6]\n") == 0 && put(4, "bad\n[7]\n") == -EBADMSG);
	CHECK(holds("[1]\n[6]\n"));
	end();
	CHECK(nentries == 3);
}

/* BufferedWriter of Python: what could not be written stays in front. */
struct python {
	char buffer[8192];
	size_t len;
	unsigned errors;
};

static void python_write(struct python *p, const char *text)
{
	memcpy(p->buffer + p->len, text, strlen(text));
	p->len += strlen(text);
	if (write_len(1, p->buffer, p->len) == 0)
		p->len = 0;
	else
		p->errors++;
}

static void test_python(int onbad, unsigned errors)
{
	struct python p = {.len = 0};
	char line[32], *expected = calloc(1, 32 * 1002), *at = expected;

	begin_mode(onbad, "");
	if (onbad == REFUSE) {
		at += sprintf(at, "{\"n\":0}\n");
		python_write(&p, "{\"n\":0}\n");
	}
	python_write(&p, "{'n':bad}\n");
	CHECK(p.errors == errors);
	for (int n = 1; n <= 1000; n++) {
		snprintf(line, sizeof(line), "{\"n\":%d}\n", n);
		python_write(&p, line);
		at += sprintf(at, "%s", line);
	}
	CHECK(p.errors == errors && p.len == 0 && holds(expected));
	CHECK(nentries == 1 && entry_is(0, errors ? "refused" : "bad-record",
					JSONL_UNEXPECTED, 1, "{'n':bad}\n"));
	CHECK(flush(1) == (onbad == REPORT ? -EBADMSG : 0));
	end();
	free(expected);
}

/* Good ones in the refused buffer are not lost and come once; a second bad one is news.
 */
static void test_refuse_again(void)
{
	begin_mode(REFUSE, "");
	CHECK(put(1, "[1]\nbad\n[2]\n[3") == -EBADMSG && holds(""));
	/* The same alone. */
	CHECK(put(1, "[1]\nbad\n[2]\n[3") == 0 && holds("[1]\n[2]\n") && nentries == 1);
	CHECK(put(1, "]\n") == 0 && holds("[1]\n[2]\n[3]\n"));
	/* It is known from now on, in whatever shape it comes. */
	CHECK(put(1, "bad\n") == 0 && put(1, "b") == 0 && put(1, "ad\n[4]\n") == 0);
	CHECK(put(1, "[5]\n") == 0 && holds("[1]\n[2]\n[3]\n[4]\n[5]\n"));
	/* Another bad one behind it. Only what is new is set aside. */
	CHECK(put(1, "[6]\nworse\n[7") == -EBADMSG && nentries == 2);
	CHECK(put(1, "[6]\nworse\n[7]\nworst\n[8]\n") == -EBADMSG && nentries == 3);
	CHECK(entry_is(2, "refused", JSONL_BAD_LITERAL, 2, "]\nworst\n[8]\n"));
	CHECK(put(1, "[6]\nworse\n[7]\nworst\n[8]\n[9]\n") == 0 && nentries == 3);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\n[7]\n[8]\n[9]\n"));
	end();
	CHECK(nentries == 3);
}

/* A record began in a request that was accepted and ends in one that is refused for
 * another record: it is good, and must be there once the rest is sent again. */
static void test_refuse_fragment(void)
{
	for (int extra = 0; extra < 2; extra++) {
		begin_mode(REFUSE, "");
		CHECK(put(1, "[1]\n{\"long\":") == 0);
		CHECK(put(1, "2}\nbad\n[3]\n") == -EBADMSG && holds("[1]\n"));
		CHECK(entry_is(0, "refused", JSONL_BAD_LITERAL, 11,
			       "{\"long\":2}\nbad\n[3]\n"));
		if (extra) {
			/* Meanwhile somebody has the lock, and another bad one comes. */
			m.files[0].lock = -1;
			CHECK(put(1, "2}\nbad\n[3]\n[4]\n") == -EAGAIN);
			m.files[0].lock = 0;
			CHECK(put(1, "2}\nbad\n[3]\nworse\n") == -EBADMSG);
			CHECK(entry_is(1, "refused", JSONL_BAD_LITERAL, 0, "worse\n"));
			CHECK(put(1, "2}\nbad\n[3]\nworse\n[4]\n") == 0);
		} else {
			CHECK(put(1, "2}\nbad\n[3]\n[4]\n") == 0);
		}
		CHECK(holds("[1]\n{\"long\":2}\n[3]\n[4]\n"));
		end();
		CHECK(nentries == 1u + (unsigned)extra);
	}
	/* Not sent again: it stays where it was set aside, and is not glued to what
	 * follows. */
	begin_mode(REFUSE, "");
	CHECK(put(1, "{\"long\":") == 0 && put(1, "2}\nbad\n") == -EBADMSG);
	CHECK(put(1, "[5]\n") == 0 && holds("[5]\n") && nentries == 1);
	end();
	CHECK(nentries == 1);
	/* The bad one is its own line: nothing of it is good. */
	begin_mode(REFUSE, "");
	CHECK(put(1, "{\"long\":") == 0 && put(1, "x}\n[3]\n") == -EBADMSG);
	CHECK(put(1, "x}\n[3]\n[4]\n") == 0 && holds("[3]\n[4]\n") && nentries == 1);
	end();
	CHECK(nentries == 1);
}

/* The refused buffer is one unfinished line that has outgrown maxrecord. */
static void test_refuse_unfinished(void)
{
	char big[4200], again[4300];

	memset(big, 'x', sizeof(big));
	big[0] = '"';
	memcpy(again, big, sizeof(big));
	memcpy(again + sizeof(big), "x\"\n[1]\n", 8);
	begin_mode(REFUSE, "");
	CHECK(write_len(1, big, sizeof(big)) == -EMSGSIZE);
	CHECK(write_len(1, again, sizeof(big) + 7) == 0 && holds("[1]\n"));
	CHECK(nentries == 1 && entries[0].len == sizeof(big) + 3);
	end();
	/* Behind a good one, which is appended when it is sent again. */
	memmove(big + 4, big, sizeof(big) - 4);
	memcpy(big, "[0]\n", 4);
	begin_mode(REFUSE, "");
	CHECK(write_len(1, big, sizeof(big)) == -EMSGSIZE && holds(""));
	CHECK(write_len(1, big, sizeof(big)) == 0 && holds("[0]\n"));
	CHECK(put(1, "y\"\n[1]\n") == 0 && holds("[0]\n[1]\n"));
	CHECK(nentries == 2 && entries[1].len == sizeof(big) - 4 + 3);
	end();
}

/* stdio: the block is dropped, what follows goes on in mid-record. */
static void test_refuse_stdio(void)
{
	static char stream[64 * 1024];
	size_t len = 0, at = 0, block = 4096;
	unsigned errors = 0, missing = 0;
	char line[64];

	begin_mode(REFUSE, "");
	for (int n = 0; n < 1001; n++)
		len += (size_t)sprintf(
		    stream + len, n == 100 ? "{\"n\":%d,'bad'}\n" : "{\"n\":%d}\n", n);
	while (at < len) {
		size_t n = len - at < block ? len - at : block;

		errors += write_len(1, stream + at, n) != 0;
		at += n; /* dropped or not */
	}
	CHECK(errors == 1 && nentries == 1);
	/* Each record is in the file or in the entry, whole. */
	for (int n = 0; n < 1001; n++) {
		size_t l = (size_t)sprintf(
		    line, n == 100 ? "{\"n\":%d,'bad'}\n" : "{\"n\":%d}\n", n);
		bool set = memmem(entries[0].bytes, entries[0].len, line, l);
		bool there = memmem(m.files[0].data, m.files[0].size, line, l);

		CHECK(set != there, "%d", n);
		missing += set;
	}
	/* Only the block that held the bad one. */
	CHECK(missing < 4096 / 8 + 2 && noted.records + missing == 1001, "%u", missing);
	end();
	CHECK(nentries == 1);
}

static void test_refuse_join(void)
{
	begin_mode(REFUSE, "");
	CHECK(put(1, "bad\n{\"rest\":") == -EBADMSG);
	/* In several pieces, to its newline; byte for byte. */
	CHECK(put(1, "[1,") == 0 && put(1, "2") == 0 && put(1, "]}\n[3]\n[4") == 0);
	CHECK(entry_is(0, "refused", JSONL_BAD_LITERAL, 0, "bad\n{\"rest\":[1,2]}\n"));
	CHECK(put(1, "]\n") == 0 && holds("[3]\n[4]\n"));
	/* The end of the line alone. */
	CHECK(put(1, "bad1\n\"x") == -EBADMSG && put(1, "\"\n") == 0 &&
	      put(1, "[5]\n") == 0);
	CHECK(entry_is(1, "refused", JSONL_BAD_LITERAL, 0, "bad1\n\"x\"\n"));
	/* glibc drops the rest of the last record, too, and goes on with the next one. */
	CHECK(put(1, "bad2\n{\"a\":") == -EBADMSG && put(1, "{\"b\":2}\n[6]\n") == 0);
	CHECK(entry_is(2, "refused", JSONL_BAD_LITERAL, 0, "bad2\n{\"a\":"));
	CHECK(holds("[3]\n[4]\n[5]\n{\"b\":2}\n[6]\n"));
	/* What is joined has another bad one behind it: refused, in an entry of its own.
	 */
	CHECK(put(1, "bad3\n\"y") == -EBADMSG && put(1, "\"\nworse\n") == -EBADMSG);
	CHECK(entry_is(3, "refused", JSONL_BAD_LITERAL, 0, "bad3\n\"y\"\n"));
	CHECK(entry_is(4, "refused", JSONL_BAD_LITERAL, 0, "worse\n"));
	/* And again: the joined bytes are not joined twice. */
	CHECK(put(1, "\"\nworse\n[7]\n") == 0);
	CHECK(holds("[3]\n[4]\n[5]\n{\"b\":2}\n[6]\n[7]\n"));
	end();
	CHECK(nentries == 5);
	/* A full quarantine kept nothing: then there is nothing to join to. */
	begin_mode(REFUSE, "");
	quarantine_full = true;
	CHECK(put(1, "bad\n{\"rest\":") == -EBADMSG && put(1, "1}\n[1]\n") == 0);
	CHECK(holds("[1]\n"));
	end();
}

/* Its process has gone in mid-record. Another one must not lose a record to it, but may
 * be the one that goes on with it. */
static void test_refuse_join_orphan(void)
{
	begin_mode(REFUSE, "");
	CHECK(put(1, "bad\n{\"rest\":") == -EBADMSG && flush(1) == 0);
	CHECK(put(2, "{\"whole\":1}\n") == 0 && holds("{\"whole\":1}\n"));
	CHECK(entry_is(0, "refused", JSONL_BAD_LITERAL, 0, "bad\n{\"rest\":"));
	end();
	begin_mode(REFUSE, "");
	CHECK(put(1, "bad\n{\"rest\":") == -EBADMSG && flush(1) == 0);
	CHECK(put(2, "1}\n[2]\n") == 0 && holds("[2]\n"));
	CHECK(entry_is(0, "refused", JSONL_BAD_LITERAL, 0, "bad\n{\"rest\":1}\n"));
	end();
	/* Ended at its newline: nothing goes on. */
	begin_mode(REFUSE, "");
	CHECK(put(1, "bad\n") == -EBADMSG && flush(1) == 0);
	CHECK(put(2, "[1]\n") == 0 && holds("[1]\n") && nentries == 1);
	/* The same line of somebody else is that one's. */
	CHECK(put(2, "bad\n[2]\n") == -EBADMSG && holds("[1]\n"));
	end();
}

/* ---- beside other things ---- */

static void test_others(void)
{
	/* Without O_APPEND it comes again at the same place. */
	begin_mode(REFUSE, "[0]\n");
	CHECK(put_at(1, 4, "[1]\n[2") == 0);
	CHECK(put_at(1, 10, "]\nbad\n[3]\n") == -EBADMSG);
	CHECK(put_at(1, 10, "]\nbad\n[3]\n[4]\n") == 0 && put_at(1, 24, "[5]\n") == 0);
	CHECK(holds("[0]\n[1]\n[2]\n[3]\n[4]\n[5]\n") && nentries == 1);
	end();
	/* Also where it begins with what is stored there already. */
	begin_mode(REFUSE, "[0]\n[1]\n");
	CHECK(put_at(1, 4, "[1]\nbad\n") == -EBADMSG);
	CHECK(put_at(1, 4, "[1]\nbad\n[2]\n") == 0);
	CHECK(holds("[0]\n[1]\n[2]\n") && nentries == 1);
	end();
	/* A newline that was to be swallowed is not one that is stored. */
	reset();
	options.onbad = REFUSE;
	options.limits.blank = JSONL_BLANK_KEEP;
	begin("");
	CHECK(put(1, "[1]") == 0 && settle(1) == 0);
	CHECK(put(1, "\nbad\n") == -EBADMSG && put(1, "\nbad\n[2]\n") == 0);
	CHECK(holds("[1]\n[2]\n"));
	end();
	/* Memory: what is remembered is given back. */
	begin_mode(REPORT, "");
	CHECK(put(1, "bad\n") == -EBADMSG && charged == 0);
	CHECK(put(1, "[1]\n") == 0 && charged == 0);
	CHECK(put(2, "[1") == 0 && put(2, "x]\n") == -EBADMSG && charged == 2);
	CHECK(put(2, "[2]\n") == 0 && charged == 0);
	end();
	reset();
}

int main(void)
{
	test_report_refuses();
	test_report_goes_on();
	test_report_debts();
	test_report_accepted();
	test_report_again();
	test_report_reopened();
	test_report_fragment();
	test_report_many();
	test_report_too_long();
	test_report_block();
	test_quarantine();
	test_refuse();
	test_python(REPORT, 1);
	test_python(QUARANTINE, 0);
	test_python(REFUSE, 1);
	test_refuse_again();
	test_refuse_fragment();
	test_refuse_unfinished();
	test_refuse_stdio();
	test_refuse_join();
	test_refuse_join_orphan();
	test_others();
	return check_done();
}
