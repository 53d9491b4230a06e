/* replace and repair: a log gets new content as a whole while programs go on appending to
 * it. The rewriting itself is rewrite_archive.c's, as for programs that are allowed to.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>

#include "control_files.h"
#include "cross.h"
#include "repair.h"
#include "report.h"
#include "rewrite.h"
#include "seen.h"
#include "shared.h"

#define FILES_RETRY_MS 10 /* while somebody outside holds the lock */
#define FILES_PIECE    (1 << 20)

/* A log that is to be rewritten. */
struct log {
	struct fs_mount *m;
	const struct fs_control_request *r;
	struct fs_inode *inode; /* a reference */
	struct fs_shared *shared;
	struct jsonl_file *file;
	const struct jsonl_settings *settings;
	char path[PATH_MAX];
	ino_t ino; /* the version that it is made from */
	uint64_t generation;
	int staged; /* the new content, which nobody else can change; -1 */
};

/* ---- finding it ---- */

/* The node of a path from the vault's root, with a reference. Never through a symbolic
 * link. 0 or -errno. */
static int walk(struct fs_mount *m, const char *path, struct fs_inode **out,
		struct stat *st)
{
	struct fs_inode *at = fs_inode_ref(m, &m->root);
	size_t all = strlen(path);
	int rc = all && path[all - 1] != '/' ? 0 : -EINVAL;

	while (rc == 0 && *path) {
		size_t len = strcspn(path, "/");
		char name[NAME_MAX + 1];
		struct fs_inode *next;

		if (at->type != S_IFDIR || len > NAME_MAX) {
			rc = len > NAME_MAX ? -ENAMETOOLONG : -ENOTDIR;
			break;
		}
		memcpy(name, path, len);
		name[len] = '\0';
		rc = fs_inode_lookup(m, at, name, &next, st);
		if (rc)
			break;
		fs_inode_unref(m, at);
		at = next;
		path += len + (path[len] == '/');
	}
	if (rc)
		fs_inode_unref(m, at);
	else
		*out = at;
	return rc;
}

/* Who is not the owner of the mount is told nothing of files that are not his. */
static int find_log(struct log *l)
{
	const struct fs_control_request *r = l->r;
	const char *path = jsonl_report_get_string(r->args, "path");
	struct stat st;
	int rc = path ? walk(l->m, path, &l->inode, &st) : -EINVAL;

	if (!r->owner && (rc || st.st_uid != r->uid))
		return -EPERM;
	if (rc)
		return rc;
	if (l->inode->state || l->inode->class != JSONL_CLASS_GOVERNED ||
	    !S_ISREG(l->inode->type))
		return -EINVAL;
	return 0;
}

static int log_open(struct log *l)
{
	int rc;

	if (l->m->config.readonly)
		return -EROFS;
	rc = find_log(l);
	if (!rc)
		rc = fs_shared_get(l->m, l->inode, true, &l->shared);
	if (rc)
		return rc;
	l->file = fs_shared_file(l->shared);
	l->ino = l->inode->ino;
	l->generation = fs_version_generation(jsonl_file_fd(l->file), "");
	fs_path_of(l->m, l->inode, l->path, sizeof(l->path));
	l->settings = fs_settings_of(l->m, l->inode);
	if (!l->settings)
		return -ENOMEM;
	l->staged =
	    openat(l->m->state_fd, ".", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
	return l->staged < 0 ? -errno : 0;
}

static void log_close(struct log *l)
{
	if (l->staged >= 0)
		close(l->staged);
	if (l->shared)
		fs_shared_put(l->m, l->shared);
	fs_inode_unref(l->m, l->inode);
}

/* ---- the new content ---- */

/* A file that reading cannot hang on: not one of a FUSE mount, which may be anybody's. */
static int check_descriptor(int fd, off_t *size)
{
	struct statfs fs;
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type == FUSE_SUPER_MAGIC)
		return -EXDEV;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || flags < 0 || (flags & O_ACCMODE) == O_WRONLY ||
	    (flags & O_PATH))
		return -EINVAL;
	*size = st.st_size;
	return 0;
}

