/* What the library tells of a handle: refused bytes go to the quarantine, records are
 * counted per program and file, unfinished ones are charged to the mount. */
#include "governed.h"
#include "rewrite.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

static void *governed_identify(void *ctx, void *caller)
{
	struct governed *g = ctx;
	char path[PATH_MAX];
	const struct fuse_ctx *who = caller;
	struct fs_ident *ident = fs_ident_find(&g->idents, who->pid);

	if (ident)
		return ident;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	ident = fs_ident_add(&g->idents, &g->m->stats, who->pid, who->uid, path);
	fs_rewrite_appends(g, who->pid);
	ident->stats->opens++;
	g->m->stats.opens++;
	if (!(g->base.flags & O_APPEND)) {
		ident->stats->opens_without_append++;
		g->m->stats.opens_without_append++;
	}
	return ident;
}

static void log_set_aside(struct governed *g, const struct jsonl_set_aside *what,
			  const struct fs_ident *ident, const char *path,
			  const char *name, int rc)
{
	size_t len = 0;

	for (int i = 0; i < what->niov; i++)
		len += what->iov[i].iov_len;
	FS_LOG(rc ? LOG_ERR : LOG_WARNING, ident ? ident->uid : (uid_t)-1, what->event,
	       FS_STR("path", path), FS_INT("offset", what->at), FS_INT("length", len),
	       FS_STR("reason", jsonl_error_text(what->code)),
	       FS_INT("byte", what->offset), FS_INT("pid", ident ? ident->pid : 0),
	       FS_INT("uid", ident ? ident->uid : 0),
	       FS_STR("comm", ident ? ident->stats->program : "(unknown)"),
	       FS_STR("quarantine", rc ? "" : name),
	       FS_STR("error", rc ? jsonl_error_text(rc) : ""));
}

/* What ends in mid-record may be joined by the rest of that record. */
static bool ends_with_newline(const struct jsonl_set_aside *what)
{
	for (int i = what->niov - 1; i >= 0; i--) {
		const struct iovec *iov = &what->iov[i];

		if (iov->iov_len)
			return ((const char *)iov->iov_base)[iov->iov_len - 1] == '\n';
	}
	return false;
}

static void governed_set_aside(void *ctx, const struct jsonl_set_aside *what,
			       char name[JSONL_QUARANTINE_NAME])
{
	struct governed *g = ctx;
	struct fs_ident *ident = what->who;
	struct fs_stats *stats = &g->m->stats;
	char path[PATH_MAX];
	int fd = jsonl_file_fd(g->shared->file);
	bool fragment = strcmp(what->event, "fragment") == 0;
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
	    .reserved = fragment,
	    .durable = fragment,
	    .joinable = strcmp(what->event, "refused") == 0 && !ends_with_newline(what),
	};
	int rc;

	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	rc = jsonl_quarantine_put(g->m->quarantine, &item, name);
	if (!rc) {
		stats->quarantined++;
	} else {
		name[0] = '\0';
		stats->quarantine_full += rc == -ENOSPC;
		if (fragment)
			fs_ident_lost(stats, path, what->iov, what->niov);
	}
	/* Last: who has seen this count finds the rest done. */
	if (fragment) {
		stats->fragments++;
		if (ident)
			ident->stats->fragments++;
	} else {
		stats->refused++;
		if (ident)
			ident->stats->refused++;
	}
	log_set_aside(g, what, ident, path, name, rc);
}

static void governed_join(void *ctx, const char *name, const struct iovec *iov, int niov,
			  void *who)
{
	struct governed *g = ctx;
	char path[PATH_MAX];
	int rc = jsonl_quarantine_join(g->m->quarantine, name, iov, niov, false);

	if (!rc)
		return;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_ident_lost(&g->m->stats, path, iov, niov);
}

static int governed_charge(void *ctx, int64_t bytes)
{
	struct governed *g = ctx;

	return fs_account_charge(g->m, g->account, bytes);
}

static void governed_note(void *ctx, const struct jsonl_writer_note *note, void *who)
{
	struct governed *g = ctx;
	struct fs_ident *ident = who;
	bool warn;

	if (note->records) {
		g->appended = true;
		g->appends++;
	}
	/* The kernel knows of growth by a WRITE to the node itself, and of no other. */
	if (note->no_newline || g->moved)
		fs_attributes_changed(g->m, g->base.inode);
	/* A log that has been rotated has another node by its new name. */
	if (note->records)
		fs_attributes_changed_as(g->m, g->base.inode, JSONL_CLASS_PLAIN);
	if (!ident)
		return;
	warn = fs_ident_note(&g->m->stats, ident->stats, note);
	if (warn && g->settings->limits.oversize == JSONL_OVERSIZE_WARN)
		FS_LOG(LOG_WARNING, ident->uid, "oversize",
		       FS_STR("path", ident->stats->path),
		       FS_INT("length", note->largest),
		       FS_INT("limit", g->settings->limits.pipebuf),
		       FS_INT("pid", ident->pid), FS_STR("comm", ident->stats->program),
		       FS_STR("note", "outside the mount this program cannot write such "
				      "records safely"));
}

const struct jsonl_writer_events fs_governed_events = {
    .identify = governed_identify,
    .set_aside = governed_set_aside,
    .join = governed_join,
    .charge = governed_charge,
    .note = governed_note,
};
