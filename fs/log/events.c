/* SPDX-License-Identifier: MIT */
/* Handles what the library reports of a handle: refused bytes go to the quarantine,
 * records are counted per program and file, unfinished ones are charged to the mount. */
#include "log/events.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/fuse.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/ident.h"
#include "base/process.h"
#include "base/stats.h"
#include "base/syslog.h"
#include "file/file.h"
#include "log/handle.h"
#include "log/openlog.h"
#include "log/read_by.h"
#include "log/renamed.h"
#include "quarantine/quarantine.h"
#include "record/known.h"
#include "record/writer.h"
#include "rules/config.h"
#include "rules/limits.h"
#include "tools/check.h"
#include "tree/descriptor.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/notify.h"
#include "tree/path.h"
#include "vault/account.h"
#include "vault/aside.h"

static void *handle_identify(void *ctx, void *caller)
{
	struct fs_log_handle *g = ctx;
	char path[PATH_MAX];
	const struct fuse_ctx *who = caller;
	struct fs_ident *ident = fs_ident_find(&g->idents, who->pid);

	if (ident)
		return ident;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	ident = fs_ident_add(&g->idents, &g->m->vault.stats, who->pid, who->uid, path);
	fs_rewrite_appends(g, who->pid);
	ident->stats->opens++;
	g->m->vault.stats.opens++;
	if (!(g->base.flags & O_APPEND)) {
		ident->stats->opens_without_append++;
		g->m->vault.stats.opens_without_append++;
	}
	return ident;
}

static uint64_t handle_process(void *ctx, void *caller)
{
	struct fs_log_handle *g = ctx;
	const struct fuse_ctx *who = caller;
	struct fs_ident *ident = fs_ident_find(&g->idents, who->pid);
	pid_t process;

	if (ident && ident->process)
		return (uint64_t)ident->process;
	/* The count of calls with one thread must not depend on time, so the process is
	 * always asked. */
	process =
	    g->m->vault.single ? fs_process_of(who->pid) : fs_process_lately(who->pid);
	if (ident)
		ident->process = process;
	return (uint64_t)process;
}

static bool handle_known(void *ctx, uint64_t process, uint64_t hash, size_t len, bool add)
{
	struct fs_log_handle *g = ctx;
	/* Includes the generation: a new file may get the inode number of a deleted
	 * one. */
	const uint64_t source[] = {process, fs_descriptor_hash(g->m, g->base.inode)};
	const struct jsonl_known_line line = {
	    .source = jsonl_hash(JSONL_HASH_START, source, sizeof(source)),
	    .hash = hash,
	    .len = len};

	return jsonl_known_find(g->m->known, g->opener.uid, &line, add);
}

static bool handle_goes_on(void *ctx, void *who)
{
	struct fs_log_handle *g = ctx;
	const struct fs_ident *ident = who;
	char path[PATH_MAX];

	if (!ident)
		return false;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	return fs_renamed_by(g->m, path, ident->pid);
}

/* Returns a hint for the log line when the program itself is not told. */
static const char *hint_of(const struct jsonl_set_aside *what)
{
	if (strcmp(what->event, "refused") == 0)
		return "the write has failed; for a program that must not be stopped by "
		       "that (redirected output, a syslog daemon): onbad=quarantine";
	return "";
}

static void log_set_aside(struct fs_log_handle *g, const struct jsonl_set_aside *what,
			  const struct fs_ident *ident, const char *path,
			  const char *name, int rc)
{
	size_t len = jsonl_iov_length(what->iov, what->niov);

	FS_SYSLOG(rc ? LOG_ERR : LOG_WARNING, ident ? ident->uid : (uid_t)-1, what->event,
		  FS_STR("path", path), FS_INT("offset", what->at), FS_INT("length", len),
		  FS_INT("lines", what->lines),
		  FS_STR("reason", jsonl_error_text(what->code)),
		  FS_INT("byte", what->offset), FS_INT("pid", ident ? ident->pid : 0),
		  FS_INT("uid", ident ? ident->uid : 0),
		  FS_STR("program", ident ? ident->stats->program : "(unknown)"),
		  FS_STR("quarantine", rc ? "" : name),
		  FS_STR("error", rc ? jsonl_error_text(rc) : ""),
		  FS_STR("hint", hint_of(what)));
}

