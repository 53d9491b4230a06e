/* SPDX-License-Identifier: MIT */
/* What a write means: assembly per process, all or none, where a write may land, what
 * close does with an unfinished record. What happens to bad ones is in
 * test_writer_refuse.c. */
#include <malloc.h>
#include "writer_rig.h"

/* ---- assembly ---- */

static void test_assembly(void)
{
	begin("");
	CHECK(put(1, "{\"a\"") == 0 && holds(""));
	CHECK(put(1, ":") == 0 && put(1, "1}") == 0 && holds(""));
	CHECK(put(1, "\n") == 0 && holds("{\"a\":1}\n"));
	CHECK(noted.records == 1 && noted.split && noted.bytes == 8 && !noted.no_newline);
	/* Several at once, the last one unfinished: one write to the file. */
	m.calls = 0;
	CHECK(put(1, "[1]\n[2]\r\n\"three\"\n[4") == 0);
	CHECK(holds("{\"a\":1}\n[1]\n[2]\r\n\"three\"\n") && calls_of(MODEL_WRITEV) == 1);
	m.calls = 0;
	CHECK(put(1, ",4]\n\n\n[5]\n[") == 0 && calls_of(MODEL_WRITEV) == 1);
	CHECK(holds("{\"a\":1}\n[1]\n[2]\r\n\"three\"\n[4,4]\n[5]\n"));
	CHECK(noted.blank == 2 && noted.records == 6 && identified == 1);
	CHECK(write_len(1, "", 0) == 0);
	end();
	CHECK(entry_is(0, "fragment", JSONL_INCOMPLETE, 1, "["));
}

/* Processes that share a handle: their halves never fuse. */
static void test_owners(void)
{
	begin("");
	CHECK(put(1, "{\"a\":") == 0 && put(2, "{\"b\":") == 0 && put(3, "[3]\n") == 0);
	CHECK(put(2, "2}\n") == 0 && put(1, "1}\n") == 0);
	CHECK(holds("[3]\n{\"b\":2}\n{\"a\":1}\n") && identified == 3);
	CHECK(flush(1) == 0 && flush(2) == 0);
	/* The number is another process now. */
	CHECK(put(1, "[4]\n") == 0 && identified == 4);
	end();
	CHECK(nentries == 0);
}

/* printf '{' >&3; printf '}\n' >&3, each in its own process. */
static void test_orphans(void)
{
	begin("");
	CHECK(put(1, "{\"a\":") == 0);
	CHECK(flush(1) == -EBADMSG && holds("") && !nentries);
	CHECK(put(2, "1") == 0 && flush(2) == -EBADMSG);
	CHECK(put(3, "}\n") == 0 && holds("{\"a\":1}\n"));
	CHECK(flush(3) == 0);
	/* The oldest first; an owner with something of its own takes none. */
	CHECK(put(4, "[") == 0 && put(5, "\"") == 0 && put(6, "{") == 0);
	CHECK(flush(4) == -EBADMSG);
	CHECK(flush(5) == -EBADMSG);
	CHECK(put(6, "}\n") == 0 && holds("{\"a\":1}\n{}\n"));
	CHECK(put(7, "4]\n") == 0 && put(8, "five\"\n") == 0);
	CHECK(holds("{\"a\":1}\n{}\n[4]\n\"five\"\n"));
	/* One that wrote before, and has nothing unfinished, goes on with it, too. */
	CHECK(put(9, "[") == 0 && flush(9) == -EBADMSG);
	CHECK(put(7, "7]\n") == 0 && holds("{\"a\":1}\n{}\n[4]\n\"five\"\n[7]\n"));
	end();
	CHECK(nentries == 0);
}

/* A process was killed in mid-record; who comes next does not lose its record to that. */
static void test_orphan_of_the_dead(void)
{
	begin("");
	CHECK(put(1, "{\"half\":") == 0 && flush(1) == -EBADMSG);
	CHECK(put(2, "{\"whole\":1}\n[2]\n") == 0 && holds("{\"whole\":1}\n[2]\n"));
	CHECK(nentries == 1 &&
	      entry_is(0, "fragment", JSONL_INCOMPLETE, 8, "{\"half\":"));
	end();
	CHECK(nentries == 1);
}

