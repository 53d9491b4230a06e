/* SPDX-License-Identifier: MIT */
/* jsonlfsctl append: appends records from standard input to a file, for shell scripts. */
#include "ctl/write/appender.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "ctl/ctl.h"
#include "json/utf8.h"

#define PIECE	 (64UL << 10)
#define LINE_MAX (16UL << 20) /* the longest record, as in libjsonl */

enum sync { SYNC_CLOSE, SYNC_WRITE, SYNC_NONE };

struct request {
	enum sync sync;
	const char *field; /* --text-as */
	const char *path;
};

/* Lines of standard input. */
struct input {
	char *buf;
	size_t start, end, cap;
	bool ended;
};

struct run {
	const struct request *request;
	struct ctl_appender to;
	uint64_t line, appended, bad;
	char *text; /* the record made of a plain line */
	size_t text_cap;
};

/* ---- reading ---- */

static int fill(struct input *in)
{
	ssize_t n;

	if (in->start) {
		memmove(in->buf, in->buf + in->start, in->end - in->start);
		in->end -= in->start;
		in->start = 0;
	}
	if (jsonl_grow(&in->buf, &in->cap, in->end + PIECE, 1))
		return -ENOMEM;
	do
		n = read(STDIN_FILENO, in->buf + in->end, PIECE);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	in->end += (size_t)n;
	in->ended = n == 0;
	return 0;
}

/* Reads the next line, without its newline. 1; 0: there is no more; -errno. Of a line
 * longer than LINE_MAX only the end is kept, but *len counts all of it. */
static int next_line(struct input *in, const char **line, size_t *len)
{
	size_t searched = 0, forgotten = 0;

	for (;;) {
		const char *from = in->buf ? in->buf + in->start : "";
		size_t have = in->end - in->start;
		const char *newline = have > searched
					  ? memchr(from + searched, '\n', have - searched)
					  : NULL;
		int rc;

		if (newline || (in->ended && (have || forgotten))) {
			*line = from;
			*len = (newline ? (size_t)(newline - from) : have);
			in->start += *len + (newline != NULL);
			*len += forgotten;
			return 1;
		}
		if (in->ended)
			return 0;
		searched = have;
		if (have > LINE_MAX) {
			forgotten += have;
			in->start = in->end;
			searched = 0;
		}
		rc = fill(in);
		if (rc < 0)
			return rc;
	}
}

/* ---- plain lines ---- */

static size_t put_escape(char *out, uint32_t code)
{
	static const char letters[] = "btn?fr";
	static const char hex[] = "0123456789abcdef";

	out[0] = '\\';
	if (code == '"' || code == '\\') {
		out[1] = (char)code;
		return 2;
	}
	if (code >= 8 && code <= 13 && code != 11) {
		out[1] = letters[code - 8];
		return 2;
	}
	out[1] = 'u';
	out[2] = out[3] = '0';
	out[4] = hex[code >> 4];
	out[5] = hex[code & 15];
	return 6;
}

/* Escapes text for the inside of a JSON string, six bytes for each at most. Bytes that
 * are not UTF-8 become U+FFFD and are counted in *replaced. */
static size_t put_text(char *out, const char *s, size_t len, uint64_t *replaced)
{
	char *p = out;

	for (size_t i = 0; i < len;) {
		uint32_t code = 0;
		size_t n = jsonl_utf8_next(s + i, len - i, &code);

		if (n == 0) {
			*p++ = '\xef'; /* U+FFFD */
			*p++ = '\xbf';
			*p++ = '\xbd';
			(*replaced)++;
			n = 1;
		} else if (code < 0x20 || code == 0x7f || code == '"' || code == '\\') {
			p += put_escape(p, code);
		} else {
			(void)memcpy(p, s + i, n);
			p += n;
		}
		i += n;
	}
	return (size_t)(p - out);
}

/* Makes {"FIELD":"LINE"} in run->text. Its length; 0: out of memory. */
static size_t wrap(struct run *run, const char *line, size_t len)
{
	const char *field = run->request->field;
	size_t want = 6 * (len + strlen(field)) + 16;
	uint64_t replaced = 0;
	char *p;

	if (jsonl_grow(&run->text, &run->text_cap, want, 1))
		return 0;
	p = run->text;
	p += sprintf(p, "{\"");
	p += put_text(p, field, strlen(field), &replaced);
	p += sprintf(p, "\":\"");
	replaced = 0;
	p += put_text(p, line, len, &replaced);
	p += sprintf(p, "\"}");
	if (replaced)
		ctl_error("line %llu: %llu bytes that are not UTF-8 became U+FFFD",
			  (unsigned long long)run->line, (unsigned long long)replaced);
	return (size_t)(p - run->text);
}

/* ---- appending ---- */

static bool is_blank(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
			return false;
	return true;
}

static void tell_bad(struct run *run, int code, size_t offset, bool placed)
{
	run->bad++;
	if (placed)
		ctl_error("line %llu: byte %zu: %s: not appended",
			  (unsigned long long)run->line, offset,
			  ctl_appender_explain(run->request->path, code));
	else
		ctl_error("line %llu: %s: not appended", (unsigned long long)run->line,
			  ctl_appender_explain(run->request->path, code));
}

/* Appends a line. 0, also when the line was bad, after a message; else -errno or a
 * verdict about the file, to which nothing more can be appended. */
