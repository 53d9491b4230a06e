/* SPDX-License-Identifier: MIT */
/* Writes one structured line for each event, to syslog (the journal reads it) or, with
 * -f, to stderr:
 *
 *   refused path="audit.jsonl" offset=4 reason="..." pid=12 program="bash"
 * quarantine="..."
 *
 * String values are quoted and JSON-escaped (newline, ESC, C1, bidi, bytes that are not
 * UTF-8). Lines are rate-limited per uid and event; lines that were left out are counted,
 * and a later line says how many. The content of a record is never logged. Thread-safe.
 */
#ifndef FS_BASE_SYSLOG_H
#define FS_BASE_SYSLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <syslog.h>

struct fs_field {
	const char *key;
	const char *string; /* NULL: a number */
	int64_t number;
};

#define FS_STR(k, v) fs_str((k), (v))
#define FS_INT(k, v) fs_int((k), (int64_t)(v))
/* Logs an event. `priority`: LOG_ERR ... of syslog(3). `uid`: of the caller that caused
 * it, for the rate limit ((uid_t)-1: nobody, never limited). */
#define FS_SYSLOG(priority, uid, event, ...)                                             \
	fs_syslog((priority), (uid), (event),                                            \
		  (const struct fs_field[]){__VA_ARGS__, {.key = NULL}})

static inline struct fs_field fs_str(const char *key, const char *value)
{
	return (struct fs_field){.key = key, .string = value ? value : ""};
}

static inline struct fs_field fs_int(const char *key, int64_t value)
{
	return (struct fs_field){.key = key, .number = value};
}

/* Opens the receiver. `where`: as for fs_syslog_sink_open. With `mounting` warnings go to
 * standard error, too, until fs_syslog_mounted. 0 or -errno. */
int fs_syslog_open(const char *where, bool mounting, bool debug);
void fs_syslog_mounted(void);
void fs_syslog(int priority, uid_t uid, const char *event, const struct fs_field *fields);
/* Sets `tap`, which is called with every event that is logged, also with those that the
 * rate limit leaves out; by any thread, without a lock. It cannot be taken back. */
void fs_syslog_tap(void (*tap)(int priority, uid_t uid, const char *event,
			       const struct fs_field *fields));
struct fs_syslog_counts {
	uint64_t written;
	uint64_t suppressed;  /* left out by the rate limit */
	uint64_t undelivered; /* lines that the receiver did not take */
	const char *to;	      /* the receiver */
	int error;	      /* -errno of the last line; 0: it was delivered */
};

void fs_syslog_counts(struct fs_syslog_counts *counts);

#endif