/* Returns true when the bytes end with a newline. If not, the rest of their last record
 * may follow and join them. */
static bool ends_with_newline(const struct jsonl_set_aside *what)
{
	for (int i = what->niov - 1; i >= 0; i--) {
		const struct iovec *iov = &what->iov[i];

		if (iov->iov_len)
			return ((const char *)iov->iov_base)[iov->iov_len - 1] == '\n';
	}
	return false;
}

static void handle_set_aside(void *ctx, const struct jsonl_set_aside *what,
			     char name[JSONL_QUARANTINE_NAME])
{
	struct fs_log_handle *g = ctx;
	struct fs_ident *ident = what->who;
	struct fs_stats *stats = &g->m->vault.stats;
	char path[PATH_MAX];
	int fd = jsonl_file_fd(g->log->file);
	bool fragment = strcmp(what->event, "fragment") == 0;
	bool refused = strcmp(what->event, "refused") == 0;
	bool ended = ends_with_newline(what);
	struct jsonl_quarantine_item item = {
	    .iov = what->iov,
	    .niov = what->niov,
	    .event = what->event,
	    .code = what->code,
	    .offset = what->offset,
	    .at = what->at,
	    .path = path,
	    .program = ident ? ident->stats->program : NULL,
	    .pid = ident ? ident->pid : 0,
	    .uid = ident ? ident->uid : 0,
	    .source_fd = fd,
	    .reserved = !refused,
	    .durable = fragment,
	    .joinable = !fragment && !ended,
	    .gather = !fragment && ended,
	};
	int rc;

	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	/* The program still has the bytes of a write that was refused. */
	rc = fs_aside(&g->m->vault, &item, !refused, name);
	/* Counted last: whoever sees this count finds the rest done. */
	if (fragment) {
		stats->fragments++;
		if (ident)
			ident->stats->fragments++;
	} else {
		stats->refused += what->lines;
		if (ident)
			ident->stats->refused += what->lines;
	}
	log_set_aside(g, what, ident, path, name, rc);
}

static void handle_join(void *ctx, const char *name, const struct iovec *iov, int niov,
			void *who)
{
	struct fs_log_handle *g = ctx;
	char path[PATH_MAX];
	int rc = jsonl_quarantine_join(g->m->vault.quarantine, name, iov, niov, false);

	if (!rc)
		return;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_ident_lost(&g->m->vault.stats, path, iov, niov, rc);
}

static int handle_charge(void *ctx, int64_t bytes)
{
	struct fs_log_handle *g = ctx;

	return fs_account_charge(&g->m->vault, g->account, bytes);
}

static void handle_note(void *ctx, const struct jsonl_writer_note *note, void *who)
{
	struct fs_log_handle *g = ctx;
	struct fs_ident *ident = who;
	bool warn;

	if (note->records) {
		g->appended = true;
		g->appends++;
	}
	/* The kernel knows the new length only after a WRITE to this very node. */
	if (note->no_newline || note->end_open || g->moved ||
	    g->base.edition != g->base.inode->edition)
		fs_attributes_changed(g->m, g->base.inode);
	/* A rotated log has another node by its new name. */
	if (note->records)
		fs_attributes_changed_as(g->m, g->base.inode, JSONL_CLASS_PLAIN);
	if (!ident)
		return;
	warn = fs_ident_note(&g->m->vault.stats, ident->stats, note);
	if (warn && g->settings->limits.oversize == JSONL_OVERSIZE_WARN)
		FS_SYSLOG(
		    LOG_WARNING, ident->uid, "oversize",
		    FS_STR("path", ident->stats->path), FS_INT("length", note->largest),
		    FS_INT("limit", g->settings->limits.pipebuf),
		    FS_INT("pid", ident->pid), FS_STR("program", ident->stats->program),
		    FS_STR("note", "outside the mount this program cannot write such "
				   "records safely"));
}

const struct jsonl_writer_events fs_log_writer_events = {
    .identify = handle_identify,
    .process = handle_process,
    .known = handle_known,
    .goes_on = handle_goes_on,
    .set_aside = handle_set_aside,
    .join = handle_join,
    .charge = handle_charge,
    .note = handle_note,
};
