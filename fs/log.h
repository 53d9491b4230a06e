/* One structured line an event, to syslog (the journal reads it) or, with -f, to stderr:
 *
 *   refused path="audit.jsonl" offset=4 reason="..." pid=12 comm="bash" quarantine="..."
 *
 * String values are quoted and JSON-escaped (newline, ESC, C1, bidi, bytes that are not
 * UTF-8), lines are rate-limited per uid and event (what was left out is counted and
 * said), and the content of a record is never logged. Thread-safe. */
#ifndef FS_LOG_H
#define FS_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <syslog.h>

struct fs_field {
	const char *key;
	const char *string; /* NULL: number */
	int64_t number;
};

static inline struct fs_field fs_str(const char *key, const char *value)
{
	return (struct fs_field){.key = key, .string = value ? value : ""};
}

static inline struct fs_field fs_int(const char *key, int64_t value)
{
	return (struct fs_field){.key = key, .number = value};
}

#define FS_STR(k, v) fs_str((k), (v))
#define FS_INT(k, v) fs_int((k), (int64_t)(v))

/* priority: LOG_ERR ... of syslog(3); uid: whose doing it was, for the rate limit
 * ((uid_t)-1: nobody's, never limited). */
#define FS_LOG(priority, uid, event, ...)                                                \
	fs_log((priority), (uid), (event),                                               \
	       (const struct fs_field[]){__VA_ARGS__, {.key = NULL}})

void fs_log_open(bool to_stderr, bool debug);
void fs_log(int priority, uid_t uid, const char *event, const struct fs_field *fields);
/* Has `tap` called with every event that is logged, also with those that the rate limit
 * leaves out; by any thread, without a lock. It stays. */
void fs_log_tap(void (*tap)(int priority, uid_t uid, const char *event,
			    const struct fs_field *fields));
/* Lines written and lines left out by the rate limit. */
void fs_log_counts(uint64_t *written, uint64_t *suppressed);

#endif
