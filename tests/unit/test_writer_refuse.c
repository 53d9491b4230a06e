/* Bad records: what the program is told, what is set aside and joined, and that one bad
 * record does not silence a program: Python sends a refused buffer again in front of what
 * follows, stdio drops its block and goes on. */
#include "writer_rig.h"

/* ---- refused ---- */

static void test_refused(void)
{
	begin("[1]\n");
	CHECK(put(1, "{oops}\n") == -EBADMSG && holds("[1]\n"));
	CHECK(entry_is(0, "refused", JSONL_UNEXPECTED, 1, "{oops}\n") &&
	      entries[0].at == 4);
	/* All or none: good ones beside it are not appended. */
	CHECK(put(2, "[2]\n{bad\n[3]\n") == -EBADMSG && holds("[1]\n"));
	CHECK(entry_is(1, "refused", JSONL_UNEXPECTED, 4 + 1, "[2]\n{bad\n[3]\n"));
	/* The fragment goes with it, and the byte is counted from its beginning. */
	CHECK(put(3, "[4,") == 0 && put(3, "oops]\n[5]\n") == -EBADMSG);
	CHECK(entry_is(2, "refused", JSONL_BAD_LITERAL, 3, "[4,oops]\n[5]\n"));
	/* Every verdict has its errno. */
	CHECK(put(4, "{}{}\n") == -EBADMSG && entries[3].code == JSONL_FUSED);
	CHECK(put(5, "\xef\xbb\xbf{}\n") == -EBADMSG && entries[4].code == JSONL_BOM);
	CHECK(write_len(6, "{}\0\n", 4) == -EBADMSG && entries[5].code == JSONL_NUL);
	CHECK(put(7, "[\"\xff\"]\n") == -EBADMSG && entries[6].code == JSONL_BAD_UTF8);
	end();
	CHECK(nentries == 7);
}

static void test_quarantined(void)
{
	reset();
	options.onbad = JSONL_ONBAD_QUARANTINE;
	begin("");
	CHECK(put(1, "[1") == 0 && put(1, "]]\n[2]\nx\n\n{}{}\n[3]\n[4") == 0);
	CHECK(holds("[2]\n[3]\n") && nentries == 3);
	CHECK(entry_is(0, "bad-record", JSONL_TRAILING, 3, "[1]]\n"));
	CHECK(entry_is(1, "bad-record", JSONL_BAD_LITERAL, 0, "x\n"));
	CHECK(entry_is(2, "bad-record", JSONL_FUSED, 2, "{}{}\n"));
	CHECK(put(1, "]\n") == 0 && holds("[2]\n[3]\n[4]\n"));
	/* When the good ones cannot be appended, none of it has happened. */
	m.files[0].lock = -1;
	CHECK(put(1, "[5]\nx\n") == -EAGAIN && nentries == 3);
	m.files[0].lock = 0;
	CHECK(put(1, "[5]\nx\n") == 0 && nentries == 4);
	end();
	reset();
}

/* ---- Python: the refused buffer comes again, with more behind it ---- */

/* BufferedWriter over the mount: what could not be written stays in front. */
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

static void test_python(void)
{
	struct python p = {.len = 0};
	char line[32], *expected = calloc(1, 32 * 1002), *at = expected;

	begin("");
	at += sprintf(at, "{\"n\":0}\n");
	python_write(&p, "{\"n\":0}\n");
	python_write(&p, "{'n':bad}\n");
	CHECK(p.errors == 1 && p.len);
	for (int n = 1; n <= 1000; n++) {
		snprintf(line, sizeof(line), "{\"n\":%d}\n", n);
		python_write(&p, line);
		at += sprintf(at, "%s", line);
	}
	CHECK(p.errors == 1 && p.len == 0 && holds(expected));
	CHECK(nentries == 1 &&
	      entry_is(0, "refused", JSONL_UNEXPECTED, 1, "{'n':bad}\n"));
	CHECK(noted.records == 1001);
	end();
	free(expected);
}

/* Good ones in the refused buffer are not lost and come once; a second bad one is news.
 */
static void test_resend(void)
{
	begin("");
	CHECK(put(1, "[1]\nbad\n[2]\n[3") == -EBADMSG && holds(""));
	/* The same alone. */
	CHECK(put(1, "[1]\nbad\n[2]\n[3") == 0 && holds("[1]\n[2]\n") && nentries == 1);
	CHECK(put(1, "]\n") == 0 && holds("[1]\n[2]\n[3]\n"));
	/* It was dealt with: once more is a new record. */
	CHECK(put(1, "bad\n") == -EBADMSG && put(1, "bad\n[4]\n") == 0);
	CHECK(put(1, "bad\n") == -EBADMSG && nentries == 3);
	CHECK(put(1, "[5]\n") == 0 && holds("[1]\n[2]\n[3]\n[4]\n[5]\n"));
	/* Another bad one behind it. Only what is new is set aside. */
	CHECK(put(1, "[6]\nbad\n[7") == -EBADMSG && nentries == 4);
	CHECK(put(1, "[6]\nbad\n[7]\nworse\n[8]\n") == -EBADMSG && nentries == 5);
	CHECK(entry_is(4, "refused", JSONL_BAD_LITERAL, 2, "]\nworse\n[8]\n"));
	CHECK(put(1, "[6]\nbad\n[7]\nworse\n[8]\n[9]\n") == 0 && nentries == 5);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\n[7]\n[8]\n[9]\n"));
	end();
	CHECK(nentries == 5);
}

