/* SPDX-License-Identifier: MIT */
/* Carries out replace and repair: a log gets new content as a whole while programs go on
 * appending to it. Rewriting is done as for programs with rewrite=archive
 * (log/replace.c). */
#include "control/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/stamp.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/io.h"
#include "base/lease.h"
#include "base/look.h"
#include "base/repaired.h"
#include "base/syslog.h"
#include "base/version.h"
#include "control/request.h"
#include "file/file.h"
#include "log/content.h"
#include "log/openlog.h"
#include "log/replace.h"
#include "quarantine/quarantine.h"
#include "report/report.h"
#include "rules/config.h"
#include "tools/repair.h"
#include "tree/classes.h"
#include "tree/inode.h"
#include "tree/lookup.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/staged.h"

#define FILES_RETRY_MS 10 /* between two tries while a lock is held outside */

/* Returns true when the mount is about to end; for steps that take long. */
static bool is_stopping(const struct fs_mount *m)
{
	return m->vault.draining || m->vault.control_stopping;
}

/* Describes a log that is being rewritten. */
struct log {
	struct fs_mount *m;
	const struct fs_control_request *r;
	struct fs_inode *inode; /* a reference */
	struct fs_openlog *log;
	struct jsonl_file *file;
	const struct jsonl_settings *settings;
	char path[PATH_MAX];
	ino_t ino; /* the version that it is made from */
	uint64_t generation;
	int staged; /* the new content, which nobody else can change; -1 */
};

/* ---- finding it ---- */

int fs_control_walk(struct fs_mount *m, const char *path, struct fs_inode **out,
		    struct stat *st)
{
	struct fs_inode *at = fs_inode_ref(m, &m->tree.root);
	size_t all = strlen(path);
	int rc = all && path[all - 1] != '/' ? 0 : -EINVAL;

	while (rc == 0 && *path) {
		size_t len = strcspn(path, "/");
		char name[NAME_MAX + 1];
		struct fs_inode *next;

		if (at->type != S_IFDIR || len > NAME_MAX) {
			rc = len > NAME_MAX ? -ENAMETOOLONG : -ENOTDIR;
			break;
		}
		memcpy(name, path, len);
		name[len] = '\0';
		rc = fs_inode_lookup(m, at, name, &next, st);
		if (rc)
			break;
		fs_inode_unref(m, at);
		at = next;
		path += len + (path[len] == '/');
	}
	if (rc)
		fs_inode_unref(m, at);
	else
		*out = at;
	return rc;
}

/* Finds the log. Users other than the owner of the mount learn nothing about files that
 * are not theirs. 0 or -errno. */
static int find_log(struct log *l)
{
	const struct fs_control_request *r = l->r;
	const char *path = jsonl_report_get_string(r->args, "path");
	struct stat st;
	int rc = path ? fs_control_walk(l->m, path, &l->inode, &st) : -EINVAL;

	if (!r->owner && (rc || st.st_uid != r->uid))
		return -EPERM;
	if (rc)
		return rc;
	if (l->inode->state || l->inode->class != JSONL_CLASS_GOVERNED ||
	    !S_ISREG(l->inode->type))
		return -EINVAL;
	return 0;
}

static int log_open(struct log *l)
{
	const struct fs_ids owner = {l->r->uid, l->r->gid};
	int rc;

	if (l->m->vault.config.readonly)
		return -EROFS;
	rc = find_log(l);
	if (!rc)
		rc = fs_openlog_get(l->m, l->inode, true, &l->log);
	if (rc)
		return rc;
	l->file = fs_openlog_file(l->log);
	l->ino = l->inode->ino;
	l->generation = fs_version_generation(jsonl_file_fd(l->file), "");
	fs_path_of(l->m, l->inode, l->path, sizeof(l->path));
	l->settings = fs_settings_of(l->m, l->inode);
	if (!l->settings)
		return -ENOMEM;
	l->staged = fs_staged_open(&l->m->vault, &owner);
	return l->staged < 0 ? l->staged : 0;
}

