/* SPDX-License-Identifier: MIT */
#include "log/onto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/process.h"
#include "base/version.h"
#include "file/file.h"
#include "log/content.h"
#include "log/openlog.h"
#include "log/read_by.h"
#include "log/replace.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/descriptor.h"
#include "tree/hold.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/notify.h"
#include "tree/renaming.h"
#include "tree/stale.h"
#include "tree/stat.h"

#define RENAME_FREEZE_MS 500

/* Gives the log, which stays the same inode, the mode of the new file, before anybody
 * could read new records by the old mode. */
static int take_over_mode(struct fs_renaming *r, int dst_fd, mode_t *before)
{
	mode_t mode = r->src_st.st_mode & 07777;
	struct stat st;

	if (fstat(dst_fd, &st) < 0)
		return -errno;
	*before = st.st_mode & 07777;
	if (*before == mode || fchmod(dst_fd, mode) == 0)
		return 0;
	r->why = "the log cannot be given the mode of the new file";
	return -errno;
}

/* Gives the log the times of the new file, if possible: a failure is no reason to refuse
 * records that are in the log already. */
static void take_over_times(struct fs_renaming *r, int dst_fd)
{
	const struct timespec times[2] = {r->src_st.st_atim, r->src_st.st_mtim};

	(void)!futimens(dst_fd, times);
}

static int onto_frozen(struct fs_renaming *r, struct jsonl_file *file, int src,
		       off_t compared, struct jsonl_file_user *user)
{
	bool unfinished = false;
	struct stat st;
	mode_t before = 0;
	off_t end, at;
	int rc = fs_freeze_as_is(file, RENAME_FREEZE_MS, &end);

	if (rc)
		return rc;
	rc = fstat(src, &st) < 0 ? -errno : 0;
	if (!rc)
		end = fs_content_length(file, end, st.st_size);
	if (!rc && st.st_size < end)
		rc = -EPERM;
	if (!rc)
		rc = fs_compare_bytes(r->m->vault.io, file, src, compared, end);
	if (!rc)
		rc = fs_content_goes_on(r->m, file, src, end, st.st_size);
	if (!rc)
		rc = fs_content_validate(r->m, &r->settings->limits, src, end, st.st_size,
					 &at, &unfinished);
	if (!rc)
		rc = take_over_mode(r, jsonl_file_fd(file), &before);
	if (!rc) {
		rc =
		    fs_content_append(r->m, file, src, end, st.st_size, unfinished, user);
		r->appended = !rc;
		if (rc && before != (r->src_st.st_mode & 07777))
			(void)!fchmod(jsonl_file_fd(file), before);
	}
	jsonl_file_unfreeze(file);
	return rc;
}

static int onto_append(struct fs_renaming *r, struct fs_openlog *log)
{
	struct jsonl_file *file = fs_openlog_file(log);
	struct jsonl_file_user user = {0};
	cleanup_close int src = fs_inode_open(r->m, r->src, O_RDONLY);
	off_t visible;
	int rc;

	if (src < 0)
		return src;
	rc = jsonl_file_visible(file, &visible);
	if (!rc)
		visible = fs_content_length(file, visible, r->src_st.st_size);
	if (!rc)
		rc = fs_compare_bytes(r->m->vault.io, file, src, 0, visible);
	if (!rc)
		rc = onto_frozen(r, file, src, visible, &user);
	if (!rc)
		take_over_times(r, jsonl_file_fd(file));
	if (!rc && r->settings->sync != JSONL_SYNC_NONE)
		rc = jsonl_file_sync(file, &user);
	if (!rc && unlinkat(r->old_fd, r->old_name, 0) < 0)
		rc = -errno;
	return rc;
}

/* Finds which part of the log the source replaces: the part that its program has seen.
 * That is the process that renames, if it has read the log. If another process has made
 * the source, that is taken to have read the log just before, so nothing may have been
 * appended since the source was begun. */
