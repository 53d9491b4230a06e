/* SPDX-License-Identifier: MIT */
#include "log/renamed.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include "base/fuse.h"
#include "base/process.h"
#include "base/seen.h"
#include "base/version.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/renaming.h"

/* Makes the key of a rotation, which base/seen.h keeps under a name that no file has. */
static void rotation_name(const char *path, char name[PATH_MAX + 1])
{
	(void)snprintf(name, PATH_MAX + 1, "/%s", path);
}

/* Notes what the process has seen of the file that it renamed to the name of a log: of a
 * log, what it had read; of another file, which it has made, all. */
static void renamed_in(struct fs_renaming *r, const struct fs_process *p)
{
	const uid_t uid = fuse_req_ctx(r->req)->uid;
	struct fs_seen *seen = r->m->seen;
	struct fs_version v, read;
	struct stat st;

	if (fs_version_of(r->new_fd, r->new_name, &v, &st) < 0)
		return;
	v.mtime = (struct timespec){0};
	v.size = r->src_st.st_size;
	if (v.ino == r->src->ino && r->src->class == JSONL_CLASS_GOVERNED) {
		if (!fs_seen_find(seen, r->old_path, p, &read) || read.ino != v.ino) {
			fs_seen_forget(seen, r->new_path, p);
			return;
		}
		v.size = read.size;
	} else if (v.ino != r->src->ino && !(r->dst && v.ino == r->dst->ino)) {
		return; /* another program's by now */
	}
	fs_seen_note(seen, r->new_path, p, uid, &v);
}

void fs_renamed(struct fs_renaming *r)
{
	const struct fs_version none = {0};
	bool away = r->src->class == JSONL_CLASS_GOVERNED;
	bool in = r->settings->class == JSONL_CLASS_GOVERNED &&
		  r->settings->rewrite != JSONL_REWRITE_DENY;
	char name[PATH_MAX + 1];
	struct fs_process p;

	if ((!away && !in) || !fs_process_identify(fuse_req_ctx(r->req)->pid, &p))
		return;
	if (in)
		renamed_in(r, &p);
	if (!away)
		return;
	rotation_name(r->old_path, name);
	fs_seen_note(r->m->seen, name, &p, fuse_req_ctx(r->req)->uid, &none);
}

bool fs_renamed_by(struct fs_mount *m, const char *path, pid_t pid)
{
	char name[PATH_MAX + 1];
	struct fs_version v;
	struct fs_process p;

	if (!fs_process_identify(pid, &p))
		return false;
	rotation_name(path, name);
	return fs_seen_find(m->seen, name, &p, &v);
}
