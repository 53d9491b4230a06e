/* SPDX-License-Identifier: MIT */
/* Detects lost updates: two programs read a state file, and both write it anew, so the
 * second undoes what the first has changed. Checks closes and renames, as far as it can
 * be seen. */
#include "document/lost.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/process.h"
#include "base/program.h"
#include "base/seen.h"
#include "base/syslog.h"
#include "base/version.h"
#include "rules/config.h"
#include "tree/inode.h"
#include "tree/mount.h"

/* Held, outside tree_lock, from the look at the present version until the new one is in
 * place, so that replacements of one file come one after the other. */
#define COMMIT_LOCKS 16
static pthread_mutex_t commit_locks[COMMIT_LOCKS] = {[0 ... COMMIT_LOCKS - 1] =
							 PTHREAD_MUTEX_INITIALIZER};

pthread_mutex_t *fs_document_lock(const struct fs_inode *i)
{
	pthread_mutex_t *lock = &commit_locks[(uintptr_t)i / 64 % COMMIT_LOCKS];

	pthread_mutex_lock(lock);
	return lock;
}

int fs_document_lost(struct fs_mount *m, const struct jsonl_settings *settings,
		     const struct fs_document_writer *who, const char *why)
{
	m->vault.stats.lost_updates++;
	if (settings->lostupdate == JSONL_LOSTUPDATE_REFUSE)
		return -EBUSY;
	FS_SYSLOG(LOG_WARNING, who->uid, "lost-update", FS_STR("path", who->path),
		  FS_INT("pid", who->pid), FS_STR("program", who->program),
		  FS_STR("reason", why),
		  FS_STR("next",
			 "lock the file around reading and writing, or mount with "
			 "lostupdate=refuse"));
	return 0;
}

/* ---- a rename ---- */

/* Returns why a rename would lose an update, or NULL. Whether the renaming program has
 * read the file is known. If another program read it (jq . f > t && mv t f), that is
 * taken to have happened just before the new file was begun. */
static const char *lost_by_rename(struct fs_mount *m, const char *path,
				  const struct fs_process *p,
				  const struct timespec *begun,
				  const struct fs_version *now, const struct stat *st)
{
	struct fs_version seen;

	if (fs_seen_find(m->seen, path, p, &seen))
		return fs_version_same(&seen, now)
			   ? NULL
			   : "another program has written it since this one read it, and "
			     "its change is overwritten";
	/* A rename changes the ctime, and no other time. */
	if (begun && fs_later_time(st->st_ctim, *begun))
		return "it was changed after the file that takes its place was begun, by "
		       "a program that has not read it, and that change is overwritten";
	return NULL;
}

int fs_document_onto(struct fs_mount *m, const struct jsonl_settings *settings,
		     const struct fuse_ctx *caller, const char *path,
		     const struct timespec *begun, int dir, const char *name)
{
	struct fs_document_writer who = {
	    .path = path, .pid = caller->pid, .uid = caller->uid};
	struct fs_process p = {0};
	struct fs_version now = {0};
	struct stat st;
	const char *why;
	char program[256];
	int rc = fs_version_of(dir, name, &now, &st);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (!fs_process_identify(caller->pid, &p))
		p.tgid =
		    0; /* in another PID namespace: it counts as having read nothing */
	why = lost_by_rename(m, path, &p, begun, &now, &st);
	if (!why)
		return 0;
	(void)fs_program_short(caller->pid, program, sizeof(program));
	who.program = program;
	return fs_document_lost(m, settings, &who, why);
}

void fs_document_put(struct fs_mount *m, const struct fuse_ctx *caller, const char *path,
		     int src)
{
	struct fs_process p;
	struct fs_version v;
	struct stat st;

	if (fs_process_identify(caller->pid, &p) && !fs_version_of(src, "", &v, &st))
		fs_seen_note(m->seen, path, &p, caller->uid, &v);
}
