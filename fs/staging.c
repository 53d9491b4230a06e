#include "staging.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ident.h"

#define STAGING_CHUNK (1u << 20)

/* A file without a name; where the file system has none, one whose name goes at once. */
static int staging_open(struct fs_mount *m)
{
	static _Atomic unsigned number;
	char name[64];
	int fd = openat(m->state_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd < 0 ? -errno : fd;
	snprintf(name, sizeof(name), ".staged-%d-%u", (int)getpid(), number++);
	fd = openat(m->state_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	unlinkat(m->state_fd, name, 0);
	return fd;
}

int fs_copy_bytes(struct fs_mount *m, int from, off_t off, off_t len, int to)
{
	cleanup_free char *buf = malloc(STAGING_CHUNK);
	int rc = buf ? 0 : -ENOMEM;

	while (!rc && len > 0) {
		size_t want = len < (off_t)STAGING_CHUNK ? (size_t)len : STAGING_CHUNK;
		ssize_t got = jsonl_io_read_full(m->io, from, buf, want, off);
		struct iovec iov = {.iov_base = buf,
				    .iov_len = got > 0 ? (size_t)got : 0};
		size_t written;

		if (got <= 0)
			return got ? (int)got : -ESTALE;
		rc = jsonl_io_write_full(m->io, to, &iov, 1, &written);
		off += got;
		len -= got;
	}
	return rc;
}

int fs_staged_init(struct fs_mount *m, struct fs_staged *s, const struct fuse_ctx *caller,
		   int from, off_t keep)
{
	const struct fs_ids ids = {caller->uid, caller->gid};
	int fd = staging_open(m), rc = 0;
	struct fs_caller saved;

	if (fd < 0)
		return fd;
	if (m->uid == 0 && fchown(fd, caller->uid, caller->gid) < 0)
		rc = -errno;
	if (!rc && keep)
		rc = fs_caller_pay(m, &ids, &saved);
	if (!rc && keep) {
		rc = fs_copy_bytes(m, from, 0, keep, fd);
		fs_caller_restore(&saved);
	}
	if (rc) {
		close(fd);
		return rc;
	}
	*s = (struct fs_staged){.fd = fd,
				.dirty = true,
				.low = keep,
				.writer = caller->pid,
				.uid = caller->uid};
	pthread_mutex_init(&s->lock, NULL);
	if (!fs_process_identify(caller->pid, &s->opener))
		s->opener.tgid = 0;
	fs_program_name(caller->pid, s->program, sizeof(s->program));
	return 0;
}

void fs_staged_deinit(struct fs_staged *s)
{
	close(s->fd);
	pthread_mutex_destroy(&s->lock);
}

static off_t size_of(const struct fs_staged *s)
{
	struct stat st;

	return fstat(s->fd, &st) < 0 ? 0 : st.st_size;
}

off_t fs_staged_size(struct fs_staged *s)
{
	off_t size;

	pthread_mutex_lock(&s->lock);
	size = size_of(s);
	pthread_mutex_unlock(&s->lock);
	return size;
}

/* Under lock. */
static void changed(struct fs_staged *s, off_t from, pid_t pid)
{
	if (!s->dirty || from < s->low)
		s->low = from;
	s->dirty = true;
	s->killed = false;
	s->writer = pid;
}

void fs_staged_failed(struct fs_staged_failure *f, off_t at, bool cut, int code)
{
	if (!f->code || at < f->at)
		f->at = at;
	f->cut = cut || (f->code && f->cut);
	f->code = code;
}

/* Under lock. */
static void failed(struct fs_staged *s, off_t at, bool cut, int code)
{
	fs_staged_failed(&s->failed, at, cut, code);
	s->dirty = true;
}

ssize_t fs_staged_write(fuse_req_t req, struct fs_staged *s, struct fuse_bufvec *in,
			off_t off, bool append)
{
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	struct fs_caller saved;
	ssize_t n;

	pthread_mutex_lock(&s->lock);
	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = s->fd;
	out.buf[0].pos = append ? size_of(s) : off;
	n = fs_caller_content(req, s->fd, &saved);
	if (!n) {
		n = fuse_buf_copy(&out, in, 0);
		fs_caller_restore(&saved);
	}
	if (n > 0)
		changed(s, out.buf[0].pos, fuse_req_ctx(req)->pid);
	if (n < 0)
		failed(s, out.buf[0].pos, false, (int)n);
	else if (!s->failed.cut && out.buf[0].pos <= s->failed.at &&
		 s->failed.at < out.buf[0].pos + n)
		s->failed.code = 0;
	pthread_mutex_unlock(&s->lock);
	return n;
}

int fs_staged_truncate(fuse_req_t req, struct fs_staged *s, off_t size)
{
	struct fs_caller saved;
	off_t before;
	int rc;

	pthread_mutex_lock(&s->lock);
	before = size_of(s);
	rc = fs_caller_content(req, s->fd, &saved);
	if (!rc) {
		rc = ftruncate(s->fd, size) < 0 ? -errno : 0;
		fs_caller_restore(&saved);
	}
	if (!rc && size != before)
		changed(s, size < before ? size : before, fuse_req_ctx(req)->pid);
	if (rc)
		failed(s, size, true, rc);
	else if (size <= s->failed.at)
		s->failed.code = 0;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

bool fs_staged_closes(struct fs_mount *m, struct fs_staged *s, pid_t pid, ino_t ino,
		      int flags)
{
	struct fs_closing_question q = {.thread = pid,
					.pid = fs_process_of(pid),
					.who = {s->opener.tgid},
					.ino = ino,
					.flags = flags,
					.backing = m->backing_mount};
	enum fs_closing how = FS_CLOSING_MORE;
	bool dirty;

	pthread_mutex_lock(&s->lock);
	s->killed = false;
	dirty = s->dirty;
	q.who[1] = s->writer;
	pthread_mutex_unlock(&s->lock);
	/* Who has only inherited it, and written nothing, says nothing by closing it. */
	if (dirty && (q.pid == q.who[0] || q.pid == q.who[1] || pid == q.who[1]))
		how = fs_process_closing(&q);
	pthread_mutex_lock(&s->lock);
	s->killed = how == FS_CLOSING_KILLED;
	pthread_mutex_unlock(&s->lock);
	/* Better at each close than where its error could not be told. */
	return how == FS_CLOSING_LAST || how == FS_CLOSING_HIDDEN;
}

void fs_staged_abandon(struct fs_staged *s)
{
	pthread_mutex_lock(&s->lock);
	s->killed = true;
	pthread_mutex_unlock(&s->lock);
}

void fs_staged_settled(struct fs_staged *s)
{
	s->dirty = false;
	s->failed.code = 0;
	s->low = size_of(s);
}

void fs_staged_set_aside(struct fs_mount *m, struct fs_staged *s, const char *event,
			 int code, off_t offset, const char *path, int source_fd,
			 bool reserved, char name[JSONL_QUARANTINE_NAME])
{
	size_t len = (size_t)size_of(s);
	void *bytes =
	    len ? mmap(NULL, len, PROT_READ, MAP_PRIVATE, s->fd, 0) : MAP_FAILED;
	struct iovec iov = {.iov_base = bytes, .iov_len = len};
	struct jsonl_quarantine_item item = {
	    .iov = &iov,
	    .niov = 1,
	    .event = event,
	    .code = code,
	    .offset = (uint64_t)offset,
	    .at = -1,
	    .path = path,
	    .program = s->program,
	    .pid = s->writer,
	    .uid = s->uid,
	    .source_fd = source_fd,
	    .reserved = reserved,
	    .durable = true,
	};
	int rc = -ENOMEM;

	name[0] = '\0';
	if (!len)
		return;
	if (bytes != MAP_FAILED)
		rc = jsonl_quarantine_put(m->quarantine, &item, name);
	if (!rc) {
		m->stats.quarantined++;
	} else {
		name[0] = '\0';
		m->stats.quarantine_full += rc == -ENOSPC;
		if (reserved && bytes != MAP_FAILED)
			fs_ident_lost(&m->stats, path, &iov, 1);
	}
	if (bytes != MAP_FAILED)
		munmap(bytes, len);
}
