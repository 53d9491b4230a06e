/* SPDX-License-Identifier: MIT */
#include "ctl/ask/live.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "json/utf8.h"
#include "ctl/find/vault.h"

#define EVENTS_KEPT 100
#define REDRAW_MS   1000
#define BAR_WIDTH   30
#define ROWS_HEAD   11 /* above the writers, with their headings */

struct live {
	const char *path;
	struct ctl_live_events *events;
	char *lines[EVENTS_KEPT]; /* the events, in a ring */
	size_t came;
	struct jsonl_report *status, *writers; /* now; NULL: no mount answers */
	struct jsonl_report *status_before, *writers_before;
	double seconds; /* between the two; 0: there is no earlier one */
	double taken;
	int rows, columns;
	struct termios terminal; /* as it was before */
	bool keys;
};

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
	if (number != SIGWINCH && number != SIGCONT)
		ended = 1;
}

bool ctl_live_possible(void)
{
	/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) == 1 && term && term[0] && strcmp(term, "dumb") != 0;
}

/* ---- the numbers ---- */

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct jsonl_report *read_document(const struct ctl_vault *v, const char *name)
{
	int error;
	cleanup_free char *text = ctl_vault_read(v, name, &error);

	return text ? jsonl_report_parse(text) : NULL;
}

static void forget(struct jsonl_report **r)
{
	jsonl_report_free(*r);
	*r = NULL;
}

/* Returns false after the daemon has died: a new one counts from 0. */
static bool is_same_daemon(const struct live *l)
{
	return l->status && l->status_before &&
	       jsonl_report_get_uint(l->status, "pid") ==
		   jsonl_report_get_uint(l->status_before, "pid");
}

static void take_numbers(struct live *l)
{
	double now = seconds_now();
	struct ctl_vault v;

	forget(&l->status_before);
	forget(&l->writers_before);
	l->status_before = steal_ptr(&l->status);
	l->writers_before = steal_ptr(&l->writers);
	if (ctl_vault_find(l->path, &v) == 0) {
		l->status = steal_ptr(&v.status);
		l->writers = l->status ? read_document(&v, "writers.json") : NULL;
		ctl_vault_free(&v);
	}
	l->seconds = is_same_daemon(l) ? now - l->taken : 0;
	l->taken = now;
}

static uint64_t total(const struct jsonl_report *status, const char *key)
{
	return jsonl_report_get_uint(jsonl_report_get(status, "totals"), key);
}

static double rate_of(const struct live *l, uint64_t now, uint64_t before)
{
	return l->seconds > 0 && now > before ? (double)(now - before) / l->seconds : 0;
}

static double total_rate(const struct live *l, const char *key)
{
	return rate_of(l, total(l->status, key), total(l->status_before, key));
}

/* ---- lines ---- */

/* Prints a line cut to the terminal's width. */
static void put_line(const struct live *l, const char *line)
{
	size_t len = strlen(line), at = 0;

	for (int column = 0; at < len && column < l->columns; column++) {
		uint32_t code;
		size_t n = jsonl_utf8_next(line + at, len - at, &code);

		at += n ? n : 1;
	}
	(void)fwrite(line, 1, at, stdout);
	(void)fputs("\033[K\n", stdout);
}

__attribute__((format(printf, 2, 3))) static void put(const struct live *l,
						      const char *format, ...)
{
	cleanup_free char *text = NULL;
	cleanup_free char *safe = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	safe = text ? ctl_safe_text(text) : NULL;
	put_line(l, safe ? safe : "");
}

static void put_count(const struct live *l, const char *label, const char *key,
		      const char *more, const char *key2)
{
	char a[CTL_NUMBER], b[CTL_NUMBER];

	put(l, "%-12s %15s  %10.1f/s      %-18s %12s  %10.1f/s", label,
	    ctl_number(total(l->status, key), a), total_rate(l, key), more,
	    ctl_number(total(l->status, key2), b), total_rate(l, key2));
}

static void put_store(const struct live *l, const char *key)
{
	const struct jsonl_report *store = jsonl_report_get(l->status, key);
	uint64_t bytes = jsonl_report_get_uint(store, "bytes");
	uint64_t max = jsonl_report_get_uint(store, "max");
	uint64_t entries = jsonl_report_get_uint(store, "entries");
	char is[CTL_NUMBER], may[CTL_NUMBER], number[CTL_NUMBER], bar[BAR_WIDTH + 1];
	size_t full = max ? (size_t)((double)bytes / (double)max * BAR_WIDTH) : 0;

	/* One mark from the first byte on. */
	full = full > BAR_WIDTH ? BAR_WIDTH : bytes && !full ? 1 : full;
	memset(bar, '#', full);
	memset(bar + full, '.', BAR_WIDTH - full);
	bar[BAR_WIDTH] = '\0';
	put(l, "%-12s [%s] %s of %s, %s %s", key, bar, ctl_bytes(bytes, is),
	    ctl_bytes(max, may), ctl_number(entries, number),
	    entries == 1 ? "entry" : "entries");
}

