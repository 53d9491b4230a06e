/* SPDX-License-Identifier: MIT */
#include "text/reader.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"
#include "base/reply.h"
#include "plain/plain.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "vault/hosts.h"

/* Tries while another daemon appends. */
#define READ_TRIES    4
#define READ_PAUSE_MS 1

void fs_text_begin(struct fs_inode *i)
{
	/* Readers come without a pause, so that with the default a writer would never
	 * have its turn. */
	static const pthread_rwlock_t fair =
	    PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
	static const pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	struct fs_text_node *n = fs_text_node(i);

	pthread_mutex_lock(&i->lock);
	if (!n->begun) {
		n->appends = mutex;
		n->readers = fair;
		n->begun = true;
	}
	pthread_mutex_unlock(&i->lock);
}

/* Returns how many bytes to ask a client for: no more than the servers have
 * (jsonl_io_direct). */
static size_t ask_for(const struct fs_vault *v, int fd, size_t size, off_t off)
{
	struct stat st;

	if (!v->remote || v->io->fstat(v->io, fd, &st))
		return size;
	return fs_bytes_there(st.st_size, size, off);
}

/* Reads while no daemon appends, as far as a few tries show: another one holds the flock
 * for the write(2) of a block, and then until the block is durable. Bytes or -errno. */
static ssize_t read_shared(const struct fs_vault *v, int fd, pthread_rwlock_t *lock,
			   size_t size, off_t off, char **bytes)
{
	for (unsigned tries = 1;; tries++) {
		const struct timespec pause = {.tv_nsec =
						   (long)tries * READ_PAUSE_MS * 1000000};
		bool alone;
		ssize_t n;

		/* For writing, because readers of one handle would release each other's
		 * flock. */
		pthread_rwlock_wrlock(lock);
		alone = flock(fd, LOCK_SH | LOCK_NB) == 0;
		n = fs_reply_fetch(fd, ask_for(v, fd, size, off), off, bytes);
		if (alone)
			(void)flock(fd, LOCK_UN);
		pthread_rwlock_unlock(lock);
		/* Half a block can be at the end of the file only. */
		if (alone || n < 0 || (size_t)n == size || tries == READ_TRIES)
			return n;
		(void)nanosleep(&pause, NULL);
	}
}

void fs_text_read(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		  struct fuse_file_info *fi)
{
	const struct fs_vault *v = &fs_mount_of(req)->vault;
	pthread_rwlock_t *lock = &fs_text_node(h->inode)->readers;
	int fd = fs_plain_fd(h);
	char *bytes;
	ssize_t n;

	(void)fi;
	if (fs_shared(v)) {
		n = read_shared(v, fd, lock, size, off, &bytes);
	} else {
		pthread_rwlock_rdlock(lock);
		n = fs_reply_fetch(fd, size, off, &bytes);
		pthread_rwlock_unlock(lock);
	}
	fs_reply_bytes(req, bytes, n);
}

static const struct fs_handle_ops reader_ops = {.read = fs_text_read,
						FS_PLAIN_OPS_BUT_READ};

int fs_text_open_reader(fuse_req_t req, struct fs_inode *i, int fd,
			struct fuse_file_info *fi)
{
	if (fs_mount_of(req)->vault.remote && (fi->flags & O_ACCMODE) == O_RDONLY)
		jsonl_io_direct(fd);
	return fs_plain_open(req, i, fd, fi, &reader_ops);
}
