/* SPDX-License-Identifier: MIT */
#include "log/visible.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "file/file.h"
#include "file/tail.h"
#include "log/openlog.h"
#include "rules/config.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/inode.h"
#include "tree/mount.h"

static int visible_of_closed(struct fs_mount *m, struct fs_inode *i,
			     const struct stat *st, off_t *visible)
{
	const struct jsonl_settings *settings = fs_settings_of(m, i);
	cleanup_close int fd = fs_inode_open(m, i, O_RDONLY);
	struct jsonl_tail tail;
	int rc;

	if (fd < 0)
		return fd;
	if (!settings)
		return -ENOMEM;
	if (m->vault.remote && m->vault.shared) {
		jsonl_io_direct(fd);
		m->vault.io->drop_cache(m->vault.io, fd, 0, 0);
	}
	rc = jsonl_tail_inspect(m->vault.io, fd, st->st_size, settings->limits.maxrecord,
				settings->limits.maxdepth, &tail);
	*visible = tail.visible;
	return rc;
}

/* Valid while inode number, size, mtime and ctime are these. */
struct fs_visible {
	ino_t ino;
	off_t size, visible;
	struct timespec mtime, ctime;
};

static bool visible_is_good(const struct fs_visible *v, const struct stat *st)
{
	return v && v->ino == st->st_ino && v->size == st->st_size &&
	       fs_same_time(v->mtime, st->st_mtim) && fs_same_time(v->ctime, st->st_ctim);
}

static void visible_note(struct fs_inode *i, const struct stat *st, off_t visible)
{
	if (!fs_log_node(i)->visible)
		fs_log_node(i)->visible = malloc(sizeof(*fs_log_node(i)->visible));
	if (fs_log_node(i)->visible)
		*fs_log_node(i)->visible = (struct fs_visible){
		    st->st_ino, st->st_size, visible, st->st_mtim, st->st_ctim};
}

bool fs_log_fix_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st)
{
	off_t visible = st->st_size;
	bool written = false;

	pthread_mutex_lock(&i->lock);
	if (fs_log_node(i)->log && fs_log_node(i)->log->switches & 1) {
		/* Just replaced: the jsonl_file is still that of the old file. All of
		 * the new one is records, and nobody can append yet. */
		written = true;
	} else if (fs_log_node(i)->log) {
		written = i->readers &&
			  jsonl_file_can_append(fs_openlog_file(fs_log_node(i)->log));
		if (jsonl_file_visible(fs_openlog_file(fs_log_node(i)->log), &visible))
			visible = st->st_size;
	} else if (visible_is_good(fs_log_node(i)->visible, st)) {
		visible = fs_log_node(i)->visible->visible;
	} else if (!visible_of_closed(m, i, st, &visible)) {
		visible_note(i, st, visible);
	}
	pthread_mutex_unlock(&i->lock);
	st->st_size = visible;
	return written;
}