static int replacement_base(struct fs_renaming *r, struct fs_openlog *log, off_t visible,
			    off_t *base)
{
	struct timespec begun;
	struct stat st;
	int rc;

	rc = fs_rewrite_base(log, fuse_req_ctx(r->req)->pid, visible, base);
	if (rc)
		return rc < 0 ? rc : 0;
	rc = fs_inode_stat(r->m, r->dst, &st);
	if (rc)
		return rc;
	if (fs_rename_begun(r, &begun) && !fs_later_time(st.st_mtim, begun))
		return 0;
	return fs_rename_refuse(
	    r, -EBUSY, r->new_path,
	    "records came since the new file was begun, and the program "
	    "that renames it has not read the log: make it anew");
}

static int onto_replace(struct fs_renaming *r, struct fs_openlog *log)
{
	cleanup_close int src = fs_inode_open(r->m, r->src, O_RDONLY);
	struct fs_new_content c = {.fd = src, .attributes = src, .times = true};
	const char *why = NULL;
	struct fs_process who;
	off_t visible, at, end;
	int rc = src < 0 ? src : jsonl_file_visible(fs_openlog_file(log), &visible);

	c.uid = fuse_req_ctx(r->req)->uid;
	c.ino = r->dst->ino;
	c.generation = fs_version_generation(jsonl_file_fd(fs_openlog_file(log)), "");
	c.size = r->src_st.st_size;
	c.renaming = true;
	if (!rc)
		rc = replacement_base(r, log, visible, &c.base);
	if (rc == -EBUSY)
		return rc;
	if (!rc)
		rc = fs_content_validate(r->m, &r->settings->limits, src, 0, c.size, &at,
					 &c.unfinished);
	if (!rc)
		rc = fs_replace_log(r->m, r->dst, log, &c, &end, NULL, &why);
	if (rc == -EPERM || rc == -ESTALE || (rc == -EDQUOT && why))
		return fs_rename_refuse(
		    r, rc, r->new_path,
		    why ? why
			: "the log was renamed or replaced since this "
			  "program read it; read it anew");
	if (rc)
		return rc;
	r->m->vault.stats.rewrites++;
	if (fs_process_identify(fuse_req_ctx(r->req)->pid, &who))
		fs_rewrite_written(log, &who, fuse_req_ctx(r->req)->uid, end);
	return unlinkat(r->old_fd, r->old_name, 0) < 0 ? -errno : 0;
}

/* ---- the renames themselves ---- */

static int rename_onto_records(struct fs_renaming *r)
{
	const bool archive = r->settings->rewrite == JSONL_REWRITE_ARCHIVE;
	struct fs_openlog *log;
	int rc = fs_stale_seize(r->m, r->src);

	if (rc && rc != -EINPROGRESS && r->chain(r) == 0)
		return 0;
	if (rc)
		return fs_rename_refuse(
		    r, rc, r->new_path,
		    "the source is still open for writing; close it first");
	rc = fs_openlog_get(r->m, r->dst, true, &log);
	if (!rc) {
		rc = onto_append(r, log);
		if (rc == -EPERM && archive && !r->appended)
			rc = onto_replace(r, log);
		else if (!rc)
			r->m->vault.stats.prefix_renames++;
		fs_openlog_put(r->m, log);
	}
	if (rc == -EPERM && !archive && !r->appended && r->chain(r) == 0) {
		fs_stale_release(r->m, r->src);
		return 0;
	}
	if (rc) {
		fs_stale_release(r->m, r->src);
		if (rc > 0)
			rc = fs_rename_refuse(r, -jsonl_error_errno(rc), r->new_path,
					      jsonl_error_text(rc));
		else if (rc == -EPERM && !archive && !r->appended)
			fs_rename_refuse(
			    r, rc, r->new_path,
			    r->why ? r->why
				   : "the new content does not begin with what is "
				     "recorded; append to the log, or rotate it first");
		return rc;
	}
	fs_attributes_changed(r->m, r->dst);
	/* The kernel has moved the source's entry there. */
	fs_rename_crossed(r);
	return 0;
}

