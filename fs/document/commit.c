/* SPDX-License-Identifier: MIT */
/* Puts new content in the place of a document, or refuses it: under staged->lock. */
#include "document/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/seen.h"
#include "base/stats.h"
#include "base/syslog.h"
#include "base/version.h"
#include "document/broken.h"
#include "document/check.h"
#include "document/editor.h"
#include "document/lost.h"
#include "file/replace.h"
#include "quarantine/quarantine.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/descriptor.h"
#include "tree/edition.h"
#include "tree/hold.h"
#include "tree/identity.h"
#include "tree/inode.h"
#include "tree/lookup.h"
#include "tree/mount.h"
#include "tree/notify.h"
#include "tree/path.h"
#include "vault/named.h"
#include "vault/staged.h"
#include "vault/vault.h"

int fs_document_refuse(struct fs_document_editor *e, int code, off_t at, const char *event,
			    const char *next)
{
	struct fs_staged *staged = e->staged;
	struct fs_mount *m = e->doc.m;
	char path[PATH_MAX], name[JSONL_QUARANTINE_NAME], program[256];

	fs_path_of(m, e->doc.base.inode, path, sizeof(path));
	fs_program_get(staged->program, program, sizeof(program));
	fs_staged_set_aside(&m->vault, staged, event, code, at, path, e->doc.fd, false, name);
	fs_stats_writer(&m->vault.stats, program, staged->uid, path)->rewrites_refused++;
	m->vault.stats.rewrites_refused++;
	FS_SYSLOG(LOG_WARNING, staged->uid, event, FS_STR("path", path),
		  FS_INT("offset", at), FS_STR("reason", jsonl_error_text(code)),
		  FS_INT("pid", staged->writer), FS_INT("uid", staged->uid),
		  FS_STR("program", program), FS_STR("quarantine", name),
		  FS_STR("next", next));
	fs_staged_settled(staged);
	return code > 0 ? -jsonl_error_errno(code) : code;
}

/* Returns true when another program has written the file since this program read it. If
 * this program has read nothing that is not known. */
static bool update_is_lost(struct fs_document_editor *e, const char *path,
			   const struct fs_version *now)
{
	struct fs_version seen;

	if (!fs_seen_find(e->doc.m->seen, path, &e->staged->opener, &seen)) {
		if (e->blind)
			return false;
		seen = e->doc.version;
	}
	return !fs_version_same(&seen, now);
}

struct place {
	char path[PATH_MAX];
	const char *name; /* in path */
	int dir_fd;
	struct fs_version now; /* version of the file that has the name */
};

static int place_find(struct fs_document_editor *e, struct place *p)
{
	char dir[PATH_MAX];
	char *slash;
	int rc = fs_inode_path(e->doc.m, e->doc.base.inode, NULL, p->path, sizeof(p->path));

	if (rc)
		return rc;
	slash = strrchr(p->path, '/');
	p->name = slash ? slash + 1 : p->path;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - p->path) : 0, p->path);
	if (jsonl_policy_classify(e->doc.m->vault.policy, p->path) != JSONL_CLASS_REPLACE)
		return -ESTALE;
	p->dir_fd = fs_open_beneath(&e->doc.m->vault, dir, O_RDONLY | O_DIRECTORY);
	return p->dir_fd < 0 ? p->dir_fd : 0;
}

static int place_look(struct fs_document_editor *e, struct place *p)
{
	struct stat st;
	int rc = fs_version_of(p->dir_fd, p->name, &p->now, &st);

	if (rc)
		return rc == -ENOENT ? -ESTALE : rc;
	if (st.st_dev != e->doc.base.inode->dev || st.st_ino != e->doc.base.inode->ino)
		return -ESTALE;
	return st.st_nlink > 1 ? -EMLINK : 0;
}