/* Takes the content over, in pieces, so that an unmount need not wait for all of it. */
static int stage(struct log *l, int from, off_t size)
{
	int rc = 0;

	for (off_t at = 0; rc == 0 && at < size; at += FILES_PIECE) {
		off_t n = size - at < FILES_PIECE ? size - at : FILES_PIECE;

		rc = fs_control_stopping(l->m)
			 ? -ECANCELED
			 : fs_copy_bytes(l->m, from, at, n, l->staged);
	}
	return rc;
}

/* Makes the staged content that of the log, with `base` bytes of which it was made. */
static int put_in_place(struct log *l, off_t base, const struct timespec *times)
{
	struct fs_new_content c = {.fd = l->staged,
				   .ino = l->ino,
				   .generation = l->generation,
				   .base = base,
				   .attributes = jsonl_file_fd(l->file),
				   .old_times = times,
				   .any_end = true};
	const struct timespec pause = {.tv_nsec = FILES_RETRY_MS * 1000000L};
	char archive[NAME_MAX + 1] = "";
	int64_t until = fs_now_ms() + (int64_t)l->settings->locktimeout_ms;
	const char *why = NULL;
	struct stat st;
	off_t end, at = 0;
	int rc = fstat(l->staged, &st) < 0 ? -errno : 0;

	if (!rc)
		rc = fs_cross_validate(l->m, &l->settings->limits, l->staged, 0,
				       st.st_size, &at, &c.unfinished);
	if (rc > 0)
		jsonl_report_add_int(l->r->reply, "at", at);
	if (rc)
		return rc;
	c.size = st.st_size;
	for (;;) {
		rc = fs_rewrite_replace(l->m, l->inode, l->shared, &c, &end, archive,
					&why);
		if (rc != -EAGAIN || fs_now_ms() >= until || fs_control_stopping(l->m))
			break;
		nanosleep(&pause, NULL);
	}
	if (rc == 0)
		jsonl_report_add_string(l->r->reply, "archive", archive);
	if (rc && why)
		jsonl_report_add_string(l->r->reply, "why", why);
	return rc;
}

static void tell(const struct log *l, const char *event, int rc)
{
	FS_LOG(rc ? LOG_WARNING : LOG_NOTICE, (uid_t)-1, event, FS_STR("path", l->path),
	       FS_STR("as", jsonl_report_get_string(l->r->args, "as")),
	       FS_INT("pid", l->r->pid), FS_INT("uid", l->r->uid),
	       FS_STR("reason", rc ? jsonl_error_text(rc) : ""));
}

/* ---- replace ---- */

/* Is what the new content was made from still the beginning of the log? */
static int check_base(struct log *l, off_t base)
{
	off_t visible;
	int rc = jsonl_file_visible(l->file, &visible);

	if (!rc && visible < base)
		rc = -EPERM;
	if (!rc)
		rc = fs_cross_compare(l->m, l->file, l->r->fds[1], 0, base);
	return rc == -EPERM ? -ESTALE : rc;
}

/* What was read may have lacked the last newline, which an append has added since. */
static off_t behind_newline(struct log *l, off_t base)
{
	off_t visible;
	char last;

	if (base && pread(l->r->fds[1], &last, 1, base - 1) == 1 && last != '\n' &&
	    !jsonl_file_visible(l->file, &visible) && visible > base &&
	    jsonl_file_equals(l->file, "\n", 1, base) == 1)
		return base + 1;
	return base;
}

static int replace(struct log *l)
{
	bool based = l->r->fds[1] >= 0;
	/* Made from nothing: it stands for all that there is. */
	off_t size = 0, base = INT64_MAX;
	int rc = l->r->fds[0] < 0 ? -EINVAL : check_descriptor(l->r->fds[0], &size);

	if (!rc && based)
		rc = check_descriptor(l->r->fds[1], &base);
	if (!rc && based)
		rc = check_base(l, base);
	if (!rc)
		rc = stage(l, l->r->fds[0], size);
	if (!rc && based)
		base = behind_newline(l, base);
	return rc ? rc : put_in_place(l, base, NULL);
}

int fs_control_replace(struct fs_control_request *r)
{
	struct log l = {.m = r->m, .r = r, .staged = -1};
	int rc = log_open(&l);

	if (!rc)
		rc = replace(&l);
	if (l.path[0])
		tell(&l, rc ? "replace-failed" : "replaced-by", rc);
	log_close(&l);
	return rc;
}

/* ---- repair ---- */