static void log_close(struct log *l)
{
	if (l->staged >= 0)
		close(l->staged);
	if (l->log)
		fs_openlog_put(l->m, l->log);
	fs_inode_unref(l->m, l->inode);
}

/* ---- the new content ---- */

/* Makes the staged content that of the log, with `base` bytes of which it was made. */
static int put_in_place(struct log *l, off_t base, const struct timespec *times)
{
	struct fs_new_content c = {.fd = l->staged,
				   .uid = l->r->uid,
				   .ino = l->ino,
				   .generation = l->generation,
				   .base = base,
				   .attributes = jsonl_file_fd(l->file),
				   .old_times = times,
				   .any_end = true};
	const struct timespec pause = {.tv_nsec = FILES_RETRY_MS * 1000000L};
	char archive[NAME_MAX + 1] = "";
	int64_t until = jsonl_now_ms() + (int64_t)l->settings->locktimeout_ms;
	const char *why = NULL;
	struct stat st;
	off_t end, at = 0;
	int rc = fstat(l->staged, &st) < 0 ? -errno : 0;

	if (!rc)
		rc = fs_content_validate(l->m, &l->settings->limits, l->staged, 0,
					 st.st_size, &at, &c.unfinished);
	if (rc > 0)
		jsonl_report_add_int(l->r->reply, "at", at);
	if (rc)
		return rc;
	c.size = st.st_size;
	for (;;) {
		rc = fs_replace_log(l->m, l->inode, l->log, &c, &end, archive, &why);
		if (rc != -EAGAIN || jsonl_now_ms() >= until || is_stopping(l->m))
			break;
		nanosleep(&pause, NULL);
	}
	if (rc == 0)
		jsonl_report_add_string(l->r->reply, "archive", archive);
	if (rc && why)
		jsonl_report_add_string(l->r->reply, "why", why);
	return rc;
}

static void tell(const struct log *l, const char *event, int rc)
{
	const char *as = jsonl_report_get_string(l->r->args, "as");
	char name[64];

	/* The text is the client's, of any length. */
	(void)snprintf(name, sizeof(name), "%s", as ? as : "");
	FS_SYSLOG(rc ? LOG_WARNING : LOG_NOTICE, rc ? l->r->uid : (uid_t)-1, event,
		  FS_STR("path", l->path), FS_STR("as", name), FS_INT("pid", l->r->pid),
		  FS_INT("uid", l->r->uid),
		  FS_STR("reason", rc ? jsonl_error_text(rc) : ""));
}

/* ---- replace ---- */

static bool replace_stops(void *ctx)
{
	return is_stopping(ctx);
}

static int replace(struct log *l)
{
	const struct fs_look_content c = {.uid = l->r->uid,
					  .gid = l->r->gid,
					  .client = l->r->client,
					  .staged = l->staged,
					  .log = jsonl_file_fd(l->file),
					  .limits = &l->settings->limits};
	bool unended;
	off_t base, visible;
	int rc = fs_look_content(&c, replace_stops, l->m, &base, &unended);

	if (rc)
		return rc;
	/* The content that was read may have lacked the last newline, which an append
	 * has added since. */
	if (unended && base && !jsonl_file_visible(l->file, &visible) && visible > base &&
	    jsonl_file_equals(l->file, "\n", 1, base) == 1)
		base++;
	return put_in_place(l, base, NULL);
}

int fs_control_replace(struct fs_control_request *r)
{
	struct log l = {.m = r->m, .r = r, .staged = -1};
	int rc = log_open(&l);

	if (!rc)
		rc = replace(&l);
	if (l.path[0])
		tell(&l, rc ? "replace-failed" : "replaced-by", rc);
	log_close(&l);
	return rc;
}

/* ---- repair ---- */

