/* SPDX-License-Identifier: MIT */
#include "ctl/repair/rewrite.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "ctl/find/vault.h"

#define WATCH_MS   1300 /* longer than the second for which names of a mount are cached */
#define WATCH_STEP 10

const char *ctl_rewrite_explain(const char *path, int rc)
{
	switch (rc) {
	case -EBUSY:
		return "is open for writing: nothing was changed; stop the program that "
		       "writes it, and try again";
	case -EWOULDBLOCK:
		return "is locked by another program: nothing was changed; try again "
		       "when that has ended";
	case -ESTALE:
		return "changed while it was read: nothing was changed by this; stop the "
		       "program that writes it, and try again";
	case -EMLINK:
		return "has more than one name (hard links), of which this would leave "
		       "the others behind: nothing was changed; remove the others first";
	case -ENOSPC:
		return "no space on the disk, or in the quarantine: nothing was changed; "
		       "make room (jsonlfsctl quarantine drop, archive drop) or raise "
		       "quarantine_max (--quarantine_max)";
	case -EACCES:
	case -EPERM:
		return "permission denied: nothing was changed; do it as the owner of "
		       "the "
		       "file and of .jsonlfs, or as root (and look whether lsattr shows "
		       "the attribute a or i)";
	case -EXDEV:
		return "lies in a mount of jsonlfs: nothing was changed; unmount that, "
		       "or name the backing directory";
	default:
		return ctl_explain(path, rc);
	}
}

char *ctl_rewrite_kept(const struct ctl_rewrite *w, const char *shown, const char *root,
		       const char *state)
{
	const char *slash = strrchr(shown, '/');
	char *path = NULL;
	int n;

	if (w->store.state_fd < 0)
		n = asprintf(&path, "%.*s%s", slash ? (int)(slash - shown) + 1 : 0, shown,
			     w->store.kept);
	else if (state)
		n = asprintf(&path, "%s/archive/%s", state, w->store.kept);
	else
		n = asprintf(&path, "%s/.jsonlfs/archive/%s", root, w->store.kept);
	return n < 0 ? NULL : path;
}

/* Returns true when the name is still that of the file that was read, and the file has
 * not changed. */
static int unchanged(const struct ctl_rewrite *w, const struct stat *before)
{
	struct stat now, named;

	if (fstat(w->store.old_fd, &now) < 0 ||
	    fstatat(w->store.dir_fd, w->store.name, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return now.st_size != before->st_size ||
		       now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
		       now.st_mtim.tv_nsec != before->st_mtim.tv_nsec ||
		       named.st_ino != now.st_ino || named.st_dev != now.st_dev
		   ? -ESTALE
		   : 0;
}

/* Returns true when a program may have appended to the new file, which then must not be
 * replaced by the original. */
static bool new_is_in_use(const struct ctl_rewrite *w)
{
	struct ctl_guard guard;
	struct stat now;
	bool used = ctl_guard_take(&guard, w->new_fd) != 0;

	used = used || fstat(w->new_fd, &now) < 0 ||
	       now.st_size != w->new_as_made.st_size ||
	       now.st_mtim.tv_sec != w->new_as_made.st_mtim.tv_sec ||
	       now.st_mtim.tv_nsec != w->new_as_made.st_mtim.tv_nsec;
	ctl_guard_release(&guard);
	return used;
}

/* Watches for programs that looked the name up before the rename: they open the old
 * file, and wait for the guard. Then the original is put back. In a mount that may take
 * a second, for which it caches names. 0, or -EBUSY: it was put back. */
static int watch(struct ctl_rewrite *w)
{
	const struct timespec pause = {.tv_nsec = WATCH_STEP * 1000000L};
	int limit = w->mounted ? WATCH_MS : 0;
	int rc;

	for (int waited = 0;; waited += WATCH_STEP) {
		rc = ctl_guard_check(&w->guard);
		if (rc || waited >= limit)
			break;
		(void)nanosleep(&pause, NULL);
	}
	if (rc == 0)
		return 0;
	/* If that fails the new file stays, and the original is kept. */
	if (new_is_in_use(w))
		return 0;
	return repair_store_put_back(&w->store) == 0 || !w->store.kept[0] ? rc : 0;
}

/* Locks the new file. Programs that lock a file before they append then wait until it is
 * sure to stay. */
static int lock_new(struct ctl_rewrite *w)
{
	w->new_fd =
	    openat(w->store.dir_fd, w->replace.temp,
		   O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (w->new_fd < 0 || fstat(w->new_fd, &w->new_as_made) < 0)
		return -errno;
	return fs_lock_wait(w->new_fd, FS_LOCK_MS);
}

static int make_ready(struct ctl_rewrite *w, const struct stat *before)
{
	int rc = w->fill(w);

	if (rc == 0)
		rc = jsonl_replace_prepare(&w->replace);
	if (rc == 0)
		rc = lock_new(w);
	if (rc == 0)
		rc = repair_store_settle(&w->store);
	if (rc == 0)
		rc = unchanged(w, before);
	if (rc == 0)
		rc = ctl_guard_check(&w->guard);
	return rc;
}

/* Rewrites under the lock and the guard. */
static int rewrite_guarded(struct ctl_rewrite *w)
{
	struct stat before;
	int rc;

	if (fstat(w->store.old_fd, &before) < 0)
		return -errno;
	if (before.st_nlink > 1)
		return -EMLINK;
	rc = jsonl_replace_begin(&w->replace, &jsonl_io_system, w->store.dir_fd,
				 w->store.name, w->store.old_fd);
	if (rc < 0)
		return rc;
	w->new_fd = -1;
	repair_store_begin(&w->store);
	rc = make_ready(w, &before);
	if (rc == 0) {
		rc = jsonl_replace_commit(&w->replace, 0);
		if (rc == 0 || w->replace.renamed)
			rc = watch(w) ? -EBUSY : rc;
	}
	jsonl_replace_abort(&w->replace);
	/* Nothing has changed, or the original was put back. */
	if (rc && (!w->replace.renamed || !w->store.kept[0]))
		repair_store_undo(&w->store);
	repair_store_end(&w->store);
	if (w->new_fd >= 0)
		(void)close(steal_fd(&w->new_fd));
	return rc;
}

int ctl_rewrite(struct ctl_rewrite *w)
{
	int rc = fs_lock_wait(w->store.old_fd, FS_LOCK_MS);

	if (rc == 0)
		rc = ctl_guard_take(&w->guard, w->store.old_fd);
	if (rc < 0)
		return rc;
	rc = rewrite_guarded(w);
	ctl_guard_release(&w->guard);
	return rc;
}

bool ctl_rewrite_unsynced(const struct ctl_rewrite *w)
{
	return w->replace.renamed && w->store.kept[0];
}
