/* SPDX-License-Identifier: MIT */
#include "log/read_by.h"

#include <errno.h>
#include <limits.h>

#include "base/fuse.h"
#include "base/process.h"
#include "base/seen.h"
#include "base/version.h"
#include "file/file.h"
#include "log/handle.h"
#include "log/openlog.h"
#include "rules/config.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"

static struct fs_version version_of(const struct fs_openlog *s, off_t size)
{
	return (struct fs_version){.dev = s->inode->dev,
				   .ino = s->inode->ino,
				   .size = size,
				   .generation =
				       fs_version_generation(jsonl_file_fd(s->file), "")};
}

void fs_rewrite_seen(struct fs_read_end *last, const struct fs_openlog *s,
		     const struct fuse_ctx *caller, off_t end)
{
	const pid_t pid = caller->pid;
	struct fs_version v;
	char path[PATH_MAX];
	struct fs_process p;

	/* tail -f and the like read again and again at the same end. */
	if (last->pid == pid && last->end == end)
		return;
	if (!fs_process_identify(pid, &p))
		return;
	fs_path_of(s->m, s->inode, path, sizeof(path));
	v = version_of(s, end);
	fs_seen_note(s->m->seen, path, &p, caller->uid, &v);
	last->pid = pid;
	last->end = end;
}

void fs_rewrite_appends(struct fs_log_handle *g, pid_t pid)
{
	char path[PATH_MAX];
	struct fs_process p;

	if (g->settings->rewrite == JSONL_REWRITE_DENY || !fs_process_identify(pid, &p))
		return;
	fs_path_of(g->m, g->base.inode, path, sizeof(path));
	fs_seen_forget(g->m->seen, path, &p);
}

int fs_rewrite_base(struct fs_openlog *s, pid_t pid, off_t visible, off_t *base)
{
	char path[PATH_MAX];
	struct fs_process p;
	struct fs_version v, now;

	*base = visible;
	fs_path_of(s->m, s->inode, path, sizeof(path));
	if (!fs_process_identify(pid, &p) || !fs_seen_find(s->m->seen, path, &p, &v))
		return 0;
	now = version_of(s, v.size);
	if (!fs_version_same(&v, &now) || v.size > visible)
		return -ESTALE;
	*base = v.size;
	return 1;
}

void fs_rewrite_written(struct fs_openlog *s, const struct fs_process *p, uid_t uid,
			off_t end)
{
	struct fs_version v = version_of(s, end);
	char path[PATH_MAX];

	if (!p->tgid)
		return;
	fs_path_of(s->m, s->inode, path, sizeof(path));
	fs_seen_note(s->m->seen, path, p, uid, &v);
}