/* A record began in a request that was accepted and ends in one that is refused for
 * another record: it is good, and must be there once the rest is sent again. */
static void test_resend_fragment(void)
{
	for (int extra = 0; extra < 2; extra++) {
		begin("");
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
	begin("");
	CHECK(put(1, "{\"long\":") == 0 && put(1, "2}\nbad\n") == -EBADMSG);
	CHECK(put(1, "[5]\n") == 0 && holds("[5]\n") && nentries == 1);
	end();
	CHECK(nentries == 1);
	/* The bad one is its own line: nothing of it is good. */
	begin("");
	CHECK(put(1, "{\"long\":") == 0 && put(1, "x}\n[3]\n") == -EBADMSG);
	CHECK(put(1, "x}\n[3]\n[4]\n") == 0 && holds("[3]\n[4]\n") && nentries == 1);
	end();
	CHECK(nentries == 1);
}

/* The refused buffer is one unfinished line that has outgrown maxrecord. */
static void test_resend_unfinished(void)
{
	char big[4200], again[4300];

	memset(big, 'x', sizeof(big));
	big[0] = '"';
	memcpy(again, big, sizeof(big));
	memcpy(again + sizeof(big), "x\"\n[1]\n", 8);
	begin("");
	CHECK(write_len(1, big, sizeof(big)) == -EMSGSIZE);
	CHECK(write_len(1, again, sizeof(big) + 7) == 0 && holds("[1]\n"));
	CHECK(nentries == 1 && entries[0].len == sizeof(big) + 3);
	end();
}

/* ---- stdio: the block is dropped, what follows goes on in mid-record ---- */

static void test_stdio(void)
{
	static char stream[64 * 1024];
	size_t len = 0, at = 0, block = 4096;
	unsigned errors = 0, missing = 0;
	char line[64];

	begin("");
	options.max_request = 1 << 20;
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
	reset();
}

static void test_join(void)
{
	begin("");
	CHECK(put(1, "bad\n{\"rest\":") == -EBADMSG);
	/* In several pieces, to its newline; byte for byte. */
	CHECK(put(1, "[1,") == 0 && put(1, "2") == 0 && put(1, "]}\n[3]\n[4") == 0);
	CHECK(entry_is(0, "refused", JSONL_BAD_LITERAL, 0, "bad\n{\"rest\":[1,2]}\n"));
	CHECK(put(1, "]\n") == 0 && holds("[3]\n[4]\n"));
	/* The end of the line alone. */
	CHECK(put(1, "bad\n\"x") == -EBADMSG && put(1, "\"\n") == 0 &&
	      put(1, "[5]\n") == 0);
	CHECK(entry_is(1, "refused", JSONL_BAD_LITERAL, 0, "bad\n\"x\"\n"));
	/* glibc drops the rest of the last record, too, and goes on with the next one. */
	CHECK(put(1, "bad\n{\"a\":") == -EBADMSG && put(1, "{\"b\":2}\n[6]\n") == 0);
	CHECK(entry_is(2, "refused", JSONL_BAD_LITERAL, 0, "bad\n{\"a\":"));
	CHECK(holds("[3]\n[4]\n[5]\n{\"b\":2}\n[6]\n"));
	/* What is joined has another bad one behind it: refused, in an entry of its own.
	 */
	CHECK(put(1, "bad\n\"y") == -EBADMSG && put(1, "\"\nworse\n") == -EBADMSG);
	CHECK(entry_is(3, "refused", JSONL_BAD_LITERAL, 0, "bad\n\"y\"\n"));
	CHECK(entry_is(4, "refused", JSONL_BAD_LITERAL, 0, "worse\n"));
	CHECK(put(1, "[7]\n") == 0 && holds("[3]\n[4]\n[5]\n{\"b\":2}\n[6]\n[7]\n"));
	end();
	CHECK(nentries == 5);
	/* A full quarantine kept nothing: then there is nothing to join to. */
	begin("");
	quarantine_full = true;
	CHECK(put(1, "bad\n{\"rest\":") == -EBADMSG && put(1, "1}\n[1]\n") == 0);
	CHECK(holds("[1]\n"));
	end();
}

/* Its process has gone in mid-record. Another one must not lose a record to it, but may
 * be the one that goes on with it. */
static void test_join_orphan(void)
{
	begin("");
	CHECK(put(1, "bad\n{\"rest\":") == -EBADMSG &&
	      jsonl_writer_flush(writer, 1) == 0);
	CHECK(put(2, "{\"whole\":1}\n") == 0 && holds("{\"whole\":1}\n"));
	CHECK(entry_is(0, "refused", JSONL_BAD_LITERAL, 0, "bad\n{\"rest\":"));
	end();
	begin("");
	CHECK(put(1, "bad\n{\"rest\":") == -EBADMSG &&
	      jsonl_writer_flush(writer, 1) == 0);
	CHECK(put(2, "1}\n[2]\n") == 0 && holds("[2]\n"));
	CHECK(entry_is(0, "refused", JSONL_BAD_LITERAL, 0, "bad\n{\"rest\":1}\n"));
	end();
	/* Ended at its newline: nothing goes on. */
	begin("");
	CHECK(put(1, "bad\n") == -EBADMSG && jsonl_writer_flush(writer, 1) == 0);
	CHECK(put(2, "[1]\n") == 0 && holds("[1]\n") && nentries == 1);
	end();
}

/* ---- errors that nobody has heard ---- */

/* A write(2) longer than a request arrives in pieces. When a later one is refused, the
 * kernel reports a short write, and the program sends the rest: it hears the error then.
 */
static void test_unheard(void)
{
	char piece[4096];

	begin("");
	memset(piece, ' ', sizeof(piece));
	memcpy(piece, "[1]", 3);
	piece[sizeof(piece) - 1] = '\n';
	CHECK(write_len(1, piece, sizeof(piece)) == 0);
	CHECK(put(1, "bad\n[2]\n") == -EBADMSG);
	CHECK(put(1, "bad\n[2]\n") == -EBADMSG && nentries == 1);
	CHECK(put(1, "bad\n[2]\n[3]\n") == 0 && nentries == 1);
	CHECK(noted.records == 3);
	/* After a request that was shorter, it was heard. */
	CHECK(put(1, "[4]\n") == 0 && put(1, "bad\n") == -EBADMSG &&
	      put(1, "bad\n[5]\n") == 0);
	/* Dropped instead of sent again. */
	CHECK(write_len(1, piece, sizeof(piece)) == 0 && put(1, "bad\n") == -EBADMSG);
	CHECK(put(1, "[6]\n") == 0 && noted.records == 7);
	end();
	CHECK(nentries == 3);
}

/* ---- beside other things ---- */

static void test_others(void)
{
	/* Each process for itself. */
	begin("");
	CHECK(put(1, "bad\n") == -EBADMSG && put(2, "bad\n[1]\n") == -EBADMSG);
	CHECK(put(1, "bad\n[2]\n") == 0 && put(2, "bad\n[1]\n[3]\n") == 0);
	CHECK(holds("[2]\n[1]\n[3]\n") && nentries == 2);
	end();
	/* Without O_APPEND it comes again at the same place. */
	begin("[0]\n");
	CHECK(put_at(1, 4, "[1]\n[2") == 0);
	CHECK(put_at(1, 10, "]\nbad\n[3]\n") == -EBADMSG);
	CHECK(put_at(1, 10, "]\nbad\n[3]\n[4]\n") == 0 && put_at(1, 24, "[5]\n") == 0);
	CHECK(holds("[0]\n[1]\n[2]\n[3]\n[4]\n[5]\n") && nentries == 1);
	end();
	/* A newline that was to be swallowed is not one that is stored. */
	reset();
	options.limits.blank = JSONL_BLANK_KEEP;
	begin("");
	CHECK(put(1, "[1]") == 0 && jsonl_writer_settle(writer) == 0);
	CHECK(put(1, "\nbad\n") == -EBADMSG && put(1, "\nbad\n[2]\n") == 0);
	CHECK(holds("[1]\n[2]\n"));
	end();
	reset();
	/* Memory: what is remembered is given back. */
	begin("");
	CHECK(put(1, "bad\n") == -EBADMSG && charged == 4);
	CHECK(put(1, "[1]\n") == 0 && charged == 0);
	CHECK(put(1, "[1") == 0 && put(1, "x]\n{") == -EBADMSG && charged == 4);
	CHECK(put(1, "1}\n") == 0 && charged == 0);
	end();
}

int main(void)
{
	reset();
	test_refused();
	test_quarantined();
	test_python();
	test_resend();
	test_resend_fragment();
	test_resend_unfinished();
	test_stdio();
	test_join();
	test_join_orphan();
	test_unheard();
	test_others();
	return check_done();
}