static void test_many_orphans(void)
{
	begin("");
	for (uint64_t i = 1; i <= 1026; i++)
		CHECK(put(i, "[") == 0 && put(i, "9") == 0);
	for (uint64_t i = 1; i <= 1026; i++)
		CHECK(flush(i) == -EBADMSG);
	CHECK(nentries == 2 && entry_is(0, "fragment", JSONL_INCOMPLETE, 2, "[9"));
	/* Slots themselves weigh, too, when there are many. */
	CHECK(charged > 1024 * 2 && charged < 1024 * 8192, "%d", (int)charged);
	nentries = 0;
	while (nentries < 8) { /* the rest goes at the end; the rig holds only so many */
		CHECK(put(5000, "]\n") == 0 && flush(5000) == 0);
		if (noted.records == 1024)
			break;
	}
	CHECK(noted.records == 1024 && charged == 0);
	end();
}

/* Of whatever kind the half is: as a whole, and with what comes next, it is no record. */
static void test_orphan_of_any_kind(void)
{
	begin("");
	CHECK(put(1, "oops") == 0 && flush(1) == -EBADMSG);
	CHECK(put(2, "{\"a\":1}\n") == 0 && holds("{\"a\":1}\n"));
	CHECK(entry_is(0, "fragment", JSONL_BAD_LITERAL, 0, "oops"));
	/* A number is whole, if nothing goes on with it. */
	CHECK(put(3, "12") == 0 && flush(3) == 0);
	m.files[0].lock = -1;
	CHECK(put(4, "{\"b\":1}\n") == -EAGAIN);
	m.files[0].lock = 0;
	CHECK(put(4, "{\"b\":1}\n") == 0 && holds("{\"a\":1}\n12\n{\"b\":1}\n"));
	end();
	CHECK(nentries == 1);
}

/* ---- byte order marks ---- */

#define MARK "\xef\xbb\xbf"

static void test_marks(void)
{
	begin("");
	/* .NET and utf-8-sig put one in front of each file that they find empty. */
	CHECK(put(1, MARK "[1]\n" MARK "[2]\n") == 0 && holds("[1]\n[2]\n"));
	CHECK(noted.marks == 2 && noted.records == 2 && noted.bytes == 8);
	/* By itself, in pieces, and in front of a fragment that close commits. */
	CHECK(put(2, MARK) == 0 && put(2, "[3]\n") == 0);
	CHECK(put(2, "\xef\xbb") == 0 && put(2, "\xbf[4]\n") == 0);
	CHECK(put(3, MARK) == 0 && flush(3) == 0);
	CHECK(put(4, "[5]") == 0 && flush(4) == 0);
	CHECK(put(5, "\n" MARK "\n") == 0 && noted.blank == 1);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n") && noted.marks == 6);
	/* Only there. */
	CHECK(put(1, MARK MARK "[6]\n") == 0 && put(1, "[" MARK "]\n") == 0);
	CHECK(entry_is(0, "bad-record", JSONL_BOM, 3, MARK MARK "[6]\n"));
	CHECK(entry_is(1, "bad-record", JSONL_UNEXPECTED, 1, "[" MARK "]\n"));
	CHECK(put(6, MARK) == 0);
	end();
	CHECK(nentries == 2);
}

/* ---- limits ---- */

static void test_sizes(void)
{
	char line[5000], *p = line;

	reset();
	begin("");
	/* 64 bytes with the newline: legal, counted. */
	memset(line, 'x', sizeof(line));
	line[0] = '"';
	memcpy(line + 62, "\"\n", 3);
	CHECK(put(1, line) == 0 && noted.oversize == 1 && noted.largest == 64);
	memcpy(line + 61, "\"\n", 3);
	CHECK(put(1, line) == 0 && noted.oversize == 1 && noted.records == 2);
	end();

	options.limits.oversize = JSONL_OVERSIZE_REJECT;
	begin("");
	CHECK(put(1, line) == 0);
	memset(line, 'x', 100);
	line[0] = '"';
	memcpy(line + 62, "\"\n", 3);
	CHECK(put(2, line) == -EMSGSIZE && flush(2) == -EMSGSIZE);
	CHECK(entry_is(0, "refused", JSONL_OVERSIZE, 63, line));
	/* Also when it is closed without its newline. */
	line[63] = '\0';
	CHECK(put(3, line) == 0 && flush(3) == -EMSGSIZE);
	end();
	CHECK(noted.records == 1);

	/* maxrecord, whatever oversize says; told before it has ended. */
	reset();
	options.limits.oversize = JSONL_OVERSIZE_ALLOW;
	begin("");
	memset(line, 'x', sizeof(line));
	line[0] = '"';
	CHECK(write_len(1, p, 4000) == 0 && charged == 4000);
	CHECK(write_len(1, p + 1, 95) == 0);
	CHECK(write_len(1, p + 1, 1) == -EMSGSIZE && charged == 0);
	CHECK(entries[0].code == JSONL_TOO_LONG && entries[0].len == 4096);
	/* The rest of it belongs there; then all is well again. */
	CHECK(put(1, "yyy") == 0 && put(1, "z\"\n[1]\n") == 0 && holds("[1]\n"));
	CHECK(entries[0].len == 4096 + 6 && nentries == 1);
	CHECK(flush(1) == -EMSGSIZE && flush(2) == 0);
	end();
	reset();
}

