/* SPDX-License-Identifier: MIT */
#include "log/intent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/kind.h"
#include "base/syslog.h"
#include "block/commit.h"
#include "block/stage.h"
#include "file/file.h"
#include "log/openlog.h"
#include "log/target.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"

void fs_intent_name(dev_t dev, ino_t ino, char buf[64])
{
	snprintf(buf, 64, "intent-%llx-%llx", (unsigned long long)dev,
		 (unsigned long long)ino);
}

int fs_intent_open(struct fs_mount *m, const char *name)
{
	int fd = openat(m->vault.daemon_fd, name,
			O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
			0600);
	int rc = fd < 0 || fsync(m->vault.daemon_fd) < 0 ? -errno : 0;

	if (rc && fd >= 0)
		close(fd);
	return rc ? rc : fd;
}

void fs_intent_stage_name(const struct fs_mount *m, char name[JSONL_STAGE_NAME])
{
	static _Atomic unsigned number;

	snprintf(name, JSONL_STAGE_NAME, "stage-%llx.%09lx-%x",
		 (unsigned long long)m->vault.started.tv_sec, m->vault.started.tv_nsec,
		 ++number);
}

void fs_intent_forget(struct fs_mount *m, struct fs_openlog *s)
{
	char name[64];

	if (s->intent.fd < 0)
		return;
	fs_intent_name(s->inode->dev, s->inode->ino, name);
	/* One that is not empty is left for recovery, by the next open. */
	if (!s->intent.marked && !s->intent.filled)
		unlinkat(m->vault.daemon_fd, name, 0);
	else
		m->vault.intents_left = true;
	close(s->intent.fd);
	s->intent.fd = -1;
}

static void recovered_log(const char *path, enum jsonl_recovered what, int rc)
{
	static const char *const words[] = {
	    [JSONL_RECOVERED_NONE] = "not begun",
	    [JSONL_RECOVERED_WHOLE] = "complete",
	    [JSONL_RECOVERED_CUT] = "taken back",
	    [JSONL_RECOVERED_TORN] = "less than a record: cut before the next append",
	    [JSONL_RECOVERED_UNSURE] = "left alone: what stands there is not its own",
	};

	FS_SYSLOG(rc ? LOG_ERR : LOG_NOTICE, (uid_t)-1, "transaction-recovered",
		  FS_STR("path", path), FS_STR("result", rc ? "" : words[what]),
		  FS_STR("error", rc ? jsonl_error_text(rc) : ""));
}

bool fs_intent_recover(struct fs_mount *m, const char *name, void *ctx)
{
	cleanup_close int fd =
	    openat(m->vault.daemon_fd, name,
		   O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	enum jsonl_recovered what = JSONL_RECOVERED_NONE;
	char stage[JSONL_STAGE_NAME];
	unsigned long long dev, ino;
	cleanup_free char *path = NULL;
	struct fs_target t;
	int rc = fd < 0 ? -errno : 0;

	if (sscanf(name, "intent-%llx-%llx", &dev, &ino) != 2)
		return false;
	if (!rc)
		path = jsonl_commit_pending(m->vault.io, fd, stage, &rc);
	if (path) {
		rc = fs_target_open(m, path, (ino_t)ino, &t);
		if (!rc) {
			rc = jsonl_commit_recover(m->vault.io, m->vault.daemon_fd, fd,
						  t.file, &what);
			jsonl_file_free(t.file);
		}
		recovered_log(path, what, rc);
		/* The log is gone, and with it the need to recover; what was staged is
		 * treated by its own rules. */
		if (rc == -ENOENT && fs_target_gone(m, path, (dev_t)dev))
			rc = 0;
	}
	if (rc && !path)
		FS_SYSLOG(LOG_ERR, (uid_t)-1, "intent-stays", FS_STR("intent", name),
			  FS_STR("error", jsonl_error_text(rc)));
	if (rc)
		m->vault.intents_left = true;
	else
		unlinkat(m->vault.daemon_fd, name, 0);
	return false;
}

int fs_intent_recover_one(struct fs_mount *m, struct fs_openlog *s)
{
	enum jsonl_recovered what;
	cleanup_close int fd = -1;
	char name[64], path[PATH_MAX];
	int rc;

	fs_intent_name(s->inode->dev, s->inode->ino, name);
	fd = openat(m->vault.daemon_fd, name,
		    O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	rc = jsonl_commit_recover(m->vault.io, m->vault.daemon_fd, fd, s->file, &what);
	fs_path_of(m, s->inode, path, sizeof(path));
	if (rc != -EAGAIN)
		recovered_log(path, what, rc);
	return rc;
}

bool fs_intent_names(struct fs_mount *m, const char *intent, void *ctx)
{
	cleanup_close int fd = openat(m->vault.daemon_fd, intent,
				      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char stage[JSONL_STAGE_NAME] = "";
	int rc = fd < 0 ? -errno : 0;

	if (!rc)
		free(jsonl_commit_pending(m->vault.io, fd, stage, &rc));
	/* An intent that cannot be read may name any stage. */
	return rc || strcmp(stage, ctx) == 0;
}

/* Returns true for ext4 with a journal. ext2, and ext4 without one, have the same
 * file-system type. */
static bool has_journal(dev_t dev)
{
	char link[64], device[PATH_MAX], path[PATH_MAX + 64], task[16] = "";
	cleanup_close int fd = -1;
	const char *name;
	ssize_t n;

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	n = readlink(link, device, sizeof(device) - 1);
	if (n < 0)
		return false;
	device[n] = '\0';
	name = strrchr(device, '/');
	snprintf(path, sizeof(path), "/sys/fs/ext4/%s/journal_task",
		 name ? name + 1 : device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	/* The file has the number of the journal's thread, or "<none>". */
	return fd >= 0 && read(fd, task, sizeof(task) - 1) > 0 && *task >= '0' &&
	       *task <= '9';
}

/* Returns true when changes of metadata reach the disk in order: as known of ext4 and
 * XFS with their journals, and not of other file systems. */
static bool is_ordered(int fd)
{
	const struct fs_kind *kind;
	struct statfs fs;
	struct stat st;

	if (fstatfs(fd, &fs) || fstat(fd, &st))
		return false;
	kind = fs_kind_of(&fs);
	return kind->ordered && (!kind->journal || has_journal(st.st_dev));
}

int fs_intent_make(struct fs_mount *m, struct fs_openlog *s)
{
	char name[64];
	int fd;

	pthread_mutex_lock(&s->inode->lock);
	fd = s->intent.fd;
	if (fd < 0) {
		fs_intent_name(s->inode->dev, s->inode->ino, name);
		fd = fs_intent_open(m, name);
		s->ordered = is_ordered(jsonl_file_fd(s->file));
		if (fd >= 0)
			__atomic_store_n(&s->intent.fd, fd, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&s->inode->lock);
	return fd < 0 ? fd : 0;
}
