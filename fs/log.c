/* Events -> lines: what a line looks like, and who may write how many. Where lines go is
 * log_sink.c. */
#include "log.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "log_sink.h"
#include "utf8.h"

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
/* Under log_lock: */
static struct bucket buckets[BUCKETS];
static int64_t last_sweep;
static bool log_debug;
static uint64_t log_written, log_suppressed;
static uint64_t log_undelivered; /* since a line last said so */

static void (*_Atomic log_tap)(int priority, uid_t uid, const char *event,
			       const struct fs_field *fields);

static int64_t milliseconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- one line ---- */

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
	size_t limit; /* what is added must end before this */
};

static bool line_add(struct line *l, const char *text, size_t len)
{
	if (l->len + len >= l->limit)
		return false;
	memcpy(l->text + l->len, text, len);
	l->len += len;
	return true;
}

/* What a terminal or a log viewer would obey or reorder instead of showing it. */
static bool is_unsafe(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || /* C0, DEL, C1 */
	       code == 0x61c || (code >= 0x200b && code <= 0x200f) ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) ||
	       code == 0xfeff || (code >= 0xfff9 && code <= 0xfffb);
}

/* One character of a value as JSON writes it; n 0: a byte that is not UTF-8. */
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

/* A quoted value. Cut, with "..." at its end, when it or the line gets too long. */
static void line_add_value(struct line *l, const char *value)
{
	size_t len = strlen(value), end, limit = l->limit;

	end = l->len + VALUE_MAX_BYTES;
	/* Room for what closes a cut value. */
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

	/* A field that has no room at all is left out whole. */
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
	if (fs_log_sink_write(priority, l.text, l.len)) {
		log_written++;
	} else {
		log_suppressed++;
		log_undelivered++;
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

/* Says once a second what was left out by those who have fallen silent, or whose lines
 * the receiver would not take. */
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
	if (log_undelivered) {
		uint64_t count = log_undelivered;
		const struct fs_field fields[] = {
		    FS_STR("event", "undelivered"),
		    FS_INT("count", count),
		    {.key = NULL},
		};

		log_undelivered = 0;
		line_write(LOG_WARNING, "suppressed", fields);
		/* Not taken either: it stays to be said, and does not count itself. */
		if (log_undelivered)
			log_undelivered = count;
	}
}

static size_t bucket_hash(uid_t uid, const char *event)
{
	size_t h = 5381 + uid;

	for (; *event; event++)
		h = h * 33 + (unsigned char)*event;
	return h;
}

/* The bucket of this uid and event: among eight places, the one that was idle longest
 * makes room for it. */
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

/* Whether one more line is allowed; if not it is counted. */
static bool admit(uid_t uid, const char *event)
{
	int64_t now = milliseconds_now();
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

void fs_log_open(bool to_stderr, bool debug)
{
	pthread_mutex_lock(&log_lock);
	log_debug = debug;
	fs_log_sink_open(to_stderr);
	pthread_mutex_unlock(&log_lock);
}

void fs_log(int priority, uid_t uid, const char *event, const struct fs_field *fields)
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

void fs_log_tap(void (*tap)(int priority, uid_t uid, const char *event,
			    const struct fs_field *fields))
{
	log_tap = tap;
}

void fs_log_counts(uint64_t *written, uint64_t *suppressed)
{
	pthread_mutex_lock(&log_lock);
	*written = log_written;
	*suppressed = log_suppressed;
	pthread_mutex_unlock(&log_lock);
}
