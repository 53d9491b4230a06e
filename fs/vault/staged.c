/* SPDX-License-Identifier: MIT */
#include "vault/staged.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/ident.h"
#include "base/look.h"
#include "base/process.h"
#include "quarantine/quarantine.h"
#include "vault/account.h"
#include "vault/aside.h"
#include "vault/vault.h"

/* Gives a new file to who pays for it. Its descriptor, or -errno: it is closed. */
static int give(const struct fs_vault *v, int fd, const struct fs_ids *owner)
{
	int rc;

	if (v->uid != 0 || fchown(fd, owner->uid, owner->gid) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* Where the file system has no files without names. The owner comes first: a GlusterFS
 * client asks for that by the name. */
static int open_and_unlink(const struct fs_vault *v, const struct fs_ids *owner)
{
	static _Atomic unsigned number;
	char name[64];
	int fd;

	snprintf(name, sizeof(name), ".staged-%d-%u", (int)getpid(), number++);
	fd = openat(v->daemon_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	fd = give(v, fd, owner);
	unlinkat(v->daemon_fd, name, 0);
	return fd;
}

int fs_staged_open(struct fs_vault *v, const struct fs_ids *owner)
{
	int fd = openat(v->daemon_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return give(v, fd, owner);
	return errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL
		   ? open_and_unlink(v, owner)
		   : -errno;
}

int fs_staged_init(struct fs_vault *v, struct fs_staged *s, const struct fuse_ctx *caller,
		   int from, off_t keep)
{
	const struct fs_ids ids = {caller->uid, caller->gid};
	struct fs_account *payer;
	struct fs_caller saved;
	int fd, rc = fs_account_descriptor(v, caller->uid, &payer);

	if (rc)
		return rc;
	fd = fs_staged_open(v, &ids);
	if (fd < 0) {
		fs_account_descriptor_close(payer);
		return fd;
	}
	if (keep)
		rc = fs_caller_pay(&ids, &saved);
	if (!rc && keep) {
		rc = fs_copy_bytes(v->io, from, 0, keep, fd);
		fs_caller_restore(&saved);
	}
	if (rc) {
		close(fd);
		fs_account_descriptor_close(payer);
		return rc;
	}
	*s = (struct fs_staged){.fd = fd,
				.payer = payer,
				.dirty = true,
				.low = keep,
				.writer = caller->pid,
				.uid = caller->uid};
	pthread_mutex_init(&s->lock, NULL);
	if (!fs_process_identify(caller->pid, &s->opener))
		s->opener.tgid = 0;
	s->program = fs_program_ask(v, caller);
	return 0;
}

void fs_staged_deinit(struct fs_staged *s)
{
	close(s->fd);
	fs_account_descriptor_close(s->payer);
	fs_program_put(s->program);
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

/* Notes a change. Under lock. */
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

/* Notes a failed change. Under lock. */
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

bool fs_staged_closes(struct fs_vault *v, struct fs_staged *s,
		      const struct fuse_ctx *caller,
		      const ino_t numbers[FS_CLOSING_NUMBERS], int flags)
{
	const pid_t pid = caller->pid;
	struct fs_closing_question q = {.thread = pid,
					.pid = fs_process_of(pid),
					.who = {s->opener.tgid},
					.flags = flags,
					.device = v->device};
	enum fs_closing how = FS_CLOSING_MORE;
	bool dirty;

	memcpy(q.numbers, numbers, sizeof(q.numbers));
	pthread_mutex_lock(&s->lock);
	s->killed = false;
	dirty = s->dirty;
	q.who[1] = s->writer;
	pthread_mutex_unlock(&s->lock);
	/* A process that has only inherited the descriptor, and written nothing,
	 * completes nothing by its close. */
	if (dirty && (q.pid == q.who[0] || q.pid == q.who[1] || pid == q.who[1]))
		how = fs_look_closing(caller->uid, &q);
	pthread_mutex_lock(&s->lock);
	s->killed = how == FS_CLOSING_KILLED;
	pthread_mutex_unlock(&s->lock);
	/* Better to commit at each close than where no error could be reported. */
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

void fs_staged_set_aside(struct fs_vault *v, struct fs_staged *s, const char *event,
			 int code, off_t offset, const char *path, int source_fd,
			 bool reserved, char name[JSONL_QUARANTINE_NAME])
{
	size_t len = (size_t)size_of(s);
	void *bytes =
	    len ? mmap(NULL, len, PROT_READ, MAP_PRIVATE, s->fd, 0) : MAP_FAILED;
	struct iovec iov = {.iov_base = bytes, .iov_len = len};
	char program[256];
	struct jsonl_quarantine_item item = {
	    .iov = &iov,
	    .niov = 1,
	    .event = event,
	    .code = code,
	    .offset = (uint64_t)offset,
	    .at = -1,
	    .path = path,
	    .program = program,
	    .pid = s->writer,
	    .uid = s->uid,
	    .source_fd = source_fd,
	    .reserved = reserved,
	    .durable = true,
	};
	name[0] = '\0';
	if (!len)
		return;
	fs_program_get(s->program, program, sizeof(program));
	if (bytes == MAP_FAILED)
		return;
	(void)fs_aside(v, &item, reserved, name);
	munmap(bytes, len);
}
