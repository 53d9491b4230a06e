/* Two programs read a state file, and both write it anew: the second takes back what the
 * first has changed. What can be seen of that, for a close and for a rename. */
#include "statefile.h"

#include <fcntl.h>
#include <limits.h>

#include "hash.h"
#include "ops.h"

/* Held from the look at the present version until the new one has its place, outside
 * tree_lock: those of one file come one after the other. */
#define COMMIT_LOCKS 16
static pthread_mutex_t commit_locks[COMMIT_LOCKS] = {[0 ... COMMIT_LOCKS - 1] =
							 PTHREAD_MUTEX_INITIALIZER};

pthread_mutex_t *fs_statefile_lock(const struct fs_inode *i)
{
	pthread_mutex_t *lock = &commit_locks[(uintptr_t)i / 64 % COMMIT_LOCKS];

	pthread_mutex_lock(lock);
	return lock;
}

/* Inode numbers are used again at once, and times are coarse: the file handle has what
 * tells two files of one number apart. 0 where there are none. */
uint64_t fs_version_generation(int dir, const char *name)
{
	union {
		struct file_handle h;
		char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} buf;
	int id;

	buf.h.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(dir, name, &buf.h, &id, AT_EMPTY_PATH) < 0)
		return 0;
	return jsonl_hash(JSONL_HASH_START, buf.h.f_handle, buf.h.handle_bytes);
}

int fs_version_of(int dir, const char *name, struct fs_version *v, struct stat *st)
{
	if (fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
		return -errno;
	*v = (struct fs_version){.dev = st->st_dev,
				 .ino = st->st_ino,
				 .size = st->st_size,
				 .mtime = st->st_mtim,
				 .generation = fs_version_generation(dir, name)};
	return 0;
}

bool fs_version_same(const struct fs_version *a, const struct fs_version *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->generation == b->generation &&
	       a->size == b->size && fs_same_time(a->mtime, b->mtime);
}

int fs_statefile_lost(struct fs_mount *m, const struct jsonl_settings *settings,
		      const struct fs_statefile_writer *who, const char *why)
{
	m->stats.lost_updates++;
	if (settings->lostupdate == JSONL_LOSTUPDATE_REFUSE)
		return -EBUSY;
	FS_LOG(LOG_WARNING, who->uid, "lost-update", FS_STR("path", who->path),
	       FS_INT("pid", who->pid), FS_STR("comm", who->program),
	       FS_STR("reason", why),
	       FS_STR("next", "lock the file around reading and writing, or mount with "
			      "lostupdate=refuse"));
	return 0;
}

/* ---- a rename ---- */

/* Whether the program that renames has read the file is known; of one that read for it
 * (jq . f > t && mv t f) only that it did so after the new file was begun, or it would not
 * have been begun. NULL: nothing is lost that could be seen. */
static const char *lost_by_rename(struct fs_mount *m, const char *path,
				  const struct fs_process *p,
				  const struct timespec *begun,
				  const struct fs_version *now, const struct stat *st)
{
	struct fs_version seen;

	if (fs_seen_find(m, path, p, &seen))
		return fs_version_same(&seen, now)
			   ? NULL
			   : "another program has written it since this one read it, and "
			     "its change is overwritten";
	/* A rename changes no other time. */
	if (begun && fs_later_time(st->st_ctim, *begun))
		return "it was changed after the file that takes its place was begun, by "
		       "a program that has not read it, and that change is overwritten";
	return NULL;
}

int fs_statefile_onto(struct fs_mount *m, const struct jsonl_settings *settings,
		      const struct fuse_ctx *caller, const char *path,
		      const struct timespec *begun, int dir, const char *name)
{
	struct fs_statefile_writer who = {
	    .path = path, .pid = caller->pid, .uid = caller->uid};
	struct fs_process p = {0};
	struct fs_version now = {0};
	struct stat st;
	const char *why;
	char program[256];
	int rc = fs_version_of(dir, name, &now, &st);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (!fs_process_identify(caller->pid, &p))
		p.tgid = 0; /* of another pid namespace: has read nothing, as far as is known */
	why = lost_by_rename(m, path, &p, begun, &now, &st);
	if (!why)
		return 0;
	fs_program_name(caller->pid, program, sizeof(program));
	who.program = program;
	return fs_statefile_lost(m, settings, &who, why);
}

void fs_statefile_put(struct fs_mount *m, const struct fuse_ctx *caller, const char *path,
		      int src)
{
	struct fs_process p;
	struct fs_version v;
	struct stat st;

	if (fs_process_identify(caller->pid, &p) && !fs_version_of(src, "", &v, &st))
		fs_seen_note(m, path, &p, &v);
}