static void test_values(void)
{
	reset();
	options.limits.value = JSONL_VALUE_CONTAINER;
	begin("");
	CHECK(put(1, "[]\n") == 0 && put(2, "5\n") == -EBADMSG);
	CHECK(entry_is(0, "refused", JSONL_NOT_CONTAINER, 0, "5\n"));
	end();
	options.limits.value = JSONL_VALUE_OBJECT;
	begin("");
	CHECK(put(1, "{}\n") == 0 && put(2, "[]\n") == -EBADMSG);
	CHECK(entry_is(0, "refused", JSONL_NOT_OBJECT, 0, "[]\n"));
	/* A fragment that is none is not committed at close, either. */
	CHECK(put(3, "\"s\"") == 0 && flush(3) == -EBADMSG);
	end();
	CHECK(entry_is(1, "fragment", JSONL_NOT_OBJECT, 0, "\"s\""));
	reset();
	options.limits.blank = JSONL_BLANK_KEEP;
	begin("");
	CHECK(put(1, "\n[1]\n \r\n") == 0 && holds("\n[1]\n \r\n"));
	end();
	reset();
}

/* ---- where a write may land ---- */

static void test_place(void)
{
	begin("[1]\n[2]\n");
	/* The size at open; the end of the last write, pending bytes counted. */
	CHECK(put_at(1, 8, "[3]\n[4") == 0 && put_at(1, 14, "]\n") == 0);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n"));
	/* Dropped bytes, too: a blank line. */
	CHECK(put_at(1, 16, "\n[5]\n") == 0 && put_at(1, 21, "[6]\n") == 0);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\n"));
	/* Below the end: what is stored there already is a no-op, else EPERM. */
	CHECK(put_at(1, 0, "[1]\n[2]\n") == 0 && put_at(1, 2, "]\n[") == 0);
	CHECK(put_at(1, 0, "[9]\n") == -EPERM && put_at(1, 1, "x") == -EPERM);
	CHECK(put_at(1, 1000, "[9]\n") == -EPERM);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\n") && !nentries);
	/* It goes on beyond the end: the rest is an append. */
	CHECK(put_at(1, 4, "[2]\n[3]\n[4]\n[5]\n[6]\n[7]\n[8") == 0);
	CHECK(put_at(1, 4 + 26, "]\n") == 0);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\n[7]\n[8]\n"));
	/* An end that somebody else has made since the open. */
	model_outside(&m, 0, "[9]\n", 4);
	CHECK(put_at(2, 36, "[10]\n") == 0 && put_at(3, 36, "[11]\n") == 0);
	CHECK(holds("[1]\n[2]\n[3]\n[4]\n[5]\n[6]\n[7]\n[8]\n[9]\n[10]\n[11]\n"));
	/* In the middle of one: no. */
	CHECK(put_at(2, 38, "[12]\n") == -EPERM);
	/* With O_APPEND the offset is nothing. */
	CHECK(jsonl_writer_write(writer, 2, NULL, true, 3, "[12]\n", 5) == 0);
	end();
}

