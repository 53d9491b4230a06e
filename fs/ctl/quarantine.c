/* jsonlfsctl quarantine: what was set aside, and the way back. */
#include "quarantine.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "appender.h"
#include "check.h"
#include "cleanup.h"
#include "content.h"
#include "control.h"
#include "ctl.h"
#include "names.h"
#include "options.h"
#include "place.h"
#include "replace.h"

#define READ_MAX (256UL << 20)

struct request {
	bool json, again;
	const char *state, *edited;
	struct ctl_options options; /* restore: what a record is */
	bool judged;		    /* some of them were given */
	char **rest; /* what is no option: PATH, NAME... */
	int count;
};

struct entry {
	const char *file;	   /* points into line */
	struct jsonl_report *line; /* of the index */
};

/* An open quarantine. */
struct store {
	struct ctl_vault vault;
	int state_fd, dir_fd;
	struct entry *entries; /* by file; not "joined" */
	size_t count, cap;
};

/* ---- the index ---- */

static int order(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->file, ((const struct entry *)b)->file);
}

static int add_line(struct store *s, struct jsonl_report *line)
{
	const char *file = jsonl_report_get_string(line, "file");
	const char *event = jsonl_report_get_string(line, "event");

	if (!file || !event || strcmp(event, "joined") == 0) {
		jsonl_report_free(line);
		return 0;
	}
	if (s->count == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 256;
		void *grown = realloc(s->entries, cap * sizeof(*s->entries));

		if (!grown) {
			jsonl_report_free(line);
			return -ENOMEM;
		}
		s->entries = grown;
		s->cap = cap;
	}
	s->entries[s->count++] = (struct entry){.file = file, .line = line};
	return 0;
}

/* What is no line of an index is passed over: a crash may have torn it. */
static int read_index(struct store *s)
{
	int fd =
	    openat(s->state_fd, "quarantine.jsonl", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	cleanup_free char *line = NULL;
	struct statx now;
	size_t cap = 0;
	int rc = 0;

	if (!f) {
		rc = errno == ENOENT ? 0 : -errno;
		if (fd >= 0)
			(void)close(fd);
		return rc;
	}
	/* A mount answers for a second from what it knows, but not when asked like this.
	 */
	(void)statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &now);
	while (rc == 0 && getline(&line, &cap, f) > 0) {
		struct jsonl_report *parsed = jsonl_report_parse(line);

		rc = parsed ? add_line(s, parsed) : 0;
	}
	(void)fclose(f);
	if (s->count)
		qsort(s->entries, s->count, sizeof(*s->entries), order);
	return rc;
}

/* The line that tells of a file first, NULL: none; *restored: when it was appended again.
 */
static const struct jsonl_report *find_line(const struct store *s, const char *file,
					    const char **restored)
{
	const struct jsonl_report *found = NULL;
	size_t low = 0, high = s->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(s->entries[middle].file, file) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*restored = NULL;
	for (; low < s->count && strcmp(s->entries[low].file, file) == 0; low++) {
		const struct jsonl_report *line = s->entries[low].line;

		if (strcmp(jsonl_report_get_string(line, "event"), "restored") == 0)
			*restored = jsonl_report_get_string(line, "time");
		else if (!found)
			found = line;
	}
	return found;
}

/* ---- opening ---- */

static void store_close(struct store *s)
{
	for (size_t i = 0; i < s->count; i++)
		jsonl_report_free(s->entries[i].line);
	free(s->entries);
	if (s->dir_fd >= 0)
		(void)close(s->dir_fd);
	if (s->state_fd >= 0)
		(void)close(s->state_fd);
	ctl_vault_free(&s->vault);
}