static int repair_keep(void *ctx, const void *data, size_t len)
{
	struct log *l = ctx;
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	size_t written;

	return jsonl_io_write_full(l->m->vault.io, l->staged, &iov, 1, &written);
}

static int repair_change(void *ctx, const struct jsonl_repair_change *c, const void *data)
{
	struct log *l = ctx;
	const struct fs_repaired from = {.path = l->path,
					 .fd = jsonl_file_fd(l->file),
					 .pid = l->r->pid,
					 .uid = l->r->uid};

	return c->kind == JSONL_REPAIR_SET_ASIDE
		   ? fs_repaired_set_aside(l->m->vault.quarantine, &from, c, data)
		   : 0;
}

static int repair_progress(void *ctx, uint64_t bytes)
{
	return is_stopping(((struct log *)ctx)->m) ? -ECANCELED : 0;
}

/* Asks for jsonl_file_ask_writers(). 1 or 0. */
static int has_writers(int fd)
{
	return fs_has_writers(fd) > 0;
}

/* Looks for programs that have the log open for writing, in the mount or outside of it.
 * 1, 0 or -errno. */
static int is_written(struct log *l)
{
	unsigned writers;

	pthread_mutex_lock(&l->inode->lock);
	writers = l->inode->writers;
	pthread_mutex_unlock(&l->inode->lock);
	return writers ? 1 : jsonl_file_ask_writers(l->file, has_writers);
}

static void add_counts(struct jsonl_report *r, const struct jsonl_repair_counts *c)
{
	jsonl_report_add_uint(r, "bytes", c->bytes);
	jsonl_report_add_uint(r, "records", c->records);
	jsonl_report_add_uint(r, "kept", c->kept);
	jsonl_report_add_uint(r, "set_aside_bytes", c->set_aside_bytes);
	jsonl_report_add_uint(r, "nul_bytes", c->nul_bytes);
	jsonl_report_add_uint(r, "split_records", c->split_records);
	for (int i = 0; i < JSONL_REPAIR_COUNT; i++)
		jsonl_report_add_uint(r, jsonl_repair_name(i), c->changes[i]);
}

static int repair(struct log *l)
{
	struct jsonl_repair repair = {.keep = repair_keep,
				      .change = repair_change,
				      .progress = repair_progress,
				      .ctx = l};
	struct jsonl_repair_counts counts = {0};
	struct timespec times[2];
	struct stat st;
	off_t end;
	int rc = fstat(jsonl_file_fd(l->file), &st) < 0 ? -errno : 0;

	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	/* A torn tail is repaired first if possible, as before every append. */
	if (!rc)
		rc = fs_freeze_any(l->file, (unsigned)l->settings->locktimeout_ms, &end);
	if (rc < 0)
		return rc;
	jsonl_file_unfreeze(l->file);
	/* Records that are being appended behind it may not be whole yet. */
	repair.upto = (uint64_t)end;
	rc = end ? jsonl_repair_fd(l->m->vault.io, jsonl_file_fd(l->file),
				   &l->settings->limits, &repair, &counts)
		 : 0;
	if (!rc && counts.alien && !counts.records)
		rc = JSONL_UNKNOWN_TAIL;
	if (rc)
		return rc;
	add_counts(l->r->reply, &counts);
	if (!jsonl_repair_is_needed(&counts))
		return 0;
	/* The bad lines must be on the disk before they leave the log. */
	if (syncfs(l->m->vault.state_fd) < 0)
		return -errno;
	return put_in_place(l, (off_t)counts.bytes, times);
}

int fs_control_repair(struct fs_control_request *r)
{
	struct log l = {.m = r->m, .r = r, .staged = -1};
	int rc = log_open(&l);

	if (!rc)
		rc = is_written(&l);
	if (!rc)
		rc = repair(&l);
	else if (rc > 0)
		rc = -EBUSY;
	if (l.path[0])
		tell(&l, rc ? "repair-failed" : "repaired-by", rc);
	log_close(&l);
	return rc;
}