/* Two handles without O_APPEND that were opened on the same size. */
static void test_place_stale(void)
{
	begin("[1]\n");
	CHECK(put_at(1, 4, "[2]\n") == 0);
	model_outside(&m, 0, "[3]\n", 4);
	CHECK(put_at(1, 8, "[4]\n") == 0 && holds("[1]\n[2]\n[3]\n[4]\n"));
	CHECK(put_at(2, 4, "[5]\n") == 0 && holds("[1]\n[2]\n[3]\n[4]\n[5]\n"));
	end();
	/* Pending bytes cannot be compared with what is stored. */
	begin("[1]\n");
	CHECK(put_at(1, 4, "[") == 0 && put_at(1, 0, "[1]\n") == -EPERM);
	CHECK(put_at(1, 5, "2]\n") == 0 && holds("[1]\n[2]\n"));
	end();
	/* fcntl clears O_APPEND: the kernel's offset goes on from where it was. */
	begin("[1]\n");
	CHECK(put(1, "[2]\n") == 0 && put_at(1, 8, "[3]\n") == 0);
	CHECK(holds("[1]\n[2]\n[3]\n"));
	end();
}

/* ---- copies ---- */

static void begin_copy(void)
{
	options.copy = true;
	begin("");
	options.copy = false;
}