static int add_line(struct run *run, const char *line, size_t len)
{
	size_t offset = 0;
	int rc;

	if (len > LINE_MAX) {
		tell_bad(run, JSONL_TOO_LONG, 0, false);
		return 0;
	}
	if (run->request->field) {
		len = wrap(run, line, len);
		line = run->text;
		if (!len)
			return -ENOMEM;
	} else if (is_blank(line, len)) {
		return 0;
	}
	rc = len + 1 > LINE_MAX ? JSONL_TOO_LONG : jsonl_validate(line, len, &offset);
	if (rc) {
		tell_bad(run, rc, offset, rc != JSONL_TOO_LONG);
		return 0;
	}
	rc = ctl_appender_add(&run->to, line, len);
	if (rc == -EBADMSG || rc == -EMSGSIZE) {
		tell_bad(run, rc, 0, false);
		return 0;
	}
	if (rc == 0)
		run->appended++;
	if (rc == 0 && run->request->sync == SYNC_WRITE)
		rc = ctl_appender_sync(&run->to);
	return rc;
}

static int add_all(struct run *run)
{
	struct input in = {0};
	const char *line;
	size_t len;
	int rc;

	while ((rc = next_line(&in, &line, &len)) == 1) {
		run->line++;
		rc = add_line(run, line, len);
		if (rc) {
			ctl_error("%s: line %llu: %s: it is %s what follows",
				  run->request->path, (unsigned long long)run->line,
				  ctl_appender_explain(run->request->path, rc),
				  ctl_appender_unsure(&run->to, rc)
				      ? "in the file or not: look; not appended is"
				      : "not appended, nor is");
			break;
		}
	}
	if (rc < 0 && !run->line)
		ctl_error("standard input: %s", jsonl_error_text(rc));
	free(in.buf);
	return rc;
}

static int finish(struct run *run)
{
	int rc = 0, closed;

	if (run->request->sync == SYNC_CLOSE && run->appended)
		rc = ctl_appender_sync(&run->to);
	closed = ctl_appender_close(&run->to);
	rc = rc ? rc : closed;
	if (rc == -EBADMSG) {
		/* A mount may report a bad record behind good ones only at the end. */
		run->bad++;
		ctl_error("%s: the mount refuses some of these records (value=, "
			  "maxdepth=) and has set them aside: see jsonlfsctl "
			  "quarantine list",
			  run->request->path);
		return 0;
	}
	if (rc)
		ctl_error("%s: %s: what was appended may not be on the disk: look at the "
			  "kernel's log, then run jsonlfsctl check",
			  run->request->path, jsonl_error_text(rc));
	return rc;
}

static int parse_sync(struct request *r, const char *value)
{
	static const char *const values[] = {"close", "write", "none"};

	for (int i = 0; i < 3; i++) {
		if (strcmp(value, values[i]) == 0) {
			r->sync = (enum sync)i;
			return 0;
		}
	}
	return ctl_usage(&ctl_append, "--sync is close, write or none, not %s", value);
}

static int parse(struct request *r, int argc, char **argv)
{
	const char *sync;
	bool options = true;
	int rc = 0;

	for (int i = 1; i < argc && rc == 0; i++) {
		if (options && strcmp(argv[i], "--") == 0)
			options = false;
		else if (options && ctl_take_value("--sync", argc, argv, &i, &sync))
			rc = parse_sync(r, sync);
		else if (options &&
			 ctl_take_value("--text-as", argc, argv, &i, &r->field))
			continue;
		else if (options && argv[i][0] == '-')
			rc = ctl_usage(&ctl_append, "unknown option %s", argv[i]);
		else if (r->path)
			rc = ctl_usage(&ctl_append, "one file at a time, not also %s",
				       argv[i]);
		else
			r->path = argv[i];
	}
	if (rc == 0 && !r->path)
		rc = ctl_usage(&ctl_append, "a file is missing");
	return rc;
}

static int append_run(int argc, char **argv)
{
	struct request request = {0};
	struct run run = {.request = &request};
	int code = parse(&request, argc, argv), rc;

	if (code)
		return code;
	rc = ctl_appender_open(&run.to, request.path);
	if (rc) {
		ctl_error("%s: %s", request.path, ctl_appender_explain(request.path, rc));
		return CTL_FAILURE;
	}
	if (add_all(&run))
		code |= CTL_FAILURE;
	if (finish(&run))
		code |= CTL_FAILURE;
	free(run.text);
	return code | (run.bad ? CTL_DAMAGE : 0);
}

const struct ctl_command ctl_append = {
    .name = "append",
    .run = append_run,
    .synopsis = "[--sync=close|write|none] [--text-as=FIELD] FILE < RECORDS",
    .summary = "append the records on standard input, one a line, to a file",
    .help =
	"\n"
	"Each record is appended whole or not at all; in a file that is not mounted,\n"
	"under its lock. A line that is not a record is reported with its number and\n"
	"left out; blank lines are skipped. FILE is created if it does not exist.\n"
	"\n"
	"  --sync=WHEN      close: sync before the command ends (the default); write:\n"
	"                   sync after each record; none: leave it to the kernel\n"
	"  --text-as=FIELD  the lines are plain text: append {\"FIELD\":\"LINE\"}\n"
	"\n"
	"Exit status: 0 everything was appended, 4 lines were not records and were\n"
	"left out, 8 the file could not be opened, written or synced (the message\n"
	"says from which line on nothing was appended), 16 wrong usage.",
};
