/* Where log lines go: standard error, or the syslog socket. A line is delivered at once
 * or not at all; a receiver that is full, slow or gone never blocks and never ends the
 * daemon (syslog(3) waits for a full socket). Not thread-safe: log.c locks. */
#ifndef FS_LOG_SINK_H
#define FS_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>

/* Also sees to it that a reader of standard error who has gone away is no SIGPIPE. */
void fs_log_sink_open(bool to_stderr);
/* `line` has no newline. False: it was not delivered. */
bool fs_log_sink_write(int priority, const char *line, size_t len);

#endif