static void put_attention(const struct live *l)
{
	static const char *const counters[] = {"lost",		"quarantine_full",
					       "sync_failures", "poisoned_files",
					       "ungoverned",	"lock_timeouts",
					       "lost_locks"};
	bool needed = jsonl_report_get_uint(l->status, "deaths") > 0;

	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		needed |= total(l->status, counters[i]) > 0;
	put(l, "%s", needed ? "ATTENTION: jsonlfsctl status | cat tells what is wrong" : "");
}

/* ---- writers ---- */

struct writer {
	const struct jsonl_report *w;
	double records, bytes; /* a second */
};

static bool is_same_text(const struct jsonl_report *a, const struct jsonl_report *b,
			 const char *key)
{
	const char *x = jsonl_report_get_string(a, key);
	const char *y = jsonl_report_get_string(b, key);

	return strcmp(x ? x : "", y ? y : "") == 0;
}

/* Returns the counts of the same writer a second ago. Writers keep their order, so the
 * search begins where the last one was found. */
static const struct jsonl_report *earlier(const struct jsonl_report *list, size_t *from,
					  const struct jsonl_report *w)
{
	size_t n = jsonl_report_length(list);

	for (size_t i = 0; i < n; i++) {
		const struct jsonl_report *old =
		    jsonl_report_at(list, (*from + i) % n);

		if (jsonl_report_get_uint(old, "uid") == jsonl_report_get_uint(w, "uid") &&
		    is_same_text(old, w, "path") && is_same_text(old, w, "program")) {
			*from = (*from + i + 1) % n;
			return old;
		}
	}
	return NULL;
}

static int busy_first(const void *a, const void *b)
{
	const struct writer *x = a, *y = b;
	uint64_t m = jsonl_report_get_uint(x->w, "records");
	uint64_t n = jsonl_report_get_uint(y->w, "records");

	if (x->records != y->records)
		return x->records < y->records ? 1 : -1;
	return (m < n) - (m > n);
}

static void put_writer(const struct live *l, const struct writer *w)
{
	cleanup_free char *line = NULL;
	char records[CTL_NUMBER], bytes[CTL_NUMBER], refused[CTL_NUMBER];
	size_t len;
	FILE *to = open_memstream(&line, &len);

	if (!to)
		return;
	(void)fprintf(to, "%10.1f %10s/s %13s %8s  ", w->records,
		      ctl_bytes((uint64_t)w->bytes, bytes),
		      ctl_number(jsonl_report_get_uint(w->w, "records"), records),
		      ctl_number(jsonl_report_get_uint(w->w, "refused"), refused));
	(void)ctl_print_name(to, ctl_text_of(w->w, "path"));
	(void)fputs("  ", to);
	(void)ctl_print_name(to, ctl_text_of(w->w, "program"));
	if (fclose(to) == 0)
		put_line(l, line);
}

/* Prints as many writers as there is room for. Returns the rows used. */
static int put_writers(const struct live *l, int room)
{
	const struct jsonl_report *list = jsonl_report_get(l->writers, "writers");
	const struct jsonl_report *old = jsonl_report_get(l->writers_before, "writers");
	size_t n = jsonl_report_length(list), from = 0;
	struct writer *all = calloc(n ? n : 1, sizeof(*all));
	int rows = 0;

	put(l, "%10s %12s %13s %8s  %s", "RECORDS/S", "BYTES/S", "RECORDS", "REFUSED",
	    "FILE  PROGRAM");
	for (size_t i = 0; all && i < n; i++) {
		const struct jsonl_report *w = jsonl_report_at(list, i);
		const struct jsonl_report *b = earlier(old, &from, w);

		all[i] = (struct writer){
		    .w = w,
		    .records = rate_of(l, jsonl_report_get_uint(w, "records"),
				       jsonl_report_get_uint(b, "records")),
		    .bytes = rate_of(l, jsonl_report_get_uint(w, "bytes"),
				     jsonl_report_get_uint(b, "bytes"))};
	}
	if (all && n)
		qsort(all, n, sizeof(*all), busy_first);
	for (; all && (size_t)rows < n && rows < room; rows++)
		put_writer(l, &all[rows]);
	free(all);
	return rows;
}

