/* SPDX-License-Identifier: MIT */
/* Tells what is known of file systems of several hosts, by their types and options in the
 * mount table. Any thread. */
#ifndef FS_BASE_ENGINE_H
#define FS_BASE_ENGINE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct fs_engine {
	char type[32]; /* as in proc_pid_mountinfo(5); "": not known */
	/* NULL, or what it is mounted as when flock(2) holds on this host alone: "sshfs",
	 * "nfs with nolock". */
	const char *local_locks;
	/* "yes", "no" or "unknown": whether the servers refuse what a host sends after
	 * they have given its locks away. */
	const char *fences;
	/* Longest record, in bytes with its newline, that goes to the servers in one
	 * request, where these do not: half of a longer one could come behind records of
	 * others. 0: any. */
	uint64_t longest;
};

/* Looks up the mount `id` (statx(2), STATX_MNT_ID) in a mount table. */
void fs_engine_in(FILE *table, unsigned long long id, struct fs_engine *engine);
/* The same for the mount that a descriptor is in. */
void fs_engine_of(int fd, struct fs_engine *engine);

#endif