/* Renames the new file, which is complete, over the old one. */
static int document_rename(struct fs_document_editor *e, struct place *p, struct jsonl_replace *r)
{
	struct fs_inode *i = e->doc.base.inode;
	struct fs_file_handle handle;
	cleanup_close int fd =
	    openat(p->dir_fd, r->temp, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int mine =
	    openat(p->dir_fd, r->temp, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct fs_version written;
	fuse_ino_t before = 0;
	struct stat st;
	int rc = fd < 0 || mine < 0 ? -errno : fs_version_of(fd, "", &written, &st);

	if (!rc)
		rc = fs_inode_may_rebind(e->doc.m, i, fd, &handle);
	if (rc)
		return rc;
	pthread_rwlock_wrlock(&e->doc.m->tree.lock);
	rc = place_look(e, p);
	if (!rc)
		rc = jsonl_replace_rename(r, 0);
	if (!rc)
		before = fs_inode_replace(e->doc.m, i, &handle, st.st_ino, steal_fd(&fd), NULL);
	pthread_rwlock_unlock(&e->doc.m->tree.lock);
	if (rc)
		return rc;
	fs_node_replaced(e->doc.m, i, before, true);
	/* From here on the handle reads what it has written. */
	rc = e->doc.m->vault.io->refer(e->doc.m->vault.io, mine, e->doc.fd);
	e->doc.version = written;
	e->blind = false;
	fs_seen_note(e->doc.m->seen, p->path, &e->staged->opener, e->staged->uid,
		     &e->doc.version);
	return rc;
}

static int document_replace(struct fs_document_editor *e, struct place *p)
{
	const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	cleanup_close int old = fs_inode_open(e->doc.m, e->doc.base.inode, O_RDONLY);
	struct jsonl_replace r = {.fd = -1};
	struct stat st;
	int rc = old < 0 ? old : fstat(e->staged->fd, &st) < 0 ? -errno : 0;

	if (!rc)
		rc = jsonl_replace_begin(&r, e->doc.m->vault.io, p->dir_fd, p->name, old);
	r.unprivileged = e->staged->uid != 0;
	if (!rc)
		rc = fs_copy_bytes(e->doc.m->vault.io, e->staged->fd, 0, st.st_size, r.fd);
	if (!rc)
		rc = jsonl_replace_prepare(&r);
	if (!rc && futimens(r.fd, now) < 0)
		rc = -errno;
	if (!rc)
		rc = document_rename(e, p, &r);
	if (!rc)
		rc = jsonl_replace_settle(&r);
	jsonl_replace_abort(&r);
	return rc;
}

static const char *refusal_advice(int rc)
{
	if (rc == -ESTALE)
		return "the file was renamed or removed meanwhile";
	if (rc == -EMLINK)
		return "the file has other names, which would keep the old content";
	return "correct what the reason says and write it again";
}

static int document_commit_placed(struct fs_document_editor *e, struct place *p)
{
	char program[256];
	const struct fs_document_writer who = {.path = p->path,
					       .program = program,
					       .pid = e->staged->writer,
					       .uid = e->staged->uid};
	int rc = place_look(e, p);

	fs_program_get(e->staged->program, program, sizeof(program));
	if (!rc && update_is_lost(e, p->path, &p->now))
		rc = fs_document_lost(e->doc.m, e->doc.settings, &who,
				      "another program has written it since this one "
				      "read it, and its change is overwritten");
	if (rc)
		return rc;
	rc = document_replace(e, p);
	if (rc)
		return rc;
	fs_staged_settled(e->staged);
	fs_document_keep(e->doc.m, e->doc.settings, p->path, e->doc.fd);
	e->doc.m->vault.stats.rewrites++;
	fs_stats_writer(&e->doc.m->vault.stats, program, e->staged->uid, p->path)->rewrites++;
	return 0;
}

/* Commits; see commit.h. */
int fs_document_commit(struct fs_document_editor *e, bool try_only)
{
	struct place p = {.dir_fd = -1};
	cleanup_close int held = -1;
	pthread_mutex_t *one;
	off_t at = 0;
	int rc = e->staged->failed.code;

	if (!rc)
		rc = fs_document_check(e->doc.m, &e->doc.settings->limits, e->staged->fd, &at);
	if (rc > 0)
		return try_only ? 0
				: fs_document_refuse(e, rc, at, "rewrite-refused",
						   refusal_advice(rc));
	if (!rc)
		rc = place_find(e, &p);
	if (!rc) {
		one = fs_document_lock(e->doc.base.inode);
		rc = fs_hold(e->doc.m, p.dir_fd, p.name, &held);
		if (!rc)
			rc = document_commit_placed(e, &p);
		pthread_mutex_unlock(one);
	}
	if (p.dir_fd >= 0)
		close(p.dir_fd);
	if (try_only)
		return rc;
	if (rc == -EBUSY)
		return fs_document_refuse(
		    e, rc, 0, "lost-update",
		    "another program has written it since this one read "
		    "it: read it anew");
	return rc ? fs_document_refuse(e, rc, 0, "rewrite-failed", refusal_advice(rc)) : 0;
}