/* cp, tar, git: what a new file is given is kept byte for byte, however it is cut. */
static void test_copy(void)
{
	static const struct {
		const char *in, *kept;
	} table[] = {
	    {"[1]\n[2]\n", NULL},
	    {"[1]\n{\"a\":2}", NULL},
	    {"\"s\"", NULL},
	    {"true", NULL},
	    {"\n[1]\n\n \t\r\n[2]\r\n\n", NULL},
	    {MARK "[1]\n[2]", NULL},
	    {MARK "\n[1]", NULL},
	    /* What cannot stay so gets its newline. */
	    {"[1]\n12", "[1]\n12\n"},
	    {"[1] ", "[1] \n"},
	    {"[1]\n \t", "[1]\n \t\n"},
	    /* Bad lines are left out, and marks that are not at the start. */
	    {"[1]\nbad\n[2]", "[1]\n[2]"},
	    {"[1]\n" MARK "[2]", "[1]\n[2]"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *in = table[i].in;
		const char *kept = table[i].kept ? table[i].kept : in;
		size_t len = strlen(in);

		for (size_t cut = 0; cut <= len; cut++) {
			for (int sync = 0; sync < 3; sync++) {
				bool at_value = sync && cut && strchr("]}\"e", in[cut - 1]);

				begin_copy();
				if (cut)
					CHECK(jsonl_writer_write(writer, 1, process(1),
								 false, 0, in, cut) == 0);
				if (sync == 1)
					(void)!settle(1);
				else if (sync)
					(void)!flush(1);
				if (cut < len)
					CHECK(jsonl_writer_write(writer, 1, process(1),
								 false, (off_t)cut, in + cut,
								 len - cut) == 0);
				(void)!flush(1);
				CHECK(jsonl_writer_ends_at(writer, (off_t)len));
				end_rig();
				/* A value that is whole in the middle of its line, and
				 * synced there, is a record. */
				if (!at_value || in[cut] == '\n' || cut == len)
					CHECK(holds(kept), "%zu at %zu, %d", i, cut, sync);
				end_model();
			}
		}
	}
}

/* Another handle goes on behind it, and the copy is none any more. */
static void test_copy_ends(void)
{
	struct iovec other = {.iov_base = "[9]\n", .iov_len = 4};
	struct jsonl_file_user user = {0};

	begin_copy();
	CHECK(put_at(1, 0, "[1]\n\n[2]") == 0 && settle(1) == 0 && holds("[1]\n\n[2]"));
	CHECK(jsonl_file_append(file, &other, 1, &user, NULL) == 0);
	CHECK(holds("[1]\n\n[2]\n[9]\n"));
	CHECK(put_at(1, 8, "\n\n" MARK "[3]") == 0 && flush(1) == 0);
	CHECK(holds("[1]\n\n[2]\n[9]\n[3]\n"));
	end();
	CHECK(noted.blank == 1 && noted.marks == 1);
	/* The same handle just goes on. */
	begin_copy();
	CHECK(put_at(1, 0, "[1]") == 0 && settle(1) == 0 && holds("[1]"));
	CHECK(put_at(1, 3, "\n[2]") == 0 && settle(1) == 0 && holds("[1]\n[2]"));
	CHECK(put_at(1, 7, "[3]\n") == 0 && holds("[1]\n[2]\n[3]\n"));
	end();
}

/* Without O_APPEND onto what is stored without its newline: the same bytes again (rsync
 * --inplace), with the newline, with more. */
static void test_stored_without_newline(void)
{
	static const struct {
		const char *stored, *in, *kept;
	} table[] = {
	    {"[1]\n[2]", "[1]\n[2]", "[1]\n[2]"},
	    {"[1]\n[2]", "[1]\n[2]\n", "[1]\n[2]\n"},
	    {"[1]\n[2]", "[1]\n[2]\n[3]", "[1]\n[2]\n[3]\n"},
	    {"[1]\n[2]", "[1]\n[2]\r\n[3]\n", "[1]\n[2]\r\n[3]\n"},
	    {"[1]\n[2]\n", "[1]\n[2]", "[1]\n[2]\n"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		begin(table[i].stored);
		CHECK(put_at(1, 0, table[i].in) == 0 && flush(1) == 0);
		CHECK(holds(table[i].kept), "%zu", i);
		/* And its own end is no change. */
		CHECK(jsonl_writer_ends_at(writer, (off_t)strlen(table[i].in)) ||
		      strlen(table[i].in) == m.files[0].size);
		CHECK(!jsonl_writer_ends_at(writer, 2));
		end();
	}
}

/* ---- close, fsync, release ---- */

static void test_flush(void)
{
	/* Before the first write, and of somebody who never wrote. */
	begin("");
	CHECK(flush(1) == 0);
	/* Whole, and cannot grow: committed with a newline; the one that comes is
	 * swallowed. */
	CHECK(put(1, "{\"a\":1}") == 0 && flush(1) == 0);
	CHECK(holds("{\"a\":1}\n") && noted.no_newline && noted.records == 1);
	CHECK(put(2, "\n") == 0 && holds("{\"a\":1}\n") && noted.blank == 0);
	CHECK(put(2, "true") == 0 && flush(2) == 0);
	CHECK(put(3, "\r") == 0 && put(3, "\n[3]\n") == 0);
	CHECK(holds("{\"a\":1}\ntrue\n[3]\n") && noted.blank == 0);
	/* A bare number could go on. */
	CHECK(put(4, "12") == 0 && flush(4) == 0);
	CHECK(put(5, "34\n") == 0 && holds("{\"a\":1}\ntrue\n[3]\n1234\n"));
	/* White space alone is nothing. */
	CHECK(put(6, "  ") == 0 && flush(6) == 0);
	end();
	CHECK(nentries == 0);
}

/* What is to be swallowed is swallowed once, by whoever comes. */
static void test_flush_kept(void)
{
	reset();
	options.limits.blank = JSONL_BLANK_KEEP;
	begin("");
	CHECK(put(1, "[1]") == 0 && flush(1) == 0);
	CHECK(put(2, "[2]") == 0 && flush(2) == 0);
	CHECK(put(3, "\n") == 0 && holds("[1]\n[2]\n"));
	CHECK(put(3, "\n") == 0 && holds("[1]\n[2]\n\n"));
	end();
	reset();
}

static void test_settle(void)
{
	begin("");
	CHECK(put(1, "[1]") == 0 && put(2, "[2") == 0 && put(3, "3") == 0);
	/* fsync: an unfinished one is no error there. */
	CHECK(settle(1) == 0 && holds("[1]\n"));
	CHECK(put(1, "\n[4]\n") == 0 && put(2, "]\n") == 0 && put(3, "3\n") == 0);
	CHECK(holds("[1]\n[4]\n[2]\n33\n") && noted.blank == 0);
	end();
	/* O_SYNC and sync=write: after each write. */
	options.settle_each = true;
	begin("");
	CHECK(put(1, "[1]") == 0 && holds("[1]\n") && put(1, "\n") == 0 &&
	      put(1, "[2") == 0);
	CHECK(put(1, "]") == 0 && holds("[1]\n[2]\n"));
	/* The write is taken even if its fragment cannot be committed now. */
	m.files[0].lock = -1;
	CHECK(put(1, "[3]") == 0 && holds("[1]\n[2]\n"));
	m.files[0].lock = 0;
	CHECK(put(1, "\n") == 0 && holds("[1]\n[2]\n[3]\n"));
	end();
	CHECK(nentries == 0);
	reset();
}

static void test_release(void)
{
	bool committed = false;

	begin("");
	CHECK(put(1, "12") == 0 && put(2, "[1") == 0 && put(3, "{}") == 0 &&
	      put(4, "  ") == 0);
	CHECK(flush(1) == 0);
	/* Somebody outside has the lock: again later, nothing is lost meanwhile. */
	m.files[0].lock = -1;
	for (int i = 0; i < 3; i++)
		CHECK(jsonl_writer_release(writer, false, &committed) == -EAGAIN &&
		      !committed);
	m.files[0].lock = 0;
	CHECK(jsonl_writer_release(writer, false, &committed) == 0 && committed);
	CHECK(holds("12\n{}\n") || holds("{}\n12\n"));
	CHECK(nentries == 1 && entry_is(0, "fragment", JSONL_INCOMPLETE, 2, "[1"));
	end();
	/* The last chance: what cannot be appended is set aside. */
	begin("");
	committed = false;
	CHECK(put(1, "{}") == 0);
	m.files[0].lock = -1;
	CHECK(jsonl_writer_release(writer, true, &committed) == 0 && !committed);
	CHECK(nentries == 1 && entry_is(0, "fragment", -EAGAIN, 0, "{}"));
	end();
	begin("");
	CHECK(put(1, "{}") == 0);
	m.faults[0] =
	    (struct model_fault){.at = m.calls + 3, .kind = MODEL_FAIL, .code = ENOSPC};
	CHECK(jsonl_writer_release(writer, false, &committed) == 0 && !committed);
	CHECK(nentries == 1 && entries[0].code == -ENOSPC);
	end();
}

/* Who has been told by close that the record is not there writes it once more. */
static void test_release_after_a_refusal(void)
{
	for (int goes_on = 0; goes_on < 2; goes_on++) {
		bool committed = false;

		begin("");
		CHECK(put(1, "{}") == 0);
		m.faults[0] = (struct model_fault){
		    .at = m.calls + 3, .kind = MODEL_FAIL, .code = ENOSPC};
		CHECK(flush(1) == -ENOSPC && holds(""));
		CHECK(settle(1) == 0 && holds(""));
		if (goes_on)
			CHECK(put(2, "\n") == 0 && holds("{}\n"));
		CHECK(jsonl_writer_release(writer, false, &committed) == 0 && !committed);
		CHECK(holds(goes_on ? "{}\n" : "") && nentries == (size_t)!goes_on);
		CHECK(goes_on || entry_is(0, "fragment", -ENOSPC, 0, "{}"));
		end();
		reset();
	}
}

/* ---- what cannot be done now has not happened ---- */

/* Byte for byte the same, however often somebody outside had the lock. */
static void test_again(void)
{
	for (int tries = 0; tries < 3; tries++) {
		begin("");
		CHECK(put(1, "[1]\n[2") == 0);
		for (int t = 0; t < tries; t++) {
			m.files[0].lock = -1;
			CHECK(put(1, "]\n\n[3]\n{\"x") == -EAGAIN);
			CHECK(put_at(1, (off_t)m.files[0].size + 2, "]\n\n[3]\n{\"x") ==
			      -EAGAIN);
			CHECK(settle(1) == 0);
			m.files[0].lock = 0;
		}
		CHECK(put(1, "]\n\n[3]\n{\"x") == 0 && put(1, "\":1}") == 0);
		for (int t = 0; t < tries; t++) {
			m.files[0].lock = -1;
			CHECK(flush(1) == -EAGAIN);
			CHECK(settle(1) == -EAGAIN);
			m.files[0].lock = 0;
		}
		CHECK(flush(1) == 0);
		CHECK(holds("[1]\n[2]\n[3]\n{\"x\":1}\n") && noted.records == 4 &&
		      noted.blank == 1);
		CHECK(nentries == 0 && charged == 0);
		end();
	}
}

/* The disk is full: the same, and the writer is told. */
static void test_full(void)
{
	begin("");
	CHECK(put(1, "[1") == 0);
	m.faults[0] =
	    (struct model_fault){.at = m.calls + 4, .kind = MODEL_FAIL, .code = ENOSPC};
	m.faults[1] =
	    (struct model_fault){.at = m.calls + 3, .kind = MODEL_FAIL, .code = ENOSPC};
	CHECK(put(1, "]\n[2") == -ENOSPC && holds("") && charged == 2);
	m.faults[0].at = m.faults[1].at = 0;
	CHECK(put(1, "]\n[2") == 0 && holds("[1]\n") && charged == 2);
	CHECK(put(1, "]\n") == 0 && holds("[1]\n[2]\n") && nentries == 0);
	end();
	/* Not JSON Lines: EUCLEAN, and nothing of the file changes. */
	begin("hello\nworld");
	CHECK(put(1, "[1]\n") == -EUCLEAN && holds("hello\nworld"));
	end();
}

/* A request for which there is no room leaves none behind that was made for it. */
static void test_memory_is_given_back(void)
{
	struct mallinfo2 before, after;
	char *big = malloc(3000);

	if (!big)
		abort();
	memset(big, 'x', 3000);
	big[0] = '"';
	begin("");
	charge_max = 2000;
	for (uint64_t i = 1; i <= 100; i++)
		CHECK(put(i, "[1]\n") == 0);
	before = mallinfo2();
	for (uint64_t i = 1; i <= 100; i++)
		CHECK(write_len(i, big, 3000) == -ENOBUFS && charged == 0);
	after = mallinfo2();
	/* Idle owners share their slots: each has at most one buffer that stays. */
	CHECK(after.uordblks < before.uordblks + 3 * 8192, "%zu", after.uordblks);
	charge_max = 0;
	end();
	free(big);
}

/* Owners that leave halves: from some number on the slots themselves are asked for. */
static void test_many_owners(void)
{
	uint64_t i;

	begin("");
	charge_max = 100000;
	for (i = 1; i <= 1000 && put(i, "[") == 0; i++)
		continue;
	CHECK(i > 10 && i < 30 && charged <= charge_max, "%llu", (unsigned long long)i);
	CHECK(put(i, "[2]\n") == -ENOBUFS && put(1, "1]\n") == 0 && holds("[1]\n"));
	CHECK(put(i, "[2]\n") == 0);
	charge_max = 0;
	nentries = 0;
	end();
}

static void test_memory(void)
{
	begin("");
	charge_max = 10;
	CHECK(put(1, "[1]\n[234567") == 0 && charged == 7);
	CHECK(put(2, "[22222") == -ENOBUFS && charged == 7);
	CHECK(put(2, "[2") == 0 && charged == 9);
	/* Nothing of a request for which there is no room is taken. */
	CHECK(put(2, "]\n[3]\n[444444") == -ENOBUFS && holds("[1]\n") && charged == 9);
	CHECK(put(1, "]\n") == 0 && charged == 2 && put(2, "]\n") == 0 && charged == 0);
	CHECK(holds("[1]\n[234567]\n[2]\n"));
	/* Whole records need none. */
	CHECK(put(3, "[\"a record that is longer than that\"]\n") == 0);
	/* A refused one leaves nothing behind. */
	CHECK(put(4, "{\"bad\":oops}\n") == -EBADMSG && charged == 0);
	end();
}

/* ---- another file under the same handle ---- */

static struct jsonl_file *second_file(const char *content)
{
	const struct jsonl_file_options opt = {
	    .maxrecord = 4096, .maxdepth = 16, .retain = true};
	struct jsonl_file *second;
	int fd;

	model_put(&m, 1, content, strlen(content), true);
	fd = model_open(&m, 1, O_RDONLY, false);
	CHECK(jsonl_file_new(&m.io, fd, &opt, &file_events, NULL, &second) == 0);
	fd = model_open(&m, 1, O_RDWR | O_APPEND, false);
	jsonl_file_set_append_fd(second, fd, true);
	return second;
}

static bool second_holds(const char *content)
{
	const struct model_file *f = &m.files[1];

	return f->size == strlen(content) && !memcmp(f->data, content, f->size);
}

static void test_retarget(void)
{
	struct jsonl_file_user *user;
	struct jsonl_file *second;

	begin("[0]\n");
	second = second_file("[\"old\"]\n");
	CHECK(put(1, "[1]\n{\"half\":") == 0 && put(2, "[2]\n") == 0);
	CHECK(m.files[0].disk_size == 4 && m.files[0].size == 12);
	jsonl_writer_retarget(writer, second, (off_t)m.files[1].size);
	CHECK(m.files[0].disk_size == 12 && !memcmp(m.files[0].disk, "[0]\n[1]\n[2]\n", 12));
	/* It has nothing to wait for in the new one. */
	user = jsonl_writer_user(writer);
	m.calls = 0;
	CHECK(jsonl_file_sync(second, user) == 0 && m.calls == 0);
	/* Halves go along, each with its owner; the old file stays as it is. */
	CHECK(put(2, "[3]\n") == 0 && put(1, "1}\n") == 0);
	CHECK(holds("[0]\n[1]\n[2]\n") && second_holds("[\"old\"]\n[3]\n{\"half\":1}\n"));
	/* A sync from now on is one of the new file. */
	CHECK(jsonl_file_sync(second, user) == 0 && m.files[1].disk_size == 23);
	/* Where a write without O_APPEND counts as one goes by the new file, too. */
	CHECK(put_at(1, 8, "[4]\n") == 0 && put_at(1, 4, "[5]\n") == -EPERM);
	CHECK(second_holds("[\"old\"]\n[3]\n{\"half\":1}\n[4]\n"));
	/* And back. */
	m.calls = 0;
	jsonl_writer_retarget(writer, file, (off_t)m.files[0].size);
	CHECK(calls_of(MODEL_FDATASYNC) == 1 && put(1, "[6]\n") == 0);
	CHECK(holds("[0]\n[1]\n[2]\n[6]\n") && nentries == 0);
	jsonl_file_free(second);
	end();
}

/* What it left in the old file could not be made durable: who waits next is told, once. */
static void test_retarget_fails(void)
{
	struct jsonl_file_user *user;
	struct jsonl_file *second;

	begin("");
	second = second_file("");
	CHECK(put(1, "[1]\n") == 0);
	m.calls = 0;
	m.faults[0] = (struct model_fault){.at = 1, .kind = MODEL_FAIL, .code = EIO};
	jsonl_writer_retarget(writer, second, 0);
	CHECK(calls_of(MODEL_FDATASYNC) == 3, "once more, and with what was lost");
	m.faults[0].at = 0;
	CHECK(put(1, "[2]\n") == 0 && second_holds("[2]\n"));
	user = jsonl_writer_user(writer);
	CHECK(jsonl_file_sync(second, user) == -EIO);
	CHECK(jsonl_file_sync(second, user) == 0 && m.files[1].disk_size == 4);
	jsonl_writer_retarget(writer, file, 0);
	jsonl_file_free(second);
	end();
}

/* It has been told of a failed sync before it goes over. Then the disk vouches for the old
 * file, as it would have before a later fsync, or that is told of once more. */
static void test_retarget_unsure(void)
{
	struct jsonl_file_user *user;
	struct jsonl_file *second;

	for (int locked = 0; locked < 2; locked++) {
		begin("");
		m.loss = MODEL_LOSE_DATA;
		second = second_file("");
		user = jsonl_writer_user(writer);
		CHECK(put(1, "[1]\n") == 0);
		m.calls = 0;
		m.faults[0] =
		    (struct model_fault){.at = 1, .kind = MODEL_FAIL, .code = EIO};
		CHECK(jsonl_file_sync(file, user) == -EIO);
		m.faults[0].at = 0;
		m.files[0].lock = locked ? -1 : 0;
		jsonl_writer_retarget(writer, second, 0);
		CHECK(put(1, "[2]\n") == 0 && second_holds("[2]\n"));
		CHECK(jsonl_file_sync(second, user) == (locked ? -EIO : 0));
		CHECK(jsonl_file_sync(second, user) == 0);
		if (!locked)
			CHECK(m.files[0].disk_size == 4 &&
			      !memcmp(m.files[0].disk, "[1]\n", 4));
		jsonl_writer_retarget(writer, file, 0);
		jsonl_file_free(second);
		end();
	}
}

int main(void)
{
	reset();
	test_assembly();
	test_owners();
	test_orphans();
	test_orphan_of_the_dead();
	test_many_orphans();
	test_orphan_of_any_kind();
	test_marks();
	test_sizes();
	test_values();
	test_place();
	test_place_stale();
	test_copy();
	test_copy_ends();
	test_stored_without_newline();
	test_flush();
	test_flush_kept();
	test_settle();
	test_release();
	test_release_after_a_refusal();
	test_again();
	test_full();
	test_memory();
	test_memory_is_given_back();
	test_many_owners();
	test_retarget();
	test_retarget_fails();
	test_retarget_unsure();
	return check_done();
}
