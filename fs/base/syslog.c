/* SPDX-License-Identifier: MIT */
/* Turns events into lines: what a line looks like, and how many lines a user may cause.
 * syslog_sink.c decides where lines go. */
#include "base/syslog.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/stamp.h"
#include "base/error.h"
#include "base/syslog_sink.h"
#include "json/utf8.h"

#define LINE_MAX_BYTES	4096 /* of a line; longer values are cut, the line stays whole */
#define VALUE_MAX_BYTES 1024 /* of one value as printed */

/* A burst of 50 lines, then 10 a second, per uid and event. */
#define BURST	    50LL
#define PER_SECOND  10
#define BUCKETS	    256 /* power of two */
#define EVENT_BYTES 32

struct bucket {
	char event[EVENT_BYTES]; /* "": free */
	uid_t uid;
	int64_t refilled; /* CLOCK_MONOTONIC, milliseconds */
	int64_t tokens;	  /* thousandths of a line */
	uint64_t suppressed;
};

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
/* Under log_lock. */
static struct bucket buckets[BUCKETS];
static int64_t last_sweep;
static bool log_debug, log_mounting;
static uint64_t log_written, log_suppressed, log_undelivered;
/* undelivered lines that no line has reported yet */
static uint64_t log_untold;

static void (*_Atomic log_tap)(int priority, uid_t uid, const char *event,
			       const struct fs_field *fields);

/* ---- one line ---- */

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
	size_t limit; /* where what is added must end */
};

static bool line_add(struct line *l, const char *text, size_t len)
{
	if (l->len + len >= l->limit)
		return false;
	memcpy(l->text + l->len, text, len);
	l->len += len;
	return true;
}

/* Returns true for characters that a terminal or a log viewer would obey or reorder
 * instead of showing them. */
static bool is_unsafe(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || /* C0, DEL, C1 */
	       code == 0x61c || (code >= 0x200b && code <= 0x200f) ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) ||
	       code == 0xfeff || (code >= 0xfff9 && code <= 0xfffb);
}

/* Writes one character of a value as JSON writes it. `n` is 0 for a byte that is not
 * UTF-8. */
static size_t escape(const char *s, size_t n, uint32_t code, char out[8])
{
	const char *letter;

	if (n == 0)
		code = 0xfffd;
	letter = code == '\n'	? "\\n"
		 : code == '\t' ? "\\t"
		 : code == '\r' ? "\\r"
		 : code == '"'	? "\\\""
		 : code == '\\' ? "\\\\"
				: NULL;
	if (letter)
		return (size_t)snprintf(out, 8, "%s", letter);
	if (n == 0 || is_unsafe(code))
		return (size_t)snprintf(out, 8, "\\u%04x", code & 0xffffU);
	memcpy(out, s, n);
	return n;
}

/* Writes a quoted value. If it or the line gets too long it is cut, and ends in "...". */
static void line_add_value(struct line *l, const char *value)
{
	size_t len = strlen(value), end, limit = l->limit;

	end = l->len + VALUE_MAX_BYTES;
	/* Leaves room for the end of a value that is cut. */
	l->limit = (end < limit ? end : limit) - 4;
	(void)line_add(l, "\"", 1);
	for (size_t i = 0; i < len;) {
		uint32_t code = 0;
		size_t n = jsonl_utf8_next(value + i, len - i, &code);
		char out[8];

		if (!line_add(l, out, escape(value + i, n, code, out))) {
			l->limit = limit;
			(void)line_add(l, "...", 3);
			break;
		}
		i += n ? n : 1;
	}
	l->limit = limit;
	(void)line_add(l, "\"", 1);
}

static void line_add_field(struct line *l, const struct fs_field *f)
{
	char number[32];
	size_t before = l->len, key = strlen(f->key);

	/* A field that has no room at all is left out as a whole. */
	if (l->len + key + 32 >= l->limit)
		return;
	(void)line_add(l, " ", 1);
	(void)line_add(l, f->key, key);
	(void)line_add(l, "=", 1);
	if (f->string) {
		line_add_value(l, f->string);
		return;
	}
	(void)snprintf(number, sizeof(number), "%lld", (long long)f->number);
	if (!line_add(l, number, strlen(number)))
		l->len = before;
}

static void line_write(int priority, const char *event, const struct fs_field *fields)
{
	struct line l = {.limit = LINE_MAX_BYTES - 1};

	(void)line_add(&l, event, strlen(event));
	for (; fields->key; fields++)
		line_add_field(&l, fields);
	l.text[l.len] = '\0';
	if (log_mounting && priority <= LOG_WARNING)
		fs_syslog_sink_stderr(l.text, l.len);
	if (fs_syslog_sink_write(priority, l.text, l.len)) {
		log_written++;
	} else {
		log_undelivered++;
		log_untold++;
	}
}