static int store_open_at(struct store *s, const struct request *r)
{
	int rc = ctl_vault_find(r->rest[0], &s->vault);

	if (rc < 0)
		return rc;
	s->state_fd = ctl_vault_state(&s->vault, r->state);
	if (s->state_fd < 0)
		return s->state_fd;
	s->dir_fd = openat(s->state_fd, "quarantine",
			   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return s->dir_fd < 0 ? -errno : read_index(s);
}

/* 0, or an exit code after a message. Pair with store_close if 0. */
static int store_open(struct store *s, const struct request *r)
{
	int rc;

	*s = (struct store){.state_fd = -1, .dir_fd = -1};
	rc = store_open_at(s, r);
	if (rc == 0)
		return 0;
	store_close(s);
	if (rc == -ENOENT || rc == -ENOTDIR)
		ctl_error(
		    "%s: no state directory with a quarantine here: name the vault, "
		    "mounted or not, or the directory that state= names with --state",
		    r->rest[0]);
	else if (rc == -EACCES || rc == -EPERM)
		ctl_error(
		    "%s: the quarantine is for root and for the owner of the vault: "
		    "try as one of them",
		    r->rest[0]);
	else
		ctl_error("%s: %s", r->rest[0], jsonl_error_text(rc));
	return CTL_FAILURE;
}

static bool is_name(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/');
}

/* Opens an entry, or says why not. */
static int open_entry(const struct store *s, const char *name)
{
	int fd = is_name(name) ? openat(s->dir_fd, name,
					O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
			       : -1;

	if (fd < 0)
		ctl_error("%s: %s: jsonlfsctl quarantine list tells the names", name,
			  is_name(name) ? jsonl_error_text(-errno)
					: "no name of an entry");
	return fd;
}

/* ---- list ---- */

static int wanted(void *ctx, const char *name, unsigned char type)
{
	return is_name(name);
}

static const char *text_of(const struct jsonl_report *line, const char *key)
{
	const char *text = jsonl_report_get_string(line, key);

	return text ? text : "?";
}

static void print_column(const char *text, size_t width)
{
	size_t used = ctl_print_name(stdout, text);

	printf("%*s", used < width ? (int)(width - used) : 1, "");
}

static void print_entry(const char *name, const struct stat *st,
			const struct jsonl_report *line, const char *restored)
{
	char bytes[CTL_NUMBER];

	/* The fraction of the second is part of the name. */
	printf("%-19.19s  ", text_of(line, "time"));
	print_column(text_of(line, "event"), 10);
	print_column(text_of(line, "reason"), 14);
	printf("%10s  ", ctl_bytes((uint64_t)st->st_size, bytes));
	print_column(text_of(line, "program"), 24);
	print_column(text_of(line, "path"), 24);
	(void)ctl_print_name(stdout, name);
	puts(restored ? "  (restored)" : "");
}

static void list_entry(struct jsonl_report *list, const char *name, const struct stat *st,
		       const struct jsonl_report *line, const char *restored)
{
	static const char *const strings[] = {"time",	"event", "path",
					      "reason", "text",	 "program"};
	struct jsonl_report *o = jsonl_report_object();

	jsonl_report_add_string(o, "file", name);
	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
		if (jsonl_report_get_string(line, strings[i]))
			jsonl_report_add_string(
			    o, strings[i], jsonl_report_get_string(line, strings[i]));
	jsonl_report_add_uint(o, "bytes", (uint64_t)st->st_size);
	if (line) {
		jsonl_report_add_uint(o, "offset", jsonl_report_get_uint(line, "offset"));
		jsonl_report_add_uint(o, "pid", jsonl_report_get_uint(line, "pid"));
		jsonl_report_add_uint(o, "uid", jsonl_report_get_uint(line, "uid"));
	}
	if (restored)
		jsonl_report_add_string(o, "restored", restored);
	jsonl_report_add(list, NULL, o);
}

static int print_list(struct jsonl_report *list, uint64_t entries, uint64_t bytes)
{
	struct jsonl_report *o = jsonl_report_object();

	jsonl_report_add_uint(o, "entries", entries);
	jsonl_report_add_uint(o, "bytes", bytes);
	jsonl_report_add(o, "quarantine", list);
	return ctl_print_report(o);
}

static int list_names(const struct store *s, const struct request *r,
		      const struct ctl_names *names)
{
	struct jsonl_report *list = r->json ? jsonl_report_array() : NULL;
	char number[CTL_NUMBER], size[CTL_NUMBER];
	uint64_t entries = 0, bytes = 0;

	if (!r->json && names->count)
		printf("%-21s%-10s%-14s%10s  %-24s%-24s%s\n", "TIME (UTC)", "EVENT",
		       "REASON", "SIZE", "PROGRAM", "PATH", "NAME");
	for (size_t i = 0; i < names->count; i++) {
		const char *restored;
		const struct jsonl_report *line = find_line(s, names->list[i], &restored);
		struct stat st;

		if (fstatat(s->dir_fd, names->list[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		entries++;
		bytes += (uint64_t)st.st_size;
		if (r->json)
			list_entry(list, names->list[i], &st, line, restored);
		else
			print_entry(names->list[i], &st, line, restored);
	}
	if (r->json)
		return print_list(list, entries, bytes);
	printf("%s entries, %s\n", ctl_number(entries, number), ctl_bytes(bytes, size));
	return 0;
}

static int list(const struct request *r)
{
	struct ctl_names names = {0};
	struct store s;
	int code = store_open(&s, r), rc;

	if (code)
		return code;
	rc = ctl_names_read(&names, s.dir_fd, wanted, NULL);
	if (rc < 0) {
		ctl_error("%s: %s: the names are for root", r->rest[0],
			  jsonl_error_text(rc));
		code = CTL_FAILURE;
	} else {
		code = list_names(&s, r, &names);
	}
	ctl_names_free(&names);
	store_close(&s);
	return code;
}

/* ---- show ---- */

/* All of a file. To be freed; NULL after -errno in *rc. */
static char *read_all(int fd, size_t *len, int *rc)
{
	cleanup_free char *buf = NULL;
	size_t cap = 0;

	for (*len = 0;;) {
		ssize_t n;

		if (*len == cap) {
			char *grown;

			cap = cap ? cap * 2 : 65536;
			grown = cap > READ_MAX ? NULL : realloc(buf, cap);
			*rc = -ENOMEM;
			if (!grown)
				return NULL;
			buf = grown;
		}
		n = read(fd, buf + *len, cap - *len);
		*rc = n < 0 ? -errno : 0;
		if (n == 0)
			return steal_ptr(&buf);
		if (n < 0 && errno != EINTR)
			return NULL;
		*len += n > 0 ? (size_t)n : 0;
	}
}

static int show(const struct request *r)
{
	const char *name = r->rest[1], *restored;
	cleanup_free char *data = NULL;
	const struct jsonl_report *line;
	struct store s;
	int code = store_open(&s, r), rc = 0;
	size_t len;

	if (code)
		return code;
	cleanup_close int fd = open_entry(&s, name);

	if (fd >= 0)
		data = read_all(fd, &len, &rc);
	if (!data) {
		if (rc)
			ctl_error("%s: %s", name, jsonl_error_text(rc));
		store_close(&s);
		return CTL_FAILURE;
	}
	/* Standard output has the bytes and nothing else, so that they can be edited. */
	line = find_line(&s, name, &restored);
	if (line && isatty(STDERR_FILENO)) {
		(void)fprintf(stderr, "# %s, %s at byte %llu, by ", text_of(line, "time"),
			      text_of(line, "text"),
			      (unsigned long long)jsonl_report_get_uint(line, "offset"));
		(void)ctl_print_name(stderr, text_of(line, "program"));
		(void)fputs(", of ", stderr);
		(void)ctl_print_name(stderr, text_of(line, "path"));
		(void)fputc('\n', stderr);
	}
	(void)fwrite(data, 1, len, stdout);
	store_close(&s);
	return 0;
}

/* ---- restore ---- */

struct lines {
	const char *data;
	size_t len;
	uint64_t bad, records;
};

/* Calls one() for each line that is not empty: 0, or its answer. */
static int each_line(const struct lines *l,
		     int (*one)(void *ctx, uint64_t number, const char *line, size_t len),
		     void *ctx)
{
	uint64_t number = 1;
	int rc = 0;

	for (size_t at = 0; at < l->len && rc == 0; number++) {
		const char *newline = memchr(l->data + at, '\n', l->len - at);
		size_t n = newline ? (size_t)(newline - l->data) - at : l->len - at;
		size_t offset;

		if (jsonl_validate(l->data + at, n, &offset) != JSONL_BLANK)
			rc = one(ctx, number, l->data + at, n);
		at += n + 1;
	}
	return rc;
}

static int judge_one(void *ctx, const struct jsonl_finding *f)
{
	struct lines *l = ctx;
	const char *newline =
	    memrchr(l->data, '\n', f->offset < l->len ? f->offset : l->len);
	uint64_t start = newline ? (uint64_t)(newline - l->data) + 1 : 0;

	if (jsonl_finding_is_note(f->kind))
		return 0;
	l->bad++;
	ctl_error("line %llu: byte %llu: %s", (unsigned long long)f->line,
		  (unsigned long long)(f->offset - start),
		  f->verdict ? jsonl_error_text(f->verdict)
			     : jsonl_finding_text(f->kind));
	return 0;
}

/* By the limits of the file `path` of the vault. 0 or -errno. */
static int judge_by(const struct jsonl_config *config, const char *path, struct lines *l)
{
	const struct jsonl_check check = {.finding = judge_one, .ctx = l};
	struct jsonl_check_counts counts = {0};
	cleanup_close int fd = ctl_content_new();
	struct jsonl_limits limits;
	int rc = fd < 0 ? fd : ctl_options_limits_of(config, path, &limits);

	if (rc == 0)
		rc = ctl_content_add_bytes(fd, l->data, l->len);
	/* An end without a newline is none. */
	if (rc == 0)
		rc = ctl_content_add_bytes(fd, "\n", 1);
	if (rc == 0)
		rc = jsonl_check_fd(&jsonl_io_system, fd, &limits, &check, &counts);
	l->records = counts.records;
	return rc;
}

/* 0 when all of them are records, else an exit code after messages. */
static int judge(const struct store *s, const struct request *r, const char *path,
		 struct lines *l)
{
	struct jsonl_config config;
	int rc = jsonl_config_init(&config), code = 0;

	if (rc == 0) {
		code =
		    ctl_options_apply(&ctl_quarantine, &r->options, &s->vault, &config);
		if (code == 0)
			rc = judge_by(&config, path, l);
		jsonl_config_deinit(&config);
	}
	if (rc < 0) {
		ctl_error("%s: %s", r->rest[1], jsonl_error_text(rc));
		return CTL_FAILURE;
	}
	if (code || (!l->bad && l->records))
		return code;
	ctl_error("%s: nothing was appended: %s; mend it: jsonlfsctl quarantine show %s "
		  "%s > FILE, edit FILE, then restore with --edited=FILE",
		  r->rest[1], l->bad ? "these lines are no records" : "it has no records",
		  r->rest[0], r->rest[1]);
	return CTL_DAMAGE;
}

struct restoring {
	struct ctl_appender to;
	uint64_t done;
	bool unsure; /* one more may be in the file */
};

static int append_one(void *ctx, uint64_t number, const char *line, size_t len)
{
	struct restoring *restoring = ctx;
	int rc = ctl_appender_add(&restoring->to, line, len);

	if (rc == 0) {
		restoring->done++;
		return 0;
	}
	restoring->unsure = ctl_appender_unsure(&restoring->to, rc);
	ctl_error("line %llu: %s: it is %s what follows", (unsigned long long)number,
		  ctl_appender_explain(rc),
		  restoring->unsure ? "in the file or not: look; not appended is"
				    : "not appended, nor is");
	return rc;
}

/* In the index of a bare vault. */
static int note_bare(const struct store *s, const char *name, uint64_t records)
{
	struct jsonl_report *o = jsonl_report_object();
	char path[64], stamp[32];
	cleanup_free char *text = NULL;
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	(void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
	jsonl_report_add_string(o, "time", stamp);
	jsonl_report_add_string(o, "event", "restored");
	jsonl_report_add_string(o, "file", name);
	jsonl_report_add_uint(o, "records", records);
	text = jsonl_report_text(o, false);
	jsonl_report_free(o);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/quarantine.jsonl",
		       s->state_fd);
	return text ? jsonl_append_record(path, text, strcspn(text, "\n")) : -ENOMEM;
}

/* Notes that the entry is back. Best effort: the records are. */
static void note_restored(const struct store *s, const char *name, uint64_t records)
{
	struct jsonl_report *o = ctl_control_request("quarantine-restored");
	int rc;

	jsonl_report_add_string(o, "name", name);
	jsonl_report_add_uint(o, "records", records);
	rc = ctl_control_ask(&s->vault, o, NULL, 0, NULL);
	if (rc == -ENOENT)
		rc = note_bare(s, name, records);
	if (rc)
		ctl_error(
		    "%s: it could not be noted that this is restored: do not restore "
		    "it again",
		    name);
}

/* *done is as many as are in the file for sure, *there as many as may be. */
static int append_lines(const char *path, const struct lines *l, uint64_t *done,
			uint64_t *there)
{
	struct restoring restoring = {0};
	int rc = ctl_appender_open(&restoring.to, path), closed;

	if (rc) {
		ctl_error("%s: %s", path, ctl_appender_explain(rc));
		return CTL_FAILURE;
	}
	rc = each_line(l, append_one, &restoring);
	if (rc == 0) {
		rc = ctl_appender_sync(&restoring.to);
		if (rc)
			ctl_error("%s: %s: what was appended may not be on the disk",
				  path, jsonl_error_text(rc));
	}
	closed = ctl_appender_close(&restoring.to);
	*done = restoring.done;
	*there = restoring.done + restoring.unsure;
	return rc || closed ? CTL_FAILURE : 0;
}

/* The text to restore: the entry itself, or what was made of it. */
static char *read_source(const struct store *s, const struct request *r, size_t *len)
{
	char *data = NULL;
	int rc = 0;
	cleanup_close int entry = open_entry(s, r->rest[1]);
	cleanup_close int edited = -1;

	if (entry < 0)
		return NULL;
	if (r->edited && strcmp(r->edited, "-") == 0) {
		data = read_all(STDIN_FILENO, len, &rc);
	} else if (r->edited) {
		edited = open(r->edited, O_RDONLY | O_CLOEXEC);
		rc = edited < 0 ? -errno : 0;
		if (rc == 0)
			data = read_all(edited, len, &rc);
	} else {
		data = read_all(entry, len, &rc);
	}
	if (!data)
		ctl_error("%s: %s", r->edited ? r->edited : r->rest[1],
			  jsonl_error_text(rc));
	return data;
}

/* A log that is not there any more comes again as its entry is: with the owner and the
 * mode that it had then. Best effort, for who may: else it is made as any file. */
static void make_like_entry(const struct store *s, const char *name, const char *target)
{
	const char *slash = strrchr(target, '/');
	cleanup_free char *dir = strndup(target, (size_t)(slash - target) + 1);
	cleanup_close int dir_fd =
	    dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	cleanup_close int entry =
	    openat(s->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct jsonl_replace log;
	struct stat st;

	if (dir_fd < 0 || entry < 0 ||
	    fstatat(dir_fd, slash + 1, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	    jsonl_replace_begin(&log, &jsonl_io_system, dir_fd, slash + 1, entry) < 0)
		return;
	log.new_times = true;
	(void)!jsonl_replace_commit(&log, RENAME_NOREPLACE);
}

static int restore_to(const struct store *s, const struct request *r, const char *path)
{
	cleanup_free char *data = NULL;
	cleanup_free char *target = NULL;
	struct lines l = {0};
	uint64_t done = 0, there = 0;
	int code;

	data = read_source(s, r, &l.len);
	if (!data)
		return CTL_FAILURE;
	l.data = data;
	code = judge(s, r, path, &l);
	if (code)
		return code;
	if (asprintf(&target, "%s/%s", s->vault.root, path) < 0) {
		target = NULL;
		ctl_error("out of memory");
		return CTL_FAILURE;
	}
	make_like_entry(s, r->rest[1], target);
	code = append_lines(target, &l, &done, &there);
	if (there)
		note_restored(s, r->rest[1], there);
	printf("%llu of %llu records were appended to ", (unsigned long long)done,
	       (unsigned long long)l.records);
	(void)ctl_print_name(stdout, target);
	printf("\n%s", code == 0
			   ? "the entry is kept: jsonlfsctl quarantine drop removes it\n"
			   : "");
	return code;
}

/* A path that stays in the vault. */
static bool is_inner_path(const char *path)
{
	if (path[0] == '\0' || path[0] == '/')
		return false;
	for (const char *p = path; p; p = strchr(p, '/'), p = p ? p + 1 : NULL)
		if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == '\0'))
			return false;
	return true;
}

/* Takes the entry for one restore at a time; what an earlier one has noted is in the index
 * that is read then. 0, or an exit code after a message. */
static int take_entry(const struct request *r, int *entry)
{
	struct store s;
	int code = store_open(&s, r), rc;

	if (code)
		return code;
	*entry = open_entry(&s, r->rest[1]);
	store_close(&s);
	if (*entry < 0)
		return CTL_FAILURE;
	rc = ctl_lock(*entry);
	if (rc == 0)
		return 0;
	ctl_error("%s: %s", r->rest[1],
		  rc == -EWOULDBLOCK ? "is being restored at this moment"
				     : jsonl_error_text(rc));
	return CTL_FAILURE;
}

static int restore(const struct request *r)
{
	const char *restored, *path;
	const struct jsonl_report *line;
	struct store s;
	cleanup_close int entry = -1;
	int code = take_entry(r, &entry);

	if (code == 0)
		code = store_open(&s, r);
	if (code)
		return code;
	line = find_line(&s, r->rest[1], &restored);
	path = jsonl_report_get_string(line, "path");
	if (restored && !r->again) {
		ctl_error("%s: was restored at %s: --again does it once more", r->rest[1],
			  restored);
		code = CTL_FAILURE;
	} else if (!path || !is_inner_path(path)) {
		ctl_error(
		    "%s: the index does not say which file it is of: use jsonlfsctl "
		    "quarantine show %s %s | jsonlfsctl append FILE",
		    r->rest[1], r->rest[0], r->rest[1]);
		code = CTL_FAILURE;
	} else {
		code = restore_to(&s, r, path);
	}
	store_close(&s);
	return code;
}

/* ---- drop ---- */

static int drop_names(const struct store *s, const struct request *r)
{
	int code = 0;

	for (int i = 1; i < r->count; i++) {
		if (!is_name(r->rest[i]) || unlinkat(s->dir_fd, r->rest[i], 0) < 0) {
			ctl_error("%s: %s", r->rest[i],
				  is_name(r->rest[i]) ? jsonl_error_text(-errno)
						      : "no name of an entry");
			code = CTL_FAILURE;
		}
	}
	if (fsync(s->dir_fd) < 0) {
		ctl_error("%s: %s", r->rest[0], jsonl_error_text(-errno));
		code = CTL_FAILURE;
	}
	return code;
}

static int drop(const struct request *r)
{
	struct ctl_place place = {0};
	struct store s;
	int code = store_open(&s, r), rc;

	if (code)
		return code;
	code = ctl_control_drop(&s.vault, "quarantine-drop", r->rest[0], r->rest + 1,
				r->count - 1);
	rc = ctl_place_find(r->state ? r->state : r->rest[0], &place);
	if (code == -ENOENT && rc == 0 && place.inside) {
		ctl_place_refuse("quarantine drop", r->rest[0], &place);
		code = CTL_FAILURE;
	} else if (code == -ENOENT) {
		code = drop_names(&s, r);
	}
	ctl_place_free(&place);
	store_close(&s);
	return code;
}

/* ---- the command line ---- */

static const struct {
	const char *name;
	int (*run)(const struct request *r);
	int least, most;
	const char *wants;
} actions[] = {
    {"list", list, 1, 1, "PATH"},
    {"show", show, 2, 2, "PATH NAME"},
    {"restore", restore, 2, 2, "PATH NAME"},
    {"drop", drop, 2, 1 << 30, "PATH NAME..."},
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

static int parse(struct request *r, int argc, char **argv)
{
	bool options = true;
	int out = 1, code = 0;

	for (int i = 1; i < argc && code == 0; i++) {
		if (!options || argv[i][0] != '-' || argv[i][1] == '\0')
			argv[out++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			options = false;
		else if (strcmp(argv[i], "--json") == 0)
			r->json = true;
		else if (strcmp(argv[i], "--again") == 0)
			r->again = true;
		else if (!ctl_take_value("--state", argc, argv, &i, &r->state) &&
			 !ctl_take_value("--edited", argc, argv, &i, &r->edited)) {
			r->judged = true;
			code = ctl_options_take(&ctl_quarantine, &r->options, argc, argv,
						&i);
		}
	}
	if (code)
		return code;
	if (out < 2)
		return ctl_usage(&ctl_quarantine,
				 "list, show, restore or drop is missing");
	r->rest = argv + 2;
	r->count = out - 2;
	return 0;
}

static int quarantine_run(int argc, char **argv)
{
	struct request r = {0};
	int code = parse(&r, argc, argv);

	if (code)
		return code;
	for (size_t i = 0; i < ACTIONS; i++) {
		if (strcmp(argv[1], actions[i].name) != 0)
			continue;
		if (r.count < actions[i].least || r.count > actions[i].most)
			return ctl_usage(&ctl_quarantine, "%s wants %s", actions[i].name,
					 actions[i].wants);
		if (r.json && actions[i].run != list)
			return ctl_usage(&ctl_quarantine, "--json is for list");
		if ((r.edited || r.again || r.judged) && actions[i].run != restore)
			return ctl_usage(&ctl_quarantine,
					 "--edited, --again and options of the mount "
					 "are for restore");
		return actions[i].run(&r);
	}
	return ctl_usage(&ctl_quarantine, "%s is not list, show, restore or drop",
			 argv[1]);
}

const struct ctl_command ctl_quarantine = {
    .name = "quarantine",
    .run = quarantine_run,
    .synopsis = "list|show|restore|drop [--json] [--state=DIR] [--OPTION=VALUE...] PATH "
		"[NAME...]",
    .summary = "what was set aside, and the way back",
    .help = "\n"
	    "PATH is a vault, mounted or not, or any directory in it. For root, or the "
	    "owner of\n"
	    "the vault's state directory.\n"
	    "\n"
	    "  list [--json] PATH      the entries: when, why, by which program, of "
	    "which file\n"
	    "  show PATH NAME          the bytes of an entry, as they came\n"
	    "  restore PATH NAME       append the records of an entry to the file that "
	    "they were\n"
	    "                          for: all of its lines must be records, else "
	    "nothing is\n"
	    "                          appended\n"
	    "    --edited=FILE         append FILE (- is standard input), which was made "
	    "of the\n"
	    "                          entry by hand\n"
	    "    --again               also when it was restored before\n"
	    "    --config=FILE         what a record is, by this configuration file; "
	    "without it\n"
	    "                          by that of the mount; also --value, --maxdepth, "
	    "--maxrecord\n"
	    "  drop PATH NAME...       remove entries, for good\n"
	    "\n"
	    "  --state=DIR             the state directory, if it is not .jsonlfs in the "
	    "vault\n"
	    "\n"
	    "A program may have sent the good records of a refused write again: before "
	    "restoring\n"
	    "look whether they are in the file already.\n"
	    "\n"
	    "Exit status: 0, 4 a line is no record and nothing was restored, 8 something "
	    "could\n"
	    "not be read or done, 16 wrong usage.",
};