/* ---- the page ---- */

static void put_head(const struct live *l)
{
	uint64_t up = jsonl_report_get_uint(l->status, "uptime_s");

	put(l, "%s  jsonlfs %s  up %llu:%02llu:%02llu  %llu open  (q: quit)",
	    ctl_text_of(l->status, "mountpoint"), ctl_text_of(l->status, "version"),
	    (unsigned long long)(up / 3600), (unsigned long long)(up / 60 % 60),
	    (unsigned long long)(up % 60),
	    (unsigned long long)jsonl_report_get_uint(l->status, "open_handles"));
	put(l, "%s", "");
	put_count(l, "records", "records", "lines refused", "refused");
	put_count(l, "bytes", "bytes", "operations denied", "denied");
	put_count(l, "syncs", "syncs", "fragments", "fragments");
	put_store(l, "quarantine");
	put_store(l, "archive");
	put_attention(l);
	put(l, "%s", "");
}

static void put_events(const struct live *l, int room)
{
	size_t shown = l->came < EVENTS_KEPT ? l->came : EVENTS_KEPT;

	put(l, "%s", "");
	put(l, "%s", l->events->fd < 0 ? "EVENTS (the daemon tells none at the moment)"
				       : "EVENTS");
	if (room < 0)
		room = 0;
	if (shown > (size_t)room)
		shown = (size_t)room;
	for (size_t i = l->came - shown; i < l->came; i++)
		put_line(l, l->lines[i % EVENTS_KEPT]);
}

static void draw(struct live *l)
{
	struct winsize size;
	bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row &&
		     size.ws_col;
	int room;

	l->rows = known ? size.ws_row : 24;
	l->columns = known ? size.ws_col : 80;
	(void)fputs("\033[H", stdout);
	if (l->status) {
		put_head(l);
		room = l->rows - ROWS_HEAD;
		/* Events get half of it. */
		room -= put_writers(l, l->events ? room / 2 : room);
		if (l->events)
			put_events(l, room - 2);
	} else {
		/* Last, so that a long path in a narrow terminal does not hide it. */
		put(l, "no mount of jsonlfs answers here  (q: quit): %s", l->path);
	}
	(void)fputs("\033[J", stdout);
	(void)fflush(stdout);
}

/* ---- the terminal ---- */

static void begin(struct live *l)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT};
	struct sigaction action = {.sa_handler = on_signal};
	struct termios raw;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaction(signals[i], &action, NULL);
	l->keys = isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &l->terminal) == 0;
	if (l->keys) {
		raw = l->terminal;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		raw.c_cc[VMIN] = 0;
		raw.c_cc[VTIME] = 0;
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	/* The alternate screen, without a cursor. */
	(void)fputs("\033[?1049h\033[?25l", stdout);
}

static void end(struct live *l)
{
	(void)fputs("\033[?25h\033[?1049l", stdout);
	(void)fflush(stdout);
	if (l->keys)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &l->terminal);
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		free(l->lines[i]);
	forget(&l->status);
	forget(&l->writers);
	forget(&l->status_before);
	forget(&l->writers_before);
}

static void take_event(struct live *l)
{
	char *text = NULL;

	if (!l->events->next(l->events->ctx, &text)) {
		(void)close(l->events->fd);
		l->events->fd = -1;
	}
	if (!text)
		return;
	free(l->lines[l->came % EVENTS_KEPT]);
	l->lines[l->came++ % EVENTS_KEPT] = text;
}

/* Waits for a key or an event, until the page is to be drawn. */
static void wait_until(struct live *l, double until)
{
	double now;

	while (!ended && (now = seconds_now()) < until) {
		struct pollfd p[2] = {
		    {.fd = l->keys ? STDIN_FILENO : -1, .events = POLLIN},
		    {.fd = l->events ? l->events->fd : -1, .events = POLLIN}};
		char key;

		if (poll(p, 2, (int)((until - now) * 1000) + 1) < 0)
			return; /* a signal, as when the terminal's size changes */
		if (p[0].revents && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q'))
			ended = 1;
		if (p[1].revents)
			take_event(l);
	}
}

int ctl_live(const char *path, struct ctl_live_events *events)
{
	struct live l = {.path = path, .events = events};

	begin(&l);
	while (!ended) {
		take_numbers(&l);
		draw(&l);
		wait_until(&l, l.taken + REDRAW_MS / 1000.0);
		if (events && events->fd < 0)
			events->again(events->ctx);
	}
	end(&l);
	return ferror(stdout) ? CTL_FAILURE : CTL_OK;
}