/* ---- the rate limit ---- */

static void refill(struct bucket *b, int64_t now)
{
	b->tokens += (now - b->refilled) * PER_SECOND;
	if (b->tokens > BURST * 1000)
		b->tokens = BURST * 1000;
	b->refilled = now;
}

static void tell_suppressed(struct bucket *b)
{
	const struct fs_field fields[] = {
	    FS_STR("event", b->event),
	    FS_INT("uid", b->uid),
	    FS_INT("count", b->suppressed),
	    {.key = NULL},
	};

	if (b->suppressed == 0)
		return;
	b->suppressed = 0;
	line_write(LOG_WARNING, "suppressed", fields);
}

/* Reports once a second how many lines were left out, of those that have fallen silent,
 * and how many the receiver would not take. */
static void sweep(int64_t now)
{
	if (now - last_sweep < 1000)
		return;
	last_sweep = now;
	for (size_t i = 0; i < BUCKETS; i++) {
		struct bucket *b = &buckets[i];

		if (b->suppressed && now - b->refilled >= 1000)
			tell_suppressed(b);
	}
	if (log_untold) {
		uint64_t count = log_untold;
		const struct fs_field fields[] = {
		    FS_STR("event", "undelivered"),
		    FS_INT("count", count),
		    {.key = NULL},
		};

		log_untold = 0;
		line_write(LOG_WARNING, "suppressed", fields);
		/* If this line is not taken either it is reported later, and does not
		 * count itself. */
		if (log_untold) {
			log_untold = count;
			log_undelivered--;
		}
	}
}

static size_t bucket_hash(uid_t uid, const char *event)
{
	size_t h = 5381 + uid;

	for (; *event; event++)
		h = h * 33 + (unsigned char)*event;
	return h;
}

/* Finds the bucket of this uid and event. Among eight places the one that was idle
 * longest is used again. */
static struct bucket *bucket_find(uid_t uid, const char *event, int64_t now)
{
	size_t hash = bucket_hash(uid, event);
	struct bucket *oldest = NULL;

	for (size_t i = 0; i < 8; i++) {
		struct bucket *b = &buckets[(hash + i) % BUCKETS];

		if (b->uid == uid && strncmp(b->event, event, EVENT_BYTES - 1) == 0 &&
		    b->event[0])
			return b;
		if (!oldest || b->refilled < oldest->refilled)
			oldest = b;
	}
	tell_suppressed(oldest);
	*oldest = (struct bucket){.uid = uid, .refilled = now, .tokens = BURST * 1000};
	(void)snprintf(oldest->event, EVENT_BYTES, "%s", event);
	return oldest;
}

/* Returns true when one more line is allowed; if not, counts it. */
static bool admit(uid_t uid, const char *event)
{
	int64_t now = jsonl_now_ms();
	struct bucket *b;

	sweep(now);
	if (uid == (uid_t)-1)
		return true;
	b = bucket_find(uid, event, now);
	refill(b, now);
	if (b->tokens < 1000) {
		b->suppressed++;
		log_suppressed++;
		return false;
	}
	b->tokens -= 1000;
	tell_suppressed(b);
	return true;
}

/* ---- public ---- */

int fs_syslog_open(const char *where, bool mounting, bool debug)
{
	int r;

	pthread_mutex_lock(&log_lock);
	log_debug = debug;
	log_mounting = mounting;
	r = fs_syslog_sink_open(where);
	pthread_mutex_unlock(&log_lock);
	return r;
}

void fs_syslog_mounted(void)
{
	pthread_mutex_lock(&log_lock);
	log_mounting = false;
	pthread_mutex_unlock(&log_lock);
}

void fs_syslog(int priority, uid_t uid, const char *event, const struct fs_field *fields)
{
	void (*tap)(int priority, uid_t uid, const char *event,
		    const struct fs_field *fields) = log_tap;

	if (priority == LOG_DEBUG && !log_debug)
		return;
	if (tap)
		tap(priority, uid, event, fields);
	pthread_mutex_lock(&log_lock);
	if (admit(uid, event))
		line_write(priority, event, fields);
	pthread_mutex_unlock(&log_lock);
}

void fs_syslog_tap(void (*tap)(int priority, uid_t uid, const char *event,
			       const struct fs_field *fields))
{
	log_tap = tap;
}

void fs_syslog_counts(struct fs_syslog_counts *counts)
{
	pthread_mutex_lock(&log_lock);
	*counts = (struct fs_syslog_counts){.written = log_written,
					    .suppressed = log_suppressed,
					    .undelivered = log_undelivered};
	counts->error = fs_syslog_sink_error(&counts->to);
	pthread_mutex_unlock(&log_lock);
}
