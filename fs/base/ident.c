/* SPDX-License-Identifier: MIT */
#include "base/ident.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/look.h"
#include "base/memory.h"
#include "base/program.h"
#include "base/stats.h"
#include "base/syslog.h"
#include "record/writer.h"
#include "tools/check.h"

struct fs_ident *fs_ident_find(struct fs_ident_ring *ring, pid_t pid)
{
	unsigned long n = ring->count < FS_IDENTS ? ring->count : FS_IDENTS;

	for (unsigned long i = 0; i < n; i++)
		if (ring->idents[i].pid == pid)
			return &ring->idents[i];
	return NULL;
}

struct fs_ident *fs_ident_add(struct fs_ident_ring *ring, struct fs_stats *stats,
			      pid_t pid, uid_t uid, const char *path)
{
	struct fs_ident *ident = &ring->idents[ring->count++ % FS_IDENTS];
	char program[512];

	(void)fs_program_short(pid, program, sizeof(program));
	*ident = (struct fs_ident){
	    .pid = pid, .uid = uid, .stats = fs_stats_writer(stats, program, uid, path)};
	return ident;
}

bool fs_ident_note(struct fs_stats *total, struct fs_writer_stats *w,
		   const struct jsonl_writer_note *note)
{
	int64_t now = time(NULL), warned;
	int64_t never = 0;

	total->records += note->records;
	total->bytes += note->bytes;
	total->oversize += note->oversize;
	total->blank += note->blank;
	total->marks += note->marks;
	total->split_records += note->split;
	total->closes_without_newline += note->no_newline;
	w->records += note->records;
	w->bytes += note->bytes;
	w->oversize += note->oversize;
	w->blank += note->blank;
	w->marks += note->marks;
	w->split_records += note->split;
	w->closes_without_newline += note->no_newline;
	if (note->largest > w->largest)
		w->largest = note->largest;
	atomic_compare_exchange_strong(&w->first, &never, now);
	w->last = now;
	if (!note->oversize)
		return false;
	warned = w->warned;
	return (!warned || now - warned >= 60) &&
	       atomic_compare_exchange_strong(&w->warned, &warned, now);
}

void fs_ident_closed_without_sync(struct fs_stats *total, struct fs_ident_ring *ring)
{
	unsigned long n = ring->count < FS_IDENTS ? ring->count : FS_IDENTS;

	for (unsigned long i = 0; i < n; i++)
		ring->idents[i].stats->closes_without_sync++;
	total->closes_without_sync++;
}

void fs_ident_transactions(struct fs_ident_ring *ring, unsigned done, unsigned dropped)
{
	unsigned long n = ring->count < FS_IDENTS ? ring->count : FS_IDENTS;

	for (unsigned long i = 0; i < n; i++) {
		ring->idents[i].stats->transactions += done;
		ring->idents[i].stats->transactions_dropped += dropped;
	}
}

void fs_ident_lost(struct fs_stats *total, const char *path, const struct iovec *iov,
		   int niov, int code)
{
	uint64_t hash = JSONL_HASH_START;
	char text[32];
	const size_t len = jsonl_iov_length(iov, niov);

	for (int i = 0; i < niov; i++)
		hash = jsonl_hash(hash, iov[i].iov_base, iov[i].iov_len);
	snprintf(text, sizeof(text), "%016" PRIx64, hash);
	total->lost++;
	total->lost_bytes += len;
	FS_SYSLOG(LOG_ERR, (uid_t)-1, "LOST", FS_STR("path", path), FS_INT("length", len),
		  FS_STR("fnv1a", text), FS_STR("reason", jsonl_error_text(code)),
		  FS_STR("next", code == -ENOSPC
				     ? "make room for the quarantine: jsonlfsctl status"
				     : "look at the disk, or the servers, of the vault"));
}

void fs_ident_lock_holder(int fd, char *buf, size_t size)
{
	char line[256], program[192];
	struct stat st;
	FILE *locks;

	/* A PID namespace hides the locks of processes that are not, or no more, in it.
	 */
	snprintf(buf, size, "%s",
		 jsonl_io_is_remote(fd)
		     ? "nobody of this host; another host has the lock, or the servers "
		       "do not answer"
		     : "nobody who can be seen here; a writer outside the mount has left "
		       "half a record, another container has the lock, or flock(1) left "
		       "it to its shell");
	if (fstat(fd, &st))
		return;
	locks = fopen("/proc/locks", "re");
	if (!locks)
		return;
	while (fgets(line, sizeof(line), locks)) {
		unsigned major, minor;
		uint64_t ino;
		int pid;

		/* 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF */
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%" SCNu64, &pid, &major,
			   &minor, &ino) != 4)
			continue;
		if (ino != st.st_ino || makedev(major, minor) != st.st_dev)
			continue;
		if (!fs_look_program((uid_t)-1, pid, program, sizeof(program)))
			snprintf(program, sizeof(program), "unknown");
		snprintf(buf, size, "%d (%s)", pid, program);
		break;
	}
	fclose(locks);
}
