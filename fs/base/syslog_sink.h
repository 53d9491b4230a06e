/* SPDX-License-Identifier: MIT */
/* Writes log lines to standard error, to the socket of syslog or of the journal, or to a
 * file. A line is delivered at once or not at all; a receiver that is full, slow or gone
 * never blocks and never ends the daemon (syslog(3) waits for a full socket). Not
 * thread-safe: syslog.c locks. */
#ifndef FS_BASE_SYSLOG_SINK_H
#define FS_BASE_SYSLOG_SINK_H

#include <stdbool.h>
#include <sys/types.h>

/* Chooses the receiver: "stderr", "syslog", "journal", "none", or the path of a file.
 * Also ignores SIGPIPE, for a reader of standard error that goes away. 0 or -errno (of a
 * file); -EINVAL: a file that is no regular one. */
int fs_syslog_sink_open(const char *where);
/* Writes a line, given without its newline. False: it was not delivered. */
bool fs_syslog_sink_write(int priority, const char *line, size_t len);
/* Writes a line to standard error in any case. */
void fs_syslog_sink_stderr(const char *line, size_t len);
/* Returns -errno if the last line was not delivered, else 0. *to: the name of the
 * receiver, static or as it was given. */
int fs_syslog_sink_error(const char **to);

#endif