static int repair_keep(void *ctx, const void *data, size_t len)
{
	struct log *l = ctx;
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	size_t written;

	return jsonl_io_write_full(l->m->io, l->staged, &iov, 1, &written);
}

static int repair_change(void *ctx, const struct jsonl_repair_change *c, const void *data)
{
	struct log *l = ctx;
	const struct iovec iov = {.iov_base = (void *)data, .iov_len = c->length};
	const struct jsonl_quarantine_item item = {
	    .iov = &iov,
	    .niov = 1,
	    .event = "repair",
	    .code = c->verdict,
	    .offset = c->wrong,
	    .at = (int64_t)c->offset,
	    .path = l->path,
	    .program = "jsonlfsctl repair",
	    .pid = l->r->pid,
	    .uid = l->r->uid,
	    .source_fd = jsonl_file_fd(l->file),
	    .reserved = true,
	};

	return c->kind == JSONL_REPAIR_SET_ASIDE
		   ? jsonl_quarantine_put(l->m->quarantine, &item, NULL)
		   : 0;
}

static int repair_progress(void *ctx, uint64_t bytes)
{
	return fs_control_stopping(((struct log *)ctx)->m) ? -ECANCELED : 0;
}

/* As far as can be known. */
static int has_writers(int fd)
{
	return fs_has_writers(fd) > 0;
}

/* By programs in the mount, or outside of it. 1, 0 or -errno. */
static int is_written(struct log *l)
{
	unsigned writers;

	pthread_mutex_lock(&l->inode->lock);
	writers = l->inode->writers;
	pthread_mutex_unlock(&l->inode->lock);
	return writers ? 1 : jsonl_file_ask_writers(l->file, has_writers);
}

static void add_counts(struct jsonl_report *r, const struct jsonl_repair_counts *c)
{
	jsonl_report_add_uint(r, "bytes", c->bytes);
	jsonl_report_add_uint(r, "records", c->records);
	jsonl_report_add_uint(r, "kept", c->kept);
	jsonl_report_add_uint(r, "set_aside_bytes", c->set_aside_bytes);
	jsonl_report_add_uint(r, "nul_bytes", c->nul_bytes);
	jsonl_report_add_uint(r, "split_records", c->split_records);
	for (int i = 0; i < JSONL_REPAIR_COUNT; i++)
		jsonl_report_add_uint(r, jsonl_repair_name(i), c->changes[i]);
}

static int repair(struct log *l)
{
	struct jsonl_repair repair = {.keep = repair_keep,
				      .change = repair_change,
				      .progress = repair_progress,
				      .ctx = l};
	struct jsonl_repair_counts counts = {0};
	struct timespec times[2];
	struct stat st;
	off_t end;
	int rc = fstat(jsonl_file_fd(l->file), &st) < 0 ? -errno : 0;

	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	/* Its tail is brought in order first, as before every append, where that can be.
	 */
	if (!rc)
		rc = fs_freeze_any(l->file, (unsigned)l->settings->locktimeout_ms, &end);
	if (rc < 0)
		return rc;
	jsonl_file_unfreeze(l->file);
	/* What is being appended behind it by now may not be whole yet. */
	repair.upto = (uint64_t)end;
	rc = end ? jsonl_repair_fd(l->m->io, jsonl_file_fd(l->file), &l->settings->limits,
				   &repair, &counts)
		 : 0;
	if (!rc && counts.alien && !counts.records)
		rc = JSONL_UNKNOWN_TAIL;
	if (rc)
		return rc;
	add_counts(l->r->reply, &counts);
	if (!jsonl_repair_is_needed(&counts))
		return 0;
	/* The bad lines are on the disk before they leave the log. */
	if (syncfs(l->m->state_fd) < 0)
		return -errno;
	return put_in_place(l, (off_t)counts.bytes, times);
}

int fs_control_repair(struct fs_control_request *r)
{
	struct log l = {.m = r->m, .r = r, .staged = -1};
	int rc = log_open(&l);

	if (!rc)
		rc = is_written(&l);
	if (!rc)
		rc = repair(&l);
	else if (rc > 0)
		rc = -EBUSY;
	if (l.path[0])
		tell(&l, rc ? "repair-failed" : "repaired-by", rc);
	log_close(&l);
	return rc;
}
