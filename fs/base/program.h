/* SPDX-License-Identifier: MIT */
/* Names the program behind a process. */
#ifndef FS_BASE_PROGRAM_H
#define FS_BASE_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

/* Writes the program behind a pid: /proc/PID/exe, and for a known interpreter the script
 * argument ("/usr/bin/python3 /srv/audit.py"), its path made absolute; `-m MODULE` for a
 * module; `-c` alone for code. Code and other arguments are never shown. "(NAME)" where
 * the executable may not be read, "(pid gone)" when the process is no longer there,
 * "(unknown)" for pid 0. Takes two to eight microseconds, and is right even just after an
 * exec; a cache by pid and start time would have to read /proc/PID/stat, which takes six.
 * Never opens the paths themselves, which may lead into the mount. Any thread. */
void fs_program_name(pid_t pid, char *buf, size_t size);
/* Writes the same without the script: finding that reads the memory of the process, which
 * can take for ever. For a thread that serves requests. Returns true when there may be a
 * script; see vault/named.h. */
bool fs_program_short(pid_t pid, char *buf, size_t size);
/* Lets fs_program_short answer with `name` for this process on this thread, until the
 * next call. NULL: ends that. `name` is borrowed. */
void fs_program_known(pid_t pid, const char *name);

#endif
