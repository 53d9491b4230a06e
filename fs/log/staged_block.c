/* SPDX-License-Identifier: MIT */
#include "log/staged_block.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/look.h"
#include "base/process.h"
#include "base/syslog.h"
#include "block/raw.h"
#include "block/stage.h"
#include "log/intent.h"
#include "quarantine/quarantine.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "tree/stat.h"
#include "vault/account.h"
#include "vault/aside.h"

/* Gives the staging file to the caller, so that quotas count. */
static int stage_made(void *ctx, int fd)
{
	const struct fs_transaction *t = ctx;

	return t->m->vault.uid == 0 && fchown(fd, t->ids.uid, t->ids.gid) < 0 ? -errno
									      : 0;
}

static int stage_charge(void *ctx, int64_t bytes)
{
	const struct fs_transaction *t = ctx;

	return fs_account_charge(&t->m->vault, t->account, bytes);
}

static const struct jsonl_stage_events stage_events = {
    .made = stage_made,
    .charge = stage_charge,
};

int fs_transaction_begin(fuse_req_t req, struct fs_inode *i, const struct jsonl_io *io,
			 struct fs_account *account, struct fs_transaction *t)
{
	struct fs_mount *m = fs_mount_of(req);
	char path[PATH_MAX], name[JSONL_STAGE_NAME];
	int rc;

	for (int k = 0; k < 2; k++) {
		rc = fs_account_descriptor(&m->vault, fuse_req_ctx(req)->uid,
					   &t->payers[k]);
		if (rc)
			return rc;
	}
	t->m = m;
	t->account = account;
	t->ids = fs_caller_ids(req);
	t->opener =
	    fuse_req_ctx(req)->pid > 0 ? fs_process_of(fuse_req_ctx(req)->pid) : -1;
	fs_path_of(m, i, path, sizeof(path));
	fs_intent_stage_name(m, name);
	return jsonl_stage_new(io, m->vault.daemon_fd, name, path, &stage_events, t,
			       &t->stage);
}

void fs_transaction_end(struct fs_transaction *t)
{
	jsonl_stage_free(t->stage);
	for (int k = 0; k < 2; k++)
		fs_account_descriptor_close(t->payers[k]);
}

enum fs_closing fs_transaction_closing(const struct fs_transaction *t,
				       const struct fs_handle *h,
				       const struct fuse_ctx *caller)
{
	const pid_t pid = caller->pid;
	struct fs_closing_question q = {.thread = pid,
					.pid =
					    pid == t->opener ? pid : fs_process_of(pid),
					.flags = h->flags,
					.device = t->m->vault.device};
	enum fs_closing how;

	/* A child that inherited the descriptor closes it when it exits or executes a
	 * program; that does not end the parent's transaction. */
	if (q.pid != t->opener)
		return FS_CLOSING_MORE;
	fs_handle_numbers(h, q.numbers);
	/* When in doubt the block ends at the release, not in the middle of a
	 * transaction. */
	how = fs_look_closing(caller->uid, &q);
	return how == FS_CLOSING_HIDDEN ? FS_CLOSING_MORE : how;
}

/* Leaves the staging file for the next mount, when neither the log nor the quarantine
 * accepts the block. False: there is no file. */
static bool transaction_leave(struct fs_transaction *t, const char *path, int error)
{
	uint64_t len = jsonl_stage_length(t->stage);
	const char *file;

	(void)!jsonl_stage_sync(t->stage);
	file = jsonl_stage_file(t->stage);
	if (!file)
		return false;
	FS_SYSLOG(LOG_ERR, t->ids.uid, "transaction-stays", FS_STR("path", path),
		  FS_INT("length", len), FS_STR("kept", file),
		  FS_STR("error", jsonl_error_text(error)),
		  FS_STR("hint",
			 "it is tried again at the next mount: make room (jsonlfsctl "
			 "quarantine drop, quarantine_max)"));
	jsonl_stage_leave(t->stage);
	return true;
}

/* Keeps a block that cannot be committed in the quarantine. */
bool fs_transaction_set_aside(struct fs_transaction *t, struct fs_inode *i, int file_fd,
			      int code, bool leave)
{
	struct fs_mount *m = t->m;
	struct jsonl_stage_map map;
	char path[PATH_MAX], name[JSONL_QUARANTINE_NAME] = "";
	struct jsonl_quarantine_item item = {
	    .iov = &map.iov,
	    .niov = 1,
	    .event = "transaction",
	    .code = code,
	    .at = -1,
	    .path = path,
	    .uid = t->ids.uid,
	    .source_fd = file_fd,
	    .reserved = true,
	    .durable = true,
	};
	int rc = jsonl_stage_map(t->stage, &map);
	bool stays;

	fs_path_of(m, i, path, sizeof(path));
	if (!rc)
		rc = fs_aside(&m->vault, &item, false, name);
	stays = rc && leave && transaction_leave(t, path, rc);
	if (rc && !stays && map.iov.iov_base)
		fs_ident_lost(&m->vault.stats, path, &map.iov, 1, rc);
	jsonl_stage_unmap(&map);
	FS_SYSLOG(LOG_ERR, t->ids.uid, "transaction-failed", FS_STR("path", path),
		  FS_INT("length", map.iov.iov_len),
		  FS_STR("reason", jsonl_error_text(code)),
		  FS_STR("quarantine", rc ? "" : name),
		  FS_STR("error", rc ? jsonl_error_text(rc) : ""));
	return stays;
}