/* Removes the newline that fs_content_admit has added: the file stays a plain file after
 * all. */
static void refuse_newline(struct fs_renaming *r)
{
	const struct timespec times[2] = {r->src_st.st_atim, r->src_st.st_mtim};
	cleanup_close int fd = fs_inode_open(r->m, r->src, O_RDWR);
	const off_t before = r->src_st.st_size;
	struct stat st;
	char last;

	if (fd < 0 || fstat(fd, &st) || st.st_size != before + 1 ||
	    pread(fd, &last, 1, before) != 1 || last != '\n' || ftruncate(fd, before))
		return;
	(void)!futimens(fd, times);
}

static int rename_into(struct fs_renaming *r)
{
	int rc;

	if (r->src->class == JSONL_CLASS_GOVERNED)
		return fs_rename_plain(r);

	/* A hard link's other names would stay plain. */
	if (r->src_st.st_nlink > 1)
		return fs_rename_refuse(
		    r, -EPERM, r->new_path,
		    "the source has other names; one file cannot be a log "
		    "and a plain file");
	rc = fs_rename_seize(r);
	if (rc)
		return rc;
	rc = fs_content_admit(r->req, r->m, r->src, r->new_path);
	if (!rc) {
		rc = fs_rename_plain(r);
		if (rc)
			refuse_newline(r);
	}
	if (rc)
		fs_stale_release(r->m, r->src);
	else
		fs_rename_crossed(r);
	return rc;
}

/* Renames onto a log without a record, which is removed with its owner and its other
 * names, as natively. 1: it has a record by now, or a program has it open to append to,
 * whose records nobody would find. */
static int rename_onto_empty(struct fs_renaming *r)
{
	const bool is_log = r->src->class == JSONL_CLASS_GOVERNED;
	cleanup_close int held = -1;
	struct stat st;
	int rc;

	if (r->dst_st.st_size || (!is_log && r->src_st.st_nlink > 1))
		return 1;
	rc = fs_stale_seize(r->m, r->dst);
	if (rc)
		return rc == -EINPROGRESS ? rc : 1;
	rc = fs_hold(r->m, r->new_fd, r->new_name, &held);
	if (!rc)
		rc = fs_inode_stat(r->m, r->dst, &st);
	if (!rc && held >= 0)
		st.st_size = fs_hold_size(r->m, held);
	if (!rc)
		rc = st.st_size ? 1 : is_log ? fs_rename_plain(r) : rename_into(r);
	fs_stale_release(r->m, r->dst);
	return rc;
}

/* Ends a rename: the name is that of a log now, whatever it was before. */
static int renamed(struct fs_renaming *r, int rc)
{
	cleanup_close int fd =
	    rc ? -1
	       : openat(r->new_fd, r->new_name,
			O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	fs_content_note_end(r->m, "(renamed)", r->new_path, fuse_req_ctx(r->req)->uid,
			    fd);
	return rc;
}

int fs_log_rename_into(struct fs_renaming *r)
{
	return renamed(r, rename_into(r));
}

int fs_log_rename_onto(struct fs_renaming *r)
{
	int rc = rename_onto_empty(r);

	if (rc > 0)
		rc = rename_onto_records(r);
	return rc == -ENOLCK ? -EAGAIN : renamed(r, rc);
}

int fs_log_rename_out(struct fs_renaming *r)
{
	if (r->src_st.st_size &&
	    !jsonl_policy_is_generation(r->m->vault.policy, r->new_path))
		return fs_rename_refuse(
		    r, -EPERM, r->old_path,
		    "a log with records may be renamed to another log, or to a "
		    "generation such as FILE.1 or FILE-20261120");
	return fs_rename_class(r);
}
